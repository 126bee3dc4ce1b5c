"""A folder of pictures, its sub-folders as classes."""

from __future__ import annotations

import difflib
import functools
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ornstein.data.corpus import Corpus, load_corpus
from ornstein.data.dataset import Dataset
from ornstein.data.labels import listed, number_names
from ornstein.data.pictures import FORMATS, UNREAD, Page, Reading, pages, unread
from ornstein.data.spec import printable

__all__ = ["load_files", "load_folder"]

RUN = ("run.yaml", "metrics.jsonl")  # in the folder of a run, whose previews are no data
TRAINING = ("train", "training")
BESIDE = ("val", "valid", "validation", "test", "testing", "dev", "eval", "evaluation", "holdout", "heldout")


def load_folder(folder: Path, reading: Reading) -> Dataset:
    """Return the pictures below a folder, with its sub-folders as classes where two or more hold pictures.

    A folder around all others is looked into, and of folders such as train and val only train is read; notes say so.
    Hidden files and folders are ignored, and a link to a folder is followed unless that is read already. Transparent
    pixels are laid on white, 16-bit grey v becomes v / 257, an animation gives its first frame and a TIFF file all of
    its pages.
    """
    where = printable(str(folder))
    if not os.path.exists(folder):
        near = difflib.get_close_matches(folder.name, os.listdir(folder.parent) if folder.parent.is_dir() else [], 1)
        raise FileNotFoundError(f"{where}: there is no such folder or file"
                                + (f" (did you mean {printable(near[0])!r}?)" if near else ""))
    if not folder.is_dir():
        raise ValueError(f"{where}: is not a folder; give a folder of pictures, a .npy, .npz, .parquet or .tar file")
    files, others = _walk(folder, where)
    return _load(files, others, folder, where, reading)


def load_files(files: Sequence[Path], where: str, reading: Reading) -> Dataset:
    """Return the pictures in files, as `load_folder` does of the folder that holds them all."""
    root = Path(os.path.commonpath([os.path.abspath(path.parent) for path in files]))
    chosen, others = [], {}
    for path in dict.fromkeys(Path(os.path.abspath(path)) for path in files):
        if why := unread(path.suffix.lower()):
            others[path] = why
        else:
            chosen.append(path)
    if not chosen:
        raise ValueError(f"{where}: none of the {len(others)} files can be read ({next(iter(others.values()))})")
    return _load(chosen, others, root, where, reading)


def _load(files: list[Path], others: dict[Path, str], folder: Path, where: str, reading: Reading) -> Dataset:
    # As text: a Path takes a second for every 50,000 files.
    cut = len(os.path.join(folder, ""))
    inside = [os.fspath(path)[cut:] for path in files]
    keys = [printable(Path(text).as_posix() if os.sep != "/" else text) for text in inside]
    rows, depth, notes = _meant([key.split("/") for key in keys], where)
    files, inside, keys = [files[row] for row in rows], [inside[row] for row in rows], [keys[row] for row in rows]
    labels, classes, more = _classes([key.split("/")[depth:] for key in keys])
    notes += more
    listing = [[text, *_state(path)] for text, path in zip(inside, files, strict=True)]
    sources: list[Path | Page] = [*files]
    numbers = [pages(path) for path in files]
    if several := [len(one) for one in numbers if len(one) > 1]:
        notes.append(f"TIFF files of several pages: {len(several):,}; each of their {sum(several):,} pages is one "
                     "picture")
        rows = [row for row, one in enumerate(numbers) for _ in one]
        sources = [Page(path, page) for path, one in zip(files, numbers, strict=True) for page in one]
        of = [f"{page + 1}" if len(one) > 1 else "" for one in numbers for page in one]
        keys = [f"{keys[row]} page {page}" if page else keys[row] for row, page in zip(rows, of, strict=True)]
        listing = [[f"{text}#{page}", *state] for (text, *state), page in
                   zip([listing[row] for row in rows], of, strict=True)]
        labels = labels[rows]
    named = {printable(path.relative_to(folder).as_posix()): why for path, why in others.items()}
    return load_corpus(Corpus(
        printable(folder.resolve().name) or "folder", where, keys, functools.partial(_chosen, sources), labels,
        classes, ["folder", listing], [entry[:2] for entry in listing], named, notes), reading)


def _chosen(files: list[Path | Page], rows: np.ndarray) -> list[Path | Page | Exception]:
    return [files[row] for row in rows]


