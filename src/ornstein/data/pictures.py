"""One picture, from a file, from bytes or from Pillow, to 8-bit pixels: the same pixels wherever it came from."""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import io
import math
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

import numpy as np

from ornstein.arguments import Fit, require, require_size, short_repr
from ornstein.data.process import PerProcess
from ornstein.data.spec import printable
from ornstein.files import open_regular

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["FORMATS", "READERS", "UNREAD", "Page", "Reading", "header", "pages", "pixels", "read_picture",
           "reason", "unread"]

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".bmp": "BMP", ".tif": "TIFF",
           ".tiff": "TIFF", ".gif": "GIF", ".jfif": "JPEG", ".jpe": "JPEG", ".avif": "AVIF",
           ".heic": "HEIF", ".heif": "HEIF"}
UNREAD = (".jxl", ".svg")
REDUCED = 5  # bits of what is no page of its own: a smaller version of another (1), a mask (4)
MODES = {1: "L", 3: "RGB", 4: "RGBa"}  # of Pillow, by the number of channels
DEEPEST = 65535
MOST_PIXELS = 25_000_000
MOST_REDUCED = 178_000_000  # of a JPEG, which is decoded at a half, a quarter or an eighth
LEAST_SIDE = 4
MOST_SIDE = 4096
READERS = ("auto", "cache", "stream")
TURNED = (5, 6, 7, 8)  # EXIF orientations of pictures that lie on their side
GAP = 3.0  # of what is stretched or padded, three times the size is averaged first: a long strip is never held whole
# The largest pictures are decoded one at a time: a progressive JPEG takes 6 bytes a pixel.
_one = PerProcess(threading.Lock)


class Page(NamedTuple):
    """A page of a TIFF file, by its number from 0 on."""

    path: Path
    number: int


if TYPE_CHECKING:
    Source = Path | Page | bytes | Image.Image


@dataclass(frozen=True)
class Reading:
    """How picture files are read: `size` and what else `load_data` takes of these names."""

    size: int | str | None = None
    reader: str = "auto"
    fit: str = "cut"
    alpha: bool = False
    depth: int = 8

    def __post_init__(self) -> None:
        require("reader", self.reader, READERS)
        require("fit", self.fit, get_args(Fit))
        if type(self.alpha) is not bool:
            raise ValueError(f"alpha is {short_repr(self.alpha)}; it must be True or False")
        if type(self.depth) is not int or self.depth not in (8, 16):
            raise ValueError(f"depth is {short_repr(self.depth)}; it must be 8 or 16")
        if self.alpha and self.depth == 16:
            raise ValueError("alpha is True and depth 16; 16 bits are kept of grey pictures without transparency, so "
                             "leave one of the two out")

    @property
    def sides(self) -> tuple[int, int] | None:
        """Width and height that are asked for; ValueError for those that no picture is given."""
        return None if self.size is None else require_size("size", self.size, LEAST_SIDE, MOST_SIDE)

    def key(self) -> list[Any]:
        """Return what decoded pictures are a function of, apart from the pictures: the size, then what is no default.

        Squares of a size are kept under the names that they had before there was a choice.
        """
        size: int | str = "own shape"
        if self.sides is not None:
            width, height = self.sides
            size = width if width == height else f"{width}x{height}"
        return [size, *([] if self.fit == "cut" else [self.fit]), *(["alpha"] if self.alpha else []),
                *([self.depth] if self.depth == 16 else [])]


def read_picture(path: Path, shape: tuple[int, ...], fit: str = "cut", depth: int = 8) -> np.ndarray:
    """Return one picture as a model's data have it: grey, in colour, or in colour that is multiplied by opacity.

    Args:
        path: of the file.
        shape: (C, H, W) with C 1, 3 or 4; opacity is the fourth channel, and else transparency lies on white.
        fit: how another shape becomes this one: "cut" to its middle, "pad" with white, or "stretch".
        depth: 8, or 16 for grey from 0 to 65535.

    Returns:
        uint8 of that shape, or uint16.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file that is no picture, or a shape that no picture has.
    """
    if len(shape) != 3 or shape[0] not in MODES:
        raise ValueError(f"shape is {shape}; a picture file gives 1, 3 or 4 channels, (C, H, W)")
    require("fit", fit, get_args(Fit))
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; name a picture file")
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # `_open` has limits of its own
            return pixels(path, shape, fit, depth == 16)
    except (OSError, ValueError, SyntaxError, Warning) as error:
        raise ValueError(f"{path} cannot be used: {reason(error)}") from None


