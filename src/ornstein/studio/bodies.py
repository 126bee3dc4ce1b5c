"""What may be asked of the studio: the bodies of requests, with their limits and examples."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from ornstein.noise import MOST_SEED
from ornstein.studio.limits import BUDGET, COUNT, MINUTES

__all__ = ["Asked", "Evaluation", "Id", "Mark", "Training"]

Id = Annotated[str, Field(pattern="^[0-9a-f]{16}$", description="16 hexadecimal digits.",
                          examples=["0123456789abcdef"])]
Text = Annotated[str, Field(min_length=1, max_length=200)]
Count = Annotated[int, Field(ge=1, le=COUNT, strict=True, description="Samples to draw.")]
Picture = Annotated[str, Field(pattern="^[0-9a-f]{16}$", examples=["0123456789abcdef"],
                               description="Id of an upload, or of a picture in the gallery.")]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, protected_namespaces=())


class _Asked(_Body):
    model: Text | None = Field(None, description="Name of the model; the first of `GET /api/models` unless given.")
    seed: Annotated[int, Field(ge=0, le=MOST_SEED, strict=True)] = Field(0, description="Of the noise.")
    label: Text | Annotated[int, Field(ge=0, le=10**6)] | None = Field(
        None, description="A class by name or index, or several in turn as \"cat,dog\".", examples=["7"])
    condition: Annotated[list[float], Field(max_length=1000)] | None = Field(
        None, description="Numbers that the data came with.")
    guidance: Annotated[float, Field(ge=-1000, le=1000)] | None = Field(
        None, description="Scale of classifier-free guidance; 1 is none.")


class Generate(_Asked):
    """Draw new samples: the very ones of `ornstein.sample`."""

    model_config = ConfigDict(json_schema_extra={"examples": [
        {"kind": "generate", "count": 3, "seed": 1, "label": "7", "nfe": 8}]})
    kind: Literal["generate"]
    count: Count = 4
    sampler: Text = Field("auto", description="A name of `GET /api/models`, under samplers.")
    nfe: Annotated[int, Field(ge=1, le=BUDGET, strict=True)] | None = Field(
        None, description="Network calls a sample, never exceeded; 20 if neither nfe nor steps is given.")
    steps: Annotated[int, Field(ge=1, le=BUDGET, strict=True)] | None = Field(None, description="In place of nfe.")


class _Edit(_Asked):
    picture: Picture
    row: Annotated[int, Field(ge=0, le=10**9, strict=True)] = Field(
        0, description="Which sample of a .npy file that holds several.")
    nfe: Annotated[int, Field(ge=1, le=BUDGET, strict=True)] = Field(50, description="Network calls a draw.")


class Stretch(_Body):
    """Places of a trace or a vector, counted from 0, the last one included."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"first": 20, "last": 39}]})
    first: Annotated[int, Field(ge=0, strict=True)]
    last: Annotated[int, Field(ge=0, strict=True)]
    channel: Annotated[int, Field(ge=0, strict=True)] | None = Field(None, description="Of a trace; all unless given.")


class Fill(_Edit):
    """Draw what is unknown: where the mask is white, or else where the picture is transparent; of arrays the stretches
    that are named, and what is NaN."""

    model_config = ConfigDict(json_schema_extra={"examples": [
        {"kind": "fill", "picture": "0123456789abcdef", "mask": "fedcba9876543210", "count": 8, "seed": 1},
        {"kind": "fill", "picture": "0123456789abcdef", "unknown": [{"first": 20, "last": 39}], "count": 32}]})
    kind: Literal["fill"]
    mask: Picture | None = Field(None, description="Id of a picture that is white where it is to be painted anew.")
    unknown: Annotated[list[Stretch], Field(max_length=100)] = Field([], description="Of arrays, in place of a mask.")
    count: Count = 8


class Vary(_Edit):
    """Draw variations of a picture."""

    kind: Literal["vary"]
    strength: Annotated[float, Field(ge=0, le=1)] = Field(0.5, description="0 changes nothing, 1 all.")
    count: Count = 8


class Interpolate(_Edit):
    """Walk from one picture to another, over pictures."""

    kind: Literal["interpolate"]
    other: Picture
    count: Annotated[int, Field(ge=2, le=COUNT, strict=True)] = 8


class Restore(_Edit):
    """Undo a measurement: draws of what it may have been made of."""

    kind: Literal["restore"]
    operator: Text = Field(description="As for `ornstein edit RUN restore`.", examples=["down=4", "blur=1.5", "grey"])
    noise: Annotated[float, Field(ge=0, le=10**9)] | None = Field(
        None, description="Deviation of its noise, in the data's own values; a hundredth of their range unless given.")
    measure: bool = Field(False, description="Whether the picture is whole and is to be measured first, as a trial.")
    count: Count = 8


class Trace(_Asked):
    """Draw a figure of the chapter: the forward chain and the way back, of a picture or of what the model draws."""

    kind: Literal["trace"]
    picture: Picture | None = None
    figure: Text = Field("auto", description="A figure of `ornstein trace`.")


class Nearest(_Body):
    """Find the training pictures nearest to a picture."""

    kind: Literal["nearest"]
    model: Text | None = None
    picture: Picture
    count: Annotated[int, Field(ge=1, le=COUNT, strict=True)] = 8


Asked = Annotated[Generate | Fill | Vary | Interpolate | Restore | Trace | Nearest, Field(discriminator="kind")]


class Mark(_Body):
    """What is changed of a picture in the gallery."""

    favourite: bool | None = None
    deleted: bool | None = Field(None, description="True moves it to the bin, false takes it out again.")


class Evaluation(_Body):
    """An evaluation that is to begin."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"model": "digits"}]})
    model: Text | None = Field(None, description="Name of the model; the first of `GET /api/models` unless given.")
    count: Annotated[int, Field(ge=30, le=100_000, strict=True)] | None = Field(
        None, description="Samples to draw; 10,000 up to 256 values a sample, else 2,000, unless given.")
    nfe: Annotated[int, Field(ge=1, le=BUDGET, strict=True)] | None = Field(
        None, description="Network calls a sample; 20 unless given.")
    likelihood: bool = Field(True, description="Whether to ask for likelihoods.")
    seed: Annotated[int, Field(ge=0, le=MOST_SEED, strict=True)] = 0


class Training(_Body):
    """A training that is to begin, on uploads or on a built-in set."""

    model_config = ConfigDict(json_schema_extra={"examples": [
        {"name": "my cats", "files": ["0123456789abcdef"], "minutes": 10, "size": 32}]})
    name: Annotated[str, Field(min_length=1, max_length=64)] = Field(description="Of the model.")
    files: Annotated[list[Id], Field(max_length=20_000)] = Field([], description="Ids of uploads: pictures, or a zip.")
    data: Literal["digits", "moons", "mixture"] | None = Field(None, description="A built-in set, in place of files.")
    minutes: Annotated[float, Field(gt=0, le=MINUTES)] = 10
    size: Annotated[int, Field(ge=4, le=1024, strict=True)] | None = Field(None, description="Side in pixels.")
    classes: bool | None = Field(None, description="Learn the classes, which are the folders of a zip.")
    seed: Annotated[int, Field(ge=0, le=MOST_SEED, strict=True)] = 0
    source: Text | None = Field(None, alias="from", description="Name of a model whose weights to start from.")

