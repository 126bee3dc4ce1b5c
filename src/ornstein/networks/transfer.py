"""Initialisation of a network with the weights of another."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Transferred", "transfer"]

CLASSES, POSITIONS = "embedding.classes.weight", "place"
INTERPOLATION = {1: "linear", 2: "bilinear", 3: "trilinear"}  # modes by number of sides


@dataclass(frozen=True)
class Transferred:
    """The numbers of transferred and of all weights, and the names of resized and of missing tensors."""

    weights: int
    total: int
    resized: tuple[str, ...]
    missing: tuple[str, ...]


@torch.no_grad()
def transfer(network: nn.Module, source: Mapping[str, Tensor], classes: Sequence[int] = (),
             sides: tuple[Sequence[int], Sequence[int]] = ((), ())) -> Transferred:
    """Copy the weights of another network that fit.

    Args:
        network: network to initialise in place; other weights are left unchanged.
        source: tensors of the other network by name.
        classes: for each class of `network` its index in the other network, -1 for a new class, which starts with the
            embedding of no class.
        sides: sides of a sample of the other network and of this one, for resizing learned position embeddings.
    """
    weights, resized, missing, total = 0, list[str](), list[str](), 0
    for name, target in network.named_parameters():
        tensor = source.get(name)
        if tensor is None:
            value = None
        elif name == CLASSES and tensor.shape[1:] == target.shape[1:]:
            value = tensor[[0, *(index + 1 for index in classes)]]
        elif tensor.shape == target.shape:
            value = tensor
        elif name.partition(".")[0] == POSITIONS and (value := _resize(tensor, target, *sides)) is not None:
            resized.append(name)
        else:
            value = None
        total += target.numel()
        if value is None or value.shape != target.shape:
            missing.append(name)
            continue
        target.copy_(value)
        weights += target.numel()
    return Transferred(weights, total, tuple(resized), tuple(missing))


def _resize(tensor: Tensor, target: Tensor, old_sides: Sequence[int], new_sides: Sequence[int]) -> Tensor | None:
    """Resize a position embedding, (1, C, *grid) or (patches, C), to another grid; None if it is not a grid."""
    if tensor.ndim != target.ndim or len(old_sides) != len(new_sides) or len(new_sides) not in INTERPOLATION:
        return None
    if target.ndim == len(new_sides) + 2 and tensor.shape[:2] == target.shape[:2]:
        return F.interpolate(tensor, target.shape[2:], mode=INTERPOLATION[len(new_sides)], align_corners=False)
    if target.ndim != 2 or tensor.shape[1] != target.shape[1]:
        return None
    grids = [[side // patch for side in sides] for sides, rows in ((old_sides, tensor), (new_sides, target))
             if (patch := round((math.prod(sides) / len(rows)) ** (1 / len(sides))))]
    if [math.prod(grid) for grid in grids] != [len(tensor), len(target)]:
        return None
    grid = tensor.T.reshape(1, -1, *grids[0])
    return F.interpolate(grid, grids[1], mode=INTERPOLATION[len(new_sides)], align_corners=False).flatten(2)[0].T