def header(source: Source) -> tuple[int, int, bool, bool, bool]:
    """Return width, height, whether a picture is grey, may be transparent and has 16 bits, without decoding it; of a
    broken file nearly any error of Pillow's, which `reason` puts in words."""
    with _open(source) as picture:
        deep = picture.mode.startswith("I")
        grey = picture.mode in ("1", "L", "LA", "La") or deep
        # To look for the EXIF of a PNG that has none would decode it, and the size of a TIFF is turned already.
        told = "exif" in picture.info and picture.format != "TIFF"
        width, height = picture.size[::-1] if told and picture.getexif().get(0x0112) in TURNED else picture.size
        return width, height, grey, picture.has_transparency_data, deep


def pixels(source: Source, shape: tuple[int, ...], fit: str = "cut", deep: bool = False) -> np.ndarray:
    """Return a picture in a shape (C, H, W), uint8 or uint16, as `read_picture` does. It raises as `header` does."""
    from PIL import ImageOps

    channels, height, width = shape
    with _open(source) as picture, _one() if math.prod(picture.size) > MOST_PIXELS else contextlib.nullcontext():
        picture.draft("L" if channels == 1 else "RGB", (2 * max(width, height),) * 2)
        ImageOps.exif_transpose(picture, in_place=True)
        flat = _sixteen_bits(picture) if deep else (
            _premultiplied(picture) if channels == 4 else _flat(picture)).convert(MODES[channels])
    if channels == 4:
        # Resizing overshoots at edges: opacity is cut to what there can be, and the colours beside it in proportion.
        values = np.stack([np.asarray(_fitted(band.convert("F"), width, height, fit)) for band in flat.split()], -1)
        values = values / np.maximum(values[..., 3:] / 255, 1)
        values = np.rint(np.minimum(values.clip(0), values[..., 3:].clip(0))).astype(np.uint8)
    else:
        values = np.asarray(_fitted(flat, width, height, fit))
    if deep:
        values = np.rint(values).clip(0, DEEPEST).astype(np.uint16)
    if values.shape[:2] != (height, width):
        top, left = (height - values.shape[0]) // 2, (width - values.shape[1]) // 2
        white = np.iinfo(values.dtype).max
        whole = np.full((height, width, *values.shape[2:]), 0 if channels == 4 else white, values.dtype)
        whole[top:top + values.shape[0], left:left + values.shape[1]] = values
        values = whole
    return values.reshape(height, width, channels).transpose(2, 0, 1)


def _fitted(flat: Image.Image, width: int, height: int, fit: str) -> Image.Image:
    """A picture cut or stretched to a size, or, to be padded, as large as it can be inside."""
    from PIL import Image

    wide, tall = flat.size
    if fit != "cut":
        scale = min(width / wide, height / tall)
        inside = (width, height) if fit == "stretch" else (max(1, round(wide * scale)), max(1, round(tall * scale)))
        return flat if inside == flat.size else flat.resize(inside, Image.Resampling.LANCZOS, reducing_gap=GAP)
    across, down = (wide, wide * height / width) if wide * height <= tall * width else (tall * width / height, tall)
    left, top = (wide - across) / 2, (tall - down) / 2
    if (across, down) == (width, height):
        return flat.crop((int(left), int(top), int(left) + width, int(top) + height))
    # Only the middle is resized: a strip of 4 x 6,000,000 would fill the memory otherwise.
    box = left, top, min(left + across, wide), min(top + down, tall)
    return flat.resize((width, height), Image.Resampling.LANCZOS, box=box)


