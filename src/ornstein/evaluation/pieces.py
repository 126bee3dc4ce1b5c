"""Finished pieces of an evaluation on disk, so that an interrupted one can resume."""

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

__all__ = ["PieceStore", "Pieces", "clear_pieces", "partial_folder"]

T = TypeVar("T")
NAMES = re.compile(r"[0-9a-f]{16}-[a-z0-9-]+\.(json|safetensors)")


def partial_folder(report: Path) -> Path:
    """The folder beside a report for its finished pieces; it is removed when the report is complete."""
    path = report.resolve()
    return report.with_name(f"{report.name}.partial") if report.name else path.with_name(f"{path.name}.partial")


def clear_pieces(folder: Path) -> None:
    """Remove the pieces of evaluations from a folder, and the folder itself unless it holds anything else."""
    if not folder.is_dir() or folder.is_symlink():
        return
    files.remove_leftovers(folder)
    files.remove_folder(folder, NAMES)


class PieceStore:
    """Finished pieces of an evaluation, kept in memory and, if a folder is given, on disk.

    Files are named by a digest of everything that the pieces depend on, so that an evaluation of another model, of
    other data, with other settings or by another version does not find them.
    """

    def __init__(self, folder: Path | None = None, identity: dict[str, Any] | None = None) -> None:
        self.folder, self._loaded = folder, dict[str, tuple[Any, float]]()
        self.digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]

    def figures(self, name: str, read: Callable[[Any], T]) -> tuple[T, float] | None:
        """A piece of plain figures, parsed by `read` from JSON values, and the seconds it took; None if missing."""
        if name in self._loaded:
            return self._loaded[name]
        path = self._path(name, "json")
        if path is None or not path.exists():
            return None
        try:
            record = json.loads(path.read_text("utf-8"))
            self._loaded[name] = read(record["value"]), float(record["seconds"])
            return self._loaded[name]
        except (ValueError, TypeError, KeyError, RecursionError):  # damaged: it is computed again
            return None

    def seconds(self, name: str) -> float:
        """How long a piece of plain figures took; it must have been loaded or kept before."""
        return self._loaded[name][1]

    def tensors(self, name: str) -> tuple[dict[str, Tensor], float] | None:
        """A piece of named tensors, and the seconds it took; None if missing."""
        path = self._path(name, "safetensors")
        if path is None or not path.exists():
            return None
        try:
            with safe_open(path, "pt") as file:
                return {key: file.get_tensor(key) for key in file.keys()}, float(file.metadata()["seconds"])  # noqa: SIM118
        except (SafetensorError, ValueError, TypeError, KeyError):  # damaged: it is computed again
            return None

    def keep(self, name: str, value: Any, seconds: float) -> None:
        """Keep a piece: named tensors, or plain figures and dataclasses of them."""
        if isinstance(value, dict) and not value:
            return
        is_tensors = isinstance(value, dict) and all(isinstance(entry, Tensor) for entry in value.values())
        path = self._path(name, "safetensors" if is_tensors else "json")
        if not is_tensors:
            self._loaded[name] = value, seconds
        if path is None:
            return
        files.refuse_link(path.parent)
        with files.replacing(path) as target:
            if is_tensors:
                save_file({key: tensor.contiguous() for key, tensor in value.items()}, target,
                          {"seconds": repr(seconds)})
            else:
                target.write_text(json.dumps({"seconds": seconds, "value": value}, default=asdict), "utf-8")

    def _path(self, name: str, suffix: str) -> Path | None:
        return None if self.folder is None else self.folder / f"{self.digest}-{name}.{suffix}"


class Pieces:
    """Computes the pieces of one part of an evaluation, or loads those that are already in the store.

    Calls `report` with the share of the part that is done and, for a loaded piece, the seconds it once took.
    """

    def __init__(self, store: PieceStore, report: Callable[..., None], clock: Callable[[], float]) -> None:
        self.store, self.report, self.clock = store, report, clock

    def figures(self, name: str, compute: Callable[[], T], read: Callable[[Any], T], done: float = 1.0) -> T:
        """The result of `compute`, or what `read` parses from its JSON values; then a share `done` of the part is
        done."""
        return self._piece(name, compute, self.store.figures(name, read), done)

    def tensors(self, name: str, compute: Callable[[], dict[str, Tensor]], done: float = 1.0) -> dict[str, Tensor]:
        """The same for named tensors."""
        return self._piece(name, compute, self.store.tensors(name), done)

    def within(self, start: float, stop: float) -> Callable[[float], None]:
        """A progress callback for a piece that takes the part from share `start` to share `stop`."""
        return lambda share: self.report(start + (stop - start) * share)

    def _piece(self, name: str, compute: Callable[[], T], stored: tuple[T, float] | None, done: float) -> T:
        if stored is not None:
            self.report(done, stored[1])
            return stored[0]
        started = self.clock()
        value = compute()
        self.store.keep(name, value, self.clock() - started)
        self.report(done)
        return value
