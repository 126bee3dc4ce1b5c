"""The two sides of an evaluation, training rows and unseen ones, on the model's own scale."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from ornstein import noise
from ornstein.data import Dataset, DataSpec
from ornstein.diffusion.denoiser import Denoiser
from ornstein.evaluation.memorisation import duplicates, repeated

__all__ = ["LEAST", "Rows", "careful", "fitted", "sides"]

LEAST = 30  # rows of a side, below which no interval means anything


@dataclass(frozen=True)
class Rows:
    """Samples and what a model is told of them.

    Args:
        x: (N, *shape) float32 in [-1, 1].
        told: (N,) classes, -1 for none, or (N, K) conditions; None for a model that is told nothing.
    """

    x: Tensor
    told: Tensor | None

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, rows: slice) -> Rows:
        return Rows(self.x[rows], None if self.told is None else self.told[rows])

    @classmethod
    def of(cls, data: Dataset, most: int, seed: int) -> Rows:
        """At most `most` rows of a set in a random order of the seed, told if the set has labels or conditions."""
        index = noise.generator(seed, "evaluate").permutation(len(data))[:most]
        x, told = data.batch(index)
        return cls(x, told if data.spec.classes or data.conditions is not None else None)


def fitted(model: Denoiser, data: Dataset, what: str, spec: DataSpec | None) -> tuple[Dataset, list[str]]:
    """Data as a model sees them: mapped by its own range, with labels only where the model knows them.

    Args:
        model: to see them.
        data: any set.
        what: what the messages call it.
        spec: of the data that the model was trained on, as far as it is known.

    Returns:
        The set, and sentences on what was changed.

    Raises:
        ValueError: samples of another shape.
    """
    if data.spec.shape != model.shape:
        raise ValueError(f"{what} {data.spec.name!r} has samples of shape {data.spec.shape}, the model's are of shape "
                         f"{model.shape}; give data of that shape")
    notes: list[str] = []
    if spec is None or spec == data.spec:
        return data, notes
    known = (spec.classes, spec.conditions)
    data = copy.copy(data)
    if (data.spec.low, data.spec.high, data.spec.levels) != (spec.low, spec.high, spec.levels):
        notes.append(f"{what} {data.spec.name!r} is mapped by the model's own range, {spec.low} to {spec.high}")
    if known != (data.spec.classes, data.spec.conditions):
        if any(known):
            notes.append(f"{what} {data.spec.name!r} has other classes or conditions than the model: it is told none")
        data.labels, data.conditions = np.full_like(data.labels, -1), None
    # Vector conditions that the data lack are none of theirs.
    keep = spec.conditions if data.conditions is not None else ()
    data.spec = replace(spec, name=data.spec.name, conditions=keep)
    return data, notes


def careful(model: Denoiser) -> Denoiser:
    """The model in float32 at least: a solver cannot follow a field that is rounded to bfloat16."""
    if getattr(model, "precision", "fp32") == "fp32":
        return model
    exact = copy.copy(model)
    setattr(exact, "precision", "fp32")  # noqa: B010  (a Denoiser of the user's own may have it too)
    return exact


def sides(model: Denoiser, data: Dataset, held: Dataset | None) -> tuple[Dataset, Dataset, list[str]]:
    """Training rows and unseen rows, without those of the unseen ones that are training rows.

    Args:
        model: to evaluate.
        data: that it was trained on, with the rows held out of it.
        held: unseen data to use in place of those rows, or None.

    Returns:
        Training rows, unseen rows, and sentences on what was changed.

    Raises:
        ValueError: shapes that differ from the model's, or too few rows on a side.
    """
    own = getattr(model, "data", None)
    data, notes = fitted(model, data, "data", own if isinstance(own, DataSpec) else None)
    training, unseen = data.split()
    if held is not None:
        unseen, more = fitted(model, held, "held", data.spec)
        notes += more
    if len(training) and len(unseen) and (twins := duplicates(training, unseen)).any():
        share, usual = twins.mean(), repeated(training)
        said = f"{int(twins.sum())} of {len(unseen)} held-out rows are also training rows, to the last bit (by hash)"
        # Of few different values, rows are alike by chance: to leave those out would bend the law of the rest.
        if share <= usual + 3 * (usual / len(unseen)) ** 0.5:
            notes.append(f"{said}; {100 * usual:.3g} % of the training rows repeat one another too, so they were kept")
        else:
            notes.append(f"{said}, and were left out")
            mask = copy.copy(unseen)
            mask.held = ~twins
            unseen = mask.split()[1]
    for name, rows in (("training", training), ("held-out", unseen)):
        if len(rows) < LEAST:
            remedy = "give more data" if name == "training" else "give unseen data (--data, or held in Python)"
            raise ValueError(f"data {data.spec.name!r} has {len(rows)} {name} rows that are of use; an evaluation "
                             f"needs at least {LEAST}, and some hundred for intervals that say much: {remedy}")
    return training, unseen, notes
