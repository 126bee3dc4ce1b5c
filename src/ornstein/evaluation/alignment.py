"""Alignment of sets from different sources to one shape and one scale, so that they can be compared."""

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
from ornstein.evaluation.preparation import renumbered_labels

__all__ = ["Source", "align", "shared_rows"]

BYTES, SIXTEEN_BITS = (0.0, 255.0), (0.0, 65535.0)  # black and white of picture files
FLOAT_RANGES = ((0.0, 1.0), (-1.0, 1.0))  # conventional black and white of floating-point pictures
TOLERANCE = 1e-3  # of a step between levels: a value closer to a level counts as on it
NAMED = 3  # rows that a note names


@dataclass
class Source:
    """One of the sets that are compared.

    Args:
        source: where it is from.
        argument: what messages call it.
        data: its samples.
        black_white: the values of black and white, where the file type or convention defines them.
        notes: sentences for the report.
    """

    source: Any
    argument: str
    data: Dataset
    black_white: tuple[float, float] | None = None
    notes: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, source: Any, argument: str, size: str | int | None, fit: str) -> Source:
        """Load a set unless it is a `Dataset`; picture files at a given size, or at one that suits them."""
        options: dict[str, Any] = {"size": size, "fit": fit} if may_be_pictures(source) else {}
        try:
            data = source if isinstance(source, Dataset) else load_data(source, **options)
        except (ValueError, TypeError) as error:
            raise type(error)(f"{argument}: {error}") from None
        result = cls(source, argument, data, notes=_notes(data) if data is not source else [])
        ends = _ends(data.spec)
        if data.names is not None:
            result.black_white = SIXTEEN_BITS if data.values.dtype == np.uint16 else BYTES
        elif ends in FLOAT_RANGES if data.values.dtype.kind == "f" else ends == BYTES:
            result.black_white = ends
        return result

    @property
    def name(self) -> str:
        """What messages call the set, with the name of its data."""
        return f"{self.argument} {self.data.spec.name!r}"

    def resize(self, height: int, width: int, fit: str) -> None:
        """Resize its pictures: files are read again, other pictures are drawn with 8 bits."""
        from_files, before = self.data.names is not None and self.source is not self.data, self.data
        data = load_data(self.source if from_files else _Images(before), size=f"{width}x{height}", fit=fit)
        self.notes = _notes(data) if from_files else self.notes
        if not from_files:
            spec = replace(data.spec, name=before.spec.name, classes=before.spec.classes, empty=before.spec.empty)
            data = replace(data, spec=spec, labels=before.labels, held=before.held, names=before.names)
        self.data, self.black_white = data, SIXTEEN_BITS if data.values.dtype == np.uint16 else BYTES


def _notes(data: Dataset) -> list[str]:
    """Notes on picture files; those on arrays concern only their scale, which does not matter here."""
    return [] if data.names is None else [f"{data.spec.name}: {note}" for note in data.notes]


class _Images:
    """The pictures of a set as Pillow images."""

    def __init__(self, data: Dataset) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, row: int) -> Image.Image:
        least, most = self.data.spec.extent
        unit = (self.data.values[row:row + 1][0].astype(np.float64) - least) / (most - least)
        pixels = np.rint(255 * unit).clip(0, 255).astype(np.uint8)
        return Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))


class _Mapped:
    """Values that a function maps when they are read."""

    def __init__(self, values: Values, shape: Sequence[int], function: Callable[[np.ndarray], np.ndarray]) -> None:
        self.values, self.function = values, function
        self.shape, self.dtype = (len(values), *shape), function(values[:1]).dtype

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: Any, /) -> np.ndarray:
        return self.function(self.values[rows])


def align(sources: Sequence[Source], size: tuple[int, int] | None, fit: str) -> list[Dataset]:
    """The data of all sets in a common shape, and in the units of the first.

    Pictures take the requested size, (height, width), or that of the smallest, and are grey if all are. The notes of
    each source say what was changed.

    Raises:
        ValueError: samples of different shapes that are not pictures.
    """
    shapes = [source.data.spec.shape for source in sources]
    if len(set(shapes)) > 1 or size is not None:
        for source in sources:
            if source.data.spec.kind != "picture" or source.data.spec.shape[0] > 3:
                others = ", ".join(f"{other.name} {other.data.spec.shape}" for other in sources if other is not source)
                raise ValueError(f"{source.name} has samples of shape {source.data.spec.shape}, {others}; they must "
                                 "agree: only grey and colour pictures are resized")
        _resize_all(sources, size, fit)
    channels = {source.data.spec.shape[0] for source in sources}
    if channels == {1, 3} and not all(map(_is_grey, sources)):
        channels = {3}
    first, count = sources[0], min(channels)
    spec = first.data.spec.as_drawn()  # as `evaluate` does for a model that does not know the range of its data
    if spec.shape[0] != count:
        spec = replace(spec, shape=(count, *spec.shape[1:]), layout="CHW")
    return [_in_units(source, first, spec) for source in sources]


