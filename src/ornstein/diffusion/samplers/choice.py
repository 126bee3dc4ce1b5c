"""The tuned choice for one model and one number of calls."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from ornstein.arguments import find, require_float, require_int, short_repr
from ornstein.diffusion.damping import check_damping
from ornstein.diffusion.grid import decreasing_times
from ornstein.diffusion.samplers.learned import Learned
from ornstein.diffusion.samplers.rule import Rule
from ornstein.diffusion.schedule import Schedule

__all__ = ["Choice", "tuned_key"]

MAX_CALLS = 1000  # of a choice
ANGLE_TOLERANCE = 1e-9  # within which two angles are equal


def tuned_key(nfe: int, guidance: float | None = None) -> int | tuple[int, float]:
    """The key in a denoiser's `tuned`: the number of calls, with the guidance if there is any."""
    return nfe if guidance is None or guidance == 1 else (nfe, float(guidance))


@dataclass(frozen=True)
class Choice:
    """A rule and its times, chosen for one model and one number of network calls.

    Args:
        nfe: network calls per sample, >= 1.
        sampler: a name of `samplers()`, or "auto" if nothing was better.
        times: strictly decreasing from 1 to 0; empty for "auto".
        angles: atan2(noise, signal) at those times, on the schedule that the choice is for.
        errors: by candidate, the median over unseen starts of the error against the exact path (root mean square over
            a sample's values, in units of the data).
        why: the reason, in one sentence.
        damping: of the model's velocity (`Damped`).
        noise: version of the random numbers that it was chosen with (`ornstein.noise.VERSION`).
        guidance: scale of classifier-free guidance that it is for; 1 for none.
        points, slopes: weights of the learned rule (`Learned`), if sampler is "learned".
    """

    LEARNED: ClassVar = "learned"

    nfe: int
    sampler: str
    times: tuple[float, ...] = ()
    angles: tuple[float, ...] = ()
    errors: Mapping[str, float] = field(default_factory=dict)
    why: str = ""
    damping: float = 0.0
    noise: int = 1
    guidance: float = 1.0
    points: tuple[tuple[float, ...], ...] = ()
    slopes: tuple[tuple[float, ...], ...] = ()

    @property
    def key(self) -> int | tuple[int, float]:
        """Its key in a denoiser's `tuned`: the calls, with the guidance if there is any."""
        return tuned_key(self.nfe, self.guidance)

    def as_dict(self) -> dict[str, Any]:
        """The choice as plain JSON values."""
        values = {**vars(self), "times": list(self.times), "angles": list(self.angles), "errors": dict(self.errors),
                  "points": [list(row) for row in self.points], "slopes": [list(row) for row in self.slopes]}
        omitted = {name for name in ("points", "slopes") if not values[name]}
        omitted |= {"guidance"} if self.guidance == 1 else set()  # as in files from before these fields
        return {name: value for name, value in values.items() if name not in omitted}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], rules: Mapping[str, Rule]) -> Choice:
        """A choice read from a file; the rule is only ever looked up in `rules` by its name.

        Raises:
            ValueError: an unknown or stochastic rule, or invalid times or numbers.
        """
        try:
            nfe = require_int("nfe", values["nfe"])
            times, angles = (tuple(require_float(name, value) for value in values[name])
                             for name in ("times", "angles"))
            # The error of a candidate that failed is infinite.
            errors = {str(name): float(value) for name, value in values["errors"].items()}
            damping = check_damping(values.get("damping", 0.0))
            sampler, why = values["sampler"], values["why"]
            if not isinstance(sampler, str) or not isinstance(why, str):
                raise TypeError(f"sampler is {short_repr(sampler)} and why {short_repr(why)}; they must be text")
            choice = cls(nfe, sampler, times, angles, errors, why, damping,
                         require_int("noise", values.get("noise", 1)),
                         require_float("guidance", values.get("guidance", 1.0)),
                         values.get("points", ()), values.get("slopes", ()))
        except (KeyError, TypeError, AttributeError, OverflowError, ValueError) as error:
            raise ValueError(f"a tuned choice is incomplete or damaged ({type(error).__name__}: {error}); tune the "
                             "model again") from None
        if nfe > MAX_CALLS:
            raise ValueError(f"a tuned choice is for {nfe} calls; at most {MAX_CALLS} are allowed")
        if choice.sampler == "auto":
            return choice
        rule = choice.rule(rules)
        if isinstance(rule, Learned):  # the checked weights
            choice = replace(choice, points=rule.points, slopes=rule.slopes)
        steps = len(times) - 1
        decreasing_times(times)
        if rule.stochastic or rule.calls * steps > nfe:
            raise ValueError(f"a tuned choice for {nfe} calls takes {steps} steps of {choice.sampler}; it must be a "
                             "deterministic rule of no more calls")
        if isinstance(rule, Learned) and len(rule.points) != steps:
            raise ValueError(f"a tuned choice has weights of {len(rule.points)} steps and times of {steps}; tune the "
                             "model again")
        if len(angles) != len(times) or not all(0 <= angle <= math.pi / 2 for angle in angles):
            raise ValueError("a tuned choice has other angles than times; tune the model again")
        return choice

    def rule(self, rules: Mapping[str, Rule]) -> Rule:
        """The named or the learned rule; ValueError if it is unknown or invalid."""
        if self.sampler == self.LEARNED:
            return Learned(self.points, self.slopes)
        return find("sampler of a tuned choice", self.sampler, rules)

    def walk(self, schedule: Schedule) -> Tensor:
        """The times, float64; ValueError for another schedule than the one it was tuned on."""
        times = torch.tensor(self.times, dtype=torch.float64, device="cpu")
        if not torch.allclose(schedule.level(times).angle, times.new_tensor(self.angles), rtol=0, atol=ANGLE_TOLERANCE):
            raise ValueError(f"{self.nfe} calls were tuned on another schedule; tune again, or name a sampler")
        return times
