"""Decoding of one picture to pixels, the same ones whether it is a file, bytes or a Pillow image."""

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
from ornstein.data.per_process import PerProcess
from ornstein.data.spec import printable
from ornstein.files import open_regular

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["FORMATS", "MAX_PIXELS", "READERS", "UNSUPPORTED", "Header", "Page", "ReadOptions", "decode_picture",
           "error_reason", "page_numbers", "read_header", "read_picture", "unsupported_reason"]

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".bmp": "BMP", ".tif": "TIFF",
           ".tiff": "TIFF", ".gif": "GIF", ".jfif": "JPEG", ".jpe": "JPEG", ".avif": "AVIF",
           ".heic": "HEIF", ".heif": "HEIF"}
UNSUPPORTED = (".jxl", ".svg")
NON_PAGE_BITS = 5  # TIFF NewSubfileType bits: a reduced version of another page (1), a mask (4)
MODES = {1: "L", 3: "RGB", 4: "RGBa"}  # Pillow's, by the number of channels
MAX_GREY_16 = 65535
MAX_PIXELS = 25_000_000
MAX_JPEG_PIXELS = 178_000_000  # JPEGs can be decoded at a half, a quarter or an eighth of their size
MIN_SIDE = 4
MAX_SIDE = 4096
READERS = ("auto", "cache", "stream")
TRANSPOSED = (5, 6, 7, 8)  # EXIF orientations that swap width and height
REDUCING_GAP = 3.0  # box-average to three times the target size before resampling, to bound the memory of long strips
# Very large pictures are decoded one at a time: a progressive JPEG takes 6 bytes per pixel.
_large_picture_lock = PerProcess(threading.Lock)


class Page(NamedTuple):
    """A page of a TIFF file, numbered from 0."""

    path: Path
    number: int


if TYPE_CHECKING:
    Source = Path | Page | bytes | Image.Image


@dataclass(frozen=True)
class ReadOptions:
    """Options for reading picture files, named as in `load_data`."""

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
            raise ValueError("alpha is True and depth 16; 16 bits are kept only for grey pictures without "
                             "transparency; leave one of the two out")

    @property
    def sides(self) -> tuple[int, int] | None:
        """The requested width and height, None for automatic; ValueError if they are out of range."""
        return None if self.size is None else require_size("size", self.size, MIN_SIDE, MAX_SIDE)

    def key(self) -> list[Any]:
        """Return the part of the cache key that depends on the options: the size, then all non-default options.

        Keys with default options are those of earlier versions.
        """
        size: int | str = "own shape"
        if self.sides is not None:
            width, height = self.sides
            size = width if width == height else f"{width}x{height}"
        return [size, *([] if self.fit == "cut" else [self.fit]), *(["alpha"] if self.alpha else []),
                *([self.depth] if self.depth == 16 else [])]


def read_picture(path: Path, shape: tuple[int, ...], fit: str = "cut", depth: int = 8) -> np.ndarray:
    """Return one picture as source values of a model: grey, colour, or colour premultiplied by opacity.

    Args:
        path: path of the file.
        shape: (C, H, W) with C 1, 3 or 4; the fourth channel is opacity, without it transparency is laid on white.
        fit: how pictures of another shape are fitted: "cut" to the middle, "pad" with white, or "stretch".
        depth: 8, or 16 for grey from 0 to 65535.

    Returns:
        uint8 or uint16 of that shape.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is not a picture, or no picture can have the shape.
    """
    if len(shape) != 3 or shape[0] not in MODES:
        raise ValueError(f"shape is {shape}; it must be (C, H, W) with 1, 3 or 4 channels")
    require("fit", fit, get_args(Fit))
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; give a picture file")
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # `_open_picture` has its own limits
            return decode_picture(path, shape, fit, depth == 16)
    except (OSError, ValueError, SyntaxError, Warning) as error:
        raise ValueError(f"{path} cannot be used: {error_reason(error)}") from None


class Header(NamedTuple):
    """What is known about a picture before it is decoded."""

    width: int
    height: int
    grey: bool
    transparent: bool
    deep: bool  # 16 bits


