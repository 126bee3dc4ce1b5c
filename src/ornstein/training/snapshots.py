"""Averages of the weights stored during a training, from which averages of other widths are reconstructed."""

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
    """The snapshots of a run, one file each, in a folder that is made when the first one is written."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def image_counts(self) -> list[int]:
        """Pictures seen at each snapshot, earliest first."""
        return sorted(int(file.stem) for file in files.list_folder(self.path) if NAME.fullmatch(file.name))

    def write(self, images: int, averages: Mapping[float, Mapping[str, Tensor]]) -> None:
        """Store the averages, by relative width, after `images` pictures; raises OSError."""
        files.refuse_link(self.path)
        tensors = {f"{index}.{name}": value for index, average in enumerate(averages.values())
                   for name, value in average.items()}
        checkpoint.write(self._file(images), tensors, {"images": images, "widths": list(averages)}, ours=True)

    def remove(self, after: int = -1) -> None:
        """Remove the snapshots after so many pictures, all by default; files that Ornstein did not write stay."""
        files.refuse_link(self.path)
        for images in self.image_counts():
            if images > after and files.is_ours(self._file(images)):
                files.remove(self._file(images))

    def combine(self, width: float, images: int | None = None) -> tuple[dict[str, Tensor], float]:
        """Reconstruct an average of another width: its float32 weights by name, and the relative error of its profile
        (`reconstruction`).

        It ends at `images`, by default at the last snapshot; ValueError if there is no such snapshot.
        """
        counts, gamma = self.image_counts(), exponent(width)
        if not counts:
            raise ValueError(f"{self.path} holds no averages; train with snapshots greater than 0")
        end = counts[-1] if images is None else require_int("images", images)
        if end not in counts:
            raise ValueError(f"images is {end}; averages were kept at {', '.join(map(str, counts))}")
        counts = [count for count in counts if count <= end]
        stored = [(count, stored_width) for count in counts for stored_width in self._widths(count)]
        coefficients, error = reconstruction([(count, exponent(stored_width)) for count, stored_width in stored],
                                             (end, gamma))
        total: dict[str, Tensor] = {}
        for count in counts:
            tensors, _ = checkpoint.read(self._file(count))
            own = [c for c, (at, _) in zip(coefficients, stored, strict=True) if at == count]
            for label, value in tensors.items():
                index, _, name = label.partition(".")
                term = float(own[int(index)]) * value.double()
                total[name] = total[name] + term if name in total else term
        return {name: value.float() for name, value in total.items()}, error

    def _widths(self, images: int) -> Sequence[float]:
        return checkpoint.read(self._file(images))[1]["widths"]

    def _file(self, images: int) -> Path:
        return self.path / f"{images:012d}{ENDING}"
