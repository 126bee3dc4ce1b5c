"""The JSON bodies of responses, with an example of each."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ornstein.studio.errors import Fault

__all__ = ["Card", "Evaluation", "Evaluations", "File", "Health", "Job", "Jobs", "Kernel", "Models", "Noised", "Page",
           "Picture", "Points", "Posterior", "Read", "Report", "Schedule", "Training", "Trainings", "Values"]

ID, NOW = "0123456789abcdef", 1796059092.0
TIMES = {"created": NOW, "started": NOW + 1, "finished": NOW + 3}


def _example(**example: Any) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [example]})


class _Response(BaseModel):
    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class Health(_Response):
    """The health of the service."""

    model_config = _example(status="ok", version="0.4.0", jobs=0)
    status: Literal["ok"]
    version: str
    jobs: int = Field(description="Queued and running jobs.")


class Tuned(_Response):
    """A sampler that was tuned for a budget."""
    nfe: int
    guidance: float
    sampler: str


class About(_Response):
    """Details of a model."""
    weights: int
    network: str
    schedule: str
    predicts: str
    metrics: dict[str, Any]
    settings: dict[str, Any] | None = Field(description="Settings of its training, as in run.yaml; null without a run.")


CARD = {"name": "digits", "kind": "picture", "shape": [1, 8, 8], "data": "digits", "width": 8, "height": 8,
        "mode": None, "classes": ["0", "1", "2"], "conditions": [], "guidance": True, "calls": 20, "digest": "c8" * 32,
        "tuned": [{"nfe": 10, "guidance": 1.0, "sampler": "dpm++"}], "evaluated": False, "error": None,
        "card": {"weights": 249_953, "network": "UNet", "schedule": "Cosine", "predicts": "v",
                 "metrics": {"images": 3840}, "settings": None}}


class Card(_Response):
    """A model: the data it draws, the budgets it was tuned for, and its training."""

    model_config = _example(**CARD)
    name: str
    kind: Literal["picture", "array"]
    shape: list[int] = Field(description="Shape of a sample, channels first.")
    data: str
    width: int | None
    height: int | None
    mode: str | None = Field(description="Pillow's mode of its pictures, unless grey or RGB.")
    classes: list[str]
    conditions: list[str]
    guidance: bool = Field(description="Whether classifier-free guidance is possible.")
    calls: int = Field(description="Default number of network calls per sample.")
    digest: str = Field(description="SHA-256 of its file, which its pictures record.")
    tuned: list[Tuned]
    card: About
    evaluated: bool = Field(description="Whether it has a report.")
    error: None


class Broken(_Response):
    """A model that cannot be loaded."""
    name: str
    error: str


class Sampler(_Response):
    """A sampler."""
    order: int
    stochastic: bool
    calls: int = Field(description="Network calls per step.")
    spacing: str = Field(description="The quantity in which its times are evenly spaced.")
    grid: str = Field(description="Short name of that spacing.")


class Models(_Response):
    """All models, the default one first, and all samplers; auto is null, because it depends on the model."""

    model_config = _example(models=[CARD], samplers={"auto": None, "heun": {
        "order": 2, "stochastic": False, "calls": 2, "spacing": "angle", "grid": "angle"}})
    models: list[Card | Broken]
    samplers: dict[str, Sampler | None]


class Report(BaseModel):
    """The report.json of `ornstein evaluate`; one of several models has `reports`."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"examples": [
        {"format": 1, "verdict": ["No difference from real pictures is shown."], "name": "digits", "measures": [
            {"key": "frechet", "name": "Fréchet distance", "features": "pixels", "value": 1.2}]}]})
    verdict: list[str] = []
    measures: list[dict[str, Any]] = []


class Sample(_Response):
    """A finished sample of a job."""
    number: int
    id: str = Field(description="Id in the gallery.")
    url: str
    label: str | None
    width: int
    height: int


class Calls(_Response):
    """The sequential network calls of a job."""
    done: int | None = Field(description="Null once the job has ended.")
    total: int


JOB = {"id": ID, "kind": "generate", "model": "digits", "status": "done",
       "request": {"kind": "generate", "model": "digits", "count": 1, "seed": 1, "label": "7", "nfe": 8},
       "progress": 1.0, "position": None, "seconds_left": None, "calls": {"done": None, "total": 8}, **TIMES,
       "error": None, "samples": [{"number": 0, "id": ID, "url": f"/api/jobs/{ID}/samples/0.png", "label": "7",
                                   "width": 8, "height": 8}],
       "extra": {}, "result": {}, "python": "orn.sample(orn.load('runs/digits'), 1, seed=1, condition='7', nfe=8)",
       "command": "ornstein sample runs/digits --count 1 --seed 1 --label 7 --nfe 8 --out generate"}


