"""Samples as grids and folders of pictures, as drawings of arrays, and as numbers."""

from __future__ import annotations

import csv
import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ornstein import files
from ornstein.data import DataSpec
from ornstein.diffusion.denoiser import NetworkDenoiser
from ornstein.diffusion.samplers import sample
from ornstein.figures.arrays import SHEET_LIMITS, draw_arrays, entry_names
from ornstein.figures.formats import KEY, PICTURE_FORMATS, facts_text, output_format, save_options, write_picture

__all__ = [
    "CALLS",
    "GAP",
    "INK",
    "SIDE",
    "TEXT_HEIGHT",
    "captioned",
    "check_numbered_folder",
    "check_output",
    "class_names",
    "column_count",
    "enlarge",
    "even_count",
    "file_pixels",
    "font",
    "grid",
    "picture",
    "preview",
    "shorten_to",
    "show",
    "write",
]

SIDE = 1024  # pixels up to which a grid of small pictures is enlarged
GAP = 6  # pixels between the pictures of a grid
CALLS = 20  # network calls for the samples that a training draws
INK, TEXT_HEIGHT, MIN_NAMED = (60, 60, 60), 13, 18  # of names: colour, height, and the narrowest picture that has one


def picture(spec: DataSpec, x: Tensor) -> np.ndarray:
    """Samples (B, C, H, W) in [-1, 1] as (B, H, W, 3) uint8, rounded to values that the data can have.

    One channel is grey, and of more than three the first three are shown; transparency is laid on white.
    """
    values = spec.decode(x).astype(np.float64)
    low, high = spec.extent
    shade = np.round(255 * (values - low) / (high - low)).clip(0, 255).astype(np.uint8)
    if spec.mode == "RGBA":
        shade = (shade[:, :3] + (255 - shade[:, 3:].astype(np.int64))).clip(0, 255).astype(np.uint8)
    colour = shade[:, :3] if shade.shape[1] >= 3 else shade[:, :1].repeat(3, axis=1)
    return colour.transpose(0, 2, 3, 1)


def file_pixels(spec: DataSpec, x: Tensor) -> np.ndarray:
    """Samples (B, C, H, W) in [-1, 1] as pixels for files: (B, H, W, 4) uint8 for pictures with transparency, (B, H, W)
    uint16 for 16-bit grey, else as `picture`."""
    if spec.mode == "RGBA":
        return spec.arrange(spec.decode(x)).transpose(0, 2, 3, 1)
    return spec.decode(x)[:, 0].astype(np.uint16) if spec.mode == "I;16" else picture(spec, x)


def enlarge(pictures: np.ndarray, scale: int) -> np.ndarray:
    """Enlarge pictures (B, H, W, C) or (B, H, W), every pixel to a square of `scale` pixels."""
    return pictures.repeat(scale, 1).repeat(scale, 2)


