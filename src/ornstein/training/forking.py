"""The processes of a training on one machine, forked from the one that the user started."""

from __future__ import annotations

import gc
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait
from pathlib import Path

import torch

from ornstein import files
from ornstein.training import engine
from ornstein.training.engine import Engine
from ornstein.training.events import Event, TrainingFailed, Warned
from ornstein.workers import forked_workers, torch_threads

__all__ = ["RESTARTS", "can_fork", "train_forked"]

RESTARTS = 3  # of all processes, after one has died
EXIT_SECONDS = 2.0  # that a process may take to end after its connection is lost


class ProcessDied(RuntimeError):
    """One of the processes ended before the training did; a restart may help."""


def can_fork(device: str) -> bool:
    """Whether processes that train on a device can be forked here: a GPU's context does not survive a fork."""
    return sys.platform == "linux" and device == "cpu" and not torch.cuda.is_initialized()


def train_forked(count: int, train: Callable[[Engine], Iterator[Event]],
                 on_restart: Callable[[], None] | None) -> Iterator[Event]:
    """Train in `count` processes; yields the events of the first one.

    If a process dies, `on_restart` prepares to resume from the last state and all processes start again; RuntimeError
    if it is None, or if restarts do not help.
    """
    def run(engine: Engine) -> None:
        for _ in train(engine):
            pass

    for restarts in range(1, RESTARTS + 2):
        try:
            with process_group(count, run) as engine:
                yield from train(engine)
            return
        except (ProcessDied, MemoryError) as error:
            if on_restart is None or restarts > RESTARTS:
                remedy = "start again with fewer processes, or give the run a folder (out)" if on_restart is None else \
                    f"{RESTARTS} restarts did not help; resume with --resume"
                raise RuntimeError(f"one of {count} processes died ({error}); {remedy}") from None
        on_restart()
        gc.collect()  # a fork that freed what is left of the last try would wait for threads that it does not have
        yield Warned(f"a process died; all have been restarted ({restarts} of {RESTARTS})")


@contextmanager
def process_group(count: int, work: Callable[[Engine], None]) -> Generator[Engine, None, None]:
    """A group of this process and count - 1 others that run `work`; yields the engine of this one.

    Raises ProcessDied if another process has ended, and TrainingFailed if one reports that the training cannot go on.
    """
    with tempfile.TemporaryDirectory() as path, torch_threads(1):
        folder = Path(path)

        def child(number: int) -> None:
            try:
                engine.join_group(folder / "group", number + 1, count)
                work(Engine())
            except TrainingFailed as error:
                files.write_text(folder / "failed", str(error))
            except Exception as error:  # most often because the first process has ended
                files.write_text(folder / f"died.{number}", f"{type(error).__name__}: {error}")

        with forked_workers(child, count - 1) as children:
            try:
                engine.join_group(folder / "group", 0, count)
                own = Engine()
                own.local_processes = count
                yield own
            except RuntimeError as error:
                if isinstance(error, TrainingFailed):
                    raise
                ended = wait([process.sentinel for process in children], timeout=EXIT_SECONDS)
                if (folder / "failed").is_file():
                    raise TrainingFailed((folder / "failed").read_text("utf-8")) from None
                if not ended:  # the error is this process's own
                    raise
                reasons = "; ".join(file.read_text("utf-8") for file in sorted(folder.glob("died.*")))
                raise ProcessDied(reasons or "a process was killed") from error
            finally:
                engine.leave_group()
