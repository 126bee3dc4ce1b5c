"""What the studio answers: the body of every route that answers in JSON, with an example."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ornstein.studio.refusal import Fault

__all__ = ["Card", "Evaluation", "Evaluations", "File", "Health", "Job", "Jobs", "Kernel", "Models", "Noised", "Page",
           "Picture", "Points", "Posterior", "Read", "Report", "Schedule", "Training", "Trainings", "Values"]

ID, NOW = "0123456789abcdef", 1796059092.0
ENDS = {"created": NOW, "started": NOW + 1, "finished": NOW + 3}


def _shown(**example: Any) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [example]})


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class Health(_Answer):
    """Whether the service is up."""

    model_config = _shown(status="ok", version="0.4.0", jobs=0)
    status: Literal["ok"]
    version: str
    jobs: int = Field(description="That wait or run.")


class Tuned(_Answer):
    """A budget that a model was tuned for."""
    nfe: int
    guidance: float
    sampler: str


class About(_Answer):
    """What a model is made of."""
    weights: int
    network: str
    schedule: str
    predicts: str
    metrics: dict[str, Any]
    settings: dict[str, Any] | None = Field(description="Of its training, as in run.yaml; null for a model's file.")


CARD = {"name": "digits", "kind": "picture", "shape": [1, 8, 8], "data": "digits", "width": 8, "height": 8,
        "mode": None, "classes": ["0", "1", "2"], "conditions": [], "guidance": True, "calls": 20, "digest": "c8" * 32,
        "tuned": [{"nfe": 10, "guidance": 1.0, "sampler": "dpm++"}], "evaluated": False, "error": None,
        "card": {"weights": 249_953, "network": "UNet", "schedule": "Cosine", "predicts": "v",
                 "metrics": {"images": 3840}, "settings": None}}


class Card(_Answer):
    """A model: what it draws, what it was tuned for, and how it was trained."""

    model_config = _shown(**CARD)
    name: str
    kind: Literal["picture", "array"]
    shape: list[int] = Field(description="Of a sample, the channels first.")
    data: str
    width: int | None
    height: int | None
    mode: str | None = Field(description="Of its pictures, where that is not grey or RGB.")
    classes: list[str]
    conditions: list[str]
    guidance: bool = Field(description="Whether it can be guided.")
    calls: int = Field(description="Network calls a sample, by default.")
    digest: str = Field(description="SHA-256 of its file, by which pictures name it.")
    tuned: list[Tuned]
    card: About
    evaluated: bool = Field(description="Whether it has a report.")
    error: None


class Broken(_Answer):
    """A model that cannot be loaded."""
    name: str
    error: str


class Sampler(_Answer):
    """A sampler."""
    order: int
    stochastic: bool
    calls: int = Field(description="A step.")
    spacing: str = Field(description="What its times are even in, as `grid` says in short.")
    grid: str


class Models(_Answer):
    """All models, the first one the default, and all samplers; nothing is known of auto, which suits the model."""

    model_config = _shown(models=[CARD], samplers={"auto": None, "heun": {
        "order": 2, "stochastic": False, "calls": 2, "spacing": "angle", "grid": "angle"}})
    models: list[Card | Broken]
    samplers: dict[str, Sampler | None]


class Report(BaseModel):
    """report.json of `ornstein evaluate`; of several models `reports` has one for each."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"examples": [
        {"format": 1, "verdict": ["No difference from real pictures is shown."], "name": "digits", "measures": [
            {"key": "frechet", "name": "Fréchet distance", "features": "pixels", "value": 1.2}]}]})
    verdict: list[str] = []
    measures: list[dict[str, Any]] = []


class Sample(_Answer):
    """A finished sample of a job."""
    number: int
    id: str = Field(description="In the gallery.")
    url: str
    label: str | None
    width: int
    height: int


class Calls(_Answer):
    """Network calls that the walks of a job take, one after another."""
    done: int | None = Field(description="Null unless the job waits or runs.")
    total: int


JOB = {"id": ID, "kind": "generate", "model": "digits", "status": "done",
       "request": {"kind": "generate", "model": "digits", "count": 1, "seed": 1, "label": "7", "nfe": 8},
       "progress": 1.0, "position": None, "seconds_left": None, "calls": {"done": None, "total": 8}, **ENDS,
       "error": None, "samples": [{"number": 0, "id": ID, "url": f"/api/jobs/{ID}/samples/0.png", "label": "7",
                                   "width": 8, "height": 8}],
       "extra": {}, "result": {}, "python": "orn.sample(orn.load('runs/digits'), 1, seed=1, condition='7', nfe=8)",
       "command": "ornstein sample runs/digits --count 1 --seed 1 --label 7 --nfe 8 --out generate"}


