"""Samples as something to look at or to go on with: grids, folders of pictures, drawings of arrays, numbers."""

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
from ornstein.figures.arrays import DRAWN, entries, sheet
from ornstein.figures.formats import KEY, KINDS, about, ending, options, write_picture

__all__ = ["CALLS", "GAP", "INK", "LETTERS", "SIDE", "arranged", "captioned", "enlarged", "even", "font", "grid",
            "named", "numbered", "picture", "preview", "shortened_to", "show", "single", "suits", "write"]

SIDE = 1024  # pixels that a grid grows to, at most, by enlarging small pictures
GAP = 6  # pixels between the pictures of a grid
CALLS = 20  # of the network, of which a training draws its samples
INK, LETTERS, LEAST = (60, 60, 60), 13, 18  # of names: colour, their size, and the narrowest picture that has one


def picture(spec: DataSpec, x: Tensor) -> np.ndarray:
    """Samples (B, C, H, W) in [-1, 1] as (B, H, W, 3) uint8, rounded to values that the data can have.

    One channel is grey, and of more than three the first three are shown; what is transparent lies on white.
    """
    values = spec.decode(x).astype(np.float64)
    low, high = spec.extent
    shade = np.round(255 * (values - low) / (high - low)).clip(0, 255).astype(np.uint8)
    if spec.mode == "RGBA":
        shade = (shade[:, :3] + (255 - shade[:, 3:].astype(np.int64))).clip(0, 255).astype(np.uint8)
    colour = shade[:, :3] if shade.shape[1] >= 3 else shade[:, :1].repeat(3, axis=1)
    return colour.transpose(0, 2, 3, 1)


def single(spec: DataSpec, x: Tensor) -> np.ndarray:
    """Samples (B, C, H, W) in [-1, 1] as files of one picture have them: (B, H, W, 4) uint8 with transparency where
    that was learnt, (B, H, W) uint16 of 16-bit grey, else as `picture`."""
    if spec.mode == "RGBA":
        return spec.arrange(spec.decode(x)).transpose(0, 2, 3, 1)
    return spec.decode(x)[:, 0].astype(np.uint16) if spec.mode == "I;16" else picture(spec, x)


def enlarged(pictures: np.ndarray, scale: int) -> np.ndarray:
    """Pictures (B, H, W, C) or (B, H, W) with every pixel as a square of `scale` pixels."""
    return pictures.repeat(scale, 1).repeat(scale, 2)


