"""`orn.adopt`: a source of another library, and the denoiser that it becomes."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ornstein import noise
from ornstein.adoption.adopted import CLOCKED, CONVENTIONS, Adopted
from ornstein.adoption.held import doubts
from ornstein.adoption.schedulers import Scheduled
from ornstein.adoption.sources import Found, find_source, read_schedule
from ornstein.adoption.unet import Unet
from ornstein.adoption.values import classes_of, spec_of
from ornstein.arguments import alternatives, require, require_ints
from ornstein.data import Dataset, DataSpec, load_data, named, path_of
from ornstein.isolation import isolated

__all__ = ["adopt"]

FITTED = 5000  # rows, at most, whose mean and variances are taken
TOLD_NOISE = ("score", "k-diffusion", "edm")  # conventions that tell a network the noise itself
FLAT = 1e-3  # least deviation of a value, in parts of that of all


@isolated(gradients=False)
def adopt(source: Any, *, convention: str | None = None, schedule: Any = None, shape: Sequence[int] | None = None,
          time: str | None = None, classes: int | Sequence[str] | None = None, null: int | None = None,
          range: tuple[float, float] | None = None, data: Any = None, inputs: Mapping[str, str] | None = None,
          output: str | None = None) -> Adopted:
    """A model of another library as a `Denoiser`: of diffusers, an ONNX file, or a module by its library's convention.

    Args:
        source: a folder that diffusers wrote (a pipeline's, or a U-Net's alone), a `DDPMPipeline`, a `UNet2DModel`, the
            path of an .onnx file, or what is called as `convention` says. No code from a folder is run.
        convention: what the source is given and answers: "x", "eps" or "v" at (z, time); "k-diffusion", "edm",
            "score_sde", "sub-vp", "score", "flow", "flow_matching" or "torchcfm"; "edm-inside" and "edm-v" are the
            networks inside of denoisers of EDM. A scheduler of diffusers says it.
        schedule: of the latents: a `Schedule`, the name of one, or a scheduler of diffusers, its configuration or the
            path of that. That of the folder, or the convention's usual one, unless given.
        shape: of one sample, channels first. Known of diffusers, and of graphs of fixed sides.
        time: of "x", "eps" and "v": what the network is told, "t" in [0, 1], "index" from 0 to T - 1 of a `Chain`, or
            "log_snr". "index" with a scheduler of diffusers, else "t".
        classes: how many it is told, or their names.
        null: the number of the class that stands for none, if it was trained with one.
        range: (least, most) value that the model has for the least and the most of the data; (-1, 1) for pictures and
            other data on levels unless given, and without it other arrays are taken as they are.
        data: data like those that it was trained on, as for `load_data`. They name classes and levels, and held-out
            rows are denoised: a wrong range or schedule is told in a RuntimeWarning.
        inputs: of an .onnx file: its names for "x", "time" and "condition".
        output: of an .onnx file: its name for the answer.

    Returns:
        The denoiser in evaluation mode. `save` writes it; of a module of your own, `load` needs that again as
        `network`.

    Raises:
        FileNotFoundError: a source, or a part of it, that is not there.
        ModuleNotFoundError: diffusers or onnxruntime is needed, and not installed.
        TypeError: a source or schedule of another type.
        ValueError: a source that is damaged or cannot be adopted; what is missing, or contradicts it.
    """
    found = find_source(source, inputs, output, shape is not None)
    given = found.scheduler if schedule is None else read_schedule(schedule)
    scheduler, own = (given, given.schedule) if isinstance(given, Scheduled) else (None, given)
    name = require("convention", _convention(found, scheduler) if convention is None else convention, CONVENTIONS)
    _refuse_logarithm(found, name)
    counted = name in CLOCKED and (scheduler is not None or isinstance(found.network, Unet))
    dataset = None if data is None else data if isinstance(data, Dataset) else load_data(data)
    sample = _shape(found, shape, dataset)
    count, names = classes_of(classes, null, found.classes, dataset)
    if name == "edm" and count and null is None:
        null = -1  # a row of zeros
    spec = spec_of(sample, names, range, dataset, found.origin)
    known, held, labels = (None, None, None) if dataset is None else _rows(dataset, spec, count, null)
    moments = {} if known is None else {"data_mean": known.mean(0), "data_std": known.std(0).clamp(
        min=FLAT * float(known.std()))}
    model = Adopted(found.network, own, sample, name, time=time or ("index" if counted else "t"), classes=count,
                    null=null, number=scheduler.number if scheduler and name == scheduler.convention else None,
                    x_range=scheduler.x_range if scheduler else None,
                    threshold=scheduler.threshold if scheduler else None, data=spec, origin=found.origin,
                    trained_on=_place(data), **moments).eval()
    _answers(model)
    said = list(scheduler.notes) if scheduler else []
    if known is not None and held is not None:
        as_they_are = range is None and not spec.rounds and spec.kind != "picture"
        said += doubts(model, known, held, labels, None if as_they_are else range or (-1.0, 1.0))
    for line in said:
        warnings.warn(line, RuntimeWarning, stacklevel=3)
    return model


def _refuse_logarithm(found: Found, convention: str) -> None:
    """Refuse a U-Net that takes the logarithm of its time where that may be 0."""
    if isinstance(found.network, Unet) and convention not in TOLD_NOISE and (
            found.network.unet.config["time_embedding_type"] == "fourier"):
        raise ValueError(f"the {found.origin} has the time_embedding_type 'fourier', which takes the logarithm of its "
                         f"time, and convention {convention!r} has times of 0 and below; only "
                         f"{alternatives(*map(repr, TOLD_NOISE))} can be told to it")


def _convention(found: Found, scheduler: Scheduled | None) -> str:
    """What a scheduler says that the network predicts."""
    if scheduler is None:
        kinds = "'x', 'eps' or 'v'" if isinstance(found.network, Unet) else alternatives(*map(repr, CONVENTIONS))
        more = ", or give as schedule the scheduler that it was trained with" if isinstance(found.network, Unet) else ""
        raise ValueError(f"convention is missing; the {found.origin} does not say what it answers: give "
                         f"{kinds}{more}")
    return scheduler.convention


def _shape(found: Found, given: Sequence[int] | None, data: Dataset | None) -> tuple[int, ...]:
    """The shape of one sample: given, of the source, or of the data."""
    shape = None if given is None else tuple(require_ints("shape", list(given)))
    if shape is not None and found.shape not in (None, shape):
        raise ValueError(f"shape is {shape}, and the {found.origin} is of samples of {found.shape}; leave it out")
    if shape is None:
        shape = found.shape or (data.spec.shape if data is not None else None)
    if shape is None:
        raise ValueError("shape is missing; give that of one sample, such as (3, 32, 32), or data")
    if not 1 <= len(shape) <= 4:
        raise ValueError(f"shape is {shape}; it must have one to four sides, channels first")
    return shape


def _rows(data: Dataset, spec: DataSpec, classes: int,
          null: int | None) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Samples that moments are taken of, others to denoise, and what the model is told of these; None where nothing can
    be told."""
    known, held = data.split()
    if not len(held):
        known = held = data
    order = noise.generator(0, "evaluate")
    first, second = (order.permutation(len(part))[:FITTED] for part in (known, held))
    x, other = (spec.encode(part.values[rows]) for part, rows in ((known, first), (held, second)))
    if not classes:
        return x, other, None
    labels = held.batch(second)[1] if data.spec.classes == spec.classes else torch.full((len(other),), -1)
    keep = (labels >= 0) | (null is not None)
    return (x, other[keep], labels[keep]) if keep.any() else (x, None, None)


