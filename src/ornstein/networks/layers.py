"""Parts that the networks share: what they are told, how it modulates them, and their norm."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Attention", "Embedding", "Modulation", "rms_norm"]


def rms_norm(x: Tensor, dim: int = -1) -> Tensor:
    """x over its root mean square along one dimension (Zhang & Sennrich 2019), in float32 inside."""
    if dim == -1:
        return F.rms_norm(x, x.shape[-1:])
    return x * torch.rsqrt(x.square().mean(dim, keepdim=True) + 1e-6).to(x.dtype)


class Embedding(nn.Module):
    """One vector for the log SNR and the class: sines of the log SNR, plus a learned vector a class.

    Args:
        classes: number of classes; condition -1 (none) has a vector of its own.
        width: of the vector.
    """

    frequency: Tensor

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.register_buffer("frequency", torch.exp(torch.linspace(math.log(0.1), math.log(3.0), 16)))
        self.level = nn.Linear(32, width)
        self.classes = nn.Embedding(classes + 1, width)
        nn.init.normal_(self.classes.weight, std=0.5)

    def forward(self, log_snr: Tensor, condition: Tensor | None) -> Tensor:
        wave = log_snr.float()[:, None] * self.frequency
        if condition is None:
            condition = torch.full(log_snr.shape, -1, device=log_snr.device)
        return F.silu(self.level(torch.cat([wave.sin(), wave.cos()], 1)) + self.classes(condition + 1))


class Modulation(nn.Module):
    """Shifts, scales and gates of every block from one matrix product, all zero at the start (Peebles & Xie 2023).

    Args:
        width: of the embedding.
        sizes: entries that each consumer takes.
    """

    def __init__(self, width: int, sizes: list[int]) -> None:
        super().__init__()
        self.sizes = sizes
        self.linear = nn.Linear(width, sum(sizes))
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, embedding: Tensor) -> tuple[Tensor, ...]:
        return self.linear(embedding).split(self.sizes, 1)


class Attention(nn.Module):
    """Self-attention over tokens, (B, N, D), with queries and keys of unit root mean square (Dehghani et al. 2023)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.into = nn.Linear(dim, 3 * dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, dim = x.shape
        parts = self.into(x).view(batch, tokens, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        query, key, value = parts.unbind(0)
        mixed = F.scaled_dot_product_attention(rms_norm(query), rms_norm(key), value)
        return self.out(mixed.transpose(1, 2).reshape(batch, tokens, dim))
