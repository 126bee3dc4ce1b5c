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

__all__ = ["Run", "locate_data", "lock_output"]

METRICS, PREVIEWS = "metrics.jsonl", "previews"
AVERAGES, TENSORBOARD = "averages", "tensorboard"
LOCK, HOLDER, JOB = ".lock", ".pid", ".job"
BARE_NETWORK = re.compile(rf"^network: (?!own\.|(?:auto|{'|'.join(get_args(NetworkName))})$)([A-Za-z_]\w*)$",
                          re.MULTILINE)
FOLDERS = (STATES, PREVIEWS, AVERAGES, TENSORBOARD)
MAX_BYTES = 1_000_000  # of the settings
PREVIEW = re.compile(r"[0-9]{9,}(-statistics)?\.png")
EVENTS = re.compile(r"events\.out\.tfevents\..*\.ornstein")  # an ending that only our tracker uses
PID_TEXT, JOB_TEXT = re.compile(r"[0-9]*"), re.compile(r"(.* [0-9]+)?")


class Run:
    """The folder of one training, made when the first file is written."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.previews = self.path / PREVIEWS
        self.snapshots = Snapshots(self.path / AVERAGES)
        self._last_stamp: object = self  # of run.yaml when the folder was last examined; self before that

    def states(self, keep: int) -> States:
        """The states to resume from, of which the last `keep` are kept."""
        self._last_stamp = self._stamp()  # the caller resumes from what is there now
        return States(self.path / STATES, keep)

    @contextmanager
    def locked(self, job: str = "") -> Generator[None, None, None]:
        """Lock the folder for a job, so that nothing else writes into it; the lock ends with the process.

        FileExistsError if another process holds the lock, or a link or a foreign file is in the way.
        """
        self.refuse_foreign()
        files.make_folder(self.path)
        lock = FileLock(self.path / LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            holder = _read_small(self.path / HOLDER) or "unknown"
            raise FileExistsError(f"{self.path} is being written into by process {holder}; wait for it, stop it, or "
                                  "name another folder") from None
        try:
            if self._last_stamp not in (self, self._stamp()):
                raise FileExistsError(f"{self.path} has been written into by another process meanwhile; start again")
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
        """A value that changes when run.yaml is written; None if there is none."""
        try:
            state = os.stat(self.path / SETTINGS)
        except OSError:
            return None
        return state.st_ino, state.st_mtime_ns

    def job(self) -> str:
        """The name of the job that locked the folder last."""
        return _read_small(self.path / JOB) or ""

    def refuse_foreign(self) -> None:
        """Raise FileExistsError if a link or a foreign file is in the place of one that a run writes or deletes."""
        for name in (SETTINGS, METRICS, MODEL, *FOLDERS, LOCK, HOLDER, JOB):
            files.refuse_link(self.path / name)
        for name, kind in ((HOLDER, PID_TEXT), (JOB, JOB_TEXT)):
            text = _read_small(self.path / name) if (self.path / name).exists() else ""
            if text is None or not kind.fullmatch(text):
                raise FileExistsError(f"{self.path / name} was not written by Ornstein and is left alone; move it "
                                      "elsewhere, or name another folder")
        for name in FOLDERS:
            if (self.path / name).exists() and not (self.path / name).is_dir():
                raise FileExistsError(f"{self.path / name} is not a folder, and a run needs one there; move it "
                                      "elsewhere, or name another folder")

    def check_target(self, resume: bool, overwrite: bool) -> None:
        """Refuse a folder that holds a run or parts of one, unless it is to be resumed or replaced."""
        if resume and overwrite:
            raise ValueError("resume and overwrite exclude each other; give one of them")
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"{self.path} is a file; a run needs a folder")
        self.refuse_foreign()
        self._last_stamp = self._stamp()
        existing = [name for name in (SETTINGS, METRICS, MODEL) if (self.path / name).exists()]
        if not (self.path / SETTINGS).is_file():
            existing += [name for name in FOLDERS if files.list_folder(self.path / name)]
            if existing:
                raise FileExistsError(f"{self.path} holds {existing[0]}, but is not the folder of a run (it has no "
                                      f"file {SETTINGS}); name another folder")
        if existing and not (resume or overwrite):
            raise FileExistsError(f"{self.path} already holds a run; resume it (--resume), replace it "
                                  "(--overwrite), or name another folder")
        if self.settings():
            with self.locked():
                pass

    def settings(self) -> Settings | None:
        """The settings of the existing run, None without one; ValueError for a damaged run.yaml."""
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"{self.path} is a file; a run needs a folder")
        file = self.path / SETTINGS
        try:
            # Before version 0.2 a user's own network was written by its bare name.
            text = files.read_text(file, MAX_BYTES) if file.is_file() else None
            return None if text is None else Settings.from_yaml(BARE_NETWORK.sub(r"network: own.\1", text))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{file}: {error}") from None

    def is_finished(self) -> bool:
        """Whether the run has used up its budget; raises ValueError if all of its states are damaged."""
        state = self.states(1).newest()[0]
        return state is not None and bool(state.metadata["finished"])

    def load_model(self, network: nn.Module | None = None) -> NetworkDenoiser | None:
        """The model of a finished training, if it is intact: it stands for a run whose checkpoints are gone."""
        try:
            model = load(self.path, network)
        except (OSError, ValueError):
            return None
        return model if model.metrics.get("images") else None

    def create(self, settings: Settings) -> None:
        """Make the folder and write the settings; the files of an earlier run are removed, and nothing else is."""
        self.refuse_foreign()
        # Without settings there is no run, and no file there belongs to one.
        if (self.path / SETTINGS).is_file():
            self.snapshots.remove()
            self.states(1).remove_all()
            pictures = [path for path in files.list_folder(self.previews)
                        if PREVIEW.fullmatch(path.name) and files.is_ours(path)]
            events = [path for path in files.list_folder(self.path / TENSORBOARD)
                      if EVENTS.fullmatch(path.name) and path.is_file() and not path.is_symlink()]
            for path in (*pictures, *events, self.path / METRICS, self.path / MODEL):
                files.remove(path)
        self.write_settings(settings)

    def write_settings(self, settings: Settings) -> None:
        """Write or replace the settings."""
        files.write_text(self.path / SETTINGS, settings.to_yaml())
        self._last_stamp = self._stamp()

    def log(self, **fields: Any) -> None:
        """Append one line of metrics, completely or not at all; raises OSError."""
        files.append(self.path / METRICS, json.dumps(fields, allow_nan=False).encode() + b"\n")

    def rewind_metrics(self, images: int) -> int:
        """Drop the lines of metrics after `images`, and damaged ones; return how many were damaged.

        The last line of a run that was killed may be incomplete and is not counted.
        """
        file = self.path / METRICS
        if not os.path.lexists(file):
            return 0
        with files.open_regular(file) as opened:
            lines = opened.read().split(b"\n")
        counts = [_image_count(line) for line in lines[:-1]]
        with files.replacing(file) as new:
            new.write_bytes(b"".join(line + b"\n" for line, at in zip(lines, counts, strict=False) if at <= images))
        return sum(map(math.isinf, counts))


def locate_data(settings: Settings, remedy: str = "") -> str | list[str]:
    """Where the data of a run's settings are now; FileNotFoundError with the remedy if they are gone."""
    path, name = settings.data_path, settings.data
    if path is None:
        return name
    for candidate in (path, name):
        if all(Path(file).exists() or is_pattern(file)
               for file in ([candidate] if isinstance(candidate, str) else candidate)):
            return candidate
    original = path if isinstance(path, str) else short_repr(path)
    raise FileNotFoundError(f"data {short_repr(name)} were at {original} when the run began and are not there now"
                            + (f"; {remedy}" if remedy else ""))


@contextmanager
def lock_output(run: Path | None, file: Path) -> Generator[None, None, None]:
    """Lock the run that `file` belongs to, or the file itself, while it is replaced, after checking that it can be.

    FileExistsError if another process holds the lock, or a link or a folder is in its place; OSError if it cannot be
    written.
    """
    files.check_replaceable(file)
    files.check_writable(file)
    folder = None if run is None else run if run.is_dir() else run.parent
    with ExitStack() as stack:
        if folder is not None and (folder / SETTINGS).is_file():
            stack.enter_context(Run(folder).locked())
        elif run is not None and file.is_file():
            stack.enter_context(files.locked(file))
        yield


def _image_count(line: bytes) -> float:
    """Pictures seen at a line of metrics; infinity for a damaged line."""
    try:
        images = json.loads(line)["images"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return math.inf
    return images if type(images) is int else math.inf


def _read_small(file: Path) -> str | None:
    """The text of a small file, None if it cannot be read."""
    try:
        return files.read_text(file, MAX_BYTES)
    except (OSError, ValueError):
        return None
