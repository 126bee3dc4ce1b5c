"""From model values to the data's own, as operations of a graph: `DataSpec.decode` and `arrange`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ornstein.data import DataSpec

__all__ = ["Decode"]


class Decode(nn.Module):
    """Samples (B, *shape) in [-1, 1] as the data's own values and layout, as `DataSpec` says: what files hold."""

    counts: Tensor
    low: Tensor
    wide: Tensor
    least: Tensor
    reach: Tensor
    below: Tensor
    top: Tensor
    step: Tensor

    def __init__(self, spec: DataSpec) -> None:
        super().__init__()
        self.spec = spec
        self.kind = torch.from_numpy(spec.decode(torch.zeros(1, *spec.shape, dtype=torch.float32, device="cpu"))).dtype
        low, high, least, most, levels = (self._along(entries) for entries in (
            spec.low, spec.high, spec.least, spec.most, spec.levels))
        counts = np.array([entry or 0 for entry in levels.flat], dtype=object).reshape(levels.shape)
        top = np.maximum(counts, 2) - 1
        # Differences of whole numbers are exact before they become float64, for int64 does not fit into it.
        for name, value in (("counts", counts), ("low", low), ("wide", high - low), ("reach", most - least),
                            ("below", low - least), ("top", top)):
            self._keep(name, value, np.float64)
        whole = self.kind is torch.int64
        self._keep("least", least, np.int64 if whole else np.float64)
        self._keep("step", (most - least) // top if whole else (most - least) / top, np.int64 if whole else np.float64)

    def _along(self, entries: Any) -> np.ndarray:
        """One entry, or those of the channels, so that they broadcast against samples."""
        numbers = np.array(entries if isinstance(entries, tuple) else (entries,), dtype=object)
        return numbers.reshape(-1, *[1] * (len(self.spec.shape) - 1))

    def _keep(self, name: str, value: np.ndarray, kind: type) -> None:
        self.register_buffer(name, torch.from_numpy(value.astype(kind)), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        unit = (x.double() + 1) / 2
        plain = self.low + unit * self.wide
        if not self.spec.rounds:
            return self._arranged(plain.to(self.kind))
        place = torch.round(((unit * self.wide + self.below) / self.reach).clamp(0, 1) * self.top)
        if self.kind is torch.int64:
            return self._arranged(self.least + place.long() * self.step)
        # As in `DataSpec.decode`, so that whole numbers come out whole.
        size = torch.where(self.step.trunc() == self.step, place * self.step, place * self.reach / self.top)
        return self._arranged(torch.where(self.counts > 0, self.least + size, plain).to(self.kind))

    def _arranged(self, values: Tensor) -> Tensor:
        if self.spec.mode == "RGBA":
            opacity = values[:, 3:].double()
            colour = torch.round(255 * values[:, :3].double() / opacity.clamp(min=1)).clamp(0, 255)
            values = torch.cat([torch.where(opacity > 0, colour, 0), opacity], 1).to(self.kind)
        if self.spec.layout.endswith("C"):
            return values.movedim(1, -1)
        return values if "C" in self.spec.layout or self.spec.layout == "V" else values[:, 0]
