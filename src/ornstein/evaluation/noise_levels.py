"""The denoising loss by noise level, of training rows and of unseen ones, and the lowest possible one."""

from __future__ import annotations

import math

import torch

from ornstein.data import Dataset
from ornstein.diffusion.denoiser import Denoiser
from ornstein.diffusion.exact import ExactDataset
from ornstein.diffusion.likelihood.bound import mean_error
from ornstein.diffusion.score import level_losses
from ornstein.evaluation.preparation import Rows
from ornstein.evaluation.results import Curve

__all__ = ["loss_curve_calls", "loss_curves"]

LOG_SNR = tuple(float(value) for value in range(-9, 10, 2))
DRAWS = 2  # latents for each row and level
EXACT_VALUES = 2**27  # values of a training set above which its optimal denoiser is left out
EXACT_WORK = 2e10  # differences between values that its losses may take
MIN_ROWS = 8  # for the lowest possible loss


def loss_curves(model: Denoiser, training: Dataset, seen: Rows, unseen: Rows, seed: int = 0) -> list[Curve]:
    """The loss |eps - eps-hat|^2 / 2 a value by log SNR, most noise first: what a unit of log SNR adds to the bound.

    The curves are those of some training rows, of unseen ones, and of the `ExactDataset` of all training rows, on the
    same noise.
    """
    log_snr = [value for value in LOG_SNR if value > float(model.schedule.log_snr(1.0))]
    curves = [_curve("training", log_snr, level_losses(model, seen.x, log_snr, DRAWS, seed, seen.condition)),
              _curve("held out", log_snr, level_losses(model, unseen.x, log_snr, DRAWS, seed, unseen.condition))]
    values = len(training) * math.prod(model.shape)
    # With vector conditions the lowest possible loss is unknown: a model knows more than the set of points does.
    if values > EXACT_VALUES or training.conditions is not None:
        return curves
    rows = min(len(seen), int(EXACT_WORK / (values * len(log_snr))))
    if rows < MIN_ROWS:
        return curves
    x, labels = training.batch(range(len(training)))
    condition = seen.condition[:rows] if training.spec.classes and seen.condition is not None else None
    exact = ExactDataset(x, model.schedule, labels if condition is not None else None)
    return [*curves, _curve("lowest possible", log_snr, level_losses(exact, seen.x[:rows], log_snr, 1, seed,
                                                                     condition))]


def loss_curve_calls(rows: int) -> int:
    """Calls of the network, in rows, for the losses of `rows` rows."""
    return len(LOG_SNR) * DRAWS * rows


def _curve(name: str, log_snr: list[float], losses: torch.Tensor) -> Curve:
    points = [mean_error(values) for values in losses]
    return Curve(name, tuple(log_snr), tuple(mean for mean, _ in points), tuple(error for _, error in points))