def read_header(source: Source) -> Header:
    """Return the header of a picture; a broken file raises nearly any error, which `error_reason` describes."""
    with _open_picture(source) as picture:
        deep = picture.mode.startswith("I")
        grey = picture.mode in ("1", "L", "LA", "La") or deep
        # Reading the EXIF of a PNG without any would decode it, and Pillow already turns the size of a TIFF.
        has_exif = "exif" in picture.info and picture.format != "TIFF"
        width, height = picture.size[::-1] if has_exif and picture.getexif().get(0x0112) in TRANSPOSED else picture.size
        return Header(width, height, grey, picture.has_transparency_data, deep)


def decode_picture(source: Source, shape: tuple[int, ...], fit: str = "cut", deep: bool = False) -> np.ndarray:
    """Return a picture as (C, H, W) uint8 or uint16, as `read_picture` does; raise as `read_header` does."""
    from PIL import ImageOps

    channels, height, width = shape
    with contextlib.ExitStack() as stack:
        picture = stack.enter_context(_open_picture(source))
        if math.prod(picture.size) > MAX_PIXELS:
            stack.enter_context(_large_picture_lock())
        picture.draft("L" if channels == 1 else "RGB", (2 * max(width, height),) * 2)
        ImageOps.exif_transpose(picture, in_place=True)
        image = _to_16_bits(picture) if deep else (
            _premultiply(picture) if channels == 4 else _on_white(picture)).convert(MODES[channels])
    if channels == 4:
        # Resizing overshoots at edges: clip opacity, and scale the colours in proportion.
        values = np.stack([np.asarray(_resize(band.convert("F"), width, height, fit)) for band in image.split()], -1)
        values = values / np.maximum(values[..., 3:] / 255, 1)
        values = np.rint(np.minimum(values.clip(0), values[..., 3:].clip(0))).astype(np.uint8)
    else:
        values = np.asarray(_resize(image, width, height, fit))
    if deep:
        values = np.rint(values).clip(0, MAX_GREY_16).astype(np.uint16)
    if values.shape[:2] != (height, width):
        top, left = (height - values.shape[0]) // 2, (width - values.shape[1]) // 2
        white = np.iinfo(values.dtype).max
        padded = np.full((height, width, *values.shape[2:]), 0 if channels == 4 else white, values.dtype)
        padded[top:top + values.shape[0], left:left + values.shape[1]] = values
        values = padded
    return values.reshape(height, width, channels).transpose(2, 0, 1)


def _resize(image: Image.Image, width: int, height: int, fit: str) -> Image.Image:
    """Return a picture cut or stretched to a size, or the largest that fits inside if it is to be padded."""
    from PIL import Image

    image_width, image_height = image.size
    if fit != "cut":
        scale = min(width / image_width, height / image_height)
        size = (width, height) if fit == "stretch" else (
            max(1, round(image_width * scale)), max(1, round(image_height * scale)))
        return image if size == image.size else image.resize(size, Image.Resampling.LANCZOS, reducing_gap=REDUCING_GAP)
    if image_width * height <= image_height * width:
        crop_width, crop_height = image_width, image_width * height / width
    else:
        crop_width, crop_height = image_height * width / height, image_height
    left, top = (image_width - crop_width) / 2, (image_height - crop_height) / 2
    if (crop_width, crop_height) == (width, height):
        return image.crop((int(left), int(top), int(left) + width, int(top) + height))
    # Resize only the middle: a strip of 4 x 6,000,000 would otherwise fill the memory.
    box = left, top, min(left + crop_width, image_width), min(top + crop_height, image_height)
    return image.resize((width, height), Image.Resampling.LANCZOS, box=box)


def page_numbers(path: Path) -> list[int]:
    """Return the numbers of the pages that are separate pictures; [0] unless the file is a TIFF."""
    if FORMATS.get(path.suffix.lower()) != "TIFF":
        return [0]
    from PIL import Image

    try:
        with (warnings.catch_warnings(action="ignore"), open_regular(path) as file,
              Image.open(file, formats=["TIFF"]) as picture):
            pages = []
            for page in range(getattr(picture, "n_frames", 1)):
                picture.seek(page)
                if not int(getattr(picture, "tag_v2", {}).get(254, 0)) & NON_PAGE_BITS:
                    pages.append(page)
            return pages or [0]
    except Exception:  # reported when the file is decoded
        return [0]


