"""A check whether a model denoises held-out data as well as one on that scale and schedule should."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ornstein import noise
from ornstein.adoption.adopted import Adopted
from ornstein.diffusion.level import Level
from ornstein.diffusion.linear import MAX_MATRIX_SIZE, MAX_SIDE, LinearGuess

__all__ = ["diagnose"]

LOG_SNRS = (5.0, 2.5, 0.0, -2.5, -5.0)
ROWS = (128, 32)  # held-out samples to denoise, for up to 1,024 values and for more
WORSE = 1.1  # ratio of errors from which the model is worse than the linear guess
BETTER = 1.15  # ratio of errors from which another scale or time is suggested
SHIFTS = (-2.0, 2.0)  # of the log SNR of the network's time
SCALES = ((0.5, 0.0), (2.0, 0.0), (0.5, 0.5), (2.0, -1.0))  # factor and offset of the data


class _Trial:
    """Errors of a model and of the best linear guess on held-out samples at known levels of noise."""

    def __init__(self, model: Adopted, known: Tensor, held_out: Tensor, condition: Tensor | None) -> None:
        self.model, self.held_out, self.condition = model, held_out, condition
        self.mean, self.deviation = known.mean(0), known.std().clamp(min=1e-6)
        size, sides = known[0].numel(), known.shape[2:]
        kind = "principal" if size <= MAX_MATRIX_SIZE else "waves" if sides and max(sides) <= MAX_SIDE else "diagonal"
        self.guess = LinearGuess.fit((known - self.mean) / self.deviation, kind)
        ends = model.schedule.log_snr(torch.tensor([0.0, 1.0], dtype=torch.float64, device="cpu"))
        self.log_snrs = [log_snr for log_snr in LOG_SNRS if ends[1] < log_snr < ends[0]]
        self.eps = noise.per_sample(0, "levels", range(len(held_out)), 0, held_out)

    def errors(self, log_snr: float, shift: float = 0.0, factor: float = 1.0,
               offset: float = 0.0) -> tuple[float, float]:
        """Mean square errors of the model and of the linear guess at a log SNR, in units of the data.

        The data are scaled by `factor` and moved by `offset`; the network's time is that of a shifted log SNR.
        """
        x, schedule = factor * self.held_out + offset, self.model.schedule
        t = schedule.time(torch.tensor(log_snr, dtype=torch.float64, device="cpu"))
        level = schedule.level(t)
        z = level.signal.to(x) * x + level.noise.to(x) * self.eps
        shifted = schedule.time(schedule.log_snr(t) + shift)
        model_error = self.model.forward_at(z, t, shifted, self.condition).x - x
        scaled = Level(level.signal.to(x) * factor * self.deviation, level.noise.to(x))
        centred = z - level.signal.to(x) * (factor * self.mean + offset)
        unit = scaled.unit
        v = self.guess(centred / scaled.radius, scaled)
        guess = factor * self.deviation * (unit.signal * centred / scaled.radius - unit.noise * v)
        guess_error = guess + factor * self.mean + offset - x
        return tuple(float(error.double().square().mean()) / factor**2  # pyrefly: ignore
                     for error in (model_error, guess_error))

    def ratio(self, **changes: float) -> float:
        """The model's error over the linear guess's, geometric mean over the levels."""
        errors = [self.errors(log_snr, **changes) for log_snr in self.log_snrs]
        return math.exp(sum(math.log(max(model, 1e-30) / max(guess, 1e-30)) for model, guess in errors) / len(errors))


def diagnose(model: Adopted, known: Tensor, held_out: Tensor, condition: Tensor | None = None,
             ends: Sequence[float] | None = (-1.0, 1.0)) -> list[str]:
    """Warnings about a scale, a schedule or a convention that does not fit between a model and its data.

    Args:
        model: adopted.
        known: (N, *shape) samples to fit the linear guess to, in the model's values.
        held_out: (M, *shape) other samples, to denoise.
        condition: (M,) their classes.
        ends: the model's values for the minimum and the maximum of the data, if given.
    """
    rows = ROWS[known[0].numel() > MAX_MATRIX_SIZE]
    trial = _Trial(model, known, held_out[:rows], None if condition is None else condition[:rows])
    if not trial.log_snrs:
        return []
    ratio = trial.ratio()
    scales = {scale: trial.ratio(factor=scale[0], offset=scale[1]) for scale in SCALES}
    best = min(scales, key=scales.__getitem__)
    if scales[best] * BETTER < ratio:
        factor, offset = best
        if ends is None:
            remedy = f"give data that are {factor:g} times as large" + (f", plus {offset:g}" if offset else "")
        else:
            remedy = "give range=({:g}, {:g})".format(*(factor * end + offset for end in ends))
        return [f"the data have another scale than the model: held-out samples times {factor:g}"
                + (f" {'+' if offset > 0 else '-'} {abs(offset):g}" if offset else "")
                + f" are denoised {ratio / scales[best]:.2g} times as well: {remedy}"]
    shifts = {shift: trial.ratio(shift=shift) for shift in SHIFTS}
    shift = min(shifts, key=shifts.__getitem__)
    if shifts[shift] * BETTER < ratio:
        return ["the schedule or the network's time is not that of the model: held-out samples are denoised "
                f"{ratio / shifts[shift]:.2g} times as well if it is told {'more' if shift < 0 else 'less'} noise than "
                "they hold: give the schedule that it was trained on"]
    worse = [log_snr for log_snr in trial.log_snrs if (errors := trial.errors(log_snr))[0] > WORSE * errors[1]]
    if worse:
        return [f"at a log SNR of {', '.join(f'{log_snr:g}' for log_snr in worse)} the model denoises held-out samples "
                "worse than the best linear guess of the data does: its convention, schedule or range is another, or "
                "it was hardly trained on such data"]
    return []
