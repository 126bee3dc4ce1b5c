"""A folder of pictures with sub-folders as classes."""

from __future__ import annotations

import difflib
import functools
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ornstein.data.corpus import Corpus, load_corpus
from ornstein.data.dataset import Dataset
from ornstein.data.labels import join_names, number_classes
from ornstein.data.pictures import FORMATS, UNSUPPORTED, Page, ReadOptions, page_numbers, unsupported_reason
from ornstein.data.spec import printable

__all__ = ["load_files", "load_folder"]

RUN_FILES = ("run.yaml", "metrics.jsonl")  # mark the folder of a run, whose previews are not data
TRAINING_SPLITS = ("train", "training")
OTHER_SPLITS = ("val", "valid", "validation", "test", "testing", "dev", "eval", "evaluation", "holdout", "heldout")


def load_folder(folder: Path, options: ReadOptions) -> Dataset:
    """Return the pictures below a folder, with its sub-folders as classes if at least two hold pictures.

    A single outer folder is descended into, and of folders such as train and val only train is read; notes say so.
    Hidden files and folders are ignored, and links to folders are followed unless they are read already. Transparent
    pixels are laid on white, 16-bit grey v becomes v / 257, an animation gives its first frame, a TIFF file all pages.
    """
    where = printable(str(folder))
    if not os.path.exists(folder):
        siblings = os.listdir(folder.parent) if folder.parent.is_dir() else []
        suggestions = difflib.get_close_matches(folder.name, siblings, 1)
        raise FileNotFoundError(f"{where}: no such folder or file"
                                + (f" (did you mean {printable(suggestions[0])!r}?)" if suggestions else ""))
    if not folder.is_dir():
        raise ValueError(f"{where}: is not a folder; give a folder of pictures, or a .npy, .npz, .parquet or .tar file")
    files, skipped = _walk(folder, where)
    return _load(files, skipped, folder, where, options)


def load_files(files: Sequence[Path], where: str, options: ReadOptions) -> Dataset:
    """Return the pictures in files, as `load_folder` does for the folder that holds them all."""
    root = Path(os.path.commonpath([os.path.abspath(path.parent) for path in files]))
    pictures, skipped = [], {}
    for path in dict.fromkeys(Path(os.path.abspath(path)) for path in files):
        if reason := unsupported_reason(path.suffix.lower()):
            skipped[path] = reason
        else:
            pictures.append(path)
    if not pictures:
        raise ValueError(f"{where}: none of the {len(skipped)} files can be read ({next(iter(skipped.values()))})")
    return _load(pictures, skipped, root, where, options)


def _load(files: list[Path], skipped: dict[Path, str], folder: Path, where: str, options: ReadOptions) -> Dataset:
    # As text: Path operations take a second per 50,000 files.
    prefix = len(os.path.join(folder, ""))
    relative = [os.fspath(path)[prefix:] for path in files]
    keys = [printable(Path(text).as_posix() if os.sep != "/" else text) for text in relative]
    rows, depth, notes = _select_training_pictures([key.split("/") for key in keys], where)
    files, relative, keys = [files[row] for row in rows], [relative[row] for row in rows], [keys[row] for row in rows]
    labels, classes, class_notes = _class_folders([key.split("/")[depth:] for key in keys])
    notes += class_notes
    listing = [[text, *_file_state(path)] for text, path in zip(relative, files, strict=True)]
    sources: list[Path | Page] = [*files]
    page_lists = [page_numbers(path) for path in files]
    if page_counts := [len(pages) for pages in page_lists if len(pages) > 1]:
        notes.append(f"TIFF files of several pages: {len(page_counts):,}; each of their {sum(page_counts):,} pages is "
                     "a picture")
        rows = [row for row, pages in enumerate(page_lists) for _ in pages]
        sources = [Page(path, page) for path, pages in zip(files, page_lists, strict=True) for page in pages]
        page_labels = [f"{page + 1}" if len(pages) > 1 else "" for pages in page_lists for page in pages]
        keys = [f"{keys[row]} page {page}" if page else keys[row] for row, page in zip(rows, page_labels, strict=True)]
        listing = [[f"{text}#{page}", *state] for (text, *state), page in
                   zip([listing[row] for row in rows], page_labels, strict=True)]
        labels = labels[rows]
    skipped_names = {printable(path.relative_to(folder).as_posix()): reason for path, reason in skipped.items()}
    corpus = Corpus(printable(folder.resolve().name) or "folder", where, keys,
                    functools.partial(_select_sources, sources), labels, classes, listing=["folder", listing],
                    identity=[entry[:2] for entry in listing], skipped=skipped_names, notes=notes)
    return load_corpus(corpus, options)


def _select_sources(files: list[Path | Page], rows: np.ndarray) -> list[Path | Page | Exception]:
    return [files[row] for row in rows]


