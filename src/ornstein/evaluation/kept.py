"""What an evaluation has done so far, on disk, so that one that was cut short goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ornstein import files

__all__ = ["Kept", "Pieces", "clear", "partial"]

T = TypeVar("T")
NAMES = re.compile(r"[0-9a-f]{16}-[a-z0-9-]+\.(json|safetensors)")


def partial(report: Path) -> Path:
    """The folder beside a report for what is done of it; it is removed when the report is whole."""
    place = report.resolve()
    return report.with_name(f"{report.name}.partial") if report.name else place.with_name(f"{place.name}.partial")


def clear(folder: Path) -> None:
    """Remove what evaluations have kept in a folder, and the folder unless something else is in it."""
    if not folder.is_dir() or folder.is_symlink():
        return
    files.remove_leftovers(folder)
    files.remove_folder(folder, NAMES)


class Kept:
    """Finished pieces of an evaluation in a folder, if there is one, under a digest of everything that they depend on:
    another model, other data, another setting or another version finds nothing of it."""

    def __init__(self, folder: Path | None = None, of: dict[str, Any] | None = None) -> None:
        self.folder, self._here = folder, dict[str, tuple[Any, float]]()
        self.digest = hashlib.sha256(json.dumps(of, sort_keys=True).encode()).hexdigest()[:16]

    def figures(self, name: str, read: Callable[[Any], T]) -> tuple[T, float] | None:
        """A piece of plain figures, as `read` makes it of JSON values, and the seconds it took; None without it."""
        if name in self._here:
            return self._here[name]
        path = self._path(name, "json")
        if path is None or not path.exists():
            return None
        try:
            record = json.loads(path.read_text("utf-8"))
            self._here[name] = read(record["value"]), float(record["seconds"])
            return self._here[name]
        except (ValueError, TypeError, KeyError, RecursionError):  # damaged: made again
            return None

    def took(self, name: str) -> float:
        """Seconds that a piece of plain figures took, which is there."""
        return self._here[name][1]

    def tensors(self, name: str) -> tuple[dict[str, Tensor], float] | None:
        """A piece of tensors, and the seconds it took; None if it is not there."""
        path = self._path(name, "safetensors")
        if path is None or not path.exists():
            return None
        try:
            with safe_open(path, "pt") as file:
                return {key: file.get_tensor(key) for key in file.keys()}, float(file.metadata()["seconds"])  # noqa: SIM118
        except (SafetensorError, ValueError, TypeError, KeyError):  # damaged: made again
            return None

    def keep(self, name: str, value: Any, seconds: float) -> None:
        """Keep a piece: tensors by name, or plain figures and dataclasses of them."""
        if isinstance(value, dict) and not value:
            return
        tensors = isinstance(value, dict) and all(isinstance(one, Tensor) for one in value.values())
        path = self._path(name, "safetensors" if tensors else "json")
        if not tensors:
            self._here[name] = value, seconds
        if path is None:
            return
        files.refuse_link(path.parent)
        with files.replacing(path) as beside:
            if tensors:
                save_file({key: one.contiguous() for key, one in value.items()}, beside, {"seconds": repr(seconds)})
            else:
                beside.write_text(json.dumps({"seconds": seconds, "value": value}, default=asdict), "utf-8")

    def _path(self, name: str, ending: str) -> Path | None:
        return None if self.folder is None else self.folder / f"{self.digest}-{name}.{ending}"


class Pieces:
    """The pieces of one part: keeps them, and says by `share` how much of the part is done and, where it
    was done before, in how many seconds."""

    def __init__(self, kept: Kept, share: Callable[..., None], clock: Callable[[], float]) -> None:
        self.kept, self.share, self.clock = kept, share, clock

    def __call__(self, name: str, make: Callable[[], T], read: Callable[[Any], T], done: float = 1.0) -> T:
        """What `make` gives, or what `read` makes of its JSON values; then a share `done` of the part is."""
        return self._piece(name, make, self.kept.figures(name, read), done)

    def tensors(self, name: str, make: Callable[[], dict[str, Tensor]], done: float = 1.0) -> dict[str, Tensor]:
        """The same for tensors by name."""
        return self._piece(name, make, self.kept.tensors(name), done)

    def within(self, start: float, stop: float) -> Callable[[float], None]:
        """What to call with the share of a piece that is done, where the piece is that much of the part."""
        return lambda inner: self.share(start + (stop - start) * inner)

    def _piece(self, name: str, make: Callable[[], T], before: tuple[T, float] | None, done: float) -> T:
        if before is not None:
            self.share(done, before[1])
            return before[0]
        started = self.clock()
        value = make()
        self.kept.keep(name, value, self.clock() - started)
        self.share(done)
        return value
