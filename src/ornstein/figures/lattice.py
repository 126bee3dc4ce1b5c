"""Pictures in the cells of a table, under names of its columns and beside names of its rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from ornstein.figures.pictures import GAP, INK, LETTERS, SIDE, enlarged, font, shortened_to

__all__ = ["lattice"]

INSIDE = 2  # pixels between the pictures of one cell
WIDEST = 240, 120  # pixels of the name of a row, of a column
LARGEST = 96  # pixels that the side of a picture grows to by itself


def lattice(cells: Sequence[Sequence[np.ndarray]], rows: Sequence[str], columns: Sequence[str] = (), *,
            over: str = "", across: int, scale: int | None = None) -> Image.Image:
    """Rows of cells, each of (count, H, W, 3 or 4) uint8 pictures, `across` of them beside one another.

    `over` is what all the columns are of. Every pixel is enlarged by a whole number, `scale` or what there is room for.
    """
    count, height, width, _ = cells[0][0].shape
    down, pen = -(-count // across), ImageDraw.Draw(Image.new("RGB", (1, 1)))
    scale = scale or max(1, min(SIDE // max(len(rows) * down * height, len(cells[0]) * across * width),
                                LARGEST // max(height, width)))
    height, width = scale * height + INSIDE, scale * width + INSIDE
    left, least = (min(most, int(max((pen.textlength(name, font()) for name in names), default=0)) + 1)
                   for names, most in zip((rows, columns), WIDEST, strict=True))
    left, top = left + 2 * GAP, GAP + (LETTERS + GAP) * bool(columns) + LETTERS * bool(over)
    wide, high = max(across * width - INSIDE, least) + 2 * GAP, down * height - INSIDE + 2 * GAP
    sheet = Image.new("RGB", (left + len(cells[0]) * wide, top + len(rows) * high), "white")
    pen = ImageDraw.Draw(sheet)
    pen.text((left + (len(cells[0]) * wide) / 2 - GAP, GAP), over, INK, font(), anchor="mt")
    for column, name in enumerate(columns):
        middle = left + column * wide + wide / 2 - GAP
        pen.text((middle, top - GAP), shortened_to(name, wide - GAP, pen), INK, font(), anchor="mb")
    for row, name in enumerate(rows):
        middle = top + row * high + high / 2 - GAP
        pen.text((left - GAP, middle), shortened_to(name, WIDEST[0], pen), INK, font(), anchor="rm")
        for column, cell in enumerate(cells[row]):
            start = left + column * wide + (wide - 2 * GAP - across * width + INSIDE) // 2
            for number, one in enumerate(enlarged(cell, scale)):
                place = start + number % across * width, top + row * high + number // across * height
                picture = Image.fromarray(one)
                sheet.paste(picture, place, picture if picture.mode == "RGBA" else None)
    return sheet
