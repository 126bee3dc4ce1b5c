"""The folder of a run: its settings, its metrics, its states and its model."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, get_args

from filelock import FileLock, Timeout
from torch import nn

from ornstein import files
from ornstein.arguments import NetworkName, short_repr
from ornstein.checkpoint import MODEL, load
from ornstein.data.paths import is_pattern
from ornstein.diffusion.denoiser import NetworkDenoiser
from ornstein.files import SETTINGS, STATES
from ornstein.settings import Settings
from ornstein.training.snapshots import Snapshots
from ornstein.training.states import States

__all__ = ["Run", "held", "located"]

METRICS, PREVIEWS = "metrics.jsonl", "previews"
AVERAGES, TENSORBOARD = "averages", "tensorboard"
LOCK, HOLDER, JOB = ".lock", ".pid", ".job"
OWN = re.compile(rf"^network: (?!own\.|(?:auto|{'|'.join(get_args(NetworkName))})$)([A-Za-z_]\w*)$", re.MULTILINE)
FOLDERS = (STATES, PREVIEWS, AVERAGES, TENSORBOARD)
SMALL = 1_000_000  # bytes of settings, at most
PREVIEW = re.compile(r"[0-9]{9,}(-statistics)?\.png")
EVENTS = re.compile(r"events\.out\.tfevents\..*\.ornstein")  # the ending is what only our tracker gives
PID, HELD = re.compile(r"[0-9]*"), re.compile(r"(.* [0-9]+)?")


class Run:
    """One training's folder, made when the first file is written."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.previews = self.path / PREVIEWS
        self.snapshots = Snapshots(self.path / AVERAGES)
        self._seen: object = self  # run.yaml as it was when the folder was looked at; itself before that

    def states(self, keep: int) -> States:
        """The states to go on from, of which the last `keep` stay."""
        self._seen = self._stamp()  # whoever asks goes on from what is there now
        return States(self.path / STATES, keep)

    @contextmanager
    def held(self, job: str = "") -> Generator[None, None, None]:
        """Hold the folder for a job, so that nothing else writes into it; it is free when the process ends.

        FileExistsError where another process holds it, or where a link or a file of others is in the way.
        """
        self.refuse_foreign()
        files.make_folder(self.path)
        lock = FileLock(self.path / LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            who = _line(self.path / HOLDER) or "unknown"
            raise FileExistsError(f"{self.path} is being written into by process {who}; wait for it, stop it, or name "
                                  "another folder") from None
        try:
            if self._seen not in (self, self._stamp()):
                raise FileExistsError(f"{self.path} has been written into by another process since; start again")
            files.write_text(self.path / HOLDER, str(os.getpid()))
            if job:
                files.write_text(self.path / JOB, job)
            for folder in (self.path, *(self.path / name for name in FOLDERS)):
                files.remove_leftovers(folder)
            yield
        finally:
            try:
                files.remove(self.path / HOLDER)
            finally:
                lock.release()

    def _stamp(self) -> tuple[int, int] | None:
        """What changes when run.yaml is written; None where there is none."""
        try:
            state = os.stat(self.path / SETTINGS)
        except OSError:
            return None
        return state.st_ino, state.st_mtime_ns

    def job(self) -> str:
        """The job that held the folder last."""
        return _line(self.path / JOB) or ""

    def refuse_foreign(self) -> None:
        """FileExistsError where a link, or a file of others, is in the place of one that a run writes or deletes."""
        for name in (SETTINGS, METRICS, MODEL, *FOLDERS, LOCK, HOLDER, JOB):
            files.refuse_link(self.path / name)
        for name, kind in ((HOLDER, PID), (JOB, HELD)):
            text = _line(self.path / name) if (self.path / name).exists() else ""
            if text is None or not kind.fullmatch(text):
                raise FileExistsError(f"{self.path / name} was not written by Ornstein, and is left alone; move it "
                                      "elsewhere, or name another folder")
        for name in FOLDERS:
            if (self.path / name).exists() and not (self.path / name).is_dir():
                raise FileExistsError(f"{self.path / name} is no folder, and a run needs one there; move it elsewhere, "
                                      "or name another folder")

    def refuse(self, resume: bool, overwrite: bool) -> None:
        """Refuse a folder that holds a run (or parts of one), unless it is to be gone on with or replaced; not both."""
        if resume and overwrite:
            raise ValueError("resume and overwrite are both asked for; give one of them")
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"{self.path} is a file; a run needs a folder")
        self.refuse_foreign()
        self._seen = self._stamp()
        there = [name for name in (SETTINGS, METRICS, MODEL) if (self.path / name).exists()]
        if not (self.path / SETTINGS).is_file():
            there += [name for name in FOLDERS if files.list_folder(self.path / name)]
            if there:
                raise FileExistsError(f"{self.path} holds {there[0]}, but is not the folder of a run (it has no file "
                                      f"{SETTINGS}); name another folder")
        if there and not (resume or overwrite):
            raise FileExistsError(f"{self.path} already holds a run; go on with it (--resume), replace it "
                                  "(--overwrite), or name another folder")
        if self.settings():
            with self.held():
                pass

    def settings(self) -> Settings | None:
        """The settings of the run that is there, None without one; ValueError for a run.yaml that is damaged."""
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"{self.path} is a file; a run needs a folder")
        file = self.path / SETTINGS
        try:
            # Before 0.2 a network of the user's own stood there by its bare name.
            text = files.read_text(file, SMALL) if file.is_file() else None
            return None if text is None else Settings.from_yaml(OWN.sub(r"network: own.\1", text))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{file}: {error}") from None

    def finished(self) -> bool:
        """Whether the run has used up its budget; raises ValueError where no state of it is whole."""
        state = self.states(1).newest()[0]
        return state is not None and bool(state.note["finished"])

    def model(self, network: nn.Module | None = None) -> NetworkDenoiser | None:
        """The model of a training that ended by its budget, if it is whole: it stands for a run without checkpoints."""
        try:
            model = load(self.path, network)
        except (OSError, ValueError):
            return None
        return model if model.metrics.get("images") else None

    def begin(self, settings: Settings) -> None:
        """Make the folder and write the settings; what an earlier run left there is removed, and nothing else is."""
        self.refuse_foreign()
        # Without settings there is no run, and nothing there is ours.
        if (self.path / SETTINGS).is_file():
            self.snapshots.forget()
            self.states(1).forget()
            pictures = [path for path in files.list_folder(self.previews)
                        if PREVIEW.fullmatch(path.name) and files.is_ours(path)]
            events = [path for path in files.list_folder(self.path / TENSORBOARD)
                      if EVENTS.fullmatch(path.name) and path.is_file() and not path.is_symlink()]
            for path in (*pictures, *events, self.path / METRICS, self.path / MODEL):
                files.remove(path)
        self.settle(settings)

    def settle(self, settings: Settings) -> None:
        """Write the settings, in place of others."""
        files.write_text(self.path / SETTINGS, settings.to_yaml())
        self._seen = self._stamp()

    def log(self, **facts: Any) -> None:
        """Append one line of metrics, or none of it; raises OSError."""
        files.append(self.path / METRICS, json.dumps(facts, allow_nan=False).encode() + b"\n")

    def rewind(self, images: int) -> int:
        """Drop metrics of a lost stretch after `images`, and damaged lines, whose number is returned.

        The last line of a run that was killed may be half written and is not counted.
        """
        file = self.path / METRICS
        if not os.path.lexists(file):
            return 0
        with files.open_regular(file) as content:
            lines = content.read().split(b"\n")
        seen = [_images(line) for line in lines[:-1]]
        with files.replacing(file) as beside:
            beside.write_bytes(b"".join(line + b"\n" for line, at in zip(lines, seen, strict=False) if at <= images))
        return sum(map(math.isinf, seen))