def unsupported_reason(suffix: str) -> str | None:
    """Return why files with a suffix cannot be read, None if they can."""
    format_ = FORMATS.get(suffix)
    if format_ == "HEIF" and "HEIF" not in _supported_formats():
        return 'needs pillow-heif: pip install "ornstein[heic]"'
    if format_ == "AVIF" and "AVIF" not in _supported_formats():
        return "needs a Pillow that reads AVIF: pip install -U pillow"
    if suffix in UNSUPPORTED:
        return f"{suffix} is not supported, save it as PNG"
    return None if format_ else "not a picture"


@functools.cache
def _supported_formats() -> list[str]:
    """The formats that Pillow can read, with pillow-heif if it is installed."""
    from PIL import features

    optional = {"HEIF": importlib.util.find_spec("pillow_heif") is not None, "AVIF": features.check("avif")}
    if optional["HEIF"]:
        importlib.import_module("pillow_heif").register_heif_opener()
    return [name for name in sorted(set(FORMATS.values())) if optional.get(name, True)]


def error_reason(error: Exception | Warning | str) -> str:
    """Return the message of an error on one printable line."""
    return printable(str(error)) or type(error).__name__


@contextlib.contextmanager
def _open_picture(source: Source) -> Iterator[Image.Image]:
    from PIL import Image, ImageOps

    if isinstance(source, Image.Image):
        _check_sides(source)
        # The caller's picture must not be closed here, nor turned twice.
        yield ImageOps.exif_transpose(source)
        return
    source, number = source if isinstance(source, Page) else (source, 0)
    if isinstance(source, Path) and not source.is_file():
        raise ValueError("not a regular file")
    # Pillow maps files that it opens itself, and truncating a mapped file kills the process.
    with io.BytesIO(source) if isinstance(source, bytes) else open_regular(source) as file:
        if not file.seek(0, io.SEEK_END):
            raise ValueError("the file is empty")
        file.seek(0)
        try:
            picture = Image.open(file, formats=_supported_formats())
        except Image.UnidentifiedImageError as error:
            raise ValueError("not a readable picture") from error
        with picture:
            if number:
                picture.seek(number)
            _check_sides(picture)
            yield picture


def _check_sides(picture: Image.Image) -> None:
    width, height = picture.size
    limit = MAX_JPEG_PIXELS if picture.format in ("JPEG", "MPO") else MAX_PIXELS
    if width * height > limit:
        raise ValueError(f"{width}x{height} is above {limit // 10**6} megapixels")
    if min(width, height) < MIN_SIDE:
        raise ValueError(f"{width}x{height} is smaller than {MIN_SIDE} pixels")


def _to_8_bits(picture: Image.Image) -> Image.Image:
    from PIL import Image

    if picture.mode == "F":
        raise ValueError("floating-point pixels have no 8-bit scale: save them as .npy")
    if picture.mode.startswith("I"):
        values, transparent = _grey_16_values(picture), picture.info.get("transparency")
        grey = Image.fromarray(np.rint(values / 257).astype(np.uint8))
        if transparent is not None:
            grey.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
        return grey
    return picture


def _grey_16_values(picture: Image.Image) -> np.ndarray:
    values = np.asarray(picture).astype(np.int64)
    if values.min() < 0 or values.max() > MAX_GREY_16:
        raise ValueError(f"pixels {values.min()}..{values.max()} are outside 0..{MAX_GREY_16}, the 16-bit range")
    return values


def _to_16_bits(picture: Image.Image) -> Image.Image:
    """Return grey as floating-point pixels from 0 to 65535, which Pillow can resize."""
    from PIL import Image

    if not picture.mode.startswith("I"):
        return Image.fromarray(np.asarray(_on_white(picture).convert("L"), np.float32) * 257)
    values = _grey_16_values(picture)
    values[values == picture.info.get("transparency")] = MAX_GREY_16
    return Image.fromarray(values.astype(np.float32))


def _premultiply(picture: Image.Image) -> Image.Image:
    picture = _to_8_bits(picture)
    return (picture if picture.has_transparency_data else picture.convert("RGB")).convert("RGBA")


def _on_white(picture: Image.Image) -> Image.Image:
    from PIL import Image

    picture = _to_8_bits(picture)
    if picture.has_transparency_data:
        white = Image.new("RGBA", picture.size, "white")
        white.alpha_composite(picture.convert("RGBA"))
        return white
    return picture
