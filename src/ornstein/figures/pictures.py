"""Samples as something to look at: grids, folders of pictures, points in the plane."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from ornstein.data import DataSpec
from ornstein.diffusion.denoiser import NetworkDenoiser
from ornstein.diffusion.samplers import sample

__all__ = ["cycle", "grid", "picture", "preview", "scatter", "show", "write", "write_png"]

SIDE = 1024  # pixels that a grid grows to, at most, by enlarging small pictures
GAP = 6  # pixels between the pictures of a grid
INK, PAPER = (38, 70, 120), (255, 255, 255)


def picture(spec: DataSpec, x: Tensor) -> np.ndarray:
    """Samples of [-1, 1] as 8-bit pictures, after a round trip through the values that the data can have.

    Args:
        spec: of data of kind "picture".
        x: (B, C, H, W).

    Returns:
        (B, H, W, 3) uint8; one channel is grey, and of more than three the first three are shown.
    """
    values = spec.decode(x).astype(np.float64)
    shade = np.round(255 * (values - spec.low) / (spec.high - spec.low)).clip(0, 255).astype(np.uint8)
    colour = shade[:, :3] if shade.shape[1] >= 3 else shade[:, :1].repeat(3, axis=1)
    return colour.transpose(0, 2, 3, 1)


def grid(pictures: np.ndarray, columns: int) -> Image.Image:
    """Pictures in rows, each pixel enlarged by a whole number.

    Args:
        pictures: (B, H, W, 3) uint8.
        columns: pictures in a row, >= 1.
    """
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    zoom = max(1, SIDE // max(rows * pictures.shape[1], columns * pictures.shape[2]))
    large = pictures.repeat(zoom, 1).repeat(zoom, 2)
    height, width = large.shape[1] + GAP, large.shape[2] + GAP
    sheet = np.full((rows * height + GAP, columns * width + GAP, 3), 255, np.uint8)
    for number, one in enumerate(large):
        top, left = GAP + number // columns * height, GAP + number % columns * width
        sheet[top:top + height - GAP, left:left + width - GAP] = one
    return Image.fromarray(sheet)


def scatter(points: np.ndarray, labels: np.ndarray | None = None, side: int = 512) -> Image.Image:
    """Points of the plane, (N, 2), in the square [-1, 1]^2 and a little beyond."""
    image = Image.new("RGB", (side, side), PAPER)
    pen = ImageDraw.Draw(image)
    place = (np.asarray(points) * [1, -1] / 1.2 + 1) / 2 * (side - 1)
    for number, (column, row) in enumerate(place):
        shade = 0 if labels is None else int(labels[number]) + 1
        pen.ellipse((column - 2, row - 2, column + 2, row + 2), fill=COLOURS[shade % len(COLOURS)])
    return image


COLOURS = [INK, (0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233),
           (100, 100, 100)]


def show(spec: DataSpec, x: Tensor, columns: int, labels: Tensor | None = None) -> Image.Image:
    """Samples as one image: a grid of pictures, or points of the plane.

    Raises:
        ValueError: samples that are neither pictures nor points of the plane.
    """
    if spec.kind == "picture":
        return grid(picture(spec, x), columns)
    if spec.shape == (2,):
        return scatter(x.cpu().numpy(), None if labels is None else labels.numpy())
    raise ValueError(f"samples have shape {spec.shape}, which no picture shows; write them to a .npz file")


def write_png(image: Image.Image, path: str | Path, facts: Mapping[str, Any]) -> None:
    """Write a PNG that says what it is: `facts` as JSON under the key "ornstein".

    Args:
        image: to write.
        path: of the file; the folder is made.
        facts: what JSON can hold: seed, sampler, model.
    """
    about = PngInfo()
    about.add_itxt("ornstein", json.dumps(dict(facts)))
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, format="PNG", pnginfo=about)


def write(spec: DataSpec, x: Tensor, labels: Tensor | None, out: Path, facts: Mapping[str, Any]) -> None:
    """Write samples as one grid (.png), as numbers in the data's own units (.npz), or as a folder of pictures.

    Args:
        spec: of the data.
        x: (B, *shape) samples in [-1, 1].
        labels: (B,) classes, or None.
        out: FILE.png, FILE.npz, or a folder.
        facts: kept in every PNG, with each single picture's number.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".npz":
        arrays: dict[str, Any] = {"x": spec.decode(x)}
        if labels is not None:
            arrays |= {"labels": labels.numpy(), "classes": np.array(spec.classes)}
        np.savez_compressed(out, **arrays)
    elif out.suffix == ".png":
        columns = max(1, round(len(x) ** 0.5))
        if labels is not None and 1 < len(labels.unique()) <= 16:
            # Each class in columns of its own.
            classes = len(spec.classes)
            columns = classes * max(1, round(columns / classes))
        write_png(show(spec, x, columns, labels), out, facts)
    else:
        out.mkdir(exist_ok=True)
        for number, one in enumerate(picture(spec, x)):
            own = {} if labels is None else {"class": spec.classes[int(labels[number])]}
            write_png(Image.fromarray(one), out / f"{number:05d}.png", {**facts, "number": number, **own})


def cycle(model: NetworkDenoiser, count: int) -> Tensor | None:
    """Classes 0, 1, 2, ... in turn for `count` samples of a conditional model; None without classes."""
    classes = len(model.data.classes) if model.data else 0
    return torch.arange(count) % classes if classes else None


def preview(model: NetworkDenoiser, path: Path, count: int = 40) -> None:
    """Draw a few samples of a model in training, the same noise each time; data that no picture shows are left out."""
    spec = model.data
    if spec is None or not (spec.kind == "picture" or spec.shape == (2,)):
        return
    classes = max(len(spec.classes), 1)
    columns = 10 if classes > 10 else classes * max(1, 8 // classes)
    count = 10 * count if spec.kind == "array" else columns * max(1, count // columns)
    labels = cycle(model, count)
    x = sample(model, count, condition=labels, nfe=20)
    write_png(show(spec, x.cpu(), columns, labels), path, {"seed": 0, "nfe": 20})
