"""Averages of the weights kept along a training, from which averages of any other length are put together."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from ornstein import checkpoint, files
from ornstein.arguments import require_int
from ornstein.training.average import exponent, reconstruction

__all__ = ["Snapshots"]

ENDING = ".safetensors"
NAME = re.compile(r"[0-9]{12,}\.safetensors")


class Snapshots:
    """The snapshots of a run, a file each, in a folder that is made when the first is written."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def places(self) -> list[int]:
        """Pictures seen at each snapshot, the earliest first."""
        return sorted(int(file.stem) for file in files.list_folder(self.path) if NAME.fullmatch(file.name))

    def write(self, images: int, averages: Mapping[float, Mapping[str, Tensor]]) -> None:
        """Keep averages, by their relative width, as they are after so many pictures; raises OSError."""
        files.refuse_link(self.path)
        tensors = {f"{place}.{name}": value for place, average in enumerate(averages.values())
                   for name, value in average.items()}
        checkpoint.write(self._file(images), tensors, {"images": images, "widths": list(averages)}, ours=True)

    def forget(self, after: int = -1) -> None:
        """Remove what was kept after so many pictures; all by default. What Ornstein did not write stays."""
        files.refuse_link(self.path)
        for images in self.places():
            if images > after and files.is_ours(self._file(images)):
                files.remove(self._file(images))

    def combine(self, width: float, images: int | None = None) -> tuple[dict[str, Tensor], float]:
        """Weights of an average of another width, float32 by name, and the share of it that is missed
        (`reconstruction`).

        It ends at `images`, by default the last; ValueError where there is no such snapshot.
        """
        places, gamma = self.places(), exponent(width)
        if not places:
            raise ValueError(f"{self.path} holds no averages; train with snapshots greater than 0")
        end = places[-1] if images is None else require_int("images", images)
        if end not in places:
            raise ValueError(f"images is {end}; averages were kept at {', '.join(map(str, places))}")
        places = [place for place in places if place <= end]
        kept = [(place, each) for place in places for each in self._widths(place)]
        shares, missed = reconstruction([(place, exponent(each)) for place, each in kept], (end, gamma))
        total: dict[str, Tensor] = {}
        for place in places:
            tensors, _ = checkpoint.read(self._file(place))
            mine = [share for share, (where, _) in zip(shares, kept, strict=True) if where == place]
            for label, value in tensors.items():
                number, _, name = label.partition(".")
                part = float(mine[int(number)]) * value.double()
                total[name] = total[name] + part if name in total else part
        return {name: value.float() for name, value in total.items()}, missed

    def _widths(self, images: int) -> Sequence[float]:
        return checkpoint.read(self._file(images))[1]["widths"]

    def _file(self, images: int) -> Path:
        return self.path / f"{images:012d}{ENDING}"
