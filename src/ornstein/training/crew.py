"""The processes of a training on one machine, forked from the one that the user has started."""

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

__all__ = ["RESTARTS", "can_fork", "together"]

RESTARTS = 3  # of all processes, after one has died
LAST_WORDS = 2.0  # seconds that a process may need to end after its connection has


class Died(RuntimeError):
    """One of the processes has ended before the training has; a new start may help."""


def can_fork(device: str) -> bool:
    """Whether processes on this machine can be forked to train on a device: a GPU's context does not survive it."""
    return sys.platform == "linux" and device == "cpu" and not torch.cuda.is_initialized()


def together(count: int, train: Callable[[Engine], Iterator[Event]],
             again: Callable[[], None] | None) -> Iterator[Event]:
    """Train in `count` processes; yields what the first one tells.

    After a process has died, `again` makes ready to go on from the last state, and all start anew; RuntimeError where
    it is None, or where that does not help.
    """
    def follow(engine: Engine) -> None:
        for _ in train(engine):
            pass

    for restarts in range(1, RESTARTS + 2):
        try:
            with crew(count, follow) as first:
                yield from train(first)
            return
        except (Died, MemoryError) as error:
            if again is None or restarts > RESTARTS:
                remedy = "start again with fewer processes, or give the run a folder (out)" if again is None else \
                    f"{RESTARTS} restarts did not help; go on with --resume"
                raise RuntimeError(f"one of {count} processes has died ({error}); {remedy}") from None
        again()
        gc.collect()  # a fork would wait for ever for the threads of what it frees
        yield Warned(f"a process has died; all have started again ({restarts} of {RESTARTS})")


@contextmanager
def crew(count: int, work: Callable[[Engine], None]) -> Generator[Engine, None, None]:
    """This process and count - 1 others that do `work`, in one group; gives this one's engine.

    Raises Died where another process has ended, and TrainingFailed where one says that the training cannot go on.
    """
    with tempfile.TemporaryDirectory() as place, torch_threads(1):
        folder = Path(place)

        def other(number: int) -> None:
            try:
                engine.join(folder / "group", number + 1, count)
                work(Engine())
            except TrainingFailed as error:
                files.write_text(folder / "failed", str(error))
            except Exception as error:  # most often because the first process has ended
                files.write_text(folder / f"died.{number}", f"{type(error).__name__}: {error}")

        with forked_workers(other, count - 1) as others:
            try:
                engine.join(folder / "group", 0, count)
                first = Engine()
                first.crew = count
                yield first
            except RuntimeError as error:
                if isinstance(error, TrainingFailed):
                    raise
                ended = wait([process.sentinel for process in others], timeout=LAST_WORDS)
                if (folder / "failed").is_file():
                    raise TrainingFailed((folder / "failed").read_text("utf-8")) from None
                if not ended:  # the fault is this process's own
                    raise
                why = "; ".join(file.read_text("utf-8") for file in sorted(folder.glob("died.*")))
                raise Died(why or "a process was killed") from error
            finally:
                engine.end()
