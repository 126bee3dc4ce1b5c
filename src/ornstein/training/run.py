"""The folder of a run: its settings, its metrics, its state and its model."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from torch import Tensor

from ornstein.checkpoint import MODEL, read, write
from ornstein.settings import Settings

__all__ = ["Run"]

SETTINGS, METRICS, STATE, PREVIEWS = "run.yaml", "metrics.jsonl", "resume.safetensors", "previews"


class Run:
    """One training's folder.

    Args:
        path: of the folder; it is made when the first file is written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.previews = self.path / PREVIEWS

    def refuse(self, resume: bool, overwrite: bool) -> None:
        """Refuse a folder that already holds a run, unless it is to be gone on with or replaced.

        Raises:
            FileExistsError: it holds a run, and neither is asked for.
            ValueError: both are, or the path is a file.
        """
        if resume and overwrite:
            raise ValueError("resume and overwrite are both asked for; give one of them")
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"{self.path} is a file; a run needs a folder")
        there = [name for name in (SETTINGS, METRICS, STATE, MODEL, PREVIEWS) if (self.path / name).exists()]
        if there and not overwrite and SETTINGS not in there:
            raise FileExistsError(f"{self.path} holds a {there[0]} that is of no run; name another folder, or replace "
                                  "it (--overwrite)")
        if there and not (resume or overwrite):
            raise FileExistsError(f"{self.path} already holds a run; go on with it (--resume), replace it "
                                  "(--overwrite), or name another folder")

    def settings(self) -> Settings | None:
        """The settings of the run that is there, None without one.

        Raises:
            ValueError: a run.yaml that is damaged, or a path that is a file.
        """
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"{self.path} is a file; a run needs a folder")
        file = self.path / SETTINGS
        return Settings.from_yaml(file.read_text("utf-8")) if file.is_file() else None

    def begin(self, settings: Settings) -> None:
        """Make the folder and write the settings; what an earlier run left there is removed."""
        ours = [self.path / name for name in (SETTINGS, METRICS, STATE, MODEL)]
        for file in [*ours, *self.previews.glob("*.png")]:
            file.unlink(missing_ok=True)
        self.path.mkdir(parents=True, exist_ok=True)
        # Last: without settings there is no run.
        _replace(self.path / SETTINGS, settings.to_yaml())

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The state to go on from, None before the first checkpoint.

        Raises:
            ValueError: a damaged file.
        """
        file = self.path / STATE
        return read(file) if file.is_file() else None

    def keep(self, tensors: dict[str, Tensor], note: dict[str, Any]) -> None:
        """Replace the state to go on from."""
        write(self.path / STATE, tensors, note)

    def log(self, **facts: Any) -> None:
        """Append one line of metrics."""
        with open(self.path / METRICS, "a", encoding="utf-8") as file:
            file.write(json.dumps(facts, allow_nan=False) + "\n")

    def rewind(self, images: int) -> None:
        """Drop the metrics that a lost stretch wrote after the state at `images`."""
        file = self.path / METRICS
        if not file.is_file():
            return
        lines = file.read_text("utf-8").splitlines()
        # The last line of a run that was killed may be half written.
        kept = [line for line in lines if line.endswith("}") and json.loads(line)["images"] <= images]
        _replace(file, "".join(line + "\n" for line in kept))


def _replace(file: Path, text: str) -> None:
    """Write a text file that appears whole or not at all."""
    beside = file.with_name(f".{file.name}.new")
    beside.write_text(text, "utf-8")
    os.replace(beside, file)