def pages(path: Path) -> list[int]:
    """Return the numbers of the pages of a file that are pictures of their own: those of a TIFF file, else the first.
    """
    if FORMATS.get(path.suffix.lower()) != "TIFF":
        return [0]
    from PIL import Image

    try:
        with (warnings.catch_warnings(action="ignore"), open_regular(path) as file,
              Image.open(file, formats=["TIFF"]) as picture):
            numbers = []
            for number in range(getattr(picture, "n_frames", 1)):
                picture.seek(number)
                if not int(getattr(picture, "tag_v2", {}).get(254, 0)) & REDUCED:
                    numbers.append(number)
            return numbers or [0]
    except Exception:  # what is wrong with it, or odd, is said when it is read
        return [0]


def unread(suffix: str) -> str | None:
    """Return why files of an ending are not read, None for those that are."""
    kind = FORMATS.get(suffix)
    if kind == "HEIF" and "HEIF" not in _formats():
        return 'needs pillow-heif: pip install "ornstein[heic]"'
    if kind == "AVIF" and "AVIF" not in _formats():
        return "needs a Pillow that reads AVIF: pip install -U pillow"
    return f"{suffix} is not read, save it as PNG" if suffix in UNREAD else None if kind else "not a picture"


@functools.cache
def _formats() -> list[str]:
    """What Pillow reads here, with the help of pillow-heif where that is installed."""
    from PIL import features

    there = {"HEIF": importlib.util.find_spec("pillow_heif") is not None, "AVIF": features.check("avif")}
    if there["HEIF"]:
        importlib.import_module("pillow_heif").register_heif_opener()
    return [kind for kind in sorted(set(FORMATS.values())) if there.get(kind, True)]


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
    source, number = source if isinstance(source, Page) else (source, 0)
    if isinstance(source, Path) and not source.is_file():
        raise ValueError("not a regular file")
    # A file of ours: Pillow maps the one that it opens itself, and a map of a file that is cut kills.
    with io.BytesIO(source) if isinstance(source, bytes) else open_regular(source) as file:
        if not file.seek(0, io.SEEK_END):
            raise ValueError("the file is empty")
        file.seek(0)
        try:
            picture = Image.open(file, formats=_formats())
        except Image.UnidentifiedImageError as error:
            raise ValueError("not a picture that can be read") from error
        with picture:
            if number:
                picture.seek(number)
            _check_sides(picture)
            yield picture


def _check_sides(picture: Image.Image) -> None:
    width, height = picture.size
    most = MOST_REDUCED if picture.format in ("JPEG", "MPO") else MOST_PIXELS
    if width * height > most:
        raise ValueError(f"{width}x{height} is above {most // 10**6} megapixels")
    if min(width, height) < LEAST_SIDE:
        raise ValueError(f"{width}x{height} is smaller than {LEAST_SIDE} pixels")


def _eight_bits(picture: Image.Image) -> Image.Image:
    from PIL import Image

    if picture.mode == "F":
        raise ValueError("floating pixels have no 8-bit scale: save them as .npy")
    if picture.mode.startswith("I"):
        values, clear = _deep_values(picture), picture.info.get("transparency")
        grey = Image.fromarray(np.rint(values / 257).astype(np.uint8))
        if clear is not None:
            grey.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
        return grey
    return picture


def _deep_values(picture: Image.Image) -> np.ndarray:
    values = np.asarray(picture).astype(np.int64)
    if values.min() < 0 or values.max() > DEEPEST:
        raise ValueError(f"pixels {values.min()}..{values.max()} are outside 0..{DEEPEST}, the 16-bit range")
    return values


def _sixteen_bits(picture: Image.Image) -> Image.Image:
    """Grey as floating pixels from 0 to 65535, which Pillow can resize."""
    from PIL import Image

    if not picture.mode.startswith("I"):
        return Image.fromarray(np.asarray(_flat(picture).convert("L"), np.float32) * 257)
    values = _deep_values(picture)
    values[values == picture.info.get("transparency")] = DEEPEST
    return Image.fromarray(values.astype(np.float32))


def _premultiplied(picture: Image.Image) -> Image.Image:
    picture = _eight_bits(picture)
    return (picture if picture.has_transparency_data else picture.convert("RGB")).convert("RGBA")


def _flat(picture: Image.Image) -> Image.Image:
    from PIL import Image

    picture = _eight_bits(picture)
    if picture.has_transparency_data:
        white = Image.new("RGBA", picture.size, "white")
        white.alpha_composite(picture.convert("RGBA"))
        return white
    return picture
