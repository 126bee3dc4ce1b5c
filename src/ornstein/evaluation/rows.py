"""The two sides of an evaluation, training rows and unseen ones, on the model's own scale."""

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
from ornstein.evaluation.memorisation import duplicates, repeated

__all__ = ["LEAST", "LEAST_TRAINING", "Rows", "as_seen", "careful", "disjoint", "facts_of", "numbered_by", "shuffled",
           "sides", "without"]

FAR = 3.0  # times the half width of the training data's range, beyond which unseen data are in other units
LEAST = 30  # held-out rows, below which no interval means anything
LEAST_TRAINING = 80  # a quarter of them is what the floor is measured on


@dataclass(frozen=True)
class Rows:
    """Samples, (N, *shape) float32 in [-1, 1], and their condition: (N,) classes, -1 for none, or (N, K) numbers; None
    where the model takes none."""

    x: Tensor
    condition: Tensor | None

    def __len__(self) -> int:
        return len(self.x)

    @classmethod
    def of(cls, data: Dataset, most: int, seed: int) -> Rows:
        """At most `most` rows of a set in a random order of the seed, with labels or conditions if it has any."""
        x, condition = data.batch(shuffled(len(data), most, seed))
        return cls(x, condition if data.spec.classes or data.conditions is not None else None)


def shuffled(count: int, most: int, seed: int) -> np.ndarray:
    """At most `most` of so many rows, by number, in a random order of the seed."""
    return noise.generator(seed, "evaluate").permutation(count)[:most]


def as_seen(model: Denoiser, data: Dataset, what: str, spec: DataSpec | None) -> tuple[Dataset, list[str]]:
    """Data as a model sees them, and sentences on what was changed: mapped by the range of `spec`, the training data's
    as far as it is known, with labels only where the model knows them. Messages call the set `what`."""
    if data.spec.shape != model.shape:
        raise ValueError(f"{what} {data.spec.name!r} has samples of shape {data.spec.shape}, the model's are of shape "
                         f"{model.shape}; give data of that shape")
    if spec is not None and spec.columns and data.spec.columns not in ((), spec.columns):
        raise ValueError(f"{what} {data.spec.name!r} has the columns {join_names(data.spec.columns)}, the model's are "
                         f"{join_names(spec.columns)}; give those, in that order")
    notes: list[str] = []
    if spec is None and (data.spec.low, data.spec.high) != (data.spec.least, data.spec.most):
        # A law in closed form is one of the values themselves, as far as they lie within -1..1.
        spec = data.spec.as_drawn()
        notes.append(f"the model says nothing of its data: {spec.least} to {spec.most} are taken for its -1 to 1")
        data = copy.copy(data)
        data.spec = spec
    if spec is None or (spec == data.spec and not spec.empty):
        return data, notes
    data = copy.copy(data)
    if any(getattr(data.spec, key) != getattr(spec, key) for key in ("low", "high", "levels", "least", "most")):
        _refuse_outside(data, spec, what)
        notes.append(f"{what} {data.spec.name!r} is mapped by the model's own range, {spec.least} to {spec.most}")
    if spec.classes:
        data.labels, lost = numbered_by(spec, data)
        if lost or not data.spec.classes:
            notes.append(f"{what} {data.spec.name!r} has " + (
                f"{lost:,} rows of classes that the model was not trained on: it is told none for those" if lost else
                "no classes: the model is told none"))
    elif data.spec.classes:
        data.labels = np.full_like(data.labels, -1)
    if spec.conditions != data.spec.conditions:
        if spec.conditions:
            notes.append(f"{what} {data.spec.name!r} has other conditions than the model: it is told none")
        data.conditions = None
    # Vector conditions that the data lack are none of theirs.
    keep = spec.conditions if data.conditions is not None else ()
    data.spec = replace(spec, name=data.spec.name, conditions=keep)
    return data, notes


def numbered_by(spec: DataSpec, data: Dataset) -> tuple[np.ndarray, int]:
    """The labels of data as `spec` numbers its classes, by name: they may have fewer, or others beside, and number them
    in their own way; and how many rows have a class of none of those."""
    named = {name: number for number, name in enumerate(spec.classes) if number not in spec.empty}
    table = np.array([*(named.get(name, -1) for name in data.spec.classes), -1])
    return table[data.labels], int(((data.labels >= 0) & (table[data.labels] < 0)).sum())


