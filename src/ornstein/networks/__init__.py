"""Networks: y, log SNR and a class in, a tensor like y out. They know nothing of diffusion."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from ornstein.names import find, require
from ornstein.networks.dit import DiT
from ornstein.networks.mlp import MLP
from ornstein.networks.unet import UNet

__all__ = ["MLP", "NETWORKS", "DiT", "UNet", "build", "suit"]

NETWORKS: dict[str, type[nn.Module]] = {"dit": DiT, "mlp": MLP, "unet": UNet}


def build(name: str, options: Mapping[str, Any]) -> nn.Module:
    """A network by its short name and the options of its class.

    Args:
        name: a key of `NETWORKS`.
        options: keyword arguments of the class.

    Raises:
        ValueError: an unknown name or option, or options that the class refuses.
    """
    kind = find("network", name, NETWORKS)
    allowed = inspect.signature(kind).parameters
    for option in options:
        require(f"option of network {name!r}", option, allowed)
    return kind(**options)


def suit(shape: Sequence[int], name: str = "auto") -> tuple[str, dict[str, Any]]:
    """The network that suits samples of a shape, and its options apart from shape and classes.

    Args:
        shape: (C, H, W) of a picture, or (D,) of a vector.
        name: "auto", or a network whose options are wanted.

    Returns:
        (name, options), a pure function of the arguments.

    Raises:
        ValueError: an unknown name.
    """
    require("network", name, ["auto", *NETWORKS])
    if name == "auto":
        name = "unet" if len(shape) == 3 else "mlp"
    if name == "mlp":
        return name, {"width": 256, "depth": 4}
    side = min(shape[1:]) if len(shape) == 3 else 0
    if name == "dit":
        most = max(2, side // 8)
        return name, {"patch": next(patch for patch in (8, 4, 2, 1) if patch <= most
                                    and not any(length % patch for length in shape[1:]))}
    if side <= 16:
        return name, {"widths": [32, 64], "depths": [1, 2]}
    # Measured on 500 pictures of 32x32: a network of 1.9 M weights sees a third as many in the same minutes.
    return name, {"widths": [32, 64, 96], "depths": [1, 1, 1], "stem": 2 if side <= 64 else 4, "attention": True}
