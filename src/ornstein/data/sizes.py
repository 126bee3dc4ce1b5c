"""The one size that pictures of many sizes are given, and what that does to them."""

from __future__ import annotations

import statistics

import numpy as np

from ornstein.data.pictures import Reading

__all__ = ["own_size", "size_notes"]

OWN_SIDE = 64  # pixels of the shorter side of pictures whose size nobody has chosen, at most
LONGEST = 4  # times the shorter side, the longer one of pictures that keep a shape of their own
ALIKE = 0.01  # by which pictures of one shape may differ in their proportions
LEAST_LOST = 0.005  # share of a picture whose loss is worth a word


def own_size(sizes: np.ndarray) -> tuple[int, int]:
    """Return width and height for pictures of (N, 2) sizes: of the one shape that they have, else a square."""
    short = statistics.median(sizes.min(1).tolist())
    side = max(8, int(min(OWN_SIDE, short)) // 8 * 8)
    proportions = sizes[:, 0] / sizes[:, 1]
    proportion = float(np.median(proportions))
    if max(proportion, 1 / proportion) > LONGEST or np.ptp(proportions) > ALIKE * proportion:
        return side, side
    if (sizes == sizes[0]).all() and short <= OWN_SIDE:
        return int(sizes[0, 0]), int(sizes[0, 1])
    return (round(side * proportion), side) if proportion > 1 else (side, round(side / proportion))


def size_notes(sizes: np.ndarray, size: tuple[int, int], reading: Reading) -> list[str]:
    """Return what became of pictures of (N, 2) sizes in one (width, height)."""
    def count(those: np.ndarray) -> str:
        return f"{those.sum()} of {len(sizes)} pictures"

    notes, (width, height) = [], size
    if reading.size is None and (sizes != size).any():
        different = len(np.unique(sizes, axis=0))
        number = "1 size" if different == 1 else f"{different} different sizes"
        notes.append(f"the pictures have {number}: {width}x{height} was chosen; --size sets another")
    across, down = (sizes / size).T
    lost = 1 - np.minimum(across, down) / np.maximum(across, down)  # to another shape
    other = lost > LEAST_LOST
    if other.any():
        wider, taller = int((other & (across > down)).sum()), int((other & (across < down)).sum())
        kinds = f" ({wider} wider, {taller} taller)" if wider and taller else ""
        shape = "their middle square" if width == height else f"the shape of {width}x{height} around their middle"
        share = f"{lost[other].mean():.0%}"
        notes.append(f"{count(other)}{kinds} were " + {
            "cut": f"cropped to {shape}: {share} of their pixels are lost on average (--fit pad keeps them all)",
            "pad": f"padded with white to {width}x{height}, {share} of it on average",
            "stretch": f"stretched to {width}x{height}, by up to {1 / (1 - lost.max()):.3g} times"}[reading.fit])
    scale = np.maximum(across, down) if reading.fit == "pad" else np.minimum(across, down)
    target = f"{width}" if width == height else f"{width}x{height}"
    for word, those in (("reduced", scale > 1), ("enlarged", scale < 1)):
        if those.any():
            notes.append(f"{count(those)} were {word} to {target} pixels")
    return notes
