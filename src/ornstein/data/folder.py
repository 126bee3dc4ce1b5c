"""A folder of pictures, read with Pillow from a short list of formats."""

from __future__ import annotations

import os
import statistics
import warnings
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ornstein.data.dataset import Dataset, hold_out
from ornstein.data.spec import DataSpec, printable

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["load_folder", "read_picture"]

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".bmp": "BMP", ".tif": "TIFF",
           ".tiff": "TIFF", ".gif": "GIF"}
MOST_PIXELS = 25_000_000
LEAST_SIDE = 4
MOST_SIDE = 4096
THREADS = 4


@dataclass(frozen=True)
class _Picture:
    path: Path
    parts: tuple[str, ...]  # of the path below the folder, fit to print
    width: int
    height: int
    grey: bool

    @property
    def short(self) -> int:
        return min(self.width, self.height)


def load_folder(folder: Path, size: int | None = None) -> Dataset:
    """Return the pictures below a folder as squares, with its sub-folders as classes where two or more hold pictures.

    Transparent pixels are laid on white, 16-bit grey v becomes v / 257, and an animation gives its first frame.

    Args:
        folder: searched with all its sub-folders; hidden files and folders are ignored, links to folders not followed.
        size: side of the squares in pixels, 4..4096; None chooses one up to 64 and says so in a note.

    Returns:
        uint8 (N, C, size, size) in 0..255; C is 1 when every picture is grey, else 3.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it is no folder, is empty, has no usable picture, or more than a tenth of them cannot be used.
    """
    from PIL import Image

    if size is not None and (type(size) is not int or not LEAST_SIDE <= size <= MOST_SIDE):
        raise ValueError(f"size is {size!r}; it must be a whole number {LEAST_SIDE}..{MOST_SIDE}")
    where = printable(str(folder))
    if not folder.exists():
        raise FileNotFoundError(f"{where}: there is no such folder or file")
    if not folder.is_dir():
        raise ValueError(f"{where}: is not a folder; give a folder of pictures, a .npy or a .npz file")
    files, others = _walk(folder, where)
    failed: dict[Path, str] = {}
    with warnings.catch_warnings(record=True) as warned:
        # Set once around all threads: the filters are shared by the whole process.
        warnings.simplefilter("always")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        pictures = [found for path in files if (found := _header(folder, path, failed))]
        _refuse_failures(folder, where, failed, len(files))
        shape = (0, 0, 0)
        # A picture that breaks in decoding may have settled the channels or the size: then they are settled anew.
        while shape != (wanted := _shape(pictures, size)):
            values, pictures = _decode(pictures, shape := wanted, failed)
            _refuse_failures(folder, where, failed, len(files))
    labels, classes, notes = _classes(pictures)
    held, unheld = hold_out(len(pictures))
    skipped = [f"{_shown(folder, path)}: {reason}" for path, reason in (failed | others).items()]
    notes = _size_notes(pictures, shape[1], size is None) + notes + unheld
    if warned:
        notes.append(f"Pillow warned of odd files, warnings: {len(warned)}, first: {_reason(warned[0].message)}")
    if skipped:
        more = f", and {len(skipped) - 5} more" if len(skipped) > 5 else ""
        notes.append(f"files skipped: {len(skipped)}: {', '.join(skipped[:5])}{more}")
    spec = DataSpec(printable(folder.resolve().name) or "folder", "picture", shape, 0.0, 255.0, 256, classes)
    return Dataset(values, labels, held, spec, notes, skipped)


