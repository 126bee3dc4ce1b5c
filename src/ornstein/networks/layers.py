"""Shared layers: embedding, modulation, attention, normalisation, and convolutions and folding of any rank."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ornstein.arguments import require_int, require_ints, short_repr

__all__ = ["CONVOLUTIONS", "GRIDS", "MAX_BLOCKS", "MAX_WIDTH", "Attention", "Embedding", "Linear", "Modulation",
           "axis_names", "channels_last", "check_shape", "fold", "require_bool", "rms_norm", "set_memory_format",
           "unfold"]

# Weights are float32 whatever torch's default dtype is, so that a seed determines the model.
Linear = functools.partial(nn.Linear, dtype=torch.float32)
CONVOLUTIONS: dict[int, Callable[..., nn.Conv1d | nn.Conv2d | nn.Conv3d]] = {
    rank: functools.partial(convolution, dtype=torch.float32)
    for rank, convolution in enumerate((nn.Conv1d, nn.Conv2d, nn.Conv3d), 1)
}
GRIDS = {1: "(C, L)", 2: "(C, H, W)", 3: "(C, D, H, W)"}
FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}  # memory formats by number of axes
MAX_WIDTH, MAX_BLOCKS = 2**16, 4096


def check_shape(shape: Sequence[int], classes: int, conditions: int, embedding: int) -> list[int]:
    """Return the shape as a list after checking the options common to all networks; ValueError names the option."""
    require_int("classes", classes, 0, 2**31)
    require_int("conditions", conditions, 0, MAX_WIDTH)
    require_int("embedding", embedding, maximum=MAX_WIDTH)
    return require_ints("shape", shape)


def require_bool(argument: str, value: object) -> bool:
    """Return `value` if it is a bool, else raise ValueError."""
    if not isinstance(value, bool):
        raise ValueError(f"{argument} is {short_repr(value)}; it must be true or false")
    return value


def axis_names(shape: Sequence[int]) -> str:
    """Return the axes of a shape, such as "(C, H, W)", or all supported ones if the rank is not supported."""
    return GRIDS.get(len(shape) - 1, " or ".join(GRIDS.values()))


def set_memory_format(network: nn.Module) -> nn.Module:
    """Convert the weights of a network to its training memory format, in place, and return the network.

    The format determines the summation order of convolutions, so weights loaded from a file need it for equal results.
    """
    for value in network.parameters():
        if value.ndim in FORMATS:
            value.data = value.data.to(memory_format=FORMATS[value.ndim])
    return network


def channels_last(x: Tensor) -> Tensor:
    """Return x (B, C, *sides) in channels-last memory format if torch has one for its rank."""
    return x.contiguous(memory_format=FORMATS.get(x.ndim, torch.contiguous_format))


def fold(x: Tensor, factor: int) -> Tensor:
    """Fold (B, C, *sides) to (B, C factor^rank, *(sides / factor)): `pixel_unshuffle` for one to three sides."""
    if x.ndim == 4:
        return F.pixel_unshuffle(x, factor)
    split_shape = [size for side in x.shape[2:] for size in (side // factor, factor)]
    coarse, fine = range(2, x.ndim + x.ndim - 2, 2), range(3, x.ndim + x.ndim - 2, 2)
    folded = x.reshape(*x.shape[:2], *split_shape).permute(0, 1, *fine, *coarse)
    return folded.flatten(1, x.ndim - 1)


def unfold(x: Tensor, factor: int) -> Tensor:
    """Unfold (B, C factor^rank, *sides) to (B, C, *(sides factor)): the inverse of `fold`."""
    if x.ndim == 4:
        return F.pixel_shuffle(x, factor)
    rank = x.ndim - 2
    split = x.unflatten(1, (-1, *[factor] * rank))
    order = [axis for side in range(rank) for axis in (2 + rank + side, 2 + side)]
    # Through channels last, like `pixel_shuffle` for pictures: the surrounding convolutions use that format.
    unfolded = split.permute(0, *order, 1).reshape(x.shape[0], *(side * factor for side in x.shape[2:]), -1)
    return unfolded.movedim(-1, 1)


def rms_norm(x: Tensor, dim: int = -1) -> Tensor:
    """Return x divided by its root mean square along one dimension (Zhang & Sennrich 2019)."""
    if dim == -1:
        return F.rms_norm(x, x.shape[-1:])
    return x * torch.rsqrt(x.square().mean(dim, keepdim=True) + 1e-6).to(x.dtype)


def _lookup(table: nn.Embedding, index: Tensor) -> Tensor:
    if not torch.compiler.is_compiling() or torch.compiler.is_exporting():
        return table(index)
    # A compiled look-up accumulates its gradient in arbitrary thread order; a matrix product is reproducible.
    one_hot = index[:, None] == torch.arange(len(table.weight), device=index.device)
    with torch.autocast(index.device.type, enabled=False):
        return one_hot.to(table.weight.dtype) @ table.weight


class Embedding(nn.Module):
    """One vector for log SNR and condition: sinusoids of the log SNR plus a learned embedding of the condition.

    No condition, -1 or a row of NaN, has its own vector. The condition is a class or a vector of `conditions` numbers.
    """

    frequency: Tensor

    def __init__(self, classes: int, width: int, conditions: int = 0) -> None:
        super().__init__()
        if classes and conditions:
            raise ValueError(f"classes is {classes} and conditions {conditions}; a network takes one of the two")
        octaves = torch.linspace(math.log(0.1), math.log(3.0), 16, dtype=torch.float32)
        self.register_buffer("frequency", torch.exp(octaves))
        self.level = Linear(32, width)
        self.classes = nn.Embedding(classes + 1, width, dtype=torch.float32)
        nn.init.normal_(self.classes.weight, std=0.5)
        # Two layers: with one, only linear combinations of the condition would reach the nonlinearity.
        self.conditions = nn.Sequential(Linear(conditions, width), nn.SiLU(), Linear(width, width)) \
            if conditions else None

    def forward(self, log_snr: Tensor, condition: Tensor | None) -> Tensor:
        wave = log_snr.float()[:, None] * self.frequency
        level = self.level(torch.cat([wave.sin(), wave.cos()], 1))
        if condition is None:
            condition = torch.full(log_snr.shape, -1, device=log_snr.device)
        if self.conditions is None:
            return F.silu(level + _lookup(self.classes, condition + 1))
        if not condition.is_floating_point():
            return F.silu(level + self.classes.weight[0])
        known = ~condition.isnan().any(1, keepdim=True)
        learned = self.conditions(condition.masked_fill(~known, 0.0).to(level.dtype))
        return F.silu(level + torch.where(known, learned, self.classes.weight[0]))


class Modulation(nn.Module):
    """Shifts, scales and gates of every block from one matrix product, all zero at the start (Peebles & Xie 2023)."""

    def __init__(self, width: int, sizes: list[int]) -> None:
        super().__init__()
        self.sizes = sizes
        self.linear = Linear(width, sum(sizes))
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, embedding: Tensor) -> tuple[Tensor, ...]:
        return self.linear(embedding).split(self.sizes, 1)


class Attention(nn.Module):
    """Self-attention over tokens, (B, N, D), with queries and keys of unit root mean square (Dehghani et al. 2023)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.into = Linear(dim, 3 * dim, bias=False)
        self.out = Linear(dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, dim = x.shape
        projections = self.into(x).view(batch, tokens, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        query, key, value = projections.unbind(0)
        mixed = F.scaled_dot_product_attention(rms_norm(query), rms_norm(key), value)
        return self.out(mixed.transpose(1, 2).reshape(batch, tokens, dim))
