"""Whether a model denoises held-out data as one on that scale and schedule does."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ornstein import noise
from ornstein.adoption.adopted import Adopted
from ornstein.diffusion.level import Level
from ornstein.diffusion.linear import MOST_SIDE, MOST_SIZE, LinearGuess

__all__ = ["doubts"]

LOG_SNRS = (5.0, 2.5, 0.0, -2.5, -5.0)
ROWS = (128, 32)  # held-out samples that are denoised, of up to 1,024 values and of more
WORSE = 1.1  # times the error of the linear guess, from which a model says less than that
BETTER = 1.15  # times less error with another scale or clock, from which it is said
SHIFTS = (-2.0, 2.0)  # of the log SNR that the network is told
SCALES = ((0.5, 0.0), (2.0, 0.0), (0.5, 0.5), (2.0, -1.0))  # factors of the data, and what is added


class Denoised:
    """Errors of a model and of the best linear guess on samples at known levels of noise."""

    def __init__(self, model: Adopted, known: Tensor, held: Tensor, condition: Tensor | None) -> None:
        self.model, self.held, self.condition = model, held, condition
        self.mean, self.deviation = known.mean(0), known.std().clamp(min=1e-6)
        size, sides = known[0].numel(), known.shape[2:]
        kind = "principal" if size <= MOST_SIZE else "waves" if sides and max(sides) <= MOST_SIDE else "diagonal"
        self.guess = LinearGuess.fit((known - self.mean) / self.deviation, kind)
        ends = model.schedule.log_snr(torch.tensor([0.0, 1.0], dtype=torch.float64, device="cpu"))
        self.levels = [one for one in LOG_SNRS if ends[1] < one < ends[0]]
        self.eps = noise.per_sample(0, "levels", range(len(held)), 0, held)

    def errors(self, log_snr: float, shift: float = 0.0, factor: float = 1.0,
               added: float = 0.0) -> tuple[float, float]:
        """Mean square error of the model and of the linear guess for data of another scale, in units of these, at a log
        SNR, of which the network is told one that is shifted."""
        x, schedule = factor * self.held + added, self.model.schedule
        t = schedule.time(torch.tensor(log_snr, dtype=torch.float64, device="cpu"))
        level = schedule.level(t)
        z = level.signal.to(x) * x + level.noise.to(x) * self.eps
        told = schedule.time(schedule.log_snr(t) + shift)
        wrong = self.model.told(z, t, told, self.condition).x - x
        spread = Level(level.signal.to(x) * factor * self.deviation, level.noise.to(x))
        centred = z - level.signal.to(x) * (factor * self.mean + added)
        inside = spread.unit
        v = self.guess(centred / spread.radius, spread)
        guessed = factor * self.deviation * (inside.signal * centred / spread.radius - inside.noise * v)
        other = guessed + factor * self.mean + added - x
        return tuple(float(error.double().square().mean()) / factor**2 for error in (wrong, other))  # pyrefly: ignore

    def ratio(self, **changed: float) -> float:
        """The model's error over the linear guess's, geometric mean over the levels."""
        both = [self.errors(one, **changed) for one in self.levels]
        return math.exp(sum(math.log(max(mine, 1e-30) / max(other, 1e-30)) for mine, other in both) / len(both))


def doubts(model: Adopted, known: Tensor, held: Tensor, condition: Tensor | None = None,
           ends: Sequence[float] | None = (-1.0, 1.0)) -> list[str]:
    """Sentences on what does not fit between a model and its data: their scale, its schedule, what it answers.

    Args:
        model: adopted.
        known: (N, *shape) samples that the linear guess is fitted to, as the model has them.
        held: (M, *shape) others, which are denoised.
        condition: (M,) their classes.
        ends: what the model has for the least and the most of the data, as far as it was said.
    """
    rows = ROWS[known[0].numel() > MOST_SIZE]
    seen = Denoised(model, known, held[:rows], None if condition is None else condition[:rows])
    if not seen.levels:
        return []
    as_said = seen.ratio()
    scales = {scale: seen.ratio(factor=scale[0], added=scale[1]) for scale in SCALES}
    best = min(scales, key=scales.__getitem__)
    if scales[best] * BETTER < as_said:
        factor, added = best
        if ends is None:
            remedy = f"give data that are {factor:g} times as large" + (f", plus {added:g}" if added else "")
        else:
            remedy = "give range=({:g}, {:g})".format(*(factor * end + added for end in ends))
        return [f"the scale of the data is another than that of the model: held-out samples times {factor:g}"
                + (f" {'+' if added > 0 else '-'} {abs(added):g}" if added else "")
                + f" are denoised {as_said / scales[best]:.2g} times as well: {remedy}"]
    told = {shift: seen.ratio(shift=shift) for shift in SHIFTS}
    shift = min(told, key=told.__getitem__)
    if told[shift] * BETTER < as_said:
        return ["the schedule or its clock is another than that of the model: held-out samples are denoised "
                f"{as_said / told[shift]:.2g} times as well if it is told {'more' if shift < 0 else 'less'} noise than "
                "they hold: give the schedule that it was trained on"]
    worse = [one for one in seen.levels if (both := seen.errors(one))[0] > WORSE * both[1]]
    if worse:
        places = ", ".join(f"{one:g}" for one in worse)
        return [f"at a log SNR of {places} the model denoises held-out samples worse than the best linear guess of the "
                "data does: its convention, schedule or range is another, or it was hardly trained on such data"]
    return []
