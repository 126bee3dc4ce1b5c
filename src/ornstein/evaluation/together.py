"""Sets from different places and programs, brought to one shape and one scale, so that they can be compared."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from PIL import Image

from ornstein.data import Dataset, load_data, may_be_pictures
from ornstein.data.dataset import Values, chunks
from ornstein.data.spec import DataSpec
from ornstein.evaluation.memorisation import row_digests
from ornstein.evaluation.rows import numbered_by

__all__ = ["Source", "overlap", "together"]

BYTES, DEEP = (0.0, 255.0), (0.0, 65535.0)  # black and white of picture files
CUSTOM = ((0.0, 1.0), (-1.0, 1.0))  # and of pictures in floating numbers
SAME = 1e-3  # of a step between levels, by which a value on a level may be off it
NAMED = 3  # rows that a note names


@dataclass
class Source:
    """One of the sets that are compared: where it is from, how messages call it, its data, what is black and white in
    them where custom says so, and notes."""

    source: Any
    what: str
    data: Dataset
    black_white: tuple[float, float] | None = None
    notes: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, source: Any, what: str, size: str | int | None, fit: str) -> Source:
        """Read a set, unless it is one; picture files at a size, or at the size that suits them."""
        asked: dict[str, Any] = {"size": size, "fit": fit} if may_be_pictures(source) else {}
        try:
            data = source if isinstance(source, Dataset) else load_data(source, **asked)
        except (ValueError, TypeError) as error:
            raise type(error)(f"{what}: {error}") from None
        one = cls(source, what, data, notes=_notes(data) if data is not source else [])
        drawn = _ends(data.spec)
        if data.names is not None:
            one.black_white = DEEP if data.values.dtype == np.uint16 else BYTES
        elif drawn in CUSTOM if data.values.dtype.kind == "f" else drawn == BYTES:
            one.black_white = drawn
        return one

    @property
    def name(self) -> str:
        """How messages call it."""
        return f"{self.what} {self.data.spec.name!r}"

    def resize(self, height: int, width: int, fit: str) -> None:
        """Give its pictures another size: read from their files again, or drawn with 8 bits."""
        files, was = self.data.names is not None and self.source is not self.data, self.data
        data = load_data(self.source if files else _Drawn(was), size=f"{width}x{height}", fit=fit)
        self.notes = _notes(data) if files else self.notes
        if not files:
            spec = replace(data.spec, name=was.spec.name, classes=was.spec.classes, empty=was.spec.empty)
            data = replace(data, spec=spec, labels=was.labels, held=was.held, names=was.names)
        self.data, self.black_white = data, DEEP if data.values.dtype == np.uint16 else BYTES


def _notes(data: Dataset) -> list[str]:
    """What there is to say of picture files; of arrays only their scale, which is nothing here."""
    return [] if data.names is None else [f"{data.spec.name}: {note}" for note in data.notes]


class _Drawn:
    """The pictures of a set as Pillow has them."""

    def __init__(self, data: Dataset) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, row: int) -> Image.Image:
        least, most = self.data.spec.extent
        one = (self.data.values[row:row + 1][0].astype(np.float64) - least) / (most - least)
        shade = np.rint(255 * one).clip(0, 255).astype(np.uint8)
        return Image.fromarray(shade[0] if len(shade) == 1 else shade.transpose(1, 2, 0))


class _Changed:
    """Rows that are made of others when they are asked for."""

    def __init__(self, values: Values, shape: Sequence[int], change: Callable[[np.ndarray], np.ndarray]) -> None:
        self.values, self.change = values, change
        self.shape, self.dtype = (len(values), *shape), change(values[:1]).dtype

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: Any, /) -> np.ndarray:
        return self.change(self.values[rows])


def together(sources: Sequence[Source], size: tuple[int, int] | None, fit: str) -> list[Dataset]:
    """The data of all sets in the shape that they can have in common, and in the units of the first.

    Pictures take the size that is asked for, (height, width), or that of the smallest, and are grey if all are. What
    was changed is said in the notes of each source.

    Raises:
        ValueError: samples of other shapes, which are no pictures.
    """
    shapes = [one.data.spec.shape for one in sources]
    if len(set(shapes)) > 1 or size is not None:
        for one in sources:
            if one.data.spec.kind != "picture" or one.data.spec.shape[0] > 3:
                others = ", ".join(f"{other.name} {other.data.spec.shape}" for other in sources if other is not one)
                raise ValueError(f"{one.name} has samples of shape {one.data.spec.shape}, {others}; they must agree: "
                                 "only grey and colour pictures are resized")
        _to_one_size(sources, size, fit)
    channels = {one.data.spec.shape[0] for one in sources}
    if channels == {1, 3} and not all(map(_is_grey, sources)):
        channels = {3}
    first, into = sources[0], min(channels)
    spec = first.data.spec.as_drawn()  # as `evaluate` has values of which a model says nothing
    if spec.shape[0] != into:
        spec = replace(spec, shape=(into, *spec.shape[1:]), layout="CHW")
    return [_in_units(one, first, spec) for one in sources]


def _to_one_size(sources: Sequence[Source], size: tuple[int, int] | None, fit: str) -> None:
    """Resize pictures of other sizes than the one that is asked for, or the smallest one that is there."""
    there = [one.data.spec.shape[1:] for one in sources]
    smallest = sources[min(range(len(there)), key=lambda place: (there[place][0] * there[place][1], place))]
    height, width = size or smallest.data.spec.shape[1:]
    for one, was in zip(sources, there, strict=True):
        if was != (height, width):
            one.resize(height, width, fit)
            why = "" if size else f", the size of {smallest.name}, which is smaller"
            one.notes.append(f"{one.name}: {was[1]} x {was[0]} pixels were resized to {width} x {height}{why}")


def _is_grey(one: Source) -> bool:
    return one.data.spec.shape[0] == 1 or all((part == part[:, :1]).all() for part in chunks(one.data.values))


def _in_units(one: Source, first: Source, spec: DataSpec) -> Dataset:
    """The data of a set in a spec's units: with its number of channels, black where it is black, and on its levels."""
    data, changes = one.data, list[Callable[[np.ndarray], np.ndarray]]()
    if data.spec.shape[0] > spec.shape[0]:
        changes.append(lambda values: values[:, :1])
    elif data.spec.shape[0] < spec.shape[0]:
        changes.append(lambda values: values.repeat(3, 1))
    ends = _other_units(one, first) if one is not first else None
    if ends is not None:
        (low, high), (least, most) = ends
        changes.append(lambda values: least + (values.astype(np.float64) - low) / (high - low) * (most - least))
        one.notes.append(f"{one.name}: {low:g} is read as black and {high:g} as white, which are {least:g} and "
                         f"{most:g} in {first.name}")

    def change(values: np.ndarray) -> np.ndarray:
        for each in changes:
            values = each(values)
        return values

    values = _Changed(data.values, spec.shape, change) if changes else data.values
    if one is not first and values.dtype.kind == "f" and spec.rounds and (ends or _off_levels(values, spec)):
        values = _Changed(values, spec.shape, lambda values: spec.decode(spec.encode(values)))
        if ends is None:  # else the arithmetic alone leaves them beside the levels
            one.notes.append(f"{one.name}: values between the levels of {first.name} were rounded to these")
    data = copy.copy(data)
    data.labels = numbered_by(spec, data)[0] if one is not first else data.labels
    data.values, data.values_digest = values, None if values is not one.data.values else data.values_digest
    data.conditions = data.conditions if one is first else None
    data.spec = spec if one is first else replace(spec, name=data.spec.name, conditions=())
    return data


