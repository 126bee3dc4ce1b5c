"""A transformer on patches of a trace, picture or volume (Peebles & Xie 2023)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ornstein.arguments import require_int
from ornstein.isolation import isolated
from ornstein.networks import layers

__all__ = ["DiT"]


class DiT(nn.Module):
    """Alternating attention and MLP blocks over patches, modulated by log SNR and condition.

    Args:
        shape: (C, L), (C, H, W) or (C, D, H, W) of one sample; all sides must be multiples of `patch`.
        classes: number of classes, 0 for none.
        patch: side length of a patch along each axis.
        width: width of the residual stream, a multiple of `heads`.
        depth: number of blocks.
        heads: number of attention heads.
        embedding: width of the modulation vector.
        conditions: length of a vector condition, 0 for none.

    Raises:
        ValueError: an option is not a whole number or out of range, the rank is not supported, a side is not a multiple
            of `patch`, the width is not a multiple of `heads`, or both classes and conditions are given.
    """

    @isolated()
    def __init__(self, shape: Sequence[int], classes: int = 0, patch: int = 2, width: int = 96, depth: int = 4,
                 heads: int = 3, embedding: int = 128, conditions: int = 0) -> None:
        super().__init__()
        shape = layers.check_shape(shape, classes, conditions, embedding)
        for name, value in (("patch", patch), ("width", width), ("heads", heads)):
            require_int(name, value, maximum=layers.MAX_WIDTH)
        require_int("depth", depth, 0, layers.MAX_BLOCKS)
        if len(shape) - 1 not in layers.GRIDS or any(side % patch for side in shape[1:]):
            raise ValueError(f"shape is {tuple(shape)}; a DiT of patch {patch} takes {layers.axis_names(shape)} with "
                             f"sides that are multiples of {patch}")
        if width % heads:
            raise ValueError(f"width is {width}; it must be a multiple of heads, {heads}")
        self.options = {"shape": shape, "classes": classes, "patch": patch, "width": width, "depth": depth,
                        "heads": heads, "embedding": embedding, **({"conditions": conditions} if conditions else {})}
        self.patch, values = patch, shape[0] * patch ** (len(shape) - 1)
        self.sides = tuple(side // patch for side in shape[1:])
        self.embedding = layers.Embedding(classes, embedding, conditions)
        self.place = nn.Parameter(0.3 * torch.randn(math.prod(self.sides), width, dtype=torch.float32))
        self.into, self.out = layers.Linear(values, width), layers.Linear(width, values)
        self.attention = nn.ModuleList(layers.Attention(width, heads) for _ in range(depth))
        self.up = nn.ModuleList(layers.Linear(width, 4 * width) for _ in range(depth))
        self.down = nn.ModuleList(layers.Linear(4 * width, width) for _ in range(depth))
        self.modulation = layers.Modulation(embedding, [6 * width] * depth + [2 * width])
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, y: Tensor, log_snr: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return a tensor like y.

        Args:
            y: (B, C, *sides).
            log_snr: (B,).
            condition: (B,) int64 with -1 for none, or (B, conditions) with NaN rows for none, or None.
        """
        *blocks, last = (modulation[:, None] for modulation in self.modulation(self.embedding(log_snr, condition)))
        x = self.into(layers.fold(y, self.patch).flatten(2).transpose(1, 2)) + self.place
        for attention, up, down, block in zip(self.attention, self.up, self.down, blocks, strict=True):
            scale, shift, gate, scale_up, shift_up, gate_up = block.chunk(6, 2)
            x = x + gate * attention(layers.rms_norm(x) * (1 + scale) + shift)
            x = x + gate_up * down(F.silu(up(layers.rms_norm(x) * (1 + scale_up) + shift_up)))
        scale, shift = last.chunk(2, 2)
        x = self.out(layers.rms_norm(x) * (1 + scale) + shift).transpose(1, 2)
        return layers.unfold(x.unflatten(2, self.sides), self.patch).to(y.dtype)
