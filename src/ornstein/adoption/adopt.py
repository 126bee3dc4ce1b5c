"""`orn.adopt`: a model of another library as a denoiser."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ornstein import noise
from ornstein.adoption.adopted import CONVENTIONS, TIMED, Adopted
from ornstein.adoption.diagnosis import diagnose
from ornstein.adoption.schedulers import Scheduler
from ornstein.adoption.sources import Source, read_schedule, read_source
from ornstein.adoption.spec import build_spec, resolve_classes
from ornstein.adoption.unet import Unet
from ornstein.arguments import alternatives, require, require_ints
from ornstein.data import Dataset, DataSpec, load_data, source_name, source_path
from ornstein.isolation import isolated

__all__ = ["adopt"]

MAX_ROWS = 5000  # of which mean and variance are computed
SIGMA_CONVENTIONS = ("score", "k-diffusion", "edm")  # in which the network's time is sigma
MIN_DEVIATION = 1e-3  # of a value, as a share of that of all


@isolated(gradients=False)
def adopt(source: Any, *, convention: str | None = None, schedule: Any = None, shape: Sequence[int] | None = None,
          time: str | None = None, classes: int | Sequence[str] | None = None, null: int | None = None,
          range: tuple[float, float] | None = None, data: Any = None, inputs: Mapping[str, str] | None = None,
          output: str | None = None) -> Adopted:
    """A model of another library as a `Denoiser`: of diffusers, an ONNX file, or a module by its library's convention.

    Args:
        source: a folder of diffusers (a pipeline or a U-Net), a `DDPMPipeline`, a `UNet2DModel`, the path of an .onnx
            file, or a module or function that is called by `convention`. No code from a folder is run.
        convention: what the source takes and answers: "x", "eps" or "v" at (z, time); "k-diffusion", "edm",
            "score_sde", "sub-vp", "score", "flow", "flow_matching" or "torchcfm"; "edm-inside" and "edm-v" are the
            inner networks of EDM denoisers. By default that of the scheduler of diffusers.
        schedule: of the latents: a `Schedule`, the name of one, or a scheduler of diffusers, its configuration or the
            path of that. By default that of the folder, or the convention's usual one.
        shape: of one sample, channels first. Not needed for diffusers, and for graphs of fixed size.
        time: the network's time for "x", "eps" and "v": "t" in [0, 1], "index" from 0 to T - 1 of a `Chain`, or
            "log_snr". By default "index" with a scheduler of diffusers, else "t".
        classes: number of classes, or their names.
        null: the index of the class that stands for none, if the model was trained with one.
        range: the model's values for the minimum and the maximum of the data. By default (-1, 1) for pictures and other
            data on levels; other arrays are not rescaled.
        data: data like those of the training, as for `load_data`. They give names of classes and levels, and held-out
            rows are denoised: a RuntimeWarning tells of a wrong range or schedule.
        inputs: names of an .onnx file's inputs for "x", "time" and "condition".
        output: name of an .onnx file's output.

    Returns:
        The denoiser in evaluation mode. `save` writes it; for a module of your own, `load` needs it again as `network`.

    Raises:
        FileNotFoundError: the source, or a part of it, does not exist.
        ModuleNotFoundError: diffusers or onnxruntime is needed, and not installed.
        TypeError: a source or schedule of another type.
        ValueError: a source that is damaged or cannot be adopted, or an argument that is missing or contradicts it.
    """
    opened = read_source(source, inputs, output, shape is not None)
    chosen = opened.scheduler if schedule is None else read_schedule(schedule)
    scheduler, noise_schedule = (chosen, chosen.schedule) if isinstance(chosen, Scheduler) else (None, chosen)
    name = require("convention", _convention(opened, scheduler) if convention is None else convention, CONVENTIONS)
    _refuse_logarithm(opened, name)
    uses_index = name in TIMED and (scheduler is not None or isinstance(opened.network, Unet))
    dataset = None if data is None else data if isinstance(data, Dataset) else load_data(data)
    sample_shape = _shape(opened, shape, dataset)
    count, names = resolve_classes(classes, null, opened.classes, dataset)
    if name == "edm" and count and null is None:
        null = -1  # a row of zeros
    spec = build_spec(sample_shape, names, range, dataset, opened.origin)
    known, held_out, labels = (None, None, None) if dataset is None else _rows(dataset, spec, count, null)
    moments = {} if known is None else {"data_mean": known.mean(0), "data_std": known.std(0).clamp(
        min=MIN_DEVIATION * float(known.std()))}
    model = Adopted(opened.network, noise_schedule, sample_shape, name, time=time or ("index" if uses_index else "t"),
                    classes=count, null=null,
                    number=scheduler.number if scheduler and name == scheduler.convention else None,
                    x_range=scheduler.x_range if scheduler else None,
                    threshold=scheduler.threshold if scheduler else None, data=spec, origin=opened.origin,
                    trained_on=_data_path(data), **moments).eval()
    _check_answer(model)
    notes = list(scheduler.notes) if scheduler else []
    if known is not None and held_out is not None:
        is_unscaled = range is None and not spec.rounds and spec.kind != "picture"
        notes += diagnose(model, known, held_out, labels, None if is_unscaled else range or (-1.0, 1.0))
    for note in notes:
        warnings.warn(note, RuntimeWarning, stacklevel=3)
    return model


def _refuse_logarithm(source: Source, convention: str) -> None:
    """Refuse a U-Net that takes the logarithm of a time that may be 0."""
    if isinstance(source.network, Unet) and convention not in SIGMA_CONVENTIONS and (
            source.network.unet.config["time_embedding_type"] == "fourier"):
        raise ValueError(f"the {source.origin} has the time_embedding_type 'fourier', which takes the logarithm of its "
                         f"time, and convention {convention!r} has times of 0 and below; only "
                         f"{alternatives(*map(repr, SIGMA_CONVENTIONS))} can be used")


def _convention(source: Source, scheduler: Scheduler | None) -> str:
    """The convention of a scheduler; ValueError without one."""
    if scheduler is None:
        is_unet = isinstance(source.network, Unet)
        choices = "'x', 'eps' or 'v'" if is_unet else alternatives(*map(repr, CONVENTIONS))
        remedy = ", or give as schedule the scheduler that it was trained with" if is_unet else ""
        raise ValueError(f"convention is missing; the {source.origin} does not say what it answers: give "
                         f"{choices}{remedy}")
    return scheduler.convention


def _shape(source: Source, requested: Sequence[int] | None, data: Dataset | None) -> tuple[int, ...]:
    """The shape of one sample: the requested one, that of the source, or that of the data."""
    shape = None if requested is None else tuple(require_ints("shape", list(requested)))
    if shape is not None and source.shape not in (None, shape):
        raise ValueError(f"shape is {shape}, and the {source.origin} has samples of shape {source.shape}; leave it out")
    if shape is None:
        shape = source.shape or (data.spec.shape if data is not None else None)
    if shape is None:
        raise ValueError("shape is missing; give that of one sample, such as (3, 32, 32), or data")
    if not 1 <= len(shape) <= 4:
        raise ValueError(f"shape is {shape}; it must have one to four sides, channels first")
    return shape


def _rows(data: Dataset, spec: DataSpec, classes: int,
          null: int | None) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Samples for the moments, held-out ones to denoise, and the labels of these; None if there are none to denoise."""
    known, held_out = data.split()
    if not len(held_out):
        known = held_out = data
    generator = noise.generator(0, "evaluate")
    known_rows, held_out_rows = (generator.permutation(len(part))[:MAX_ROWS] for part in (known, held_out))
    x, other = (spec.encode(part.values[rows]) for part, rows in ((known, known_rows), (held_out, held_out_rows)))
    if not classes:
        return x, other, None
    labels = held_out.batch(held_out_rows)[1] if data.spec.classes == spec.classes else torch.full((len(other),), -1)
    is_usable = (labels >= 0) | (null is not None)
    return (x, other[is_usable], labels[is_usable]) if is_usable.any() else (x, None, None)


def _data_path(data: Any) -> str | None:
    """The name or absolute path of data for `load_data`; None for data in memory."""
    name = source_name(data)
    path = source_path(data) if isinstance(name, str) else None
    return path if isinstance(path, str) else name if isinstance(name, str) else None


def _check_answer(model: Adopted) -> None:
    """Refuse a network that cannot be called, or answers with values that are not finite."""
    t = float(model.schedule.time(torch.tensor(0.0, dtype=torch.float64, device="cpu")))
    like = next((value for value in model.network.parameters() if value.is_floating_point()), model.data_std)
    eps = noise.per_sample(0, "levels", range(1), 0, like.new_empty(1, *model.shape))
    condition = torch.zeros(1, dtype=torch.int64, device=like.device) if model.classes else None
    try:
        answer = model(eps, t, condition)
    except ValueError:
        raise
    except Exception as error:  # a network may raise anything
        raise ValueError(f"the {model.origin} cannot be called as convention {model.convention!r} does on a sample of "
                         f"shape {model.shape}: {type(error).__name__}: {' '.join(str(error).split())}") from error
    if not answer.v.isfinite().all():
        raise ValueError(f"the {model.origin} answers with values that are not finite; it is broken, or convention "
                         f"{model.convention!r} is not its own")