def grid(pictures: np.ndarray, columns: int, names: Sequence[str] | None = None, scale: int | None = None,
         side: int = SIDE) -> Image.Image:
    """Pictures (B, H, W, 3) uint8 in rows, each pixel enlarged by a whole number: `scale`, or what `side` has room for.

    Names of classes stand over each column that is all of one class, else over each picture, where there is room.
    """
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    large = enlarged(pictures, scale or max(1, side // max(rows * pictures.shape[1], columns * pictures.shape[2])))
    width = large.shape[2]
    names = names if names and width >= LEAST else []
    alike = all(name == names[number % columns] for number, name in enumerate(names))
    room = LETTERS + GAP if names else 0
    head, between = (room, 0) if alike else (0, room)
    height = large.shape[1] + GAP + between
    sheet = Image.new("RGB", (columns * (width + GAP) + GAP, rows * height + GAP + head), "white")
    pen = ImageDraw.Draw(sheet)
    for number, one in enumerate(large):
        top, left = head + between + GAP + number // columns * height, GAP + number % columns * (width + GAP)
        sheet.paste(Image.fromarray(one), (left, top))
        if names and (number < columns or not alike):
            pen.text((left + width / 2, top - 3), shortened_to(names[number], width, pen), INK, font(), anchor="mb")
    return sheet


@functools.cache
def font() -> ImageFont.FreeTypeFont:
    """Small letters for names."""
    # Matplotlib's letters: they have accents, Greek and Cyrillic, which Pillow's own lack.
    from matplotlib import get_data_path

    return ImageFont.truetype(Path(get_data_path(), "fonts/ttf/DejaVuSans.ttf"), LETTERS - 2)


def shortened_to(name: str, width: float, pen: ImageDraw.ImageDraw) -> str:
    """A name, its end left out where it is wider than `width` pixels."""
    if pen.textlength(name, font()) <= width:
        return name
    while name and pen.textlength(name + "…", font()) > width:
        name = name[:-1]
    return name + "…"


def named(spec: DataSpec, labels: Tensor | None) -> list[str] | None:
    """Names of the classes (B,), where there is more than one to tell apart."""
    return None if labels is None or len(spec.classes) < 2 else [
        spec.classes[label] if label >= 0 else "none" for label in labels.tolist()]


def arranged(count: int, labels: Tensor | None) -> int:
    """In how many columns so many samples are shown: a square, or each class in columns of its own."""
    columns = max(1, round(count ** 0.5))
    classes = 0 if labels is None else len(labels.unique())
    return classes * max(1, round(columns / classes)) if 1 < classes <= 16 else columns


def even(spec: DataSpec, most: int) -> int:
    """The largest number of samples, up to `most`, whose last row is as full as the others."""
    return next(count for count in range(most, 0, -1) if count % min(count, arranged(count, spec.cycle(count))) == 0)


def show(spec: DataSpec, x: Tensor, columns: int, labels: Tensor | None = None, scale: int | None = None,
         side: int = SIDE) -> Image.Image:
    """Samples (B, *shape) in [-1, 1] as one image: pictures in a grid, or arrays drawn, with names of classes."""
    return captioned(spec, x, columns, named(spec, labels), scale, side)


def captioned(spec: DataSpec, x: Tensor, columns: int, names: Sequence[str] | None, scale: int | None = None,
              side: int = SIDE) -> Image.Image:
    """Samples as `show` has them, under names of any kind."""
    if spec.kind == "picture":
        return grid(picture(spec, x), columns, names, scale, side)
    return sheet(spec, spec.decode(x), names)


def write(spec: DataSpec, x: Tensor, labels: Tensor | None, out: Path, facts: Mapping[str, Any],
          conditions: Tensor | None = None, scale: int | None = None) -> None:
    """Write samples (B, *shape) as one image (an ending of `KINDS`), as numbers in the data's own units (.npz, and for
    vectors .csv), or as a folder of pictures, enlarged by the whole number `scale`.

    Every image keeps the `facts`, and numbers the labels (B,) and conditions (B, K). Raises ValueError as `numbered`
    does, and OSError where the disk refuses; what was there is untouched then.
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
            arrays[KEY] = np.array(about(facts))
        # Of a name, savez makes x.NPZ.npz.
        with files.replacing(out) as beside, beside.open("wb") as file:
            np.savez_compressed(file, **arrays)
    elif kind == ".csv":
        with files.replacing(out) as beside, beside.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(_table(spec, spec.decode(x), labels, conditions))
    elif kind in KINDS:
        write_picture(show(spec, x, arranged(len(x), labels), labels, scale), out, facts)
    else:
        numbered(out, len(x))
        with files.filling(out) as folder:
            for number, one in enumerate(enlarged(single(spec, x), scale or 1)):
                label = {} if labels is None else {"class": spec.classes[int(labels[number])]}
                image = Image.fromarray(one)
                image.save(folder / f"{number:05d}.png", **options(".png", {**facts, "number": number, **label}))


def suits(spec: DataSpec, out: Path) -> None:
    """Raise ValueError for a place that cannot take samples of such data."""
    kind = ending(out)
    if not kind and spec.kind != "picture":
        raise ValueError(f"out is {out}, and samples of shape {spec.shape} are no pictures; name a .png file to see "
                         "them drawn, or a .npz file for the numbers")
    if kind == ".csv" and len(spec.shape) > 1:
        raise ValueError(f"out is {out}, and samples of shape {spec.shape} are no rows of a table; name a .npz file "
                         "for the numbers")


def _table(spec: DataSpec, values: np.ndarray, labels: Tensor | None,
           conditions: Tensor | None) -> Iterator[Sequence[Any]]:
    """Vectors (B, D) as rows of a table, after the names of its columns; whole numbers without a decimal point."""
    columns: dict[str, Sequence[Any]] = {}
    levels = spec.levels if isinstance(spec.levels, tuple) else [spec.levels] * spec.shape[0]
    for name, column, level in zip(entries(spec), values.T, levels, strict=True):
        whole = level is not None and np.array_equal(column, np.trunc(column))
        columns[name] = [int(value) for value in column] if whole else column
    if labels is not None:
        columns["label"] = [spec.classes[label] if label >= 0 else "" for label in labels.tolist()]
    if conditions is not None:
        columns |= zip(spec.conditions, conditions.numpy().T, strict=True)
    yield list(columns)
    yield from zip(*columns.values(), strict=True)


def numbered(folder: Path, count: int) -> None:
    """Raise ValueError for a folder with numbered pictures that are not Ornstein's, or that `count` new ones would
    leave.
    """
    there = [path for path in files.list_folder(folder) if re.fullmatch(r"[0-9]{5,}\.png", path.name)]
    for path in there:
        if not files.is_ours(path):
            raise ValueError(f"{path} would be overwritten, and is no picture of ornstein's; name another folder")
    if more := [path for path in there if int(path.stem) >= count]:
        raise ValueError(f"{folder} holds {len(there)} pictures of an earlier call, of which {count} would be replaced "
                         f"and {len(more)} would not; name another folder")


def preview(model: NetworkDenoiser, path: Path | None, count: int = 40) -> None:
    """Draw about `count` samples of a model in training, the same noise each time; without a path nothing is written.
    """
    spec = model.data
    if spec is None:
        return
    classes = max(len(spec.drawn), 1)
    columns = 10 if classes > 10 else classes * max(1, 8 // classes)
    if len(spec.shape) == 1:
        count *= 10
    elif spec.kind == "array":
        count = min(count, DRAWN["fields"])
    else:
        count = columns * max(1, count // columns)
    labels = spec.cycle(count)
    x = sample(model, count, condition=labels, nfe=CALLS)
    if path is not None:
        write_picture(show(spec, x.cpu(), columns, labels), path, {"seed": 0, "nfe": CALLS})