def _place(data: Any) -> str | None:
    """Where data are, as `load_data` takes them, from any folder; None where that cannot be written down."""
    name = named(data)
    place = path_of(data) if isinstance(name, str) else None
    return place if isinstance(place, str) else name if isinstance(name, str) else None


def _answers(model: Adopted) -> None:
    """Refuse a network that does not answer, or not with numbers, before anything is built on it."""
    t = float(model.schedule.time(torch.tensor(0.0, dtype=torch.float64, device="cpu")))
    like = next((value for value in model.network.parameters() if value.is_floating_point()), model.data_std)
    eps = noise.per_sample(0, "levels", range(1), 0, like.new_empty(1, *model.shape))
    condition = torch.zeros(1, dtype=torch.int64, device=like.device) if model.classes else None
    try:
        answer = model(eps, t, condition)
    except ValueError:
        raise
    except Exception as error:  # whatever a network may raise of what it cannot be given
        raise ValueError(f"the {model.origin} cannot be called as convention {model.convention!r} does on a sample of "
                         f"shape {model.shape}: {type(error).__name__}: {' '.join(str(error).split())}") from error
    if not answer.v.isfinite().all():
        raise ValueError(f"the {model.origin} answers with values that are not finite; it is broken, or convention "
                         f"{model.convention!r} is not its own")