def _file_state(path: Path) -> tuple[int, int]:
    try:
        state = os.stat(path)
    except OSError:  # a dead link is skipped with a reason when it is opened
        return -1, -1
    return state.st_size, state.st_mtime_ns


def _walk(folder: Path, where: str) -> tuple[list[Path], dict[Path, str]]:
    def on_error(error: OSError) -> None:
        raise ValueError(f"{where}: cannot be read ({printable(str(error))}); fix its permissions or leave it "
                         "out") from error

    files, skipped = [], {}
    visited = [os.path.realpath(folder)]
    for parent, folders, names in os.walk(folder, onerror=on_error, followlinks=True):
        if {*RUN_FILES} <= {*names} and Path(parent) != folder:
            folders.clear()
            skipped[Path(parent)] = "the folder of a run"
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in [name for name in folders if os.path.islink(os.path.join(parent, name))]:
            target = os.path.realpath(os.path.join(parent, name))
            # Read each folder once: a link to a parent would never end.
            if any(os.path.commonpath([target, other]) in (target, other) for other in visited):
                folders.remove(name)
                skipped[Path(parent, name)] = "a link to a folder that is read already"
            visited.append(target)
        for path in (Path(parent, name) for name in sorted(names) if not name.startswith(".")):
            if reason := unsupported_reason(path.suffix.lower()):
                skipped[path] = reason
            else:
                files.append(path)
    if not files and not skipped:
        raise ValueError(f"{where}: the folder is empty; put pictures into it ({' '.join(FORMATS)})")
    if not files:
        suffixes = sorted({path.suffix.lower() for path in skipped} & {*FORMATS, *UNSUPPORTED})
        remedy = "".join(f"; {suffix} {str(unsupported_reason(suffix)).removeprefix(suffix).strip()}"
                         for suffix in suffixes)
        raise ValueError(f"{where}: none of the {len(skipped)} files in the folder is a picture ({' '.join(FORMATS)})"
                         f"{remedy}")
    return files, skipped


def _select_training_pictures(paths: list[list[str]], where: str) -> tuple[list[int], int, list[str]]:
    """Return the rows of the training pictures, the depth of their class folders, and notes on both."""
    rows, depth, notes = list(range(len(paths))), 0, []
    while True:
        folders = {paths[row][depth] for row in rows if len(paths[row]) > depth + 1}
        loose = sum(len(paths[row]) == depth + 1 for row in rows)
        if len(folders) > 1 and all(folder.lower() in (*TRAINING_SPLITS, *OTHER_SPLITS) for folder in folders):
            rows, note = _select_training_split(paths, rows, depth, where)
            notes.append(f"{note}; evaluate takes one of them as --data")
        elif len(folders) != 1 or loose or all(len(paths[row]) == depth + 2 for row in rows):
            break
        depth += 1
    if depth and len(folders) > 1:
        notes.append(f"the classes are the folders in {'/'.join(paths[rows[0]][:depth])} (--no-classes drops them)")
    # Splits inside the class folders.
    inner_folders = {paths[row][depth + 1].lower() if len(paths[row]) > depth + 2 else "" for row in rows}
    if len(folders) > 1 and len(inner_folders) > 1 and inner_folders <= {*TRAINING_SPLITS, *OTHER_SPLITS}:
        rows, note = _select_training_split(paths, rows, depth + 1, where)
        notes.append(note)
    return rows, depth, notes


def _select_training_split(paths: list[list[str]], rows: list[int], depth: int, where: str) -> tuple[list[int], str]:
    """Return the rows in the training folder among splits such as train and val, and a note on the others."""
    splits = sorted({paths[row][depth] for row in rows if len(paths[row]) > depth + 1})
    training = [split for split in splits if split.lower() in TRAINING_SPLITS]
    if len(training) != 1:
        raise ValueError(f"{where}: its folders {join_names(splits)} are splits, and "
                         f"{'none' if not training else 'more than one'} is train; name the one to train on, such as "
                         f"{where}/{splits[0]}")
    kept = [row for row in rows if len(paths[row]) > depth + 1 and paths[row][depth] == training[0]]
    others = join_names([split for split in splits if split != training[0]])
    return kept, (f"only the pictures in {training[0]} are read, not the {len(rows) - len(kept):,} in {others} or "
                  "beside them")


def _class_folders(paths: list[list[str]]) -> tuple[np.ndarray, tuple[str, ...], list[str]]:
    folders = [path[0] if len(path) > 1 else None for path in paths]
    names = {folder for folder in folders if folder is not None}
    if len(names) < 2:
        return np.full(len(paths), -1, dtype=np.int64), (), []
    index_of, classes = number_classes(names)
    labels = np.array([-1 if folder is None else index_of[folder] for folder in folders], dtype=np.int64)
    loose = folders.count(None)
    return labels, classes, [f"pictures beside the class folders, without a class: {loose}"] if loose else []
