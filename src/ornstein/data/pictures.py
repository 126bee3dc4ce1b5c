"""One picture, from a file, from bytes or from Pillow, to 8-bit pixels: the same pixels wherever it came from."""

from __future__ import annotations

import contextlib
import io
import math
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ornstein.data.process import PerProcess
from ornstein.data.spec import printable
from ornstein.files import open_regular

if TYPE_CHECKING:
    from PIL import Image

    Source = Path | bytes | Image.Image

__all__ = ["FORMATS", "LEAST_SIDE", "MOST_SIDE", "UNREAD", "header", "pixels", "read_picture", "reason"]

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".bmp": "BMP", ".tif": "TIFF",
           ".tiff": "TIFF", ".gif": "GIF", ".jfif": "JPEG", ".jpe": "JPEG"}
READ = sorted(set(FORMATS.values()))
UNREAD = (".avif", ".heic", ".heif", ".jxl", ".svg")
MOST_PIXELS = 25_000_000
MOST_REDUCED = 178_000_000  # of a JPEG, which is decoded at a half, a quarter or an eighth
LEAST_SIDE = 4
MOST_SIDE = 4096
# The largest pictures are decoded one at a time: a progressive JPEG takes 6 bytes a pixel.
_one = PerProcess(threading.Lock)


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
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # `_open` has limits of its own
            return pixels(path, shape[0], shape[1])
    except (OSError, ValueError, SyntaxError, Warning) as error:
        raise ValueError(f"{path} cannot be used: {reason(error)}") from None


def header(source: Source) -> tuple[int, int, bool, bool]:
    """Return width, height, whether a picture is grey and whether it may be transparent, without decoding it; of a
    broken file nearly any error of Pillow's, which `reason` puts in words."""
    with _open(source) as picture:
        grey = picture.mode in ("1", "L", "LA", "La") or picture.mode.startswith("I")
        return *picture.size, grey, picture.has_transparency_data


def pixels(source: Source, channels: int, size: int) -> np.ndarray:
    """Return the middle square of a picture, resized: (channels, size, size) uint8, grey for one channel. It raises as
    `header` does."""
    from PIL import Image, ImageOps

    mode = "L" if channels == 1 else "RGB"
    with _open(source) as picture, _one() if math.prod(picture.size) > MOST_PIXELS else contextlib.nullcontext():
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


def reason(error: Exception | Warning | str) -> str:
    """Return what an error says, on one printable line."""
    return printable(str(error)) or type(error).__name__


@contextlib.contextmanager
def _open(source: Source) -> Iterator[Image.Image]:
    from PIL import Image, ImageOps

    if isinstance(source, Image.Image):
        _check_sides(source)
        # The caller's own picture must not be closed by us, nor turned twice.
        yield ImageOps.exif_transpose(source)
        return
    if isinstance(source, Path) and not source.is_file():
        raise ValueError("not a regular file")
    # A file of ours: Pillow maps the one that it opens itself, and a map of a file that is cut kills.
    with io.BytesIO(source) if isinstance(source, bytes) else open_regular(source) as file:
        if not file.seek(0, io.SEEK_END):
            raise ValueError("the file is empty")
        file.seek(0)
        try:
            picture = Image.open(file, formats=READ)
        except Image.UnidentifiedImageError as error:
            raise ValueError("not a picture that can be read") from error
        with picture:
            _check_sides(picture)
            yield picture


def _check_sides(picture: Image.Image) -> None:
    width, height = picture.size
    most = MOST_REDUCED if picture.format in ("JPEG", "MPO") else MOST_PIXELS
    if width * height > most:
        raise ValueError(f"{width}x{height} is above {most // 10**6} megapixels")
    if min(width, height) < LEAST_SIDE:
        raise ValueError(f"{width}x{height} is smaller than {LEAST_SIDE} pixels")


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
