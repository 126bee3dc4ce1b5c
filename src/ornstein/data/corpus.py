"""Pictures of any source as one data set, decoded once into memory or the cache, or on each access."""

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
from ornstein.data.per_process import PerProcess
from ornstein.data.pictures import Header, ReadOptions, decode_picture, error_reason, read_header
from ornstein.data.ranges import MIN_FILL, Range, choose_range, measure_channels
from ornstein.data.sizes import default_size, size_notes
from ornstein.data.spec import DataSpec, printable
from ornstein.data.stored import StoredRows

if TYPE_CHECKING:
    from ornstein.data.pictures import Source

__all__ = ["Corpus", "LazyPictures", "load_corpus"]

Result = TypeVar("Result")
THREADS = max(2, min(16, os.cpu_count() or 2))
GREY, TRANSPARENT, DEEP = 3, 4, 5  # columns of header arrays
BLOCK_SIZE = 512  # pictures that are read and decoded together
SAMPLED_HEADERS = 1000  # pictures whose headers decide size and channels if there are too many to open all


@dataclass
class Corpus:
    """Pictures that can be read by row number.

    `read` returns bytes, paths or Pillow images for an array of rows, or an Exception for a picture that is missing;
    it is picklable, for use in other processes. `listing` is what the decoded pictures depend on, for the cache key;
    `identity` identifies the pictures wherever they are stored, for the digest of a streamed set; either may be None,
    if unknown.
    """

    name: str
    where: str  # name of the source in messages
    keys: Sequence[str]  # printable name of each picture
    read: Callable[[np.ndarray], Sequence[Source | Exception]]
    labels: np.ndarray  # (N,) int64, -1 for none
    classes: tuple[str, ...] = ()
    listing: list[Any] | None = None
    identity: list[Any] | None = None
    skipped: dict[str, str] = field(default_factory=dict)  # printable name of a skipped file: the reason
    notes: list[str] = field(default_factory=list)
    headers: list[Header | str] | None = None  # of each picture, or the reason it has none


def load_corpus(corpus: Corpus, options: ReadOptions) -> Dataset:
    """Return pictures of one shape as uint8 or uint16, (N, C, H, W), in colour unless all are grey.

    The reader "cache" decodes all once, into memory or, from 64 MB on, into the cache folder; "stream" decodes on each
    access; "auto" streams if the decoded pictures would take more than half of the free disk space.
    """
    reader = options.reader
    if reader != "stream" and corpus.listing is not None and (cached := cache.open_values(_cache_key(corpus, options))):
        return _dataset_from_record(corpus, *cached)
    count = len(corpus.keys)
    sampled = np.unique(np.linspace(0, count - 1, min(count, SAMPLED_HEADERS)).astype(np.int64))
    failed: dict[int, str] = {}
    with warnings.catch_warnings(record=True) as caught, ThreadPoolExecutor(THREADS) as pool:
        from PIL import Image

        # Set once around all threads: warning filters are global to the process.
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # `read_header` has its own limits
        headers = _read_headers(corpus, sampled, pool, failed)
        if len(headers) and (reader == "stream" or (reader == "auto" and corpus.listing is not None
                                                    and _exceeds_disk(count, headers, options))):
            _check_failures(corpus, failed, len(sampled))
            return _streamed_dataset(corpus, headers, options, failed, len(sampled))
        if len(sampled) < count:
            headers = _read_headers(corpus, np.arange(count), pool, failed)
        _check_failures(corpus, failed, count)
        while True:
            shape = _common_shape(headers, options)
            try:
                return _dataset_from_record(corpus, *_decode_all(corpus, shape, options, headers, failed, pool, caught))
            except _ShapeChangedError as change:
                headers = headers[_not_in(headers[:, 0], failed)]
                if change.opaque:
                    headers[:, TRANSPARENT] = 0


def _exceeds_disk(count: int, headers: np.ndarray, options: ReadOptions) -> bool:
    """Whether the decoded pictures would be cached on disk and take more than half of the free space."""
    needed = count * int(np.prod(_common_shape(headers, options))) * options.depth // 8
    return needed >= cache.MIN_CACHED_BYTES and needed > cache.free_bytes() // 2


