"""Weights of one network as the start of another."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Taken", "transfer"]

CLASSES, PLACE = "embedding.classes.weight", "place"
SMOOTH = {1: "linear", 2: "bilinear", 3: "trilinear"}  # by the number of sides


@dataclass(frozen=True)
class Taken:
    """What a network has of another one: numbers of weights, and the names of tensors that were resized or did not fit.
    """

    weights: int
    of: int
    resized: tuple[str, ...]
    missing: tuple[str, ...]


@torch.no_grad()
def transfer(network: nn.Module, source: Mapping[str, Tensor], classes: Sequence[int] = (),
             sides: tuple[Sequence[int], Sequence[int]] = ((), ())) -> Taken:
    """Fill a network with those weights of another that fit.

    Args:
        network: to fill, in place; what does not fit stays as it is.
        source: tensors of the other network by name.
        classes: for each class of `network` its number in the other one, -1 for a class that it did not have, which
            starts as no class at all.
        sides: of a sample of the other network and of this one; learned places are resized from one grid to the other.
    """
    taken, resized, missing, total = 0, list[str](), list[str](), 0
    for name, mine in network.named_parameters():
        theirs = source.get(name)
        if theirs is None:
            value = None
        elif name == CLASSES and theirs.shape[1:] == mine.shape[1:]:
            value = theirs[[0, *(number + 1 for number in classes)]]
        elif theirs.shape == mine.shape:
            value = theirs
        elif name.partition(".")[0] == PLACE and (value := _resized(theirs, mine, *sides)) is not None:
            resized.append(name)
        else:
            value = None
        total += mine.numel()
        if value is None or value.shape != mine.shape:
            missing.append(name)
            continue
        mine.copy_(value)
        taken += mine.numel()
    return Taken(taken, total, tuple(resized), tuple(missing))


def _resized(theirs: Tensor, mine: Tensor, there: Sequence[int], here: Sequence[int]) -> Tensor | None:
    """A learned place on another grid: (1, C, *grid), or a row a patch, (patches, C); None where it is no grid."""
    if theirs.ndim != mine.ndim or len(there) != len(here) or len(here) not in SMOOTH:
        return None
    if mine.ndim == len(here) + 2 and theirs.shape[:2] == mine.shape[:2]:
        return F.interpolate(theirs, mine.shape[2:], mode=SMOOTH[len(here)], align_corners=False)
    if mine.ndim != 2 or theirs.shape[1] != mine.shape[1]:
        return None
    grids = [[side // patch for side in sides] for sides, rows in ((there, theirs), (here, mine))
             if (patch := round((math.prod(sides) / len(rows)) ** (1 / len(sides))))]
    if [math.prod(grid) for grid in grids] != [len(theirs), len(mine)]:
        return None
    grid = theirs.T.reshape(1, -1, *grids[0])
    return F.interpolate(grid, grids[1], mode=SMOOTH[len(here)], align_corners=False).flatten(2)[0].T
