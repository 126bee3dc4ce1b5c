"""Pictures of any source as one set: sizes, what is skipped, and decoding once, into memory or into the cache."""

from __future__ import annotations

import functools
import itertools
import os
import statistics
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ornstein.data import cache
from ornstein.data.dataset import Dataset, RowView, Values, ValuesDigest, hold_out
from ornstein.data.pictures import LEAST_SIDE, MOST_SIDE, header, pixels, reason
from ornstein.data.process import PerProcess
from ornstein.data.ranges import SEEN, Range, choose, survey
from ornstein.data.spec import DataSpec, printable
from ornstein.data.stored import StoredRows
from ornstein.names import require

if TYPE_CHECKING:
    from ornstein.data.pictures import Source

__all__ = ["READERS", "Corpus", "LazyPictures", "check_size", "load_corpus"]

Result = TypeVar("Result")
READERS = ("auto", "cache", "stream")
THREADS = max(2, min(16, os.cpu_count() or 2))
BLOCK = 512  # pictures that are read and decoded together
LOOKED_AT = 1000  # headers that settle size and channels of pictures that are too many to open each


@dataclass
class Corpus:
    """Pictures that can be read by number.

    `read` gives those of a few rows: bytes, paths or pictures of Pillow's, or an Exception for one that cannot be had;
    it can be pickled, for readers in other processes. What decoded pictures are a function of is their `listing`, as
    `cache.key_of` takes it; their `identity` tells them from others wherever they lie, for the digest of a set that is
    never read to the end; either is None where it is not known.
    """

    name: str
    where: str  # how messages call it
    keys: Sequence[str]  # printable name of each picture
    read: Callable[[np.ndarray], Sequence[Source | Exception]]
    labels: np.ndarray  # (N,) int64, -1 for none
    classes: tuple[str, ...] = ()
    listing: list[Any] | None = None
    identity: list[Any] | None = None
    others: dict[str, str] = field(default_factory=dict)  # printable name of what is no picture: the reason
    notes: list[str] = field(default_factory=list)
    looked: list[tuple[int, int, bool, bool] | str] | None = None  # what `header` says of each, or why it says nothing