class Job(_Answer):
    """How far a job is, and what came of it."""

    model_config = _shown(**JOB)
    id: str
    kind: str
    model: str
    status: Literal["queued", "running", "done", "failed", "cancelled"]
    request: dict[str, Any]
    progress: float = Field(description="From 0 to 1.")
    position: int | None = Field(description="Jobs before one that waits.")
    seconds_left: float | None
    calls: Calls
    created: float = Field(description="In seconds since 1970, as are the next two.")
    started: float | None
    finished: float | None
    error: Fault | None
    samples: list[Sample]
    extra: dict[str, str] = Field(description="More pictures: the address of each by its name.")
    result: dict[str, Any] = Field(description="What else came of it: notes, neighbours, values and bands of arrays.")
    python: str
    command: str


class Jobs(_Answer):
    """The latest jobs, newest first."""

    model_config = _shown(jobs=[JOB])
    jobs: list[Job]


class File(_Answer):
    """An upload."""

    model_config = _shown(id=ID, name="cat.png", kind="picture", bytes=5120, sha256="ab" * 32, width=64, height=64,
                          pictures=None, created=NOW, url=f"/api/files/{ID}/content")
    id: str
    name: str
    kind: Literal["picture", "zip", "numbers"]
    bytes: int
    sha256: str
    width: int | None
    height: int | None
    pictures: int | None = Field(description="In a zip.")
    created: float
    url: str | None = Field(description="Of a picture.")


class Values(_Answer):
    """A trace or a vector in numbers."""

    model_config = _shown(model="beats", row=0, rows=1, shape=[1, 4], values=[[0.5, None, None, 0.75]])
    model: str
    row: int
    rows: int = Field(description="Samples in the file.")
    shape: list[int]
    values: list[list[float | None]] = Field(description="A list for each channel, null where unknown.")


PICTURE = {"id": ID, "job": ID, "number": 0, "kind": "generate", "model": "digits", "label": "7", "sampler": "auto",
           "seed": "1", "nfe": 8, "guidance": None, "settings": {"seed": 1, "noise": 2}, "width": 8, "height": 8,
           "created": NOW, "favourite": False, "deleted": False, "url": f"/api/jobs/{ID}/samples/0.png",
           "request": {"kind": "generate", "count": 1, "seed": 1}}


class Picture(_Answer):
    """A picture of the gallery."""

    model_config = _shown(**PICTURE)
    id: str
    job: str
    number: int
    kind: str
    model: str
    label: str | None
    sampler: str | None
    seed: str = Field(description="As text, for up to 2^64 - 1 is no number in JavaScript.")
    nfe: int | None
    guidance: float | None
    settings: dict[str, Any] = Field(description="What the picture says of itself.")
    width: int
    height: int
    created: float
    favourite: bool
    deleted: bool = Field(description="Whether it is in the bin.")
    url: str
    request: dict[str, Any] = Field(description="The job that drew it.")


class Page(_Answer):
    """Pictures, newest first."""

    model_config = _shown(pictures=[PICTURE], total=1, next=None)
    pictures: list[Picture]
    total: int
    next: str | None = Field(description="For `before`; null on the last page.")


class Read(_Answer):
    """What a picture says of itself, and the job that draws it again."""

    model_config = _shown(settings={"seed": 1, "noise": 2}, model="digits", request={"kind": "generate", "count": 1},
                          number=0, python="orn.sample(orn.load('runs/digits'), 1, seed=1)",
                          command="ornstein sample runs/digits --count 1 --seed 1 --out generate")
    settings: dict[str, Any]
    model: str | None = Field(description="By name, if it is here.")
    request: dict[str, Any]
    number: int = Field(description="Which of its samples the picture is.")
    python: str | None
    command: str | None


class Curve(_Answer):
    """A density."""
    value: list[float]
    density: list[float]


class _Law(_Answer):
    model: str
    equation: str = Field(description="Its number in Bishop & Bishop (2024).")
    python: str = Field(description="The line that computes it.")


LAW = {"model": "digits", "equation": "(20.6)", "python": "q = orn.Encoder(model.schedule).kernel(x, 0.5)"}
LEVEL = {"signal": 0.7071, "noise": 0.7071, "log_snr": 0.0}
CURVE = {"value": [-1.0, 0.0, 1.0], "density": [0.24, 0.4, 0.24]}


