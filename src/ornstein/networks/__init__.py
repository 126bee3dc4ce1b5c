"""Networks: y, log SNR and a condition in, a tensor like y out. They know nothing of diffusion."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from torch import nn

from ornstein.arguments import NetworkName, construct, find, require
from ornstein.networks.dit import DiT
from ornstein.networks.layers import layout
from ornstein.networks.mlp import MLP
from ornstein.networks.transfer import Taken, transfer
from ornstein.networks.unet import UNet

__all__ = ["MLP", "NETWORKS", "DiT", "Taken", "UNet", "build", "layout", "suit", "transfer"]

NETWORKS = dict[str, type[nn.Module]](zip(get_args(NetworkName), (DiT, MLP, UNet), strict=True))


def build(name: str, options: Mapping[str, Any]) -> nn.Module:
    """A network by its short name and the options of its class.

    Args:
        name: a key of `NETWORKS`.
        options: keyword arguments of the class.

    Raises:
        ValueError: an unknown name or option, or options that the class refuses.
    """
    kind = find("network", name, NETWORKS)
    if "shape" not in options:
        raise ValueError(f"network {name!r} has no shape; give that of one sample")
    return construct(f"network {name!r}", kind, options)


def suit(shape: Sequence[int], name: str = "auto", work: int = 0) -> tuple[str, dict[str, Any]]:
    """The network that suits samples of a shape, and its options apart from shape, classes and conditions.

    Args:
        shape: (D,) of a vector, (C, L) of a trace, (C, H, W) of a picture or (C, D, H, W) of a volume.
        name: "auto", or a network whose options are wanted.
        work: that the training can pay for: 0 a few minutes of a CPU, 1 more of them, 2 a GPU.

    Returns:
        (name, options), a pure function of the arguments.

    Raises:
        ValueError: an unknown name.
    """
    require("network", name, ["auto", *NETWORKS])
    rank, sides = len(shape) - 1, tuple(shape[1:])
    if name == "auto":
        name = "unet" if 1 <= rank <= 3 else "mlp"
    if name == "mlp":
        return name, {"width": 128 if shape == (2,) else 256, "depth": 4}
    if name == "dit":
        # Attention costs the square of the patches: some 32 of a trace, 64 of a picture or a volume.
        parts, large = {1: (32, (64, 32, 16)), 3: (4, ())}.get(rank, (8, ()))
        most = max(2, min(sides, default=0) // parts)
        return name, {"patch": next(patch for patch in (*large, 8, 4, 2, 1) if patch <= most
                                    and not any(length % patch for length in sides))}
    if rank == 1:
        return name, _trace(sides[0])
    if rank == 3:
        return name, _volume(sides)
    if min(sides, default=0) <= 16:
        return name, {"widths": [32, 64], "depths": [1, 2]}
    return name, _picture(min(sides), work)


def _picture(side: int, work: int) -> dict[str, Any]:
    # Measured on CIFAR-10 on two cores: in the same minutes a network on the pixels themselves (stem 1) names the noise
    # better at a high SNR, one on folded pixels sees twice the samples and draws better ones.
    if work == 2:
        return {"widths": [96, 192, 256, 256], "depths": [2, 2, 2, 2], "stem": 1 if side <= 40 else 2 if side <= 80
                else 4, "attention": True}
    stem = 2 if side <= 64 else 4
    widths = [32, 64, 96] if work == 0 else [64, 96, 128]
    return {"widths": widths, "depths": [1, 1, 1], "stem": stem, "attention": True}


def _trace(length: int) -> dict[str, Any]:
    if length <= 16:
        return {"widths": [32, 64], "depths": [1, 2], "through": True}
    # Some 16 places at the coarsest level, where all see all, until a stem of 64 folds too much into a place.
    stem = next(stem for stem in (1, 2, 4, 8, 16, 32, 64) if length <= 64 * stem or stem == 64)
    return {"widths": [32, 64, 96], "depths": [1, 1, 1], "stem": stem, "attention": True, "through": True}


def _volume(sides: Sequence[int]) -> dict[str, Any]:
    # A place of a volume costs 27 products a weight, so there are at most 8^3 of them or, for large ones, stems of 8.
    # Without `through`, 5 channels of 12^3 trained for 75 s had seven times the data's power at the finest scale.
    stem = next(stem for stem in (1, 2, 4, 8) if math.prod(-(-side // stem) for side in sides) <= 512 or stem == 8)
    return {"widths": [32, 64], "depths": [1, 2], "stem": stem, "through": True}