def read_picture(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Return one picture as a model's data have it: its middle square, resized, grey or in colour.

    Args:
        path: of the file.
        shape: (C, H, W) with C 1 or 3 and H = W.

    Returns:
        uint8 of that shape.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file that is no picture, or a shape that no picture has.
    """
    if len(shape) != 3 or shape[0] not in (1, 3) or shape[1] != shape[2]:
        raise ValueError(f"shape is {shape}; a picture file gives squares of 1 or 3 channels")
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; name a picture file")
    try:
        return _pixels(path, shape[0], shape[1])
    except (OSError, ValueError, SyntaxError, Warning) as error:
        raise ValueError(f"{path} cannot be used: {_reason(error)}") from None


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


def _refuse_failures(folder: Path, where: str, failed: dict[Path, str], count: int) -> None:
    if len(failed) * 10 > count:
        first = ", ".join(f"{_shown(folder, path)} ({reason})" for path, reason in list(failed.items())[:3])
        fault = "no picture can be used" if len(failed) == count else "more than a tenth cannot be used"
        raise ValueError(f"{where}: {fault}: {len(failed)} of {count} failed: {first}; mend or remove them")


def _open(path: Path) -> Image.Image:
    from PIL import Image

    if not path.is_file():
        raise ValueError("not a regular file")  # opening a pipe would wait for ever
    if path.stat().st_size == 0:
        raise ValueError("the file is empty")
    try:
        picture = Image.open(path, formats=sorted(set(FORMATS.values())))
    except Image.UnidentifiedImageError as error:
        raise ValueError("not a picture that can be read") from error
    width, height = picture.size
    fault = ""
    if width * height > MOST_PIXELS:
        fault = f"{width}x{height} is above {MOST_PIXELS // 10**6} megapixels"
    elif min(width, height) < LEAST_SIDE:
        fault = f"{width}x{height} is smaller than {LEAST_SIDE} pixels"
    if fault:
        picture.close()
        raise ValueError(fault)
    return picture


def _reason(error: Exception | Warning | str) -> str:
    return printable(str(error)) or type(error).__name__


def _header(folder: Path, path: Path, failed: dict[Path, str]) -> _Picture | None:
    try:
        with _open(path) as picture:
            grey = picture.mode in ("1", "L", "LA") or picture.mode.startswith("I")
            parts = tuple(map(printable, path.relative_to(folder).parts))
            return _Picture(path, parts, *picture.size, grey)
    except Exception as error:  # Pillow raises nearly any type for a broken file; the reason is reported
        failed[path] = _reason(error)
        return None


def _shape(pictures: list[_Picture], size: int | None) -> tuple[int, int, int]:
    if size is None:
        sizes = {(picture.width, picture.height) for picture in pictures}
        short = statistics.median(picture.short for picture in pictures)
        alike = len(sizes) == 1 and len(set(*sizes)) == 1 and short <= 64
        size = int(short) if alike else max(8, int(min(64, short)) // 8 * 8)
    return 1 if all(picture.grey for picture in pictures) else 3, size, size


def _decode(pictures: list[_Picture], shape: tuple[int, int, int],
            failed: dict[Path, str]) -> tuple[np.ndarray, list[_Picture]]:
    values = np.empty((len(pictures), *shape), dtype=np.uint8)

    def fill(row: int) -> str | None:
        try:
            values[row] = _pixels(pictures[row].path, *shape[:2])
        except Exception as error:  # as in _header
            return _reason(error)
        return None

    with ThreadPoolExecutor(THREADS) as pool:
        reasons = list(pool.map(fill, range(len(pictures))))
    failed |= {picture.path: reason for picture, reason in zip(pictures, reasons, strict=True) if reason is not None}
    good = [row for row, reason in enumerate(reasons) if reason is None]
    return values[good] if len(good) < len(values) else values, [pictures[row] for row in good]


def _pixels(path: Path, channels: int, size: int) -> np.ndarray:
    from PIL import Image, ImageOps

    mode = "L" if channels == 1 else "RGB"
    with _open(path) as picture:
        picture.draft(mode, (2 * size, 2 * size))
        ImageOps.exif_transpose(picture, in_place=True)
        flat = _flat(picture).convert(mode)
    short = min(flat.size)
    left, top = (flat.width - short) / 2, (flat.height - short) / 2
    if short == size:
        flat = flat.crop((int(left), int(top), int(left) + size, int(top) + size))
    else:
        # Only the middle square is resized: a strip of 4 x 6,000,000 would fill the memory otherwise.
        flat = flat.resize((size, size), Image.Resampling.LANCZOS, box=(left, top, left + short, top + short))
    return np.asarray(flat).reshape(size, size, channels).transpose(2, 0, 1)


def _flat(picture: Image.Image) -> Image.Image:
    from PIL import Image

    if picture.mode == "F":
        raise ValueError("floating pixels have no 8-bit scale: save them as .npy")
    if picture.mode.startswith("I"):
        values = np.asarray(picture).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError(f"pixels {values.min()}..{values.max()} are outside 0..65535, the 16-bit range")
        values[values == picture.info.get("transparency")] = 65535
        return Image.fromarray(np.rint(values / 257).astype(np.uint8))
    if picture.has_transparency_data:
        white = Image.new("RGBA", picture.size, "white")
        white.alpha_composite(picture.convert("RGBA"))
        return white
    return picture


def _classes(pictures: list[_Picture]) -> tuple[np.ndarray, tuple[str, ...], list[str]]:
    places = [picture.parts[0] if len(picture.parts) > 1 else None for picture in pictures]
    classes = tuple(sorted({place for place in places if place is not None}))
    if len(classes) < 2:
        return np.full(len(pictures), -1, dtype=np.int64), (), []
    numbers = {name: number for number, name in enumerate(classes)}
    labels = np.array([-1 if place is None else numbers[place] for place in places], dtype=np.int64)
    loose = places.count(None)
    return labels, classes, [f"pictures beside the class folders, without a class: {loose}"] if loose else []


def _size_notes(pictures: list[_Picture], size: int, chosen: bool) -> list[str]:
    def count(those: Iterable[bool]) -> str:
        return f"{sum(those)} of {len(pictures)} pictures"

    notes = []
    sizes = {(picture.width, picture.height) for picture in pictures}
    if chosen and sizes != {(size, size)}:
        number = "1 size" if len(sizes) == 1 else f"{len(sizes)} different sizes"
        notes.append(f"the pictures have {number}: {size}x{size} was chosen; --size sets another")
    if any(picture.width != picture.height for picture in pictures):
        notes.append(f"{count(p.width != p.height for p in pictures)} were cropped to their middle square")
    if any(picture.short > size for picture in pictures):
        notes.append(f"{count(p.short > size for p in pictures)} were reduced to {size} pixels")
    if any(picture.short < size for picture in pictures):
        notes.append(f"{count(p.short < size for p in pictures)} were enlarged to {size} pixels")
    return notes
