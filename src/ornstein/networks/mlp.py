"""A residual perceptron for vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from ornstein.arguments import require_int
from ornstein.isolation import isolated
from ornstein.networks.layers import MAX_BLOCKS, MAX_WIDTH, Embedding, Linear, Modulation, check_shape, rms_norm

__all__ = ["MLP"]


class MLP(nn.Module):
    """Residual blocks on the flattened sample, modulated by log SNR and condition.

    Args:
        shape: shape of one sample, of any rank.
        classes: number of classes, 0 for none.
        width: width of the residual stream.
        depth: number of blocks.
        embedding: width of the modulation vector.
        conditions: length of a vector condition, 0 for none.

    Raises:
        ValueError: an option is not a whole number or out of range, or both classes and conditions are given.
    """

    @isolated()
    def __init__(self, shape: Sequence[int], classes: int = 0, width: int = 256, depth: int = 4,
                 embedding: int = 64, conditions: int = 0) -> None:
        super().__init__()
        shape = check_shape(shape, classes, conditions, embedding)
        require_int("width", width, maximum=MAX_WIDTH)
        require_int("depth", depth, 0, MAX_BLOCKS)
        self.options = {"shape": shape, "classes": classes, "width": width, "depth": depth,
                        "embedding": embedding, **({"conditions": conditions} if conditions else {})}
        values = math.prod(shape)
        self.embedding = Embedding(classes, embedding, conditions)
        self.into, self.out = Linear(values, width), Linear(width, values)
        self.up = nn.ModuleList(Linear(width, width) for _ in range(depth))
        self.down = nn.ModuleList(Linear(width, width) for _ in range(depth))
        self.modulation = Modulation(embedding, [3 * width] * depth + [2 * width])
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, y: Tensor, log_snr: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return a tensor like y.

        Args:
            y: (B, *shape).
            log_snr: (B,).
            condition: (B,) int64 with -1 for none, or (B, conditions) with NaN rows for none, or None.
        """
        *blocks, last = self.modulation(self.embedding(log_snr, condition))
        x = self.into(y.flatten(1))
        for up, down, block in zip(self.up, self.down, blocks, strict=True):
            scale, shift, gate = block.chunk(3, 1)
            x = x + gate * down(F.silu(up(rms_norm(x) * (1 + scale) + shift)))
        scale, shift = last.chunk(2, 1)
        return self.out(rms_norm(x) * (1 + scale) + shift).reshape(y.shape).to(y.dtype)