class Job(_Response):
    """A job with its progress and results."""

    model_config = _example(**JOB)
    id: str
    kind: str
    model: str
    status: Literal["queued", "running", "done", "failed", "cancelled"]
    request: dict[str, Any]
    progress: float = Field(description="From 0 to 1.")
    position: int | None = Field(description="Jobs ahead of a queued one.")
    seconds_left: float | None
    calls: Calls
    created: float = Field(description="Seconds since 1970, like the next two.")
    started: float | None
    finished: float | None
    error: Fault | None
    samples: list[Sample]
    extra: dict[str, str] = Field(description="Addresses of further pictures by name.")
    result: dict[str, Any] = Field(description="Other results: notes, neighbours, values and bands of arrays.")
    python: str
    command: str


class Jobs(_Response):
    """The latest jobs, newest first."""

    model_config = _example(jobs=[JOB])
    jobs: list[Job]


class File(_Response):
    """An upload."""

    model_config = _example(id=ID, name="cat.png", kind="picture", bytes=5120, sha256="ab" * 32, width=64, height=64,
                            pictures=None, created=NOW, url=f"/api/files/{ID}/content")
    id: str
    name: str
    kind: Literal["picture", "zip", "numbers"]
    bytes: int
    sha256: str
    width: int | None
    height: int | None
    pictures: int | None = Field(description="Number of pictures in a zip.")
    created: float
    url: str | None = Field(description="Address of a picture.")


class Values(_Response):
    """The values of a trace or a vector."""

    model_config = _example(model="beats", row=0, rows=1, shape=[1, 4], values=[[0.5, None, None, 0.75]])
    model: str
    row: int
    rows: int = Field(description="Number of samples in the file.")
    shape: list[int]
    values: list[list[float | None]] = Field(description="A list for each channel, null where unknown.")


PICTURE = {"id": ID, "job": ID, "number": 0, "kind": "generate", "model": "digits", "label": "7", "sampler": "auto",
           "seed": "1", "nfe": 8, "guidance": None, "settings": {"seed": 1, "noise": 2}, "width": 8, "height": 8,
           "created": NOW, "favourite": False, "deleted": False, "url": f"/api/jobs/{ID}/samples/0.png",
           "request": {"kind": "generate", "count": 1, "seed": 1}}


class Picture(_Response):
    """A picture in the gallery."""

    model_config = _example(**PICTURE)
    id: str
    job: str
    number: int
    kind: str
    model: str
    label: str | None
    sampler: str | None
    seed: str = Field(description="As text, because JavaScript's numbers cannot hold up to 2^64 - 1.")
    nfe: int | None
    guidance: float | None
    settings: dict[str, Any] = Field(description="The settings inside the picture.")
    width: int
    height: int
    created: float
    favourite: bool
    deleted: bool = Field(description="Whether it is in the bin.")
    url: str
    request: dict[str, Any] = Field(description="The job that drew it.")


class Page(_Response):
    """A page of pictures, newest first."""

    model_config = _example(pictures=[PICTURE], total=1, next=None)
    pictures: list[Picture]
    total: int
    next: str | None = Field(description="Value of `before` for the next page; null on the last one.")


class Read(_Response):
    """The settings inside a picture, and the job that draws it again."""

    model_config = _example(settings={"seed": 1, "noise": 2}, model="digits", request={"kind": "generate", "count": 1},
                            number=0, python="orn.sample(orn.load('runs/digits'), 1, seed=1)",
                            command="ornstein sample runs/digits --count 1 --seed 1 --out generate")
    settings: dict[str, Any]
    model: str | None = Field(description="Name of its model, if it is served here.")
    request: dict[str, Any]
    number: int = Field(description="Index of the picture among the samples of that job.")
    python: str | None
    command: str | None


class Curve(_Response):
    """The curve of a density."""
    value: list[float]
    density: list[float]


class _Computed(_Response):
    model: str
    equation: str = Field(description="Number in Bishop & Bishop (2024).")
    python: str = Field(description="The line of Python that computes it.")


COMPUTED = {"model": "digits", "equation": "(20.6)", "python": "q = orn.Encoder(model.schedule).kernel(x, 0.5)"}
LEVEL = {"signal": 0.7071, "noise": 0.7071, "log_snr": 0.0}
CURVE = {"value": [-1.0, 0.0, 1.0], "density": [0.24, 0.4, 0.24]}


