"""Networks, which map y, log SNR and a condition to a tensor like y, independently of diffusion."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from torch import nn

from ornstein.arguments import NetworkName, construct, find, require
from ornstein.networks.dit import DiT
from ornstein.networks.layers import set_memory_format
from ornstein.networks.mlp import MLP
from ornstein.networks.transfer import Transferred, transfer
from ornstein.networks.unet import UNet

__all__ = ["MLP", "NETWORKS", "DiT", "Transferred", "UNet", "build", "choose_network", "set_memory_format", "transfer"]

NETWORKS = dict[str, type[nn.Module]](zip(get_args(NetworkName), (DiT, MLP, UNet), strict=True))


def build(name: str, options: Mapping[str, Any]) -> nn.Module:
    """Build a network from its short name and the options of its class.

    Args:
        name: a key of `NETWORKS`.
        options: keyword arguments of the class.

    Raises:
        ValueError: the name or an option is unknown, or the class rejects an option.
    """
    network_class = find("network", name, NETWORKS)
    if "shape" not in options:
        raise ValueError(f"network {name!r} has no shape; give the shape of one sample")
    return construct(f"network {name!r}", network_class, options)


def choose_network(shape: Sequence[int], name: str = "auto", effort: int = 0) -> tuple[str, dict[str, Any]]:
    """Choose a network for samples of a shape, and its options except shape, classes and conditions.

    Args:
        shape: (D,) of a vector, (C, L) of a trace, (C, H, W) of a picture or (C, D, H, W) of a volume.
        name: "auto", or the network to choose options for.
        effort: computing budget of the training: 0 for a few minutes on a CPU, 1 for longer, 2 for a GPU.

    Returns:
        (name, options), a pure function of the arguments.

    Raises:
        ValueError: the name is unknown.
    """
    require("network", name, ["auto", *NETWORKS])
    rank, sides = len(shape) - 1, tuple(shape[1:])
    if name == "auto":
        name = "unet" if 1 <= rank <= 3 else "mlp"
    if name == "mlp":
        return name, {"width": 128 if shape == (2,) else 256, "depth": 4}
    if name == "dit":
        # Attention is quadratic in the number of patches: use about 32 for a trace, 64 for a picture or volume.
        patches_per_side, large_patches = {1: (32, (64, 32, 16)), 3: (4, ())}.get(rank, (8, ()))
        largest = max(2, min(sides, default=0) // patches_per_side)
        return name, {"patch": next(patch for patch in (*large_patches, 8, 4, 2, 1) if patch <= largest
                                    and not any(length % patch for length in sides))}
    if rank == 1:
        return name, _trace_options(sides[0])
    if rank == 3:
        return name, _volume_options(sides)
    if min(sides, default=0) <= 16:
        return name, {"widths": [32, 64], "depths": [1, 2]}
    return name, _picture_options(min(sides), effort)


def _picture_options(side: int, effort: int) -> dict[str, Any]:
    # Measured on CIFAR-10 on two cores, in equal time: stem 1 predicts the noise better at high SNR, but a folded stem
    # sees twice as many samples and generates better ones.
    if effort == 2:
        return {"widths": [96, 192, 256, 256], "depths": [2, 2, 2, 2], "stem": 1 if side <= 40 else 2 if side <= 80
                else 4, "attention": True}
    stem = 2 if side <= 64 else 4
    widths = [32, 64, 96] if effort == 0 else [64, 96, 128]
    return {"widths": widths, "depths": [1, 1, 1], "stem": stem, "attention": True}


def _trace_options(length: int) -> dict[str, Any]:
    if length <= 16:
        return {"widths": [32, 64], "depths": [1, 2], "through": True}
    # About 16 positions at the coarsest level, where attention is global; stems above 64 would fold too many values.
    stem = next(stem for stem in (1, 2, 4, 8, 16, 32, 64) if length <= 64 * stem or stem == 64)
    return {"widths": [32, 64, 96], "depths": [1, 1, 1], "stem": stem, "attention": True, "through": True}


def _volume_options(sides: Sequence[int]) -> dict[str, Any]:
    # 3-D convolutions are expensive, so fold to at most 8^3 positions, with a stem of at most 8.
    # Without `through`, 5 channels of 12^3 after 75 s of training had seven times the data's power at the finest scale.
    stem = next(stem for stem in (1, 2, 4, 8) if math.prod(-(-side // stem) for side in sides) <= 512 or stem == 8)
    return {"widths": [32, 64], "depths": [1, 2], "stem": stem, "through": True}
