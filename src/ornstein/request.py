"""A request for samples, shared by the command line, notebooks and services."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ornstein import noise
from ornstein.arguments import require, require_int, short_repr
from ornstein.data.spec import DataSpec
from ornstein.diffusion.denoiser import NetworkDenoiser
from ornstein.diffusion.samplers.choice import Choice
from ornstein.diffusion.samplers.loop import NFE, SAMPLERS, Frame, generate, sample, tuned_choice
from ornstein.diffusion.samplers.rule import Rule

__all__ = ["Request"]

FAR = 5  # standard deviations of a condition from the training mean, beyond which the model has seen nothing similar


@dataclass(frozen=True)
class Request:
    """A request for samples of a trained model.

    Args:
        count: number of samples, >= 1.
        label: a class by name or index, or several in turn, as a list or "cat,dog"; all classes of the training in turn
            by default.
        condition: numbers to condition on, one for each of the model's conditions, or as text, "1.5,2".
        guidance: scale of classifier-free guidance; None and 1 are without guidance.
        seed: of the noise.
        sampler, nfe, steps, tolerance: as for `ornstein.sample`.
    """

    count: int = 64
    label: str | int | Sequence[str | int] | None = None
    condition: str | Sequence[float] | None = None
    guidance: float | None = None
    seed: int = 0
    sampler: str | Rule = "auto"
    nfe: int | None = None
    steps: int | None = None
    tolerance: float | None = None

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Request:
        """Read a request from the untrusted `facts` that were written beside its samples.

        Raises:
            ValueError: samples of other random numbers, or of a rule of the user's own, which is never taken from a
                file; an entry of another type.
        """
        if (version := facts.get("noise")) != noise.VERSION:
            raise ValueError(f"it was drawn with version {short_repr(version)} of the random numbers, and this "
                             f"Ornstein has version {noise.VERSION}: the same seed gives other noise")
        types: dict[str, tuple[type, ...]] = {
            "count": (int,), "seed": (int,), "nfe": (int,), "steps": (int,), "sampler": (str,),
            "guidance": (int, float), "tolerance": (float,), "label": (str, int, list), "condition": (str, list)}
        options = {name: facts[name] for name in types if facts.get(name) is not None}
        for name, value in options.items():
            if isinstance(value, bool) or not isinstance(value, types[name]):
                raise ValueError(f"{name} is {short_repr(value)} in it, which is impossible: it was changed after it "
                                 "was drawn")
        require("sampler", options.get("sampler", "auto"), ["auto", *SAMPLERS])
        return cls(**options)

    def conditions(self, model: NetworkDenoiser) -> Tensor | None:
        """The condition of each sample: (count,) classes, (count, K) numbers, or None.

        Raises:
            ValueError: an unknown class, another number of conditions than the model's, or guidance with nothing to
                guide towards.
        """
        count, spec = require_int("count", self.count), model.data
        if spec is None:
            raise ValueError("this model has no description of its data; draw from it with ornstein.sample")
        conditions = spec.cycle(count)
        if self.label is not None:
            conditions = torch.from_numpy(np.resize(_classes(self.label, spec), count))
        if self.condition is not None:
            expected = len(spec.conditions)
            if not expected:
                raise ValueError(f"condition is {self.condition}, but this model was trained without; leave it out"
                                 + (", or choose a class with label" if spec.classes else ""))
            numbers = _numbers(self.condition)
            if len(numbers) != expected or not all(map(math.isfinite, numbers)):
                raise ValueError(f"condition is {numbers}; it must be {expected} finite number{'s' * (expected > 1)} "
                                 f"for {', '.join(spec.conditions)}")
            _warn_if_far(numbers, spec.conditions, model)
            conditions = torch.tensor(numbers, dtype=torch.float64, device="cpu").expand(count, -1)
        if self.guided and conditions is None:
            remedy = "give a condition" if spec.conditions else "leave it out"
            raise ValueError(f"guidance is {self.guidance:g}, but there is nothing to guide towards; {remedy}")
        return conditions

    @property
    def guided(self) -> bool:
        """Whether classifier-free guidance is used."""
        return self.guidance is not None and self.guidance != 1

    def choice(self, model: NetworkDenoiser) -> Choice | None:
        """The choice of `ornstein.tune` that this request uses; None for none."""
        uses_tuned = self.sampler == "auto" and self.tolerance is None
        return tuned_choice(model, self.nfe, self.steps, None, self.guidance) if uses_tuned else None

    def choice_facts(self, model: NetworkDenoiser) -> dict[str, Any]:
        """That choice, to be written beside the samples, as a later `ornstein tune` may replace it; empty for none."""
        choice = self.choice(model)
        return {} if choice is None else {"tuned": choice.as_dict() | {"errors": {}, "why": ""}}

    def tuned_guidance(self, model: NetworkDenoiser) -> set[float]:
        """The guidance scales tuned for this number of calls; empty if the requested one is among them."""
        if self.sampler != "auto" or self.steps is not None or self.tolerance is not None:
            return set()
        scales = {choice.guidance for choice in model.tuned.values() if choice.nfe == (self.nfe or NFE)}
        return set() if (1.0 if self.guidance is None else self.guidance) in scales else scales

    def draw(self, model: NetworkDenoiser, progress: bool | Callable[[float], None] = False,
             only: int | None = None) -> Tensor:
        """Draw the samples, (count, *shape), or `only` the one with this index; equal requests give equal samples.

        Raises:
            ValueError: as for `ornstein.sample`, and as for `conditions`.
        """
        options = self._options(model)
        if only is not None:
            conditions = options["condition"]
            options |= {"first": require_int("only", only, 0, self.count - 1), "count": 1,
                        "condition": None if conditions is None else conditions[only:only + 1]}
        return sample(model, progress=progress, tolerance=self.tolerance, **options)

    def frames(self, model: NetworkDenoiser) -> Iterator[Frame]:
        """Yield the frames of `ornstein.generate` that lead to the samples of `draw`.

        Raises:
            ValueError: as `draw`, before any step; and for a tolerance, with which every sample has its own steps.
        """
        if self.tolerance is not None:
            raise ValueError(f"tolerance is {self.tolerance:g}, with which every sample has its own steps; to see them "
                             "one by one, give nfe or steps instead")
        return generate(model, **self._options(model))

    def _options(self, model: NetworkDenoiser) -> dict[str, Any]:
        return {"count": self.count, "sampler": self.sampler, "nfe": self.nfe, "steps": self.steps,
                "condition": self.conditions(model), "guidance": self.guidance, "seed": self.seed}

    def facts(self) -> dict[str, Any]:
        """The facts to write beside the samples, from which they can be drawn again."""
        sampler = self.sampler if isinstance(self.sampler, str) else type(self.sampler).__name__
        optional = {"tolerance": self.tolerance, "condition": self.condition}  # absent from older files
        return {"count": self.count, "seed": self.seed, "sampler": sampler, "nfe": self.nfe, "steps": self.steps,
                "guidance": self.guidance, "label": self.label, "noise": noise.VERSION,
                **{name: value for name, value in optional.items() if value is not None}}


def _warn_if_far(given: Sequence[float], names: Sequence[str], model: NetworkDenoiser) -> None:
    """Warn if a condition is so far from those of the training that the model has seen nothing similar."""
    if model.condition_mean is None or model.condition_std is None:
        return
    for value, name, mean, std in zip(given, names, model.condition_mean.tolist(), model.condition_std.tolist(),
                                      strict=True):
        if abs(value - mean) > FAR * std:
            warnings.warn(f"condition {name} is {value:g}, {abs(value - mean) / std:.0f} standard deviations from the "
                          f"mean of the training, {mean:.4g}: the model has seen nothing similar", RuntimeWarning,
                          stacklevel=4)


def _classes(label: str | int | Sequence[str | int], spec: DataSpec) -> list[int]:
    """Indices of one or several classes; text that is a class name is not split at its commas."""
    if isinstance(label, str):
        return [spec.label(name.strip()) for name in ([label] if label in spec.classes else label.split(","))]
    if isinstance(label, Sequence) and label:
        return [index for entry in label for index in _classes(entry, spec)]
    last = len(spec.classes) - 1
    return [spec.label(spec.classes[require_int("label", label, 0, last)] if spec.classes else str(label))]


def _numbers(condition: str | Sequence[float]) -> list[float]:
    try:
        return [float(part) for part in (condition.split(",") if isinstance(condition, str) else condition)]
    except ValueError:
        raise ValueError(f"condition is {condition}; it must be numbers separated by commas") from None
