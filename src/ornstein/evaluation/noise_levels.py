"""The denoising loss by noise level: of training rows, of unseen ones, and the lowest that there can be."""

from __future__ import annotations

import math

import torch

from ornstein.data import Dataset
from ornstein.diffusion.denoiser import Denoiser
from ornstein.diffusion.exact import ExactDataset
from ornstein.diffusion.likelihood.bound import mean_error
from ornstein.diffusion.score import level_losses
from ornstein.evaluation.results import Curve
from ornstein.evaluation.rows import Rows

__all__ = ["by_noise_level", "calls_of_levels"]

LOG_SNR = tuple(float(value) for value in range(-9, 10, 2))
DRAWS = 2  # latents a row and level
EXACT_VALUES = 2**27  # values of a training set, above which its optimal denoiser is left out
EXACT_WORK = 2e10  # distances between values that may be taken for it
LEAST = 8


def by_noise_level(model: Denoiser, training: Dataset, seen: Rows, unseen: Rows, seed: int = 0) -> list[Curve]:
    """The loss |eps - eps-hat|^2 / 2 a value by log SNR, most noise first: what each unit of log SNR adds to the bound;
    of some training rows, of unseen ones, and of the `ExactDataset` of all training rows, on the same noise."""
    log_snr = [value for value in LOG_SNR if value > float(model.schedule.log_snr(1.0))]
    curves = [_curve("training", log_snr, level_losses(model, seen.x, log_snr, DRAWS, seed, seen.condition)),
              _curve("held out", log_snr, level_losses(model, unseen.x, log_snr, DRAWS, seed, unseen.condition))]
    values = len(training) * math.prod(model.shape)
    # A model that gets vectors knows more than a set of points does: what is lowest is not known then.
    if values > EXACT_VALUES or training.conditions is not None:
        return curves
    rows = min(len(seen), int(EXACT_WORK / (values * len(log_snr))))
    if rows < LEAST:
        return curves
    x, labels = training.batch(range(len(training)))
    condition = seen.condition[:rows] if training.spec.classes and seen.condition is not None else None
    exact = ExactDataset(x, model.schedule, labels if condition is not None else None)
    return [*curves, _curve("lowest possible", log_snr, level_losses(exact, seen.x[:rows], log_snr, 1, seed,
                                                              condition))]


def calls_of_levels(rows: int) -> int:
    """Network calls, a row each, of the losses of so many rows."""
    return len(LOG_SNR) * DRAWS * rows


def _curve(name: str, log_snr: list[float], losses: torch.Tensor) -> Curve:
    each = [mean_error(row) for row in losses]
    return Curve(name, tuple(log_snr), tuple(mean for mean, _ in each), tuple(error for _, error in each))
