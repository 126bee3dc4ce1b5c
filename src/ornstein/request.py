"""What is asked of a model, in words that a command, a notebook and a service share."""

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
from ornstein.arguments import find, require_int, short_repr
from ornstein.data.spec import DataSpec
from ornstein.diffusion.denoiser import NetworkDenoiser
from ornstein.diffusion.samplers.choice import Choice
from ornstein.diffusion.samplers.loop import NFE, SAMPLERS, Frame, generate, sample, tuned_for
from ornstein.diffusion.samplers.rule import Rule

__all__ = ["Request"]

FAR = 5  # standard deviations of a condition from the mean of the training's, beyond which a model knows nothing of it


@dataclass(frozen=True)
class Request:
    """Samples that somebody wants of a trained model.

    Args:
        count: how many, >= 1.
        label: a class by its name, or by its index, or several of them in turn, in a list or as "cat,dog"; without it
            all classes that the model was trained on in turn.
        condition: the numbers that the data came with, one for each of their names; or as text, "1.5,2".
        guidance: scale of classifier-free guidance; None or 1 is none.
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
        """What was asked for, from what is written beside the samples (`facts`), which may say anything.

        Raises:
            ValueError: samples drawn with other random numbers, or by a rule of the user's own, which is never taken
                from a file; an entry that cannot be.
        """
        if (version := facts.get("noise")) != noise.VERSION:
            raise ValueError(f"it was drawn with version {short_repr(version)} of the random numbers, and this "
                             f"Ornstein has version {noise.VERSION}: the same seed gives other noise")
        kinds: dict[str, tuple[type, ...]] = {
            "count": (int,), "seed": (int,), "nfe": (int,), "steps": (int,), "sampler": (str,),
            "guidance": (int, float), "tolerance": (float,), "label": (str, int, list), "condition": (str, list)}
        asked = {name: facts[name] for name in kinds if facts.get(name) is not None}
        for name, value in asked.items():
            if isinstance(value, bool) or not isinstance(value, kinds[name]):
                raise ValueError(f"{name} is {short_repr(value)} in it, which cannot be: it was changed since it was "
                                 "drawn")
        find("sampler", asked.get("sampler", "auto"), {"auto": None, **SAMPLERS})
        return cls(**asked)

    def conditions(self, model: NetworkDenoiser) -> Tensor | None:
        """What the model is told of each sample: (count,) classes, (count, K) numbers, or None.

        Raises:
            ValueError: an unknown class, other numbers than the data came with, or guidance with nothing to guide
                towards.
        """
        count, spec = require_int("count", self.count), model.data
        if spec is None:
            raise ValueError("this model says nothing of its data; draw from it with ornstein.sample")
        conditions = spec.cycle(count)
        if self.label is not None:
            conditions = torch.from_numpy(np.resize(_classes(self.label, spec), count))
        if self.condition is not None:
            wanted = len(spec.conditions)
            if not wanted:
                raise ValueError(f"condition is {self.condition}, but this model was trained without; leave it out"
                                 + (", or choose a class with label" if spec.classes else ""))
            given = _numbers(self.condition)
            if len(given) != wanted or not all(map(math.isfinite, given)):
                raise ValueError(f"condition is {given}; it must be {wanted} finite number{'s' * (wanted > 1)} for "
                                 f"{', '.join(spec.conditions)}")
            _warn_if_far(given, spec.conditions, model)
            conditions = torch.tensor(given, dtype=torch.float64, device="cpu").expand(count, -1)
        if self.guided and conditions is None:
            remedy = "give a condition" if spec.conditions else "leave it out"
            raise ValueError(f"guidance is {self.guidance:g}, but there is nothing to guide towards; {remedy}")
        return conditions

    @property
    def guided(self) -> bool:
        """Whether the samples are pushed towards what is asked for."""
        return self.guidance is not None and self.guidance != 1

    def choice(self, model: NetworkDenoiser) -> Choice | None:
        """What `ornstein.tune` chose for just this, if that is what will be used."""
        plain = self.sampler == "auto" and self.tolerance is None
        return tuned_for(model, self.nfe, self.steps, None, self.guidance) if plain else None

    def kept_choice(self, model: NetworkDenoiser) -> dict[str, Any]:
        """That choice as it is written beside the samples, as another `ornstein tune` may replace it; empty for none.
        """
        chosen = self.choice(model)
        return {} if chosen is None else {"tuned": chosen.as_dict() | {"errors": {}, "why": ""}}

    def tuned_guidance(self, model: NetworkDenoiser) -> set[float]:
        """The guidance that so many calls were tuned for, none of which is what is asked for."""
        if self.sampler != "auto" or self.steps is not None or self.tolerance is not None:
            return set()
        scales = {choice.guidance for choice in model.tuned.values() if choice.nfe == (self.nfe or NFE)}
        return set() if (1.0 if self.guidance is None else self.guidance) in scales else scales

    def draw(self, model: NetworkDenoiser, progress: bool | Callable[[float], None] = False,
             only: int | None = None) -> Tensor:
        """The samples, (count, *shape), the same for the same request and model; or `only` one of them, by its number.

        Raises:
            ValueError: as for `ornstein.sample`, and as for `conditions`.
        """
        walk = self._walk(model)
        if only is not None:
            conditions = walk["condition"]
            walk |= {"first": require_int("only", only, 0, self.count - 1), "count": 1,
                     "condition": None if conditions is None else conditions[only:only + 1]}
        return sample(model, progress=progress, tolerance=self.tolerance, **walk)

    def frames(self, model: NetworkDenoiser) -> Iterator[Frame]:
        """The way to the samples of `draw`, step by step, as `ornstein.generate` gives it.

        Raises:
            ValueError: as `draw`, before any step is taken; and for a tolerance, by which no two samples have the same
                steps.
        """
        if self.tolerance is not None:
            raise ValueError(f"tolerance is {self.tolerance:g}, by which every sample has steps of its own; to see "
                             "them one by one, give nfe or steps in its place")
        return generate(model, **self._walk(model))

    def _walk(self, model: NetworkDenoiser) -> dict[str, Any]:
        return {"count": self.count, "sampler": self.sampler, "nfe": self.nfe, "steps": self.steps,
                "condition": self.conditions(model), "guidance": self.guidance, "seed": self.seed}

    def facts(self) -> dict[str, Any]:
        """What is written beside the samples, so that they can be drawn again."""
        rule = self.sampler if isinstance(self.sampler, str) else type(self.sampler).__name__
        more = {"tolerance": self.tolerance, "condition": self.condition}  # newer than the pictures that lack them
        return {"count": self.count, "seed": self.seed, "sampler": rule, "nfe": self.nfe, "steps": self.steps,
                "guidance": self.guidance, "label": self.label, "noise": noise.VERSION,
                **{name: value for name, value in more.items() if value is not None}}


def _warn_if_far(given: Sequence[float], names: Sequence[str], model: NetworkDenoiser) -> None:
    """Warn of a condition so far from those of the training that the model has seen none like it."""
    if model.condition_mean is None or model.condition_std is None:
        return
    for value, name, mean, std in zip(given, names, model.condition_mean.tolist(), model.condition_std.tolist(),
                                      strict=True):
        if abs(value - mean) > FAR * std:
            warnings.warn(f"condition {name} is {value:g}, {abs(value - mean) / std:.0f} standard deviations from the "
                          f"mean of the training, {mean:.4g}: the model has seen nothing like it", RuntimeWarning,
                          stacklevel=4)


def _classes(label: str | int | Sequence[str | int], spec: DataSpec) -> list[int]:
    """Numbers of one class or of several; text is a whole name before it is a list of names."""
    if isinstance(label, str):
        return [spec.label(name.strip()) for name in ([label] if label in spec.classes else label.split(","))]
    if isinstance(label, Sequence) and label:
        return [number for one in label for number in _classes(one, spec)]
    last = len(spec.classes) - 1
    return [spec.label(spec.classes[require_int("label", label, 0, last)] if spec.classes else str(label))]


def _numbers(condition: str | Sequence[float]) -> list[float]:
    try:
        return [float(part) for part in (condition.split(",") if isinstance(condition, str) else condition)]
    except ValueError:
        raise ValueError(f"condition is {condition}; it must be numbers, with commas between") from None