def grid(pictures: np.ndarray, columns: int, names: Sequence[str] | None = None, scale: int | None = None,
         side: int = SIDE) -> Image.Image:
    """Arrange pictures (B, H, W, 3) uint8 in a grid, enlarged by the whole number `scale` or to fit into `side`.

    If every column has a single class, its name is written over the column, else over each picture that is wide enough.
    """
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    large = enlarge(pictures, scale or max(1, side // max(rows * pictures.shape[1], columns * pictures.shape[2])))
    width = large.shape[2]
    names = names if names and width >= MIN_NAMED else []
    per_column = all(name == names[number % columns] for number, name in enumerate(names))
    room = TEXT_HEIGHT + GAP if names else 0
    head, between = (room, 0) if per_column else (0, room)
    height = large.shape[1] + GAP + between
    sheet = Image.new("RGB", (columns * (width + GAP) + GAP, rows * height + GAP + head), "white")
    pen = ImageDraw.Draw(sheet)
    for number, pixels in enumerate(large):
        top, left = head + between + GAP + number // columns * height, GAP + number % columns * (width + GAP)
        sheet.paste(Image.fromarray(pixels), (left, top))
        if names and (number < columns or not per_column):
            pen.text((left + width / 2, top - 3), shorten_to(names[number], width, pen), INK, font(), anchor="mb")
    return sheet


@functools.cache
def font() -> ImageFont.FreeTypeFont:
    """The small font of names."""
    # Matplotlib's font has accents, Greek and Cyrillic, which Pillow's lacks.
    from matplotlib import get_data_path

    return ImageFont.truetype(Path(get_data_path(), "fonts/ttf/DejaVuSans.ttf"), TEXT_HEIGHT - 2)


def shorten_to(name: str, width: float, pen: ImageDraw.ImageDraw) -> str:
    """Shorten a name to at most `width` pixels."""
    if pen.textlength(name, font()) <= width:
        return name
    while name and pen.textlength(name + "…", font()) > width:
        name = name[:-1]
    return name + "…"


def class_names(spec: DataSpec, labels: Tensor | None) -> list[str] | None:
    """Names of the classes (B,); None unless the data have several classes."""
    return None if labels is None or len(spec.classes) < 2 else [
        spec.classes[label] if label >= 0 else "none" for label in labels.tolist()]


def column_count(count: int, labels: Tensor | None) -> int:
    """The number of columns for `count` samples: a square, or the same number of columns for each class."""
    columns = max(1, round(count ** 0.5))
    classes = 0 if labels is None else len(labels.unique())
    return classes * max(1, round(columns / classes)) if 1 < classes <= 16 else columns


def even_count(spec: DataSpec, limit: int) -> int:
    """The largest number of samples, up to `limit`, that fills all rows."""
    return next(count for count in range(limit, 0, -1)
                if count % min(count, column_count(count, spec.cycle(count))) == 0)


def show(spec: DataSpec, x: Tensor, columns: int, labels: Tensor | None = None, scale: int | None = None,
         side: int = SIDE) -> Image.Image:
    """Samples (B, *shape) in [-1, 1] as one image: pictures in a grid, or arrays drawn, with names of classes."""
    return captioned(spec, x, columns, class_names(spec, labels), scale, side)


def captioned(spec: DataSpec, x: Tensor, columns: int, names: Sequence[str] | None, scale: int | None = None,
              side: int = SIDE) -> Image.Image:
    """The same as `show`, with names of any kind."""
    if spec.kind == "picture":
        return grid(picture(spec, x), columns, names, scale, side)
    return draw_arrays(spec, spec.decode(x), names)


def write(spec: DataSpec, x: Tensor, labels: Tensor | None, out: Path, facts: Mapping[str, Any],
          conditions: Tensor | None = None, scale: int | None = None) -> None:
    """Write samples (B, *shape) as one image (an ending of `PICTURE_FORMATS`), as numbers in the data's own units
    (.npz, and for vectors .csv), or as a folder of pictures, enlarged by the whole number `scale`.

    Every image contains the `facts`, and numbers also the labels (B,) and conditions (B, K). Raises ValueError as
    `check_numbered_folder` does, and OSError if the disk refuses; existing files are then untouched.
    """
    kind = "" if out.is_dir() else out.suffix.lower()
    if kind == ".npz":
        arrays: dict[str, Any] = {"x": spec.arrange(spec.decode(x))}
        if labels is not None:
            arrays |= {"labels": labels.numpy(), "classes": np.array(spec.classes)}
        if conditions is not None:
            arrays |= {"conditions": conditions.numpy(), "names": np.array(spec.conditions)}
        if spec.columns:
            arrays["columns"] = np.array(spec.columns)
        if facts:
            arrays[KEY] = np.array(facts_text(facts))
        # Given a name, savez would turn x.NPZ into x.NPZ.npz.
        with files.replacing(out) as target, target.open("wb") as file:
            np.savez_compressed(file, **arrays)
    elif kind == ".csv":
        with files.replacing(out) as target, target.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(_table(spec, spec.decode(x), labels, conditions))
    elif kind in PICTURE_FORMATS:
        write_picture(show(spec, x, column_count(len(x), labels), labels, scale), out, facts)
    else:
        check_numbered_folder(out, len(x))
        with files.filling(out) as folder:
            for number, pixels in enumerate(enlarge(file_pixels(spec, x), scale or 1)):
                label = {} if labels is None else {"class": spec.classes[int(labels[number])]}
                image = Image.fromarray(pixels)
                image.save(folder / f"{number:05d}.png", **save_options(".png", {**facts, "number": number, **label}))


def check_output(spec: DataSpec, out: Path) -> None:
    """Raise ValueError for an output path that does not suit samples of such data."""
    kind = output_format(out)
    if not kind and spec.kind != "picture":
        raise ValueError(f"out is {out}, and samples of shape {spec.shape} are not pictures; name a .png file to see "
                         "them drawn, or a .npz file for the numbers")
    if kind == ".csv" and len(spec.shape) > 1:
        raise ValueError(f"out is {out}, and samples of shape {spec.shape} are not rows of a table; name a .npz file "
                         "for the numbers")


def _table(spec: DataSpec, values: np.ndarray, labels: Tensor | None,
           conditions: Tensor | None) -> Iterator[Sequence[Any]]:
    """The names of the columns, then vectors (B, D) as rows of a table; whole numbers have no decimal point."""
    columns: dict[str, Sequence[Any]] = {}
    levels = spec.levels if isinstance(spec.levels, tuple) else [spec.levels] * spec.shape[0]
    for name, column, level in zip(entry_names(spec), values.T, levels, strict=True):
        whole = level is not None and np.array_equal(column, np.trunc(column))
        columns[name] = [int(value) for value in column] if whole else column
    if labels is not None:
        columns["label"] = [spec.classes[label] if label >= 0 else "" for label in labels.tolist()]
    if conditions is not None:
        columns |= zip(spec.conditions, conditions.numpy().T, strict=True)
    yield list(columns)
    yield from zip(*columns.values(), strict=True)


def check_numbered_folder(folder: Path, count: int) -> None:
    """Raise ValueError for a folder with numbered pictures that are not Ornstein's, or that `count` new ones would not
    replace.
    """
    existing = [path for path in files.list_folder(folder) if re.fullmatch(r"[0-9]{5,}\.png", path.name)]
    for path in existing:
        if not files.is_ours(path):
            raise ValueError(f"{path} would be overwritten, and is not a picture from ornstein; name another folder")
    if more := [path for path in existing if int(path.stem) >= count]:
        raise ValueError(f"{folder} holds {len(existing)} pictures of an earlier call, of which {count} would be "
                         f"replaced and {len(more)} would not; name another folder")


def preview(model: NetworkDenoiser, path: Path | None, count: int = 40) -> None:
    """Draw about `count` samples of a model in training, from the same noise each time; nothing is written without a
    path."""
    spec = model.data
    if spec is None:
        return
    classes = max(len(spec.drawn), 1)
    columns = 10 if classes > 10 else classes * max(1, 8 // classes)
    if len(spec.shape) == 1:
        count *= 10
    elif spec.kind == "array":
        count = min(count, SHEET_LIMITS["fields"])
    else:
        count = columns * max(1, count // columns)
    labels = spec.cycle(count)
    x = sample(model, count, condition=labels, nfe=CALLS)
    if path is not None:
        write_picture(show(spec, x.cpu(), columns, labels), path, {"seed": 0, "nfe": CALLS})
