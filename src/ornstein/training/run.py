"""The folder of a run: its settings, its metrics, its states and its model."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ornstein.checkpoint import MODEL, sync
from ornstein.data.places import is_pattern
from ornstein.settings import Settings
from ornstein.training.snapshots import Snapshots
from ornstein.training.states import States

__all__ = ["Run", "located"]

SETTINGS, METRICS, STATES, PREVIEWS = "run.yaml", "metrics.jsonl", "checkpoints", "previews"
AVERAGES = "averages"
TENSORBOARD = "tensorboard/events.out.tfevents.*"
LOCK, HOLDER, JOB = ".lock", ".pid", ".job"


class Run:
    """One training's folder.

    Args:
        path: of the folder; it is made when the first file is written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.previews = self.path / PREVIEWS
        self.snapshots = Snapshots(self.path / AVERAGES)

    def states(self, keep: int) -> States:
        """The states to go on from, of which the last `keep` stay."""
        return States(self.path / STATES, keep)

    @contextmanager
    def held(self, job: str = "") -> Generator[None, None, None]:
        """Hold the folder, so that no other training writes into it; it is free again when the process ends.

        Args:
            job: name of the job that holds it, for `job`.

        Raises:
            FileExistsError: another training holds it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            holder = self.path / HOLDER
            who = holder.read_text("utf-8") if holder.is_file() else "unknown"
            raise FileExistsError(f"{self.path} is being trained into by process {who}; wait for it, stop it, or name "
                                  "another folder") from None
        try:
            (self.path / HOLDER).write_text(str(os.getpid()), "utf-8")
            if job:
                (self.path / JOB).write_text(job, "utf-8")
            for left in self.path.glob(f".{MODEL}.*"):  # of a training that was killed as it wrote
                left.unlink()
            yield
        finally:
            (self.path / HOLDER).unlink(missing_ok=True)
            lock.release()

    def job(self) -> str:
        """The job that held the folder last."""
        file = self.path / JOB
        return file.read_text("utf-8") if file.is_file() else ""

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
        there = [name for name in (SETTINGS, METRICS, STATES, MODEL, PREVIEWS) if (self.path / name).exists()]
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
        try:
            return Settings.from_yaml(file.read_text("utf-8")) if file.is_file() else None
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from None

    def finished(self) -> bool:
        """Whether the run has used up its budget; raises ValueError where no state of it is whole."""
        state = self.states(1).newest()[0]
        return state is not None and bool(state.note["finished"])

    def begin(self, settings: Settings) -> None:
        """Make the folder and write the settings; what an earlier run left there is removed."""
        for file in [*(self.path / name for name in (SETTINGS, METRICS, MODEL)), *self.previews.glob("*.png"),
                     *self.path.glob(TENSORBOARD)]:
            file.unlink(missing_ok=True)
        self.snapshots.forget()
        states = self.states(1)
        states.clean()  # what a killed write moved aside would come back as a state of the new run
        for name in states.names():
            shutil.rmtree(states.path / name)
        # Last: without settings there is no run.
        self.settle(settings)

    def settle(self, settings: Settings) -> None:
        """Write the settings, in place of others."""
        self.path.mkdir(parents=True, exist_ok=True)
        _replace(self.path / SETTINGS, settings.to_yaml())

    def log(self, **facts: Any) -> None:
        """Append one line of metrics, or none of it."""
        with open(self.path / METRICS, "ab", buffering=0) as file:
            size = file.tell()
            try:
                line = json.dumps(facts, allow_nan=False).encode() + b"\n"
                if file.write(line) < len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path / METRICS))
            except OSError:
                file.truncate(size)
                raise

    def rewind(self, images: int) -> None:
        """Drop the metrics that a lost stretch wrote after the state at `images`."""
        file = self.path / METRICS
        if not file.is_file():
            return
        lines = file.read_text("utf-8").splitlines()
        # The last line of a run that was killed may be half written.
        _replace(file, "".join(line + "\n" for line in lines if _images(line) <= images))


def located(settings: Settings, remedy: str = "") -> str:
    """The data of settings, where they are now: at their absolute path, or where a relative one leads from here.

    Args:
        settings: of a run.
        remedy: what to do where they are gone.

    Raises:
        FileNotFoundError: they are in neither place.
    """
    place, name = settings.data_path, settings.data
    if place is None:
        return name
    for there in (place, name):
        if Path(there).exists() or is_pattern(there):
            return there
    raise FileNotFoundError(f"data {name!r} were at {place} when the run began and are not there now"
                            + (f"; {remedy}" if remedy else ""))


def _images(line: str) -> float:
    """Pictures seen at a line of metrics; infinite for one that is damaged."""
    try:
        return json.loads(line)["images"]
    except (ValueError, KeyError, TypeError):
        return float("inf")


def _replace(file: Path, text: str) -> None:
    """Write a text file that appears whole or not at all."""
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    beside.write_text(text, "utf-8")
    sync(beside)
    os.replace(beside, file)
