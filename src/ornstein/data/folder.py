"""A folder of pictures, its sub-folders as classes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from ornstein.data.corpus import Corpus, check_size, load_corpus
from ornstein.data.dataset import Dataset
from ornstein.data.pictures import FORMATS
from ornstein.data.spec import printable

__all__ = ["load_folder"]


def load_folder(folder: Path, size: int | None = None, reader: str = "auto") -> Dataset:
    """Return the pictures below a folder as squares, with its sub-folders as classes where two or more hold pictures.

    Transparent pixels are laid on white, 16-bit grey v becomes v / 257, and an animation gives its first frame.

    Args:
        folder: searched with all its sub-folders; hidden files and folders are ignored, links to folders not followed.
        size: side of the squares in pixels, 4..4096; None chooses one up to 64 and says so in a note.
        reader: as in `load_corpus`.

    Returns:
        uint8 (N, C, size, size) in 0..255; C is 1 when every picture is grey, else 3.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it is no folder, is empty, has no usable picture, or more than a tenth of them cannot be used.
    """
    check_size(size)
    where = printable(str(folder))
    if not folder.exists():
        raise FileNotFoundError(f"{where}: there is no such folder or file")
    if not folder.is_dir():
        raise ValueError(f"{where}: is not a folder; give a folder of pictures, a .npy, .npz, .parquet or .tar file")
    files, others = _walk(folder, where)
    # As text: a Path takes a second for every 50,000 files.
    cut = len(os.path.join(folder, ""))
    inside = [os.fspath(path)[cut:] for path in files]
    keys = [printable(Path(text).as_posix() if os.sep != "/" else text) for text in inside]
    labels, classes, notes = _classes([key.split("/") for key in keys])
    listing = [[text, *_state(path)] for text, path in zip(inside, files, strict=True)]
    named = {_shown(folder, path): why for path, why in others.items()}
    return load_corpus(Corpus(
        printable(folder.resolve().name) or "folder", where, keys, lambda rows: [files[row] for row in rows], labels,
        classes, ["folder", listing], [entry[:2] for entry in listing], named, notes), size, reader)


def _state(path: Path) -> tuple[int, int]:
    try:
        state = os.stat(path)
    except OSError:  # a dead link is skipped, with its reason, when it is opened
        return -1, -1
    return state.st_size, state.st_mtime_ns


def _shown(folder: Path, path: Path) -> str:
    return printable(path.relative_to(folder).as_posix())


def _walk(folder: Path, where: str) -> tuple[list[Path], dict[Path, str]]:
    def unreadable(error: OSError) -> None:
        raise ValueError(f"{where}: cannot be read ({printable(str(error))}); allow it or leave it out") from error

    files, others = [], {}
    for place, folders, names in os.walk(folder, onerror=unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        others |= {path: "a link to a folder" for name in folders if (path := Path(place, name)).is_symlink()}
        for path in (Path(place, name) for name in sorted(names) if not name.startswith(".")):
            if path.suffix.lower() in FORMATS:
                files.append(path)
            else:
                others[path] = "not a picture"
    if not files and not others:
        raise ValueError(f"{where}: the folder is empty; put pictures into it ({' '.join(FORMATS)})")
    if not files:
        raise ValueError(f"{where}: none of the {len(others)} files in the folder is a picture ({' '.join(FORMATS)})")
    return files, others


def _classes(parts: list[list[str]]) -> tuple[np.ndarray, tuple[str, ...], list[str]]:
    places = [part[0] if len(part) > 1 else None for part in parts]
    classes = tuple(sorted({place for place in places if place is not None}))
    if len(classes) < 2:
        return np.full(len(parts), -1, dtype=np.int64), (), []
    numbers = {name: number for number, name in enumerate(classes)}
    labels = np.array([-1 if place is None else numbers[place] for place in places], dtype=np.int64)
    loose = places.count(None)
    return labels, classes, [f"pictures beside the class folders, without a class: {loose}"] if loose else []