class _ShapeChangedError(Exception):
    """The shape or dtype is different without the pictures that failed, or if `opaque`, without the opacity channel,
    which is uniform."""

    def __init__(self, opaque: bool = False) -> None:
        super().__init__()
        self.opaque = opaque


class LazyPictures:
    """Pictures of a corpus, decoded to (C, H, W) on each access; an unusable one is always replaced by the next usable
    one of its class."""

    def __init__(self, corpus: Corpus, shape: tuple[int, int, int], fit: str, dtype: np.dtype[Any]) -> None:
        self.corpus, self.shape, self.fit, self.dtype = corpus, (len(corpus.keys), *shape), fit, dtype
        self.failed: dict[int, str] = {}
        self._pool = PerProcess(functools.partial(ThreadPoolExecutor, THREADS))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any, /) -> np.ndarray:
        indices = np.arange(len(self))[rows]
        sources = self.corpus.read(indices)
        decoded = _map_in_threads(self._pool(), self._try_decode, sources)
        pictures = [self._substitute(row, result) if isinstance(result, str) else result
                    for row, result in zip(indices, decoded, strict=True)]
        return np.stack(pictures) if pictures else np.empty((0, *self.shape[1:]), self.dtype)

    def _try_decode(self, source: Source | Exception) -> np.ndarray | str:
        return _try_decode(source, self.shape[1:], self.fit, self.dtype)

    def _substitute(self, row: int, reason: str) -> np.ndarray:
        corpus = self.corpus
        self.failed[int(row)] = reason
        _check_failures(corpus, self.failed, len(self))
        same_class = np.flatnonzero(corpus.labels == corpus.labels[row])
        for other in np.roll(same_class, -int(np.searchsorted(same_class, row)) - 1)[:-1]:
            result = self._try_decode(corpus.read(np.array([other]))[0])
            if not isinstance(result, str):
                return result
        kind = "other picture" if corpus.labels[row] < 0 else "picture of its class"
        raise ValueError(f"{corpus.where}: {corpus.keys[row]} cannot be used ({reason}), and no {kind} can replace it; "
                         "fix or remove it")


def _cache_key(corpus: Corpus, options: ReadOptions) -> str:
    return cache.make_key("pictures", corpus.listing, *options.key())


def _read_headers(corpus: Corpus, rows: np.ndarray, pool: ThreadPoolExecutor, failed: dict[int, str]) -> np.ndarray:
    """Return row, width, height, grey, transparent and deep of each readable picture, (N, 6); others go to `failed`."""
    def read(source: Source | Exception) -> Header | str:
        try:
            if isinstance(source, Exception):
                raise source
            return read_header(source)
        except Exception as error:  # a broken file raises nearly any type of error
            return error_reason(error)

    headers = []
    for block in _split_rows(rows):
        results = [corpus.headers[row] for row in block] if corpus.headers is not None else _map_in_threads(
            pool, read, corpus.read(block))
        for row, result in zip(block, results, strict=True):
            if isinstance(result, str):
                failed[int(row)] = result
            else:
                headers.append((row, *result))
    return np.array(headers, dtype=np.int64).reshape(-1, 6)


def _split_rows(rows: np.ndarray) -> Iterator[np.ndarray]:
    return (rows[start:start + BLOCK_SIZE] for start in range(0, len(rows), BLOCK_SIZE))