def _other_units(one: Source, first: Source) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """Black and white of a set, and of the first one, where pictures have others."""
    there, spec = one.black_white, first.data.spec
    if there is None or spec.kind != "picture" or one.data.spec.kind != "picture":
        return None
    whole = [each.data.names is None and each.data.values.dtype.kind != "f" for each in (one, first)]
    if all(whole) or (first.black_white is None and not whole[1]):  # the same units, or nobody knows
        return None
    least, most = first.black_white or _ends(spec)
    return None if (least, most) == there else (there, (least, most))


def _ends(spec: DataSpec) -> tuple[float, float]:
    """The least and the greatest value that there are."""
    least, most = spec.extent
    return float(least.min()), float(most.max())


def _off_levels(values: Values, spec: DataSpec) -> bool:
    """Whether some values are on no level of the spec."""
    count = max(level or 2 for level in (spec.levels if isinstance(spec.levels, tuple) else (spec.levels,)))
    least, most = spec.extent
    return any((abs(spec.decode(spec.encode(part)) - part) > SAME * (most - least) / (count - 1)).any()
               for part in chunks(values))


def overlap(one: Dataset, other: Dataset) -> tuple[int, list[str]]:
    """How many rows of a set are rows of another too, to the last bit, and the names of the first of them: its own and
    the other's."""
    rows = dict[bytes, int]()
    for row, digest in enumerate(row_digests(other)):
        rows.setdefault(digest, row)
    count, named = 0, list[str]()
    for row, digest in enumerate(row_digests(one)):
        if digest in rows:
            count += 1
            if len(named) < NAMED:
                named.append(f"{_called(one, row)} = {_called(other, rows[digest])}")
    return count, named


def _called(data: Dataset, row: int) -> str:
    return f"row {row}" if data.names is None else data.names[row]