def _state(path: Path) -> tuple[int, int]:
    try:
        state = os.stat(path)
    except OSError:  # a dead link is skipped, with its reason, when it is opened
        return -1, -1
    return state.st_size, state.st_mtime_ns


def _walk(folder: Path, where: str) -> tuple[list[Path], dict[Path, str]]:
    def unreadable(error: OSError) -> None:
        raise ValueError(f"{where}: cannot be read ({printable(str(error))}); allow it or leave it out") from error

    files, others = [], {}
    read = [os.path.realpath(folder)]
    for place, folders, names in os.walk(folder, onerror=unreadable, followlinks=True):
        if {*RUN} <= {*names} and Path(place) != folder:
            folders.clear()
            others[Path(place)] = "the folder of a run"
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in [name for name in folders if os.path.islink(os.path.join(place, name))]:
            real = os.path.realpath(os.path.join(place, name))
            # Each folder is read once: a link that leads back would never end.
            if any(os.path.commonpath([real, one]) in (real, one) for one in read):
                folders.remove(name)
                others[Path(place, name)] = "a link to a folder that is read already"
            read.append(real)
        for path in (Path(place, name) for name in sorted(names) if not name.startswith(".")):
            if why := unread(path.suffix.lower()):
                others[path] = why
            else:
                files.append(path)
    if not files and not others:
        raise ValueError(f"{where}: the folder is empty; put pictures into it ({' '.join(FORMATS)})")
    if not files:
        strange = {suffix: unread(suffix) for suffix in sorted({path.suffix.lower() for path in others})
                   if suffix in (*FORMATS, *UNREAD)}
        remedy = "".join(f"; {suffix} {str(why).removeprefix(suffix).strip()}" for suffix, why in strange.items())
        raise ValueError(f"{where}: none of the {len(others)} files in the folder is a picture ({' '.join(FORMATS)})"
                         f"{remedy}")
    return files, others


def _meant(parts: list[list[str]], where: str) -> tuple[list[int], int, list[str]]:
    """Which pictures are trained on, at what depth their classes are, and notes on both."""
    rows, depth, notes = list(range(len(parts))), 0, []
    while True:
        heads = {parts[row][depth] for row in rows if len(parts[row]) > depth + 1}
        loose = sum(len(parts[row]) == depth + 1 for row in rows)
        if len(heads) > 1 and all(head.lower() in (*TRAINING, *BESIDE) for head in heads):
            rows, said = _training(parts, rows, depth, where)
            notes.append(f"{said}; evaluate takes one of those as --data")
        elif len(heads) != 1 or loose or all(len(parts[row]) == depth + 2 for row in rows):
            break
        depth += 1
    if depth and len(heads) > 1:
        notes.append(f"the classes are the folders in {'/'.join(parts[rows[0]][:depth])} (--no-classes drops them)")
    # Splits inside each class.
    inner = {parts[row][depth + 1].lower() if len(parts[row]) > depth + 2 else "" for row in rows}
    if len(heads) > 1 and len(inner) > 1 and inner <= {*TRAINING, *BESIDE}:
        rows, said = _training(parts, rows, depth + 1, where)
        notes.append(said)
    return rows, depth, notes


def _training(parts: list[list[str]], rows: list[int], depth: int, where: str) -> tuple[list[int], str]:
    """The pictures in the folders for training, of such splits as train and val, and a note on those left out."""
    splits = sorted({parts[row][depth] for row in rows if len(parts[row]) > depth + 1})
    ours = [split for split in splits if split.lower() in TRAINING]
    if len(ours) != 1:
        raise ValueError(f"{where}: its folders {listed(splits)} are splits, and "
                         f"{'none' if not ours else 'more than one'} is train; name the one to train on, such as "
                         f"{where}/{splits[0]}")
    kept = [row for row in rows if len(parts[row]) > depth + 1 and parts[row][depth] == ours[0]]
    others = listed([split for split in splits if split != ours[0]])
    return kept, (f"only the pictures in {ours[0]} are read, not the {len(rows) - len(kept):,} in {others} or beside "
                  "them")


def _classes(parts: list[list[str]]) -> tuple[np.ndarray, tuple[str, ...], list[str]]:
    places = [part[0] if len(part) > 1 else None for part in parts]
    there = {place for place in places if place is not None}
    if len(there) < 2:
        return np.full(len(parts), -1, dtype=np.int64), (), []
    numbers, classes = number_names(there)
    labels = np.array([-1 if place is None else numbers[place] for place in places], dtype=np.int64)
    loose = places.count(None)
    return labels, classes, [f"pictures beside the class folders, without a class: {loose}"] if loose else []