class _AtTime(_Computed):
    t: float
    signal: float
    noise: float
    log_snr: float | None = Field(description="Null where it is infinite.")


class Schedule(_Computed):
    """Signal, noise and log SNR over time."""

    model_config = _example(**COMPUTED, schedule="Cosine", t=[0.0, 1.0], signal=[1.0, 0.0], noise=[0.0, 1.0],
                            log_snr=[None, None])
    schedule: str
    t: list[float]
    signal: list[float]
    noise: list[float]
    log_snr: list[float | None]


class Histogram(_Response):
    """A histogram."""
    edges: list[float]
    counts: list[int]


class Noised(_AtTime):
    """One draw of q(z_t | x)."""

    model_config = _example(**COMPUTED, **LEVEL, t=0.5, image="data:image/png;base64,", clean="data:image/png;base64,",
                            histogram={"edges": [-4.0, 0.0, 4.0], "counts": [30, 34]})
    image: str = Field(description="A data URL, like `clean`.")
    clean: str
    histogram: Histogram


class Kernel(_AtTime):
    """q(z_t | x) of one pixel."""

    model_config = _example(**COMPUTED, **LEVEL, t=0.5, x=0.2, mean=0.1414, variance=0.5, curve=CURVE)
    x: float
    mean: float
    variance: float
    curve: Curve | None = Field(description="Null where there is no noise.")


class Posterior(_Computed):
    """q(z_s | z_t, x) of one pixel."""

    model_config = _example(**COMPUTED, s=0.3, t=0.5, x=0.2, z=0.6, mean=0.4, variance=0.1, curve=CURVE)
    s: float
    t: float
    x: float
    z: float
    mean: float
    variance: float
    curve: Curve | None = Field(description="Null where there is no noise.")


class _Process(_Response):
    id: str
    status: Literal["waiting", "running", "stopping", "stopped", "done", "failed"]
    position: int | None = Field(description="Trainings and evaluations ahead of a waiting one.")
    progress: float = Field(description="From 0 to 1.")
    seconds_left: float | None
    request: dict[str, Any]
    created: float
    started: float | None
    finished: float | None
    error: str | None
    command: str


class Preview(_Response):
    """Samples drawn during a training."""
    images: int
    url: str


TRAINING = {"id": ID, "name": "my cats", "status": "done", "position": None, "progress": 1.0, "seconds_left": None,
            "images": 41_088, "rate": 240.0, "loss": 0.66, "held_out": 0.69, "notes": ["200 pictures"],
            "chosen": ["network unet, which suits samples of 3 x 32 x 32"], "model": "my cats", **TIMES, "error": None,
            "previews": [{"images": 3840, "url": f"/api/trainings/{ID}/previews/3840.png"}],
            "request": {"name": "my cats", "minutes": 10}, "command": "ornstein train sets/0 --out runs/0"}


class Training(_Process):
    """A training with its progress."""

    model_config = _example(**TRAINING)
    name: str
    images: int | None = Field(description="Pictures trained on so far.")
    rate: float | None = Field(description="Pictures per second.")
    loss: float | None
    held_out: float | None = Field(description="Loss on held-out pictures.")
    notes: list[str] = Field(description="Notes on the data.")
    chosen: list[str] = Field(description="Settings that were chosen, with reasons.")
    previews: list[Preview]
    model: str | None = Field(description="Name in `GET /api/models`, once it has a model.")


class Trainings(_Response):
    """All trainings, newest first."""

    model_config = _example(trainings=[TRAINING])
    trainings: list[Training]


class Points(_Response):
    """The metrics of a training, at most 2,000 points."""

    model_config = _example(points=[{"images": 3840, "loss": 0.66, "held_out": None, "seconds": 42.0}])
    points: list[dict[str, Any]]


EVALUATION = {"id": ID, "model": "digits", "status": "running", "position": None, "progress": 0.25, "part": "samples",
              "seconds_left": 90.0, "request": {"count": None, "nfe": None, "likelihood": True, "seed": 0}, **TIMES,
              "error": None, "command": "ornstein evaluate runs/digits --out runs/digits/report --seed 0"}


class Evaluation(_Process):
    """An evaluation with its progress."""

    model_config = _example(**EVALUATION)
    model: str
    part: str | None = Field(description="The part that is running.")


class Evaluations(_Response):
    """All evaluations, newest first."""

    model_config = _example(evaluations=[EVALUATION])
    evaluations: list[Evaluation]