def located(settings: Settings, remedy: str = "") -> str | list[str]:
    """The data of a run's settings, where they are now; FileNotFoundError with the remedy where they are gone."""
    place, name = settings.data_path, settings.data
    if place is None:
        return name
    for there in (place, name):
        if all(Path(one).exists() or is_pattern(one) for one in ([there] if isinstance(there, str) else there)):
            return there
    where = place if isinstance(place, str) else short_repr(place)
    raise FileNotFoundError(f"data {short_repr(name)} were at {where} when the run began and are not there now"
                            + (f"; {remedy}" if remedy else ""))


@contextmanager
def held(run: Path | None, file: Path) -> Generator[None, None, None]:
    """Hold what is to be changed, the folder of a run or a `file` in one or of none, after finding that it can be.

    FileExistsError where another process holds it, or a link or a folder is in its place; OSError where it cannot be
    written.
    """
    files.check_replaceable(file)
    files.check_writable(file)
    folder = None if run is None else run if run.is_dir() else run.parent
    with ExitStack() as stack:
        if folder is not None and (folder / SETTINGS).is_file():
            stack.enter_context(Run(folder).held())
        elif run is not None and file.is_file():
            stack.enter_context(files.locked(file))
        yield


def _images(line: bytes) -> float:
    """Pictures seen at a line of metrics; infinite for one that is damaged."""
    try:
        images = json.loads(line)["images"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return math.inf
    return images if type(images) is int else math.inf


def _line(file: Path) -> str | None:
    """The text of a very small file, None where there is none."""
    try:
        return files.read_text(file, SMALL)
    except (OSError, ValueError):
        return None
