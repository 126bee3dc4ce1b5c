"""Pictures in the cells of a table with named rows and columns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from ornstein.figures.pictures import GAP, INK, SIDE, TEXT_HEIGHT, enlarge, font, shorten_to

__all__ = ["lattice"]

CELL_GAP = 2  # pixels between the pictures of one cell
NAME_WIDTHS = 240, 120  # largest widths of the name of a row and of a column, in pixels
MAX_SIDE = 96  # pixels up to which a picture is enlarged by default


def lattice(cells: Sequence[Sequence[np.ndarray]], rows: Sequence[str], columns: Sequence[str] = (), *,
            over: str = "", across: int, scale: int | None = None) -> Image.Image:
    """Arrange rows of cells, each of (count, H, W, 3 or 4) uint8 pictures in `across` columns.

    `over` is a heading of all the columns. Pixels are enlarged by the whole number `scale`, or the largest that fits.
    """
    count, height, width, _ = cells[0][0].shape
    down, pen = -(-count // across), ImageDraw.Draw(Image.new("RGB", (1, 1)))
    scale = scale or max(1, min(SIDE // max(len(rows) * down * height, len(cells[0]) * across * width),
                                MAX_SIDE // max(height, width)))
    height, width = scale * height + CELL_GAP, scale * width + CELL_GAP
    left, min_width = (min(limit, int(max((pen.textlength(name, font()) for name in names), default=0)) + 1)
                       for names, limit in zip((rows, columns), NAME_WIDTHS, strict=True))
    left, top = left + 2 * GAP, GAP + (TEXT_HEIGHT + GAP) * bool(columns) + TEXT_HEIGHT * bool(over)
    column_width, row_height = max(across * width - CELL_GAP, min_width) + 2 * GAP, down * height - CELL_GAP + 2 * GAP
    sheet = Image.new("RGB", (left + len(cells[0]) * column_width, top + len(rows) * row_height), "white")
    pen = ImageDraw.Draw(sheet)
    pen.text((left + (len(cells[0]) * column_width) / 2 - GAP, GAP), over, INK, font(), anchor="mt")
    for column, name in enumerate(columns):
        middle = left + column * column_width + column_width / 2 - GAP
        pen.text((middle, top - GAP), shorten_to(name, column_width - GAP, pen), INK, font(), anchor="mb")
    for row, name in enumerate(rows):
        middle = top + row * row_height + row_height / 2 - GAP
        pen.text((left - GAP, middle), shorten_to(name, NAME_WIDTHS[0], pen), INK, font(), anchor="rm")
        for column, cell in enumerate(cells[row]):
            start = left + column * column_width + (column_width - 2 * GAP - across * width + CELL_GAP) // 2
            for number, pixels in enumerate(enlarge(cell, scale)):
                position = start + number % across * width, top + row * row_height + number // across * height
                picture = Image.fromarray(pixels)
                sheet.paste(picture, position, picture if picture.mode == "RGBA" else None)
    return sheet
