"""Training and unseen rows for an evaluation, on the model's own scale."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ornstein import noise
from ornstein.data import Dataset, DataSpec
from ornstein.data.dataset import chunks, digest_values
from ornstein.data.labels import join_names
from ornstein.diffusion.denoiser import Denoiser
from ornstein.diffusion.likelihood.levels import on_levels
from ornstein.evaluation.memorisation import duplicates, repeated_share

__all__ = [
    "MIN_TRAINING",
    "MIN_UNSEEN",
    "Rows",
    "adapt",
    "data_facts",
    "in_float32",
    "renumbered_labels",
    "shuffled_rows",
    "split_off",
    "training_and_unseen",
    "without_duplicates",
]

UNIT_LIMIT = 3.0  # half widths of the training data's range; data farther from its middle are in other units
MIN_UNSEEN = 30  # rows; with fewer, no interval means anything
MIN_TRAINING = 80  # rows; the floor is measured on a quarter of them


@dataclass(frozen=True)
class Rows:
    """Samples, (N, *shape) float32 in [-1, 1], and their conditions: (N,) classes, -1 for none, or (N, K) numbers; None
    where the model takes none."""

    x: Tensor
    condition: Tensor | None

    def __len__(self) -> int:
        return len(self.x)

    @classmethod
    def of(cls, data: Dataset, limit: int, seed: int) -> Rows:
        """At most `limit` rows of a set in a random order, with labels or conditions if it has any."""
        x, condition = data.batch(shuffled_rows(len(data), limit, seed))
        return cls(x, condition if data.spec.classes or data.conditions is not None else None)


def shuffled_rows(count: int, limit: int, seed: int) -> np.ndarray:
    """Indices of at most `limit` of `count` rows in a random order."""
    return noise.generator(seed, "evaluate").permutation(count)[:limit]


def adapt(model: Denoiser, data: Dataset, argument: str, spec: DataSpec | None) -> tuple[Dataset, list[str]]:
    """Data as a model sees them, and sentences on what was changed.

    Values are mapped by the range of `spec`, that of the training data as far as it is known, and only labels that the
    model knows are kept. Messages call the set `argument`.
    """
    name = f"{argument} {data.spec.name!r}"
    if data.spec.shape != model.shape:
        raise ValueError(f"{name} has samples of shape {data.spec.shape}, the model's are of shape {model.shape}; give "
                         "data of that shape")
    if spec is not None and spec.columns and data.spec.columns not in ((), spec.columns):
        raise ValueError(f"{name} has the columns {join_names(data.spec.columns)}, the model's are "
                         f"{join_names(spec.columns)}; give those, in that order")
    notes: list[str] = []
    if spec is None and (data.spec.low, data.spec.high) != (data.spec.least, data.spec.most):
        # A distribution in closed form is one of the values themselves, as far as they lie within -1..1.
        spec = data.spec.as_drawn()
        notes.append(f"the model does not know the range of its data: {spec.least} to {spec.most} is mapped to -1 to 1")
        data = copy.copy(data)
        data.spec = spec
    if spec is None or (spec == data.spec and not spec.empty):
        return data, notes
    data = copy.copy(data)
    if any(getattr(data.spec, key) != getattr(spec, key) for key in ("low", "high", "levels", "least", "most")):
        _refuse_other_units(data, spec, name)
        notes.append(f"{name} is mapped by the model's own range, {spec.least} to {spec.most}")
    if spec.classes:
        data.labels, lost = renumbered_labels(spec, data)
        if lost:
            notes.append(f"{name} has {lost:,} rows of classes that the model was not trained on: they are left "
                         "without a class")
        elif not data.spec.classes:
            notes.append(f"{name} has no classes: the model is given none")
    elif data.spec.classes:
        data.labels = np.full_like(data.labels, -1)
    if spec.conditions != data.spec.conditions:
        if spec.conditions:
            notes.append(f"{name} has other conditions than the model: it is given none")
        data.conditions = None
    # Data without vector conditions must not claim those of the model.
    conditions = spec.conditions if data.conditions is not None else ()
    data.spec = replace(spec, name=data.spec.name, conditions=conditions)
    return data, notes


def renumbered_labels(spec: DataSpec, data: Dataset) -> tuple[np.ndarray, int]:
    """The labels of data by the class numbers of `spec`, matched by name, and how many rows have a class that is not
    among those."""
    numbers = {name: number for number, name in enumerate(spec.classes) if number not in spec.empty}
    table = np.array([*(numbers.get(name, -1) for name in data.spec.classes), -1])
    return table[data.labels], int(((data.labels >= 0) & (table[data.labels] < 0)).sum())


def _refuse_other_units(data: Dataset, spec: DataSpec, name: str) -> None:
    """Raise ValueError for values that the training data could not have had and that no mapping corrects."""
    least, most = map(torch.from_numpy, spec.ends)
    for chunk in chunks(data.values):
        x = spec.encode(chunk)
        if spec.bins is not None and not on_levels(x, spec.bins):
            row = next(k for k in range(len(x)) if not on_levels(x[k], spec.bins))
            raise ValueError(f"{name} has values ({chunk[row].min()} to {chunk[row].max()} in a row) that are not on "
                             f"the model's {spec.bins} levels from {spec.least} to {spec.most}; give data in the units "
                             "of the training data")
        if spec.bins is None and ((x - (least + most) / 2).abs() > UNIT_LIMIT * (most - least) / 2).any():
            raise ValueError(f"{name} has values from {chunk.min()} to {chunk.max()}, and the model's range is "
                             f"{spec.least} to {spec.most}; give data in the units of the training data")


def in_float32(model: Denoiser) -> Denoiser:
    """The model with at least float32 precision: a solver cannot follow a field that is rounded to bfloat16."""
    if getattr(model, "precision", "fp32") == "fp32":
        return model
    exact = copy.copy(model)
    setattr(exact, "precision", "fp32")  # noqa: B010  (a user's own Denoiser may have it too)
    return exact


def split_off(data: Dataset, mask: np.ndarray) -> tuple[Dataset, Dataset]:
    """The rows of a set outside a (N,) bool mask, and those inside it."""
    data = copy.copy(data)
    data.held = mask
    return data.split()


def training_and_unseen(model: Denoiser, data: Dataset, held: Dataset | None,
                        conditional: bool = True) -> tuple[Dataset, Dataset, list[str]]:
    """Training rows, unseen rows and sentences on what was changed.

    The unseen rows are `held`, or else those that `data` hold out, without duplicates of training rows. A model that is
    not `conditional` gets no labels and no conditions.
    """
    spec = getattr(model, "data", None)
    if not conditional:
        data = copy.copy(data)
        data.spec = replace(data.spec, classes=(), conditions=(), empty=())
        data.labels, data.conditions = np.full_like(data.labels, -1), None
    data, notes = adapt(model, data, "data", spec if isinstance(spec, DataSpec) else None)
    training, unseen = data.split()
    if held is not None:
        unseen, more_notes = adapt(model, held, "held", data.spec)
        notes += more_notes
    unseen, reason = without_duplicates(training, unseen, notes)
    for name, rows, minimum in (("training", training, MIN_TRAINING), ("held-out", unseen, MIN_UNSEEN)):
        if len(rows) < minimum:
            remedy = "give more data" if name == "training" else "name other unseen data (--data)"
            why = f" ({reason})" if reason and name != "training" else ""
            raise ValueError(f"data {rows.spec.name!r} has {len(rows)} {name} rows that can be used{why}; an "
                             f"evaluation needs at least {minimum}, and several hundred to show much: {remedy}")
    return training, unseen, notes


def data_facts(training: Dataset, unseen: Dataset) -> dict[str, Any]:
    """The facts of the data for a report."""
    spec = training.spec
    return {"name": spec.name, "shape": list(spec.shape), "kind": spec.kind, "levels": spec.bins,
            "classes": [spec.classes[number] for number in spec.drawn], "conditions": list(spec.conditions),
            "training": len(training), "held_out": len(unseen), "held_out_name": unseen.spec.name,
            "held_out_sha256": digest_values(unseen.values)}


def without_duplicates(training: Dataset, unseen: Dataset, notes: list[str],
                       name: str = "held-out rows") -> tuple[Dataset, str]:
    """Unseen rows without those that equal a training row, unless these are as common as among the training rows; and a
    sentence on them, which is added to the notes too."""
    found = ""
    if len(training) and len(unseen) and (mask := duplicates(training, unseen)).any():
        share, usual = mask.mean(), repeated_share(training)
        found = f"{int(mask.sum())} of {len(unseen)} {name} are also training rows, to the last bit (by hash)"
        # Where values are few, rows coincide by chance: leaving those out would bias the distribution of the rest.
        if share <= usual + 3 * (usual / len(unseen)) ** 0.5:
            notes.append(f"{found}; {100 * usual:.3g} % of the training rows repeat one another too, so they were kept")
        else:
            notes.append(f"{found}, and were left out")
            unseen = split_off(unseen, mask)[0]
    return unseen, found
