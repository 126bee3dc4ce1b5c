"""The JSON bodies of requests, with their limits and examples."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from ornstein.noise import MAX_SEED
from ornstein.studio.limits import MAX_CALLS, MAX_MINUTES, MAX_SAMPLES

__all__ = ["Evaluation", "Id", "JobRequest", "Mark", "Training"]

Id = Annotated[str, Field(pattern="^[0-9a-f]{16}$", description="16 hexadecimal digits.",
                          examples=["0123456789abcdef"])]
Text = Annotated[str, Field(min_length=1, max_length=200)]
Count = Annotated[int, Field(ge=1, le=MAX_SAMPLES, strict=True, description="Samples to draw.")]
Picture = Annotated[str, Field(pattern="^[0-9a-f]{16}$", examples=["0123456789abcdef"],
                               description="Id of an upload, or of a picture in the gallery.")]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, protected_namespaces=())


class _Drawing(_Body):
    model: Text | None = Field(None, description="Name of the model; by default the first of `GET /api/models`.")
    seed: Annotated[int, Field(ge=0, le=MAX_SEED, strict=True)] = Field(0, description="Seed of the noise.")
    label: Text | Annotated[int, Field(ge=0, le=10**6)] | None = Field(
        None, description="A class by name or index, or several to alternate between, such as \"cat,dog\".",
        examples=["7"])
    condition: Annotated[list[float], Field(max_length=1000)] | None = Field(
        None, description="Values to condition on, for a model that was trained with such values.")
    guidance: Annotated[float, Field(ge=-1000, le=1000)] | None = Field(
        None, description="Scale of classifier-free guidance; 1 means no guidance.")


class Generate(_Drawing):
    """Draw new samples, the same as `ornstein.sample`."""

    model_config = ConfigDict(json_schema_extra={"examples": [
        {"kind": "generate", "count": 3, "seed": 1, "label": "7", "nfe": 8}]})
    kind: Literal["generate"]
    count: Count = 4
    sampler: Text = Field("auto", description="Name of a sampler in `GET /api/models`.")
    nfe: Annotated[int, Field(ge=1, le=MAX_CALLS, strict=True)] | None = Field(
        None, description="Network calls per sample, never exceeded; 20 if neither nfe nor steps is given.")
    steps: Annotated[int, Field(ge=1, le=MAX_CALLS, strict=True)] | None = Field(
        None, description="Steps of the sampler, instead of nfe.")


class _Edit(_Drawing):
    picture: Picture
    row: Annotated[int, Field(ge=0, le=10**9, strict=True)] = Field(
        0, description="Index of the sample in a .npy file with several.")
    nfe: Annotated[int, Field(ge=1, le=MAX_CALLS, strict=True)] = Field(50, description="Network calls per draw.")


class Stretch(_Body):
    """A stretch of a trace or a vector; positions count from 0 and the last one is included."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"first": 20, "last": 39}]})
    first: Annotated[int, Field(ge=0, strict=True)]
    last: Annotated[int, Field(ge=0, strict=True)]
    channel: Annotated[int, Field(ge=0, strict=True)] | None = Field(
        None, description="Channel of a trace; all by default.")


class Fill(_Edit):
    """Fill the unknown part: in pictures where the mask is white, or without a mask the transparent part; in arrays the
    listed stretches and NaN."""

    model_config = ConfigDict(json_schema_extra={"examples": [
        {"kind": "fill", "picture": "0123456789abcdef", "mask": "fedcba9876543210", "count": 8, "seed": 1},
        {"kind": "fill", "picture": "0123456789abcdef", "unknown": [{"first": 20, "last": 39}], "count": 32}]})
    kind: Literal["fill"]
    mask: Picture | None = Field(None, description="Id of a picture that is white where to fill.")
    unknown: Annotated[list[Stretch], Field(max_length=100)] = Field(
        [], description="Unknown stretches of an array, instead of a mask.")
    count: Count = 8


class Vary(_Edit):
    """Draw variations of a picture."""

    kind: Literal["vary"]
    strength: Annotated[float, Field(ge=0, le=1)] = Field(
        0.5, description="0 changes nothing, 1 everything.")
    count: Count = 8


class Interpolate(_Edit):
    """Draw pictures on a path from one picture to another."""

    kind: Literal["interpolate"]
    other: Picture
    count: Annotated[int, Field(ge=2, le=MAX_SAMPLES, strict=True)] = 8


class Restore(_Edit):
    """Undo a measurement: draw samples that could have led to it."""

    kind: Literal["restore"]
    operator: Text = Field(description="An operator of `ornstein edit RUN restore`.",
                           examples=["down=4", "blur=1.5", "grey"])
    noise: Annotated[float, Field(ge=0, le=10**9)] | None = Field(
        None, description="Standard deviation of the noise, in the data's own units; by default 1 % of their range.")
    measure: bool = Field(False, description="Apply the operator to the picture first, to try out a restoration.")
    count: Count = 8


class Trace(_Drawing):
    """Draw a figure of the forward chain and the way back, for a picture or for a sample of the model."""

    kind: Literal["trace"]
    picture: Picture | None = None
    figure: Text = Field("auto", description="Name of a figure of `ornstein trace`.")


class Nearest(_Body):
    """Find the training pictures nearest to a picture."""

    kind: Literal["nearest"]
    model: Text | None = None
    picture: Picture
    count: Annotated[int, Field(ge=1, le=MAX_SAMPLES, strict=True)] = 8


JobRequest = Annotated[Generate | Fill | Vary | Interpolate | Restore | Trace | Nearest, Field(discriminator="kind")]


class Mark(_Body):
    """Changes to the marks of a picture."""

    favourite: bool | None = None
    deleted: bool | None = Field(None, description="True moves it to the bin, false takes it out.")


class Evaluation(_Body):
    """An evaluation to start."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"model": "digits"}]})
    model: Text | None = Field(None, description="Name of the model; by default the first of `GET /api/models`.")
    count: Annotated[int, Field(ge=30, le=100_000, strict=True)] | None = Field(
        None, description="Samples to draw; by default 10,000 for samples of up to 256 values, else 2,000.")
    nfe: Annotated[int, Field(ge=1, le=MAX_CALLS, strict=True)] | None = Field(
        None, description="Network calls per sample; 20 by default.")
    likelihood: bool = Field(True, description="Whether to compute likelihoods.")
    seed: Annotated[int, Field(ge=0, le=MAX_SEED, strict=True)] = 0


class Training(_Body):
    """A training to start, on uploads or on a built-in data set."""

    model_config = ConfigDict(json_schema_extra={"examples": [
        {"name": "my cats", "files": ["0123456789abcdef"], "minutes": 10, "size": 32}]})
    name: Annotated[str, Field(min_length=1, max_length=64)] = Field(description="Name of the model.")
    files: Annotated[list[Id], Field(max_length=20_000)] = Field(
        [], description="Ids of uploads: pictures or zip files.")
    data: Literal["digits", "moons", "mixture"] | None = Field(
        None, description="A built-in data set, instead of files.")
    minutes: Annotated[float, Field(gt=0, le=MAX_MINUTES)] = 10
    size: Annotated[int, Field(ge=4, le=1024, strict=True)] | None = Field(
        None, description="Side of the pictures in pixels.")
    classes: bool | None = Field(None, description="Whether to learn the classes, which are the folders of a zip.")
    seed: Annotated[int, Field(ge=0, le=MAX_SEED, strict=True)] = 0
    source: Text | None = Field(None, alias="from", description="Name of a model to start from its weights.")

