"""The subject of a figure: a denoiser, and a sample to follow through it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ornstein import files
from ornstein.arguments import printable
from ornstein.data import DataSpec, read_picture
from ornstein.data.spec import channel_first
from ornstein.diffusion.condition import Condition
from ornstein.diffusion.denoiser import Denoiser, NetworkDenoiser
from ornstein.diffusion.level import as_time
from ornstein.diffusion.samplers import sample
from ornstein.diffusion.schedule import Schedule

__all__ = ["POINTS", "Subject", "check_drawable", "display_scale", "make_subject", "read_sample"]

POINTS = 600  # of the plane that are followed together, since a single one shows nothing


@dataclass(frozen=True)
class Subject:
    """A denoiser and clean samples (B, *shape) to follow, one or `POINTS` points of the plane; `what` names them."""

    denoiser: Denoiser
    x: Tensor
    what: str
    spec: DataSpec | None = None
    condition: Condition = None
    seed: int = 0

    @property
    def plane(self) -> bool:
        """Whether samples are points of the plane."""
        return tuple(self.denoiser.shape) == (2,)


def check_drawable(subject: Subject, figure: str = "this figure") -> None:
    """Raise ValueError for vectors of other than two values, which cannot be drawn."""
    if subject.x.ndim == 2 and not subject.plane:
        raise ValueError(f"{figure} shows pictures, traces, volumes and points of the plane; this model was trained on "
                         f"vectors of {subject.x.shape[1]} values")


def display_scale(schedule: Schedule, time: float) -> float:
    """The divisor that brings a latent to the scale of data: hypot(signal, noise) where that exceeds 1."""
    return max(float(schedule.level(as_time(time)).radius), 1.0)


def read_sample(spec: DataSpec, path: Path) -> Tensor:
    """Read a user's sample (1, *shape) from a picture file, or from a .npy file in the data's own units.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: a file that cannot be read, or numbers that are not a sample of such data.
    """
    if path.suffix.lower() != ".npy":
        if spec.kind != "picture":
            raise ValueError(f"{path} is not a .npy file, but this model was trained on arrays of shape {spec.shape}; "
                             "save one sample with numpy.save, in the layout of the data")
        least, most = spec.extent
        sixteen_bits = spec.mode == "I;16"
        values = read_picture(path, spec.shape, depth=16 if sixteen_bits else 8)[None]
        # Sixteen-bit values are those of the data, eight-bit values those of drawings.
        return spec.encode(values.clip(least, most) if sixteen_bits else least + values / 255 * (most - least))
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; name a .npy file of one sample")
    try:
        with files.open_regular(path) as file:
            values = np.load(file, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} cannot be used: {printable(str(error))}") from None
    shape = spec.arrange(np.empty((1, *spec.shape))).shape[1:]
    if values.dtype.kind not in "biuf" or values.shape != shape:
        raise ValueError(f"{path} holds {values.dtype} of shape {values.shape}; one sample of {spec.name!r} is numbers "
                         f"of shape {shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"{path} holds values that are not finite; every value must be a finite number")
    return spec.encode(channel_first(values[None], spec.layout))


def make_subject(model: NetworkDenoiser, image: Path | None = None, label: str | None = None, seed: int = 0) -> Subject:
    """Return a model with a user's picture, or with samples that it draws; ValueError if the model does not allow it.

    The label is the class of the sample and of the reverse path; by default the first class, or for points all in turn.
    """
    spec = model.data
    if spec is None:
        raise ValueError("this model does not describe its data, so trace cannot draw them")
    if image is not None and (spec.kind != "picture" or (spec.shape[0] == 4 and spec.mode != "RGBA")):
        raise ValueError(f"image is {image}, but this model was trained on arrays of shape {spec.shape}; leave it out")
    plane, condition = spec.shape == (2,), None
    if spec.classes and label is None and plane:
        condition = spec.cycle(POINTS)
    elif spec.classes:
        condition = torch.tensor([spec.label(label) if label is not None else spec.drawn[0]])
    elif label is not None:
        raise ValueError(f"label is {label!r}, but this model has no classes; leave it out")
    if image is not None:
        return Subject(model, read_sample(spec, image), image.name, spec, condition, seed)
    x = sample(model, POINTS if plane else 1, condition=condition, seed=seed)
    return Subject(model, x, f"{POINTS} samples of the model" if plane else "a sample of the model", spec, condition,
                   seed)
