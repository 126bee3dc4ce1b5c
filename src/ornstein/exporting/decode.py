"""Decoding of model values as operations of a graph, like `DataSpec.decode` and `arrange`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ornstein.data import DataSpec

__all__ = ["Decode"]


class Decode(nn.Module):
    """Samples (B, *shape) in [-1, 1] to the data's own values and layout."""

    counts: Tensor
    low: Tensor
    width: Tensor
    minimum: Tensor
    span: Tensor
    offset: Tensor
    top: Tensor
    step: Tensor

    def __init__(self, spec: DataSpec) -> None:
        super().__init__()
        self.spec = spec
        self.dtype = torch.from_numpy(spec.decode(torch.zeros(1, *spec.shape, dtype=torch.float32, device="cpu"))).dtype
        low, high, minimum, maximum, levels = (self._broadcastable(entries) for entries in (
            spec.low, spec.high, spec.least, spec.most, spec.levels))
        counts = np.array([entry or 0 for entry in levels.flat], dtype=object).reshape(levels.shape)
        top = np.maximum(counts, 2) - 1
        # Differences of integers are taken before the conversion to float64, which cannot hold all of int64.
        for name, value in (("counts", counts), ("low", low), ("width", high - low), ("span", maximum - minimum),
                            ("offset", low - minimum), ("top", top)):
            self._register(name, value, np.float64)
        is_int = self.dtype is torch.int64
        dtype = np.int64 if is_int else np.float64
        self._register("minimum", minimum, dtype)
        self._register("step", (maximum - minimum) // top if is_int else (maximum - minimum) / top, dtype)

    def _broadcastable(self, entries: Any) -> np.ndarray:
        """One entry, or one for each channel, shaped to broadcast against samples."""
        numbers = np.array(entries if isinstance(entries, tuple) else (entries,), dtype=object)
        return numbers.reshape(-1, *[1] * (len(self.spec.shape) - 1))

    def _register(self, name: str, value: np.ndarray, dtype: type) -> None:
        self.register_buffer(name, torch.from_numpy(value.astype(dtype)), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        unit = (x.double() + 1) / 2
        unrounded = self.low + unit * self.width
        if not self.spec.rounds:
            return self._arrange(unrounded.to(self.dtype))
        index = torch.round(((unit * self.width + self.offset) / self.span).clamp(0, 1) * self.top)
        if self.dtype is torch.int64:
            return self._arrange(self.minimum + index.long() * self.step)
        # As in `DataSpec.decode`, so that levels that are integers stay exact.
        distance = torch.where(self.step.trunc() == self.step, index * self.step, index * self.span / self.top)
        return self._arrange(torch.where(self.counts > 0, self.minimum + distance, unrounded).to(self.dtype))

    def _arrange(self, values: Tensor) -> Tensor:
        if self.spec.mode == "RGBA":
            opacity = values[:, 3:].double()
            colour = torch.round(255 * values[:, :3].double() / opacity.clamp(min=1)).clamp(0, 255)
            values = torch.cat([torch.where(opacity > 0, colour, 0), opacity], 1).to(self.dtype)
        if self.spec.layout.endswith("C"):
            return values.movedim(1, -1)
        return values if "C" in self.spec.layout or self.spec.layout == "V" else values[:, 0]
