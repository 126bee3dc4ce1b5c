"""A convolutional network with several resolutions (Ronneberger et al. 2015), modulated in every block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ornstein.arguments import require_int, require_ints, short_repr
from ornstein.isolation import isolated
from ornstein.networks import layers

__all__ = ["UNet"]


def _broadcast(rows: Tensor, like: Tensor) -> Tensor:
    """Reshape (B, C) to (B, C, 1, ...), with as many axes as `like`."""
    return rows.reshape(*rows.shape, *[1] * (like.ndim - 2))


class _Block(nn.Module):
    """Two convolutions on a normalised, modulated stream, optionally with attention between them."""

    def __init__(self, width: int, attention: bool, rank: int) -> None:
        super().__init__()
        convolution = layers.CONVOLUTIONS[rank]
        self.first, self.second = convolution(width, width, 3, padding=1), convolution(width, width, 3, padding=1)
        heads = next(count for count in range(max(1, width // 32), 0, -1) if not width % count)
        self.attention = layers.Attention(width, heads) if attention else None

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        scale, shift, gate = _broadcast(modulation, x).chunk(3, 1)
        hidden = F.silu(self.first(layers.rms_norm(x, 1) * (1 + scale) + shift))
        if self.attention is not None:
            tokens = hidden.flatten(2).transpose(1, 2)
            hidden = hidden + self.attention(layers.rms_norm(tokens)).transpose(1, 2).unflatten(2, hidden.shape[2:])
        return x + gate * self.second(hidden)


class _Level(nn.ModuleList):
    """The blocks of one level; each takes the next modulation."""

    def forward(self, x: Tensor, modulation: Iterator[Tensor]) -> Tensor:
        for block in self:
            x = block(x, next(modulation))
        return x


class UNet(nn.Module):
    """Residual blocks on the way down and up again; each level halves every side, and skip connections are added.

    Args:
        shape: (C, L) of a trace, (C, H, W) of a picture or (C, D, H, W) of a volume; sides that cannot be halved at
            every level are padded internally.
        classes: number of classes, 0 for none.
        widths: channels of each level, finest first.
        depths: blocks of each level on the way down, and again on the way up.
        stem: factor by which every side is folded first: stem x stem pixels of a picture become channels.
        attention: whether the coarsest level has attention.
        embedding: width of the modulation vector.
        conditions: length of a vector condition, 0 for none.
        through: whether y itself is added to the output with a modulated weight. Otherwise a stem that folds more
            values than the finest level has channels loses noise that the output must contain.
        hints: whether y has C more channels with the linear guess that is later added to the output.

    Raises:
        ValueError: an option has the wrong type or is out of range, the rank is not supported, widths and depths are
            empty or differ in length, the sides are too small for the levels, or both classes and conditions are given.
    """

    @isolated()
    def __init__(self, shape: Sequence[int], classes: int = 0, widths: Sequence[int] = (32, 64),
                 depths: Sequence[int] = (1, 2), stem: int = 1, attention: bool = False, embedding: int = 64,
                 conditions: int = 0, through: bool = False, hints: bool = False) -> None:
        super().__init__()
        shape = layers.check_shape(shape, classes, conditions, embedding)
        widths = require_ints("widths", widths, maximum=layers.MAX_WIDTH)
        depths = require_ints("depths", depths, 0, layers.MAX_BLOCKS)
        require_int("stem", stem)
        for name, value in (("attention", attention), ("through", through), ("hints", hints)):
            layers.require_bool(name, value)
        rank = len(shape) - 1
        if rank not in layers.CONVOLUTIONS:
            raise ValueError(f"shape is {tuple(shape)}; a UNet takes {layers.axis_names(shape)}")
        if not widths or len(widths) != len(depths):
            raise ValueError(f"widths is {short_repr(widths)} and depths {short_repr(depths)}; they must have one "
                             "entry per level")
        if stem * 2 ** (len(widths) - 1) > 2 * max(shape[1:]) or sum(depths) > layers.MAX_BLOCKS:
            raise ValueError(f"stem is {stem}, with {len(widths)} levels of {sum(depths)} blocks; samples of shape "
                             f"{tuple(shape)} are too small for so many levels, or there are too many blocks")
        self.options = {"shape": shape, "classes": classes, "widths": widths, "depths": depths,
                        "stem": stem, "attention": attention, "embedding": embedding,
                        **({"conditions": conditions} if conditions else {}), **({"through": True} if through else {}),
                        **({"hints": True} if hints else {})}
        levels, convolution = len(widths), layers.CONVOLUTIONS[rank]
        self.stem, self.multiple, values = stem, stem * 2 ** (levels - 1), shape[0] * stem**rank
        sides = [-(-side // self.multiple) * 2 ** (levels - 1) for side in shape[1:]]
        self.embedding = layers.Embedding(classes, embedding, conditions)
        # With a channel of ones, the first convolution can detect the borders.
        self.into = convolution(values * (1 + hints) + 1, widths[0], 3, padding=1)
        self.out = convolution(widths[0], values, 3, padding=1)
        self.down_blocks = nn.ModuleList(
            _Level(_Block(width, attention and level == levels - 1, rank) for _ in range(depth))
            for level, (width, depth) in enumerate(zip(widths, depths, strict=True)))
        self.up_blocks = nn.ModuleList(
            _Level(_Block(width, False, rank) for _ in range(depth))
            for width, depth in zip(widths[:-1], depths[:-1], strict=True))
        self.shrink = nn.ModuleList(convolution(fine, coarse, 2, stride=2) for fine, coarse in pairwise(widths))
        self.grow = nn.ModuleList(convolution(coarse, 2**rank * fine, 1) for fine, coarse in pairwise(widths))
        self.place = nn.ParameterList(
            0.1 * torch.randn(1, width, *(side >> level for side in sides), dtype=torch.float32)
            for level, width in enumerate(widths))
        order = [*range(levels), *range(levels - 2, -1, -1)]  # levels in order of execution
        blocks = [3 * widths[level] for level in order for _ in range(depths[level])]
        self.modulation = layers.Modulation(embedding, [*blocks, 2 * widths[0], *([values] if through else [])])
        self.through, self.channels = through, shape[0]
        for weight in self.out.parameters():
            nn.init.zeros_(weight)
        layers.set_memory_format(self)

    def forward(self, y: Tensor, log_snr: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return a tensor like the first C channels of y.

        Args:
            y: (B, C, *sides), or (B, 2 C, *sides) with hints.
            log_snr: (B,).
            condition: (B,) int64 with -1 for none, or (B, conditions) with NaN rows for none, or None.
        """
        modulation, sides = iter(self.modulation(self.embedding(log_snr, condition))), y.shape[2:]
        # `pad` takes the last axis first.
        padding = [pad for side in reversed(sides) for pad in (0, -side % self.multiple)]
        folded = layers.fold(F.pad(y, padding, mode="replicate"), self.stem)
        x = layers.channels_last(torch.cat([folded, torch.ones_like(folded[:, :1])], 1))
        x = self.into(x) + self.place[0]
        skips = []
        for level, blocks in enumerate(self.down_blocks):
            if level:
                skips.append(x)
                x = self.shrink[level - 1](x) + self.place[level]
            x = blocks(x, modulation)
        for level in range(len(skips) - 1, -1, -1):
            x = self.up_blocks[level](skips[level] + layers.unfold(self.grow[level](x), 2), modulation)
        scale, shift = _broadcast(next(modulation), x).chunk(2, 1)
        x = self.out(layers.rms_norm(x, 1) * (1 + scale) + shift)
        if self.through:
            x = x + _broadcast(next(modulation), x) * folded[:, :x.shape[1]]
        output = layers.unfold(x, self.stem)[(..., *(slice(side) for side in sides))]
        return output.to(y.dtype).contiguous()