class _Level(_Law):
    t: float
    signal: float
    noise: float
    log_snr: float | None = Field(description="Null where it is infinite.")


class Schedule(_Law):
    """Signal, noise and log SNR over time."""

    model_config = _shown(**LAW, schedule="Cosine", t=[0.0, 1.0], signal=[1.0, 0.0], noise=[0.0, 1.0],
                          log_snr=[None, None])
    schedule: str
    t: list[float]
    signal: list[float]
    noise: list[float]
    log_snr: list[float | None]


class Histogram(_Answer):
    """How often values are between edges."""
    edges: list[float]
    counts: list[int]


class Noised(_Level):
    """One draw of q(z_t | x)."""

    model_config = _shown(**LAW, **LEVEL, t=0.5, image="data:image/png;base64,", clean="data:image/png;base64,",
                          histogram={"edges": [-4.0, 0.0, 4.0], "counts": [30, 34]})
    image: str = Field(description="A data URL, as is `clean`.")
    clean: str
    histogram: Histogram


class Kernel(_Level):
    """q(z_t | x) of one pixel."""

    model_config = _shown(**LAW, **LEVEL, t=0.5, x=0.2, mean=0.1414, variance=0.5, curve=CURVE)
    x: float
    mean: float
    variance: float
    curve: Curve | None = Field(description="Null where there is no noise.")


class Posterior(_Law):
    """q(z_s | z_t, x) of one pixel."""

    model_config = _shown(**LAW, s=0.3, t=0.5, x=0.2, z=0.6, mean=0.4, variance=0.1, curve=CURVE)
    s: float
    t: float
    x: float
    z: float
    mean: float
    variance: float
    curve: Curve | None = Field(description="Null where there is no noise.")


class _Process(_Answer):
    id: str
    status: Literal["waiting", "running", "stopping", "stopped", "done", "failed"]
    position: int | None = Field(description="Trainings and evaluations before one that waits.")
    progress: float = Field(description="From 0 to 1.")
    seconds_left: float | None
    request: dict[str, Any]
    created: float
    started: float | None
    finished: float | None
    error: str | None
    command: str


class Preview(_Answer):
    """Samples that were drawn on the way."""
    images: int
    url: str


TRAINING = {"id": ID, "name": "my cats", "status": "done", "position": None, "progress": 1.0, "seconds_left": None,
            "images": 41_088, "rate": 240.0, "loss": 0.66, "held_out": 0.69, "notes": ["200 pictures"],
            "chosen": ["network unet, which suits samples of 3 x 32 x 32"], "model": "my cats", **ENDS, "error": None,
            "previews": [{"images": 3840, "url": f"/api/trainings/{ID}/previews/3840.png"}],
            "request": {"name": "my cats", "minutes": 10}, "command": "ornstein train sets/0 --out runs/0"}


class Training(_Process):
    """How far a training is."""

    model_config = _shown(**TRAINING)
    name: str
    images: int | None = Field(description="Pictures seen.")
    rate: float | None = Field(description="Of them, a second.")
    loss: float | None
    held_out: float | None = Field(description="Loss on pictures that are never trained on.")
    notes: list[str] = Field(description="What was found.")
    chosen: list[str] = Field(description="With its reasons.")
    previews: list[Preview]
    model: str | None = Field(description="Its name in `GET /api/models`, once there is one.")


class Trainings(_Answer):
    """All trainings, newest first."""

    model_config = _shown(trainings=[TRAINING])
    trainings: list[Training]


class Points(_Answer):
    """Lines of metrics.jsonl, at most 2,000 of them."""

    model_config = _shown(points=[{"images": 3840, "loss": 0.66, "held_out": None, "seconds": 42.0}])
    points: list[dict[str, Any]]


EVALUATION = {"id": ID, "model": "digits", "status": "running", "position": None, "progress": 0.25, "part": "samples",
              "seconds_left": 90.0, "request": {"count": None, "nfe": None, "likelihood": True, "seed": 0}, **ENDS,
              "error": None, "command": "ornstein evaluate runs/digits --out runs/digits/report --seed 0"}


class Evaluation(_Process):
    """How far an evaluation is."""

    model_config = _shown(**EVALUATION)
    model: str
    part: str | None = Field(description="What is done now.")


class Evaluations(_Answer):
    """All evaluations, newest first."""

    model_config = _shown(evaluations=[EVALUATION])
    evaluations: list[Evaluation]
