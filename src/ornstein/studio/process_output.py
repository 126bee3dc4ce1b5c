"""The output of a training or an evaluation: its lines, and the metrics and previews in its run."""

from __future__ import annotations

import json
import re
import threading
from pathlib import Path
from typing import Any

from ornstein import files
from ornstein.arguments import printable, shorten
from ornstein.training.run import METRICS, PREVIEW, PREVIEWS

__all__ = ["ProcessOutput"]

MAX_POINTS = 2000
FIGURES = ("images", "loss", "held_out", "gap", "learning_rate", "rate", "seconds", "skipped")


class ProcessOutput:
    """The output of one process, read as it grows.

    Args:
        log: the file of its output; each line is a JSON object or plain text.
        run: the folder of a training's run.
    """

    def __init__(self, log: Path, run: Path) -> None:
        self.log, self.run = log, run
        self.notes, self.choices = list[str](), list[str]()
        self.latest: dict[str, Any] = {}
        self.finished = self.stopped = False
        self.error: str | None = None
        self._lock, self._offset, self._seen_previews = threading.Lock(), 0, set[int]()

    def read(self) -> list[tuple[str, Any]]:
        """Read what was added since the last call and return it as events."""
        with self._lock:
            return self._read()

    def _read(self) -> list[tuple[str, Any]]:
        try:
            with files.open_regular(self.log) as file:
                file.seek(self._offset)
                content = file.read()
        except OSError:
            return []
        complete = content[:content.rfind(b"\n") + 1]
        self._offset += len(complete)
        events = [event for line in complete.decode("utf-8", "replace").splitlines() for event in self._parse(line)]
        for images in self.previews():
            if images not in self._seen_previews:
                self._seen_previews.add(images)
                events.append(("preview", self.preview_event(images)))
        return events

    def _parse(self, line: str) -> list[tuple[str, Any]]:
        try:
            event = json.loads(line)
            kind = event.pop("event")
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
            text = shorten(printable(line.strip()), 400)
            if text.startswith("ornstein: "):
                self.error = text.removeprefix("ornstein: ")
            return [("log", {"line": text})] if text else []
        if kind == "started":
            self.finished, self.stopped, self.error = False, False, None
            self.notes, self.choices = [*map(str, event.get("notes", ()))], [*map(str, event.get("reasons", ()))]
            return [("log", {"line": note}) for note in (*self.notes, *self.choices)]
        if kind == "progress":
            self.latest = event
            return [("metrics", {name: event.get(name) for name in FIGURES} | {
                "progress": event.get("share"), "seconds_left": event.get("left")})]
        if kind == "part":
            self.latest = event
            return [("progress", {"progress": event.get("share"), "part": event.get("part"),
                                  "seconds_left": event.get("left")})]
        if kind in ("finished", "report"):
            self.finished = True
        text = str(event.get("text", ""))
        self.stopped = self.stopped or kind == "interrupted" or text.startswith("stopped and saved")
        if kind == "failed":
            self.error = text
        return [("log", {"line": text})] if text else []

    def progress(self, status: str) -> dict[str, Any]:
        """The latest progress of a training."""
        latest = self.latest
        return {"progress": 1.0 if status == "done" else latest.get("share", 0.0),
                "seconds_left": latest.get("left") if status == "running" else None,
                **{name: latest.get(name) for name in ("images", "rate", "loss", "held_out")}}

    def outcome(self, status: str) -> tuple[str, str | None]:
        """The final status of a process that has ended, and the error of one that failed."""
        if self.finished:
            return "done", None
        if self.stopped or status == "stopping":
            return "stopped", None
        return "failed", self.error or "the process ended without a message; resume it to continue from its last save"

    def previews(self) -> list[int]:
        """The numbers of training pictures after which previews were drawn."""
        names = [path.name for path in files.list_folder(self.run / PREVIEWS)]
        return sorted(int(name.removesuffix(".png")) for name in names
                      if PREVIEW.fullmatch(name) and re.fullmatch(r"[0-9]+\.png", name))

    def preview_event(self, images: int) -> dict[str, Any]:
        """The preview after so many training pictures, as clients see it."""
        return {"images": images, "url": f"/api/trainings/{self.run.name}/previews/{images}.png"}

    def preview(self, images: int) -> Path:
        """The path of the preview after so many training pictures."""
        return self.run / PREVIEWS / f"{images:09d}.png"

    def points(self) -> list[dict[str, Any]]:
        """The metrics of a training, thinned to at most MAX_POINTS of them."""
        try:
            lines = files.read_text(self.run / METRICS).splitlines()
        except (OSError, ValueError):
            return []
        stride, points = max(1, -(-len(lines) // MAX_POINTS)), list[dict[str, Any]]()
        for line in lines[::-1][::stride][::-1]:
            try:
                point = json.loads(line)
            except (ValueError, RecursionError):  # the last line of a killed training may be incomplete
                continue
            if isinstance(point, dict):
                points.append({name: point.get(name) for name in (*FIGURES, "images_per_second", "resumed_at")})
        return points