def _refuse_outside(data: Dataset, spec: DataSpec, what: str) -> None:
    """Refuse values that the training data could not have had, which no mapping brings back."""
    least, most = map(torch.from_numpy, spec.ends)
    for part in chunks(data.values):
        x = spec.encode(part)
        if spec.bins is not None and not on_levels(x, spec.bins):
            row = next(k for k in range(len(x)) if not on_levels(x[k], spec.bins))
            raise ValueError(f"{what} {data.spec.name!r} has values ({part[row].min()} to {part[row].max()} in a row) "
                             f"that are none of the model's {spec.bins} levels from {spec.least} to {spec.most}; give "
                             "data in the units of the training data")
        if spec.bins is None and ((x - (least + most) / 2).abs() > FAR * (most - least) / 2).any():
            raise ValueError(f"{what} {data.spec.name!r} has values from {part.min()} to {part.max()}, and the model's "
                             f"range is {spec.least} to {spec.most}; give data in the units of the training data")


def careful(model: Denoiser) -> Denoiser:
    """The model in float32 at least: a solver cannot follow a field that is rounded to bfloat16."""
    if getattr(model, "precision", "fp32") == "fp32":
        return model
    exact = copy.copy(model)
    setattr(exact, "precision", "fp32")  # noqa: B010  (a Denoiser of the user's own may have it too)
    return exact


def without(data: Dataset, some: np.ndarray) -> tuple[Dataset, Dataset]:
    """A set without some of its rows, given as (N,) bool, and those rows."""
    data = copy.copy(data)
    data.held = some
    return data.split()


def sides(model: Denoiser, data: Dataset, held: Dataset | None,
          conditional: bool = True) -> tuple[Dataset, Dataset, list[str]]:
    """Training rows, unseen rows (`held`, or those that `data` hold out) without those that are training rows too, and
    sentences on what was changed; a model that is not `conditional` gets no labels and no conditions."""
    spec = getattr(model, "data", None)
    if not conditional:
        data = copy.copy(data)
        data.spec = replace(data.spec, classes=(), conditions=(), empty=())
        data.labels, data.conditions = np.full_like(data.labels, -1), None
    data, notes = as_seen(model, data, "data", spec if isinstance(spec, DataSpec) else None)
    training, unseen = data.split()
    if held is not None:
        unseen, more = as_seen(model, held, "held", data.spec)
        notes += more
    unseen, said = disjoint(training, unseen, notes)
    for name, rows, least in (("training", training, LEAST_TRAINING), ("held-out", unseen, LEAST)):
        if len(rows) < least:
            remedy = "give more data" if name == "training" else "name other unseen data (--data)"
            why = f" ({said})" if said and name != "training" else ""
            raise ValueError(f"data {rows.spec.name!r} has {len(rows)} {name} rows that can be used{why}; an "
                             f"evaluation needs at least {least}, and some hundred to show much: {remedy}")
    return training, unseen, notes


def facts_of(training: Dataset, unseen: Dataset) -> dict[str, Any]:
    """What a report says of the data."""
    spec = training.spec
    return {"name": spec.name, "shape": list(spec.shape), "kind": spec.kind, "levels": spec.bins,
            "classes": [spec.classes[number] for number in spec.drawn], "conditions": list(spec.conditions),
            "training": len(training), "held_out": len(unseen), "held_out_name": unseen.spec.name,
            "held_out_sha256": digest_values(unseen.values)}


def disjoint(training: Dataset, unseen: Dataset, notes: list[str],
             called: str = "held-out rows") -> tuple[Dataset, str]:
    """Unseen rows without those that are training rows too, and what was found of these, which `notes` get as well."""
    said = ""
    if len(training) and len(unseen) and (twins := duplicates(training, unseen)).any():
        share, usual = twins.mean(), repeated(training)
        said = f"{int(twins.sum())} of {len(unseen)} {called} are also training rows, to the last bit (by hash)"
        # Of few different values, rows are alike by chance: to leave those out would bend the law of the rest.
        if share <= usual + 3 * (usual / len(unseen)) ** 0.5:
            notes.append(f"{said}; {100 * usual:.3g} % of the training rows repeat one another too, so they were kept")
        else:
            notes.append(f"{said}, and were left out")
            unseen = without(unseen, twins)[0]
    return unseen, said