def _resize_all(sources: Sequence[Source], size: tuple[int, int] | None, fit: str) -> None:
    """Resize all pictures to the requested size, or to that of the smallest."""
    sizes = [source.data.spec.shape[1:] for source in sources]
    smallest = sources[min(range(len(sizes)), key=lambda index: (sizes[index][0] * sizes[index][1], index))]
    height, width = size or smallest.data.spec.shape[1:]
    for source, before in zip(sources, sizes, strict=True):
        if before != (height, width):
            source.resize(height, width, fit)
            why = "" if size else f", the size of {smallest.name}, which is smaller"
            source.notes.append(
                f"{source.name}: {before[1]} x {before[0]} pixels were resized to {width} x {height}{why}")


def _is_grey(source: Source) -> bool:
    return source.data.spec.shape[0] == 1 or all(
        (chunk == chunk[:, :1]).all() for chunk in chunks(source.data.values))


def _in_units(source: Source, first: Source, spec: DataSpec) -> Dataset:
    """The data of a set in a spec's units: with its number of channels, its black and white, and on its levels."""
    data, steps = source.data, list[Callable[[np.ndarray], np.ndarray]]()
    if data.spec.shape[0] > spec.shape[0]:
        steps.append(lambda values: values[:, :1])
    elif data.spec.shape[0] < spec.shape[0]:
        steps.append(lambda values: values.repeat(3, 1))
    ends = _differing_ends(source, first) if source is not first else None
    if ends is not None:
        (low, high), (least, most) = ends
        steps.append(lambda values: least + (values.astype(np.float64) - low) / (high - low) * (most - least))
        source.notes.append(f"{source.name}: {low:g} is read as black and {high:g} as white, which are {least:g} and "
                            f"{most:g} in {first.name}")

    def mapped(values: np.ndarray) -> np.ndarray:
        for step in steps:
            values = step(values)
        return values

    values = _Mapped(data.values, spec.shape, mapped) if steps else data.values
    if source is not first and values.dtype.kind == "f" and spec.rounds and (ends or _off_levels(values, spec)):
        values = _Mapped(values, spec.shape, lambda values: spec.decode(spec.encode(values)))
        if ends is None:  # otherwise only the arithmetic moved them off the levels
            source.notes.append(f"{source.name}: values between the levels of {first.name} were rounded to these")
    data = copy.copy(data)
    data.labels = renumbered_labels(spec, data)[0] if source is not first else data.labels
    data.values, data.values_digest = values, None if values is not source.data.values else data.values_digest
    data.conditions = data.conditions if source is first else None
    data.spec = spec if source is first else replace(spec, name=data.spec.name, conditions=())
    return data


def _differing_ends(source: Source, first: Source) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """Black and white of a set, and of the first one, if both are pictures and these differ."""
    ends, spec = source.black_white, first.data.spec
    if ends is None or spec.kind != "picture" or source.data.spec.kind != "picture":
        return None
    whole = [each.data.names is None and each.data.values.dtype.kind != "f" for each in (source, first)]
    if all(whole) or (first.black_white is None and not whole[1]):  # the same units, or unknown
        return None
    first_ends = first.black_white or _ends(spec)
    return None if first_ends == ends else (ends, first_ends)


def _ends(spec: DataSpec) -> tuple[float, float]:
    """The smallest and the largest value that a spec allows."""
    least, most = spec.extent
    return float(least.min()), float(most.max())


def _off_levels(values: Values, spec: DataSpec) -> bool:
    """Whether some values are not on a level of the spec."""
    count = max(level or 2 for level in (spec.levels if isinstance(spec.levels, tuple) else (spec.levels,)))
    least, most = spec.extent
    return any((abs(spec.decode(spec.encode(chunk)) - chunk) > TOLERANCE * (most - least) / (count - 1)).any()
               for chunk in chunks(values))


def shared_rows(data: Dataset, other: Dataset) -> tuple[int, list[str]]:
    """How many rows of a set equal a row of another, to the last bit, and the names of the first such pairs."""
    rows = dict[bytes, int]()
    for row, digest in enumerate(row_digests(other)):
        rows.setdefault(digest, row)
    count, pairs = 0, list[str]()
    for row, digest in enumerate(row_digests(data)):
        if digest in rows:
            count += 1
            if len(pairs) < NAMED:
                pairs.append(f"{_row_name(data, row)} = {_row_name(other, rows[digest])}")
    return count, pairs


def _row_name(data: Dataset, row: int) -> str:
    return f"row {row}" if data.names is None else data.names[row]