def _map_in_threads(pool: ThreadPoolExecutor, function: Callable[[Any], Result],
                    items: Sequence[Any]) -> Iterator[Result]:
    # One task per thread: decoding a small picture takes less time than fetching the next task.
    size = max(1, -(-len(items) // THREADS))
    results = pool.map(lambda start: [function(item) for item in items[start:start + size]], range(0, len(items), size))
    return itertools.chain.from_iterable(results)


def _check_failures(corpus: Corpus, failed: dict[int, str], count: int) -> None:
    if len(failed) * 10 > count:
        examples = ", ".join(f"{corpus.keys[row]} ({reason})" for row, reason in list(failed.items())[:3])
        problem = "no picture can be used" if len(failed) == count else "more than a tenth cannot be used"
        raise ValueError(f"{corpus.where}: {problem}: {len(failed)} of {count} failed: {examples}; fix or remove them")


def _common_shape(headers: np.ndarray, options: ReadOptions) -> tuple[int, int, int]:
    width, height = options.sides or default_size(headers[:, 1:3])
    if options.alpha and headers[:, TRANSPARENT].any():
        return 4, height, width
    return 1 if headers[:, GREY].all() else 3, height, width


def _common_dtype(corpus: Corpus, headers: np.ndarray, options: ReadOptions) -> np.dtype[Any]:
    """Return uint16 if 16 bits are requested and present, else uint8."""
    if options.depth == 16 and (coloured := int((headers[:, GREY] == 0).sum())):
        raise ValueError(f"{corpus.where}: {coloured} of {len(headers)} pictures are in colour, and 16 bits are kept "
                         "only for grey ones; leave depth out")
    return np.dtype(np.uint16 if options.depth == 16 and headers[:, DEEP].any() else np.uint8)


def _try_decode(source: Source | Exception, shape: tuple[int, ...], fit: str, dtype: np.dtype[Any]) -> np.ndarray | str:
    try:
        if isinstance(source, Exception):
            raise source
        return decode_picture(source, shape, fit, dtype == np.uint16)
    except Exception as error:  # as in _read_headers
        return error_reason(error)


def _not_in(rows: np.ndarray, failed: dict[int, str]) -> np.ndarray:
    """Return a mask of the rows that have not failed."""
    return np.isin(rows, np.array(list(failed), np.int64), invert=True)


def _decode_all(corpus: Corpus, shape: tuple[int, int, int], options: ReadOptions, headers: np.ndarray,
                failed: dict[int, str], pool: ThreadPoolExecutor,
                caught: list[warnings.WarningMessage]) -> tuple[np.ndarray | StoredRows, dict[str, Any]]:
    """Decode all pictures into memory or the cache; failed rows are left 0. Return the values and their record."""
    count, digest, opacity = len(corpus.keys), ValuesDigest(), set[int]()
    dtype = _common_dtype(corpus, headers, options)

    def decode(source: Source | Exception) -> np.ndarray | str:
        return _try_decode(source, shape, options.fit, dtype)

    def decode_blocks() -> Iterator[np.ndarray]:
        for rows in _split_rows(np.arange(count)):
            values = np.zeros((len(rows), *shape), dtype)
            usable = rows[_not_in(rows, failed)]
            decoded = _map_in_threads(pool, decode, corpus.read(usable))
            for row, result in zip(usable, decoded, strict=True):
                if isinstance(result, str):
                    failed[int(row)] = result
                else:
                    values[row - rows[0]] = result
            _check_failures(corpus, failed, count)
            kept = values[_not_in(rows, failed)]
            digest.update(kept)
            opacity.update({int(kept[:, 3].min()), int(kept[:, 3].max())} if shape[0] == 4 and len(kept) else ())
            yield values

    def record() -> dict[str, Any]:
        kept = headers[_not_in(headers[:, 0], failed)]
        if (_common_shape(kept, options), _common_dtype(corpus, kept, options)) != (shape, dtype):
            raise _ShapeChangedError
        if len(opacity) == 1:
            raise _ShapeChangedError(opaque=True)
        notes = [*size_notes(kept[:, 1:3], (shape[2], shape[1]), options), *_channel_notes(kept, options)]
        late_notes = [f"Pillow warned of odd files, warnings: {len(caught)}, first: {error_reason(warning.message)}"
                      for warning in caught[:1]]
        return {"notes": notes, "late": late_notes, "failed": {str(row): failed[row] for row in failed},
                "digest": digest.hexdigest()}

    if corpus.listing is None or count * int(np.prod(shape)) * dtype.itemsize < cache.MIN_CACHED_BYTES:
        values = np.concatenate(list(decode_blocks()))
        return values, record()
    return cache.write_values(_cache_key(corpus, options), (count, *shape), decode_blocks, record, dtype.str)


def _dataset_from_record(corpus: Corpus, values: np.ndarray | StoredRows, record: dict[str, Any]) -> Dataset:
    failed = {int(row): reason for row, reason in record["failed"].items()}
    is_cached, rows = isinstance(values, StoredRows), np.arange(len(values))
    rows = rows[_not_in(rows, failed)]
    kept_values: Values = values
    if failed:
        kept_values = RowView(values, rows) if is_cached else values[rows]
    notes = [*record["notes"], *corpus.notes]
    if is_cached:
        notes.append(f"the decoded pictures are kept in {cache.folder()} ({values.nbytes / 1e6:,.0f} MB)")
    return _build_dataset(corpus, kept_values, rows, failed, notes, record["late"], record["digest"])


def _streamed_dataset(corpus: Corpus, headers: np.ndarray, options: ReadOptions, failed: dict[int, str],
                      sampled: int) -> Dataset:
    shape = _common_shape(headers, options)
    values = LazyPictures(corpus, shape, options.fit, _common_dtype(corpus, headers, options))
    digest = None if corpus.identity is None else cache.make_key("stream", corpus.identity, shape, *options.key()[1:])
    notes = [f"the pictures are decoded on each access; {sampled} of {len(values)} determined the size, "
             f"{shape[2]}x{shape[1]}, and a damaged one is replaced by the next of its class",
             *_channel_notes(headers, options), *corpus.notes]
    data = _build_dataset(corpus, values, np.arange(len(values)), failed, notes, [], digest)
    data.streamed = True
    return data


def _build_dataset(corpus: Corpus, values: Values, rows: np.ndarray, failed: dict[int, str], notes: list[str],
                   late_notes: list[str], digest: str | None) -> Dataset:
    labels = corpus.labels[rows]
    held, hold_out_notes = hold_out(len(values))
    skipped = [f"{corpus.keys[row]}: {failed[row]}" for row in sorted(failed)]
    skipped += [f"{key}: {reason}" for key, reason in corpus.skipped.items()]
    notes += hold_out_notes + late_notes
    if skipped:
        more = f", and {len(skipped) - 5} more" if len(skipped) > 5 else ""
        notes.append(f"files skipped: {len(skipped)}: {', '.join(skipped[:5])}{more}")
    deep = values.dtype == np.uint16
    mode, maximum = "RGBA" if values.shape[1] == 4 else "I;16" if deep else "", 65535 if deep else 255
    value_range = Range(0.0, maximum, maximum + 1, 0.0, maximum)
    sampled = np.unique(np.linspace(0, len(values) - 1, 256).astype(np.int64))
    # Masks with labels 0, 1, 2 ... would be all but black in 0..255.
    if mode != "RGBA" and not isinstance(values, LazyPictures) and np.ptp(values[sampled]) < MIN_FILL * (maximum + 1):
        value_range = choose_range(values.dtype, measure_channels(values, corpus.where), is_picture=True)
        notes += value_range.notes
    spec = DataSpec(printable(corpus.name) or "pictures", "picture", values.shape[1:], value_range.low,
                    value_range.high, value_range.levels, corpus.classes, least=value_range.least,
                    most=value_range.most, mode=mode)
    names = [corpus.keys[row] for row in rows.tolist()]
    return Dataset(values, labels, held, spec, notes, skipped, values_digest=digest, names=names)


def _channel_notes(headers: np.ndarray, options: ReadOptions) -> list[str]:
    if options.depth == 16 and not headers[:, DEEP].any():
        return ["no picture has 16 bits: they are read as 8"]
    transparent = int(headers[:, TRANSPARENT].sum())
    if options.alpha and not transparent:
        return ["no pixel is more transparent than another: alpha was dropped, and the pictures are learned on white"]
    outcome = "is learned as a fourth channel" if options.alpha else "was laid on white (--alpha learns it)"
    return [f"{transparent} of {len(headers)} pictures have transparency, which {outcome}"] if transparent else []
