"""What a figure is about: a denoiser, and a sample to follow through it."""

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

__all__ = ["POINTS", "Subject", "drawable", "read_sample", "scale", "subject"]

POINTS = 600  # points of the plane that walk together: one alone shows nothing


@dataclass(frozen=True)
class Subject:
    """A denoiser and clean samples (B, *shape) to follow, one or `POINTS` points of the plane; `what` is for titles."""

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


def drawable(of: Subject, figure: str = "this figure") -> None:
    """Raise ValueError for vectors of other than two values, which have no look."""
    if of.x.ndim == 2 and not of.plane:
        raise ValueError(f"{figure} shows pictures, traces, volumes and points of the plane; this model was trained on "
                         f"vectors of {of.x.shape[1]} values")


def scale(schedule: Schedule, time: float) -> float:
    """What a latent is divided by to be shown beside data: hypot(signal, noise) where that exceeds 1."""
    return max(float(schedule.level(as_time(time)).radius), 1.0)


def read_sample(spec: DataSpec, path: Path) -> Tensor:
    """(1, *shape) a sample of the user's own, from a picture file or from a .npy file in the data's own units.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file that cannot be read, or numbers that are no sample of such data.
    """
    if path.suffix.lower() != ".npy":
        if spec.kind != "picture":
            raise ValueError(f"{path} is no .npy file, and this model was trained on arrays of shape {spec.shape}; "
                             "save one sample with numpy.save, in the layout of the data")
        least, most = spec.extent
        deep = spec.mode == "I;16"
        values = read_picture(path, spec.shape, depth=16 if deep else 8)[None]
        # Sixteen bits are the data's own, eight are what they are drawn in.
        return spec.encode(values.clip(least, most) if deep else least + values / 255 * (most - least))
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; name a .npy file of one sample")
    try:
        with files.open_regular(path) as file:
            values = np.load(file, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} cannot be used: {printable(str(error))}") from None
    wanted = spec.arrange(np.empty((1, *spec.shape))).shape[1:]
    if values.dtype.kind not in "biuf" or values.shape != wanted:
        raise ValueError(f"{path} holds {values.dtype} of shape {values.shape}; one sample of {spec.name!r} is numbers "
                         f"of shape {wanted}")
    if not np.isfinite(values).all():
        raise ValueError(f"{path} holds values that are not finite; every value must be a finite number")
    return spec.encode(channel_first(values[None], spec.layout))


def subject(model: NetworkDenoiser, image: Path | None = None, label: str | None = None, seed: int = 0) -> Subject:
    """A model with a picture of the user's own, or with what it draws; ValueError where the model cannot be drawn so.

    The label is the class of the sample and of the way back: the first class without it, and of points all in turn.
    """
    spec = model.data
    if spec is None:
        raise ValueError("this model does not say what data it was trained on; trace cannot draw them")
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
