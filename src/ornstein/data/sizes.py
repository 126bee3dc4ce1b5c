"""The common size of pictures of many sizes, and notes on how they were resized."""

from __future__ import annotations

import statistics

import numpy as np

from ornstein.data.pictures import ReadOptions

__all__ = ["default_size", "size_notes"]

DEFAULT_SIDE = 64  # maximum shorter side in pixels if the user chose no size
MAX_PROPORTION = 4  # longer side over shorter side, up to which pictures keep their own shape
MAX_DIFFERENCE = 0.01  # relative difference of proportions, up to which pictures have the same shape
MIN_LOST = 0.005  # share of a picture whose loss is worth a note


def default_size(sizes: np.ndarray) -> tuple[int, int]:
    """Return width and height for pictures of (N, 2) sizes: their common shape, or else a square."""
    short = statistics.median(sizes.min(1).tolist())
    side = max(8, int(min(DEFAULT_SIDE, short)) // 8 * 8)
    proportions = sizes[:, 0] / sizes[:, 1]
    proportion = float(np.median(proportions))
    if max(proportion, 1 / proportion) > MAX_PROPORTION or np.ptp(proportions) > MAX_DIFFERENCE * proportion:
        return side, side
    if (sizes == sizes[0]).all() and short <= DEFAULT_SIDE:
        return int(sizes[0, 0]), int(sizes[0, 1])
    return (round(side * proportion), side) if proportion > 1 else (side, round(side / proportion))


def size_notes(sizes: np.ndarray, size: tuple[int, int], options: ReadOptions) -> list[str]:
    """Return notes on what resizing to (width, height) did to pictures of (N, 2) sizes."""
    def count(mask: np.ndarray) -> str:
        return f"{mask.sum()} of {len(sizes)} pictures"

    notes, (width, height) = [], size
    if options.size is None and (sizes != size).any():
        size_count = len(np.unique(sizes, axis=0))
        found_sizes = "1 size" if size_count == 1 else f"{size_count} different sizes"
        notes.append(f"the pictures have {found_sizes}: {width}x{height} was chosen; --size sets another")
    width_ratios, height_ratios = (sizes / size).T
    smaller, larger = np.minimum(width_ratios, height_ratios), np.maximum(width_ratios, height_ratios)
    lost = 1 - smaller / larger  # by changing the shape
    reshaped = lost > MIN_LOST
    if reshaped.any():
        wider = int((reshaped & (width_ratios > height_ratios)).sum())
        taller = int((reshaped & (width_ratios < height_ratios)).sum())
        detail = f" ({wider} wider, {taller} taller)" if wider and taller else ""
        shape = "their middle square" if width == height else f"the shape of {width}x{height} around their middle"
        share = f"{lost[reshaped].mean():.0%}"
        notes.append(f"{count(reshaped)}{detail} were " + {
            "cut": f"cropped to {shape}: {share} of their pixels are lost on average (--fit pad keeps them all)",
            "pad": f"padded with white to {width}x{height}, {share} of it on average",
            "stretch": f"stretched to {width}x{height}, by up to {1 / (1 - lost.max()):.3g} times"}[options.fit])
    scale = larger if options.fit == "pad" else smaller
    target = f"{width}" if width == height else f"{width}x{height}"
    for word, mask in (("reduced", scale > 1), ("enlarged", scale < 1)):
        if mask.any():
            notes.append(f"{count(mask)} were {word} to {target} pixels")
    return notes
