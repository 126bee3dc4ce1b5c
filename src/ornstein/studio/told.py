"""What a training or an evaluation says of itself, in the lines of its output and the files of its run."""

from __future__ import annotations

import json
import re
import threading
from pathlib import Path
from typing import Any

from ornstein import files
from ornstein.arguments import printable, shorten
from ornstein.training.run import METRICS, PREVIEW, PREVIEWS

__all__ = ["Told"]

MOST_POINTS = 2000
FIGURES = ("images", "loss", "held_out", "gap", "learning_rate", "rate", "seconds", "skipped")


class Told:
    """The output of one process, read as it grows.

    Args:
        log: the file of its output, one JSON object or plain line each.
        run: the folder of a training.
    """

    def __init__(self, log: Path, run: Path) -> None:
        self.log, self.run = log, run
        self.notes, self.chosen = list[str](), list[str]()
        self.latest: dict[str, Any] = {}
        self.finished = self.stopped = False
        self.error: str | None = None
        self._lock, self._at, self._seen = threading.Lock(), 0, set[int]()

    def read(self) -> list[tuple[str, Any]]:
        """Read on; what is new, as events."""
        with self._lock:
            return self._read()

    def _read(self) -> list[tuple[str, Any]]:
        try:
            with files.open_regular(self.log) as file:
                file.seek(self._at)
                content = file.read()
        except OSError:
            return []
        whole = content[:content.rfind(b"\n") + 1]
        self._at += len(whole)
        news = [one for line in whole.decode("utf-8", "replace").splitlines() for one in self._line(line)]
        for images in self.previews():
            if images not in self._seen:
                self._seen.add(images)
                news.append(("preview", {"images": images,
                                         "url": f"/api/trainings/{self.run.name}/previews/{images}.png"}))
        return news

    def _line(self, line: str) -> list[tuple[str, Any]]:
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
            self.notes, self.chosen = [*map(str, event.get("notes", ()))], [*map(str, event.get("reasons", ()))]
            return [("log", {"line": note}) for note in (*self.notes, *self.chosen)]
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
        """How far it is."""
        latest = self.latest
        return {"progress": 1.0 if status == "done" else latest.get("share", 0.0),
                "seconds_left": latest.get("left") if status == "running" else None,
                **{name: latest.get(name) for name in ("images", "rate", "loss", "held_out")}}

    def outcome(self, status: str) -> tuple[str, str | None]:
        """How a training whose process is gone has ended, and why it failed."""
        if self.finished:
            return "done", None
        if self.stopped or status == "stopping":
            return "stopped", None
        return "failed", self.error or ("its process has ended without a word; start it again, and it goes on from "
                                        "what was saved")

    def previews(self) -> list[int]:
        """After how many pictures samples were drawn."""
        found = [path.name for path in files.list_folder(self.run / PREVIEWS)]
        return sorted(int(name.removesuffix(".png")) for name in found
                      if PREVIEW.fullmatch(name) and re.fullmatch(r"[0-9]+\.png", name))

    def preview(self, images: int) -> Path:
        """The picture of these samples."""
        return self.run / PREVIEWS / f"{images:09d}.png"

    def points(self) -> list[dict[str, Any]]:
        """The metrics that were written, at most so many of them."""
        try:
            lines = files.read_text(self.run / METRICS).splitlines()
        except (OSError, ValueError):
            return []
        every, points = -(-len(lines) // MOST_POINTS), list[dict[str, Any]]()
        for line in lines[::-1][::every or 1][::-1]:
            try:
                point = json.loads(line)
            except (ValueError, RecursionError):  # half of a line, of a training that was killed
                continue
            if isinstance(point, dict):
                points.append({name: point.get(name) for name in (*FIGURES, "images_per_second", "resumed_at")})
        return points
