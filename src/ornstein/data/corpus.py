"""Pictures of any source as one set: sizes, what is skipped, and decoding once, into memory or into the cache."""

from __future__ import annotations

import functools
import itertools
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ornstein.data import cache
from ornstein.data.dataset import Dataset, RowView, Values, ValuesDigest, hold_out
from ornstein.data.pictures import Reading, header, pixels, reason
from ornstein.data.process import PerProcess
from ornstein.data.ranges import SEEN, Range, choose, survey
from ornstein.data.sizes import own_size, size_notes
from ornstein.data.spec import DataSpec, printable
from ornstein.data.stored import StoredRows

if TYPE_CHECKING:
    from ornstein.data.pictures import Source

__all__ = ["Corpus", "LazyPictures", "load_corpus"]

Result = TypeVar("Result")
THREADS = max(2, min(16, os.cpu_count() or 2))
GREY, CLEAR, DEEP = 3, 4, 5  # columns of headers
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
    looked: list[tuple[int, int, bool, bool, bool] | str] | None = None  # what `header` says of each, or why not


def load_corpus(corpus: Corpus, reading: Reading) -> Dataset:
    """Return pictures of one shape as uint8, (N, C, H, W), all in colour unless every one is grey.

    The reader "cache" decodes all once, into memory or, from 64 MB on, into the cache folder; "stream" decodes them
    each time they are asked for; "auto" streams what would take more than half of the free disk.
    """
    reader = reading.reader
    if reader != "stream" and corpus.listing is not None and (made := cache.open_values(_key(corpus, reading))):
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
        need = count * int(np.prod(_shape(headers, reading))) * reading.depth // 8 if len(headers) else 0
        if len(headers) and (reader == "stream" or (reader == "auto" and corpus.listing is not None
                                                  and need >= cache.SMALL and need > cache.free() // 2)):
            _refuse(corpus, failed, len(some))
            return _streamed(corpus, headers, reading, failed, len(some))
        if len(some) < count:
            headers = _headers(corpus, np.arange(count), pool, failed)
        _refuse(corpus, failed, count)
        while True:
            shape = _shape(headers, reading)
            try:
                return _dataset(corpus, *_decoded(corpus, shape, reading, headers, failed, pool, warned))
            except _SettledAnewError as again:
                headers = headers[_whole(headers[:, 0], failed)]
                headers[:, CLEAR] *= not again.args


class _SettledAnewError(Exception):
    """A picture that broke in decoding had settled the channels or the size; or, with an argument, the opacity that was
    asked for is the same everywhere."""


class LazyPictures:
    """Pictures of a corpus, decoded to (C, H, W) each time they are asked for; one that cannot be used is stood
    in for by the next one of its class that can: the same one each time."""

    def __init__(self, corpus: Corpus, shape: tuple[int, int, int], fit: str, dtype: np.dtype[Any]) -> None:
        self.corpus, self.shape, self.fit, self.dtype = corpus, (len(corpus.keys), *shape), fit, dtype
        self.failed: dict[int, str] = {}
        self._pool = PerProcess(functools.partial(ThreadPoolExecutor, THREADS))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any, /) -> np.ndarray:
        wanted = np.arange(len(self))[rows]
        source = self.corpus.read(wanted)
        decoded = _spread(self._pool(), self._decode, source)
        made = [self._stand_in(row, one) if isinstance(one, str) else one
                for row, one in zip(wanted, decoded, strict=True)]
        return np.stack(made) if made else np.empty((0, *self.shape[1:]), self.dtype)

    def _decode(self, source: Source | Exception) -> np.ndarray | str:
        return _decode(source, self.shape[1:], self.fit, self.dtype)

    def _stand_in(self, row: int, why: str) -> np.ndarray:
        corpus = self.corpus
        self.failed[int(row)] = why
        _refuse(corpus, self.failed, len(self))
        alike = np.flatnonzero(corpus.labels == corpus.labels[row])
        for other in np.roll(alike, -int(np.searchsorted(alike, row)) - 1)[:-1]:
            one = self._decode(corpus.read(np.array([other]))[0])
            if not isinstance(one, str):
                return one
        raise ValueError(f"{corpus.where}: no picture like {corpus.keys[row]} can be used; fix or remove it ({why})")


def _key(corpus: Corpus, reading: Reading) -> str:
    return cache.key_of("pictures", corpus.listing, *reading.key())


def _headers(corpus: Corpus, rows: np.ndarray, pool: ThreadPoolExecutor, failed: dict[int, str]) -> np.ndarray:
    """(N, 6) row, width, height, grey, transparent and of 16 bits of each picture that has them."""
    def look(source: Source | Exception) -> tuple[int, int, bool, bool, bool] | str:
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
    return np.array(headers, dtype=np.int64).reshape(-1, 6)


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


def _shape(headers: np.ndarray, reading: Reading) -> tuple[int, int, int]:
    width, height = reading.sides or own_size(headers[:, 1:3])
    if reading.alpha and headers[:, CLEAR].any():
        return 4, height, width
    return 1 if headers[:, GREY].all() else 3, height, width


def _dtype(corpus: Corpus, headers: np.ndarray, reading: Reading) -> np.dtype[Any]:
    """Of the values: 16 bits where they are asked for and there."""
    if reading.depth == 16 and (coloured := int((headers[:, GREY] == 0).sum())):
        raise ValueError(f"{corpus.where}: {coloured} of {len(headers)} pictures are in colour, and 16 bits are kept "
                         "of grey ones only; leave depth out")
    return np.dtype(np.uint16 if reading.depth == 16 and headers[:, DEEP].any() else np.uint8)


def _decode(source: Source | Exception, shape: tuple[int, ...], fit: str, dtype: np.dtype[Any]) -> np.ndarray | str:
    try:
        if isinstance(source, Exception):
            raise source
        return pixels(source, shape, fit, dtype == np.uint16)
    except Exception as error:  # as in _headers
        return reason(error)


def _whole(rows: np.ndarray, failed: dict[int, str]) -> np.ndarray:
    """Which of the rows have not failed."""
    return np.isin(rows, np.array(list(failed), np.int64), invert=True)


def _decoded(corpus: Corpus, shape: tuple[int, int, int], reading: Reading, headers: np.ndarray, failed: dict[int, str],
             pool: ThreadPoolExecutor,
             warned: list[warnings.WarningMessage]) -> tuple[np.ndarray | StoredRows, dict[str, Any]]:
    count, seen, opacity = len(corpus.keys), ValuesDigest(), set[int]()
    dtype = _dtype(corpus, headers, reading)

    def blocks() -> Iterator[np.ndarray]:
        for rows in _blocks(np.arange(count)):
            values = np.zeros((len(rows), *shape), dtype)
            wanted = rows[_whole(rows, failed)]
            decoded = _spread(pool, lambda one: _decode(one, shape, reading.fit, dtype), corpus.read(wanted))
            for row, one in zip(wanted, decoded, strict=True):
                if isinstance(one, str):
                    failed[int(row)] = one
                else:
                    values[row - rows[0]] = one
            _refuse(corpus, failed, count)
            good = values[_whole(rows, failed)]
            seen.update(good)
            opacity.update({int(good[:, 3].min()), int(good[:, 3].max())} if shape[0] == 4 and len(good) else ())
            yield values

    def record() -> dict[str, Any]:
        good = headers[_whole(headers[:, 0], failed)]
        if (_shape(good, reading), _dtype(corpus, good, reading)) != (shape, dtype):
            raise _SettledAnewError
        if len(opacity) == 1:
            raise _SettledAnewError("opaque")
        notes = [*size_notes(good[:, 1:3], (shape[2], shape[1]), reading), *_layer_notes(good, reading)]
        late = [f"Pillow warned of odd files, warnings: {len(warned)}, first: {reason(warning.message)}"
                for warning in warned[:1]]
        return {"notes": notes, "late": late, "failed": {str(row): failed[row] for row in failed},
                "digest": seen.hexdigest()}

    if corpus.listing is None or count * int(np.prod(shape)) * dtype.itemsize < cache.SMALL:
        values = np.concatenate(list(blocks()))
        return values, record()
    return cache.write_values(_key(corpus, reading), (count, *shape), blocks, record, dtype.str)


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


def _streamed(corpus: Corpus, headers: np.ndarray, reading: Reading, failed: dict[int, str], looked: int) -> Dataset:
    shape = _shape(headers, reading)
    values = LazyPictures(corpus, shape, reading.fit, _dtype(corpus, headers, reading))
    digest = None if corpus.identity is None else cache.key_of("stream", corpus.identity, shape, *reading.key()[1:])
    notes = [f"the pictures are decoded each time they are asked for; {looked} of {len(values)} settled that they are "
             f"{shape[2]}x{shape[1]}, and a damaged one is stood in for by the next of its class",
             *_layer_notes(headers, reading), *corpus.notes]
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
    deep = values.dtype == np.uint16
    mode, most = "RGBA" if values.shape[1] == 4 else "I;16" if deep else "", 65535 if deep else 255
    span = Range(0.0, most, most + 1, 0.0, most)
    some = np.unique(np.linspace(0, len(values) - 1, 256).astype(np.int64))
    # Masks are all but black in 0..255.
    if mode != "RGBA" and not isinstance(values, LazyPictures) and np.ptp(values[some]) < SEEN * (most + 1):
        span = choose(values.dtype, survey(values, corpus.where), picture=True)
        notes += span.notes
    spec = DataSpec(printable(corpus.name) or "pictures", "picture", values.shape[1:], span.low, span.high, span.levels,
                    corpus.classes, least=span.least, most=span.most, mode=mode)
    names = [corpus.keys[row] for row in rows.tolist()]
    return Dataset(values, labels, held, spec, notes, skipped, values_digest=digest, names=names)


def _layer_notes(headers: np.ndarray, reading: Reading) -> list[str]:
    if reading.depth == 16 and not headers[:, DEEP].any():
        return ["no picture has 16 bits: they are read as 8"]
    clear = int(headers[:, CLEAR].sum())
    if reading.alpha and not clear:
        return ["no pixel is more transparent than another: alpha was dropped, and the pictures are learnt on white"]
    what = "is learnt as a fourth channel" if reading.alpha else "was laid on white (--alpha learns it)"
    return [f"{clear} of {len(headers)} pictures have transparency, which {what}"] if clear else []
