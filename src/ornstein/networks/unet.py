"""A convolutional network that sees a picture at several sizes (Ronneberger et al. 2015), modulated throughout."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ornstein.networks.layers import Attention, Embedding, Modulation, rms_norm

__all__ = ["UNet"]


class _Block(nn.Module):
    """Two convolutions on a normed, modulated stream; with attention between them at the coarsest size."""

    def __init__(self, width: int, attention: bool) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
        self.attention = Attention(width, max(1, width // 32)) if attention else None

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        scale, shift, gate = modulation[:, :, None, None].chunk(3, 1)
        hidden = F.silu(self.first(rms_norm(x, 1) * (1 + scale) + shift))
        if self.attention is not None:
            tokens = hidden.flatten(2).transpose(1, 2)
            hidden = hidden + self.attention(rms_norm(tokens)).transpose(1, 2).unflatten(2, hidden.shape[2:])
        return x + gate * self.second(hidden)


class _Level(nn.ModuleList):
    """The blocks of one level, each of which takes the next modulation."""

    def forward(self, x: Tensor, modulation: Iterator[Tensor]) -> Tensor:
        for block in self:
            x = block(x, next(modulation))
        return x


class UNet(nn.Module):
    """Blocks at each size on the way down and up again; each level halves the picture, skips are added.

    Args:
        shape: (C, H, W) of one picture; sides that the levels do not divide are padded inside.
        classes: number of classes, 0 for none.
        widths: channels at each level, the finest first.
        depths: blocks at each level on the way down, and again on the way up.
        stem: the picture is first folded by this factor, stem x stem pixels into channels.
        attention: whether the coarsest level attends.
        embedding: width of the vector that modulates.

    Raises:
        ValueError: a shape that is not (C, H, W), or widths and depths of different or no length.
    """

    def __init__(self, shape: Sequence[int], classes: int = 0, widths: Sequence[int] = (32, 64),
                 depths: Sequence[int] = (1, 2), stem: int = 1, attention: bool = False, embedding: int = 64) -> None:
        super().__init__()
        if len(shape) != 3:
            raise ValueError(f"shape is {tuple(shape)}; a UNet takes pictures (C, H, W)")
        if not widths or len(widths) != len(depths):
            raise ValueError(f"widths is {list(widths)} and depths {list(depths)}; they must have one entry a level")
        self.options = {"shape": list(shape), "classes": classes, "widths": list(widths), "depths": list(depths),
                        "stem": stem, "attention": attention, "embedding": embedding}
        levels = len(widths)
        self.stem, self.multiple, values = stem, stem * 2 ** (levels - 1), shape[0] * stem * stem
        rows, columns = (-(-side // self.multiple) * 2 ** (levels - 1) for side in shape[1:])
        self.embedding = Embedding(classes, embedding)
        # A channel of ones tells the first convolution where the picture ends.
        self.into, self.out = nn.Conv2d(values + 1, widths[0], 3, padding=1), nn.Conv2d(widths[0], values, 3, padding=1)
        self.down_blocks = nn.ModuleList(
            _Level(_Block(width, attention and level == levels - 1) for _ in range(depth))
            for level, (width, depth) in enumerate(zip(widths, depths, strict=True)))
        self.up_blocks = nn.ModuleList(
            _Level(_Block(width, False) for _ in range(depth))
            for width, depth in zip(widths[:-1], depths[:-1], strict=True))
        self.shrink = nn.ModuleList(nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in pairwise(widths))
        self.grow = nn.ModuleList(nn.Conv2d(coarse, 4 * fine, 1) for fine, coarse in pairwise(widths))
        self.place = nn.ParameterList(0.1 * torch.randn(1, width, rows >> level, columns >> level)
                                      for level, width in enumerate(widths))
        self.modulation = Modulation(embedding, [3 * width for width in self._stream(widths, depths)] + [2 * widths[0]])
        for weight in self.out.parameters():
            nn.init.zeros_(weight)
        self.to(memory_format=torch.channels_last)  # pyrefly: ignore[no-matching-overload]

    @staticmethod
    def _stream(widths: Sequence[int], depths: Sequence[int]) -> list[int]:
        """Width of each block in the order in which they run."""
        down = [width for width, depth in zip(widths, depths, strict=True) for _ in range(depth)]
        return down + [width for width, depth in list(zip(widths, depths, strict=True))[-2::-1] for _ in range(depth)]

    def forward(self, y: Tensor, log_snr: Tensor, condition: Tensor | None = None) -> Tensor:
        """y (B, C, H, W), log_snr (B,), condition (B,) int64 with -1 for none, or None; returns a tensor like y."""
        *parts, last = self.modulation(self.embedding(log_snr, condition))
        modulation = iter(parts)
        height, width = y.shape[2:]
        x = F.pad(y, (0, -width % self.multiple, 0, -height % self.multiple), mode="replicate")
        x = F.pixel_unshuffle(x, self.stem)
        x = torch.cat([x, torch.ones_like(x[:, :1])], 1).contiguous(memory_format=torch.channels_last)
        x = self.into(x) + self.place[0]
        skips = []
        for level, blocks in enumerate(self.down_blocks):
            if level:
                skips.append(x)
                x = self.shrink[level - 1](x) + self.place[level]
            x = blocks(x, modulation)
        for level in range(len(skips) - 1, -1, -1):
            x = self.up_blocks[level](skips[level] + F.pixel_shuffle(self.grow[level](x), 2), modulation)
        scale, shift = last[:, :, None, None].chunk(2, 1)
        x = self.out(rms_norm(x, 1) * (1 + scale) + shift)
        return F.pixel_shuffle(x, self.stem)[:, :, :height, :width].to(y.dtype).contiguous()