def load_corpus(corpus: Corpus, size: int | None = None, reader: str = "auto") -> Dataset:
    """Return pictures as uint8 squares, (N, C, size, size), all in colour unless every one is grey.

    The reader "cache" decodes all once, into memory or, from 64 MB on, into the cache folder; "stream" decodes them
    each time they are asked for; "auto" streams what would take more than half of the free disk.
    """
    check_size(size)
    require("reader", reader, READERS)
    if reader != "stream" and corpus.listing is not None and (made := cache.open_values(_key(corpus, size))):
        return _dataset(corpus, *made)
    count = len(corpus.keys)
    some = np.unique(np.linspace(0, count - 1, min(count, LOOKED_AT)).astype(np.int64))
    failed: dict[int, str] = {}
    with warnings.catch_warnings(record=True) as warned, ThreadPoolExecutor(THREADS) as pool:
        from PIL import Image

        # Set once around all threads: the filters are shared by the whole process.
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # `header` has limits of its own
        headers = _headers(corpus, some, pool, failed)
        # What is small is decoded into memory, and needs no disk.
        need = count * int(np.prod(_shape(headers, size))) if len(headers) else 0
        if len(headers) and (reader == "stream" or (reader == "auto" and corpus.listing is not None
                                                  and need >= cache.SMALL and need > cache.free() // 2)):
            _refuse(corpus, failed, len(some))
            return _streamed(corpus, _shape(headers, size), failed, len(some), _clear_notes(headers))
        if len(some) < count:
            headers = _headers(corpus, np.arange(count), pool, failed)
        _refuse(corpus, failed, count)
        while True:
            shape = _shape(headers, size)
            try:
                return _dataset(corpus, *_decoded(corpus, shape, size, headers, failed, pool, warned))
            except _SettledAnewError:
                headers = headers[_whole(headers[:, 0], failed)]


class _SettledAnewError(Exception):
    """A picture that broke in decoding had settled the channels or the size."""


def check_size(size: int | None) -> None:
    """Refuse a side that pictures cannot have."""
    if size is not None and (type(size) is not int or not LEAST_SIDE <= size <= MOST_SIDE):
        raise ValueError(f"size is {size!r}; it must be a whole number {LEAST_SIDE}..{MOST_SIDE}")


class LazyPictures:
    """Pictures of a corpus, decoded to (C, size, size) each time they are asked for; one that cannot be used is stood
    in for by the next one of its class that can: the same one each time."""

    dtype = np.dtype(np.uint8)

    def __init__(self, corpus: Corpus, shape: tuple[int, int, int]) -> None:
        self.corpus, self.shape = corpus, (len(corpus.keys), *shape)
        self.failed: dict[int, str] = {}
        self._pool = PerProcess(functools.partial(ThreadPoolExecutor, THREADS))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any, /) -> np.ndarray:
        wanted = np.arange(len(self))[rows]
        source = self.corpus.read(wanted)
        decoded = _spread(self._pool(), lambda one: _decode(one, self.shape[1:]), source)
        return np.stack([self._stand_in(row, one) if isinstance(one, str) else one
                         for row, one in zip(wanted, decoded, strict=True)] or [np.empty((0, *self.shape[1:]), "u1")])

    def _stand_in(self, row: int, why: str) -> np.ndarray:
        corpus = self.corpus
        self.failed[int(row)] = why
        _refuse(corpus, self.failed, len(self))
        alike = np.flatnonzero(corpus.labels == corpus.labels[row])
        for other in np.roll(alike, -int(np.searchsorted(alike, row)) - 1)[:-1]:
            one = _decode(corpus.read(np.array([other]))[0], self.shape[1:])
            if not isinstance(one, str):
                return one
        raise ValueError(f"{corpus.where}: no picture like {corpus.keys[row]} can be used; fix or remove it ({why})")


def _key(corpus: Corpus, size: int | None) -> str:
    return cache.key_of("pictures", corpus.listing, size)


def _headers(corpus: Corpus, rows: np.ndarray, pool: ThreadPoolExecutor, failed: dict[int, str]) -> np.ndarray:
    """(N, 5) row, width, height, grey, transparent of each picture that has them."""
    def look(source: Source | Exception) -> tuple[int, int, bool, bool] | str:
        try:
            if isinstance(source, Exception):
                raise source
            return header(source)
        except Exception as error:  # Pillow raises nearly any type for a broken file; the reason is reported
            return reason(error)

    headers = []
    for block in _blocks(rows):
        looked = [corpus.looked[row] for row in block] if corpus.looked is not None else _spread(
            pool, look, corpus.read(block))
        for row, one in zip(block, looked, strict=True):
            if isinstance(one, str):
                failed[int(row)] = one
            else:
                headers.append((row, *one))
    return np.array(headers, dtype=np.int64).reshape(-1, 5)


def _blocks(rows: np.ndarray) -> Iterator[np.ndarray]:
    return (rows[start:start + BLOCK] for start in range(0, len(rows), BLOCK))


def _spread(pool: ThreadPoolExecutor, work: Callable[[Any], Result], items: Sequence[Any]) -> Iterator[Result]:
    # One run a thread: a small picture is decoded in less time than a thread takes to fetch its next task.
    step = max(1, -(-len(items) // THREADS))
    runs = pool.map(lambda start: [work(item) for item in items[start:start + step]], range(0, len(items), step))
    return itertools.chain.from_iterable(runs)


def _refuse(corpus: Corpus, failed: dict[int, str], count: int) -> None:
    if len(failed) * 10 > count:
        first = ", ".join(f"{corpus.keys[row]} ({why})" for row, why in list(failed.items())[:3])
        fault = "no picture can be used" if len(failed) == count else "more than a tenth cannot be used"
        raise ValueError(f"{corpus.where}: {fault}: {len(failed)} of {count} failed: {first}; fix or remove them")


def _shape(headers: np.ndarray, size: int | None) -> tuple[int, int, int]:
    if size is None:
        sides = headers[:, 1:3]
        short = statistics.median(sides.min(1).tolist())
        alike = bool((sides == sides[0, 0]).all()) and short <= 64
        size = int(short) if alike else max(8, int(min(64, short)) // 8 * 8)
    return 1 if headers[:, 3].all() else 3, size, size


def _decode(source: Source | Exception, shape: tuple[int, ...]) -> np.ndarray | str:
    try:
        if isinstance(source, Exception):
            raise source
        return pixels(source, shape[0], shape[1])
    except Exception as error:  # as in _headers
        return reason(error)


def _whole(rows: np.ndarray, failed: dict[int, str]) -> np.ndarray:
    """Which of the rows have not failed."""
    return np.isin(rows, np.array(list(failed), np.int64), invert=True)


def _decoded(corpus: Corpus, shape: tuple[int, int, int], size: int | None, headers: np.ndarray, failed: dict[int, str],
             pool: ThreadPoolExecutor,
             warned: list[warnings.WarningMessage]) -> tuple[np.ndarray | StoredRows, dict[str, Any]]:
    count, seen = len(corpus.keys), ValuesDigest()

    def blocks() -> Iterator[np.ndarray]:
        for rows in _blocks(np.arange(count)):
            values = np.zeros((len(rows), *shape), np.uint8)
            wanted = rows[_whole(rows, failed)]
            decoded = _spread(pool, lambda one: _decode(one, shape), corpus.read(wanted))
            for row, one in zip(wanted, decoded, strict=True):
                if isinstance(one, str):
                    failed[int(row)] = one
                else:
                    values[row - rows[0]] = one
            _refuse(corpus, failed, count)
            seen.update(values[_whole(rows, failed)])
            yield values

    def record() -> dict[str, Any]:
        good = headers[_whole(headers[:, 0], failed)]
        if _shape(good, size) != shape:
            raise _SettledAnewError
        notes = [*_size_notes(good[:, 1:3], shape[1], size is None), *_clear_notes(good)]
        late = [f"Pillow warned of odd files, warnings: {len(warned)}, first: {reason(warning.message)}"
                for warning in warned[:1]]
        return {"notes": notes, "late": late, "failed": {str(row): failed[row] for row in failed},
                "digest": seen.hexdigest()}

    if corpus.listing is None or count * int(np.prod(shape)) < cache.SMALL:
        values = np.concatenate(list(blocks()))
        return values, record()
    return cache.write_values(_key(corpus, size), (count, *shape), blocks, record)


def _dataset(corpus: Corpus, values: np.ndarray | StoredRows, record: dict[str, Any]) -> Dataset:
    failed = {int(row): why for row, why in record["failed"].items()}
    kept, rows = isinstance(values, StoredRows), np.arange(len(values))
    rows = rows[_whole(rows, failed)]
    good: Values = values
    if failed:
        good = RowView(values, rows) if kept else values[rows]
    notes = [*record["notes"], *corpus.notes]
    if kept:
        notes.append(f"the decoded pictures are kept in {cache.folder()} ({values.nbytes / 1e6:,.0f} MB)")
    return _finished(corpus, good, rows, failed, notes, record["late"], record["digest"])


def _streamed(corpus: Corpus, shape: tuple[int, int, int], failed: dict[int, str], looked: int,
              seen: list[str]) -> Dataset:
    values = LazyPictures(corpus, shape)
    digest = None if corpus.identity is None else cache.key_of("stream", corpus.identity, shape)
    notes = [f"the pictures are decoded each time they are asked for; {looked} of {len(values)} settled that they are "
             f"{shape[1]}x{shape[2]}, and a damaged one is stood in for by the next of its class", *seen, *corpus.notes]
    data = _finished(corpus, values, np.arange(len(values)), failed, notes, [], digest)
    data.streamed = True
    return data


def _finished(corpus: Corpus, values: Values, rows: np.ndarray, failed: dict[int, str], notes: list[str],
              late: list[str], digest: str | None) -> Dataset:
    labels = corpus.labels[rows]
    held, unheld = hold_out(len(values))
    skipped = [f"{corpus.keys[row]}: {failed[row]}" for row in sorted(failed)]
    skipped += [f"{key}: {why}" for key, why in corpus.others.items()]
    notes += unheld + late
    if skipped:
        more = f", and {len(skipped) - 5} more" if len(skipped) > 5 else ""
        notes.append(f"files skipped: {len(skipped)}: {', '.join(skipped[:5])}{more}")
    span = Range(0.0, 255.0, 256, 0.0, 255.0)
    some = np.unique(np.linspace(0, len(values) - 1, 256).astype(np.int64))
    if not isinstance(values, LazyPictures) and np.ptp(values[some]) < SEEN * 256:  # masks, all but black in 0..255
        span = choose(values.dtype, survey(values, corpus.where), picture=True)
        notes += span.notes
    spec = DataSpec(printable(corpus.name) or "pictures", "picture", values.shape[1:], span.low, span.high, span.levels,
                    corpus.classes, least=span.least, most=span.most)
    names = [corpus.keys[row] for row in rows.tolist()]
    return Dataset(values, labels, held, spec, notes, skipped, values_digest=digest, names=names)


def _size_notes(sides: np.ndarray, size: int, chosen: bool) -> list[str]:
    def count(those: np.ndarray) -> str:
        return f"{those.sum()} of {len(sides)} pictures"

    notes = []
    width, height, short = sides[:, 0], sides[:, 1], sides.min(1)
    if chosen and (sides != size).any():
        different = len(np.unique(sides, axis=0))
        number = "1 size" if different == 1 else f"{different} different sizes"
        notes.append(f"the pictures have {number}: {size}x{size} was chosen; --size sets another")
    if (width != height).any():
        notes.append(f"{count(width != height)} were cropped to their middle square")
    if (short > size).any():
        notes.append(f"{count(short > size)} were reduced to {size} pixels")
    if (short < size).any():
        notes.append(f"{count(short < size)} were enlarged to {size} pixels")
    return notes


def _clear_notes(headers: np.ndarray) -> list[str]:
    clear = int(headers[:, 4].sum())
    return [f"{clear} of {len(headers)} pictures have transparency, which was laid on white"] if clear else []
