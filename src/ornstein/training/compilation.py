"""Compiling a training's network: before the first step, or in a process beside the training."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from multiprocessing.process import BaseProcess
from pathlib import Path

from ornstein import files
from ornstein.training.crew import can_fork
from ornstein.training.events import Noted
from ornstein.training.learner import Learner
from ornstein.workers import forked_workers

__all__ = ["Compilation"]

PATIENCE = 0.25  # share of the budget after which what is compiled would not be used long enough to pay


class Compilation:
    """Compiles a learner's network if its settings say so.

    A training by images repeats bit for bit, so that its first step must compute as its last one does. One by minutes
    goes on while a forked process compiles, whose result comes through PyTorch's cache on disk.
    """

    def __init__(self, learner: Learner) -> None:
        self.learner, self._open = learner, ExitStack()
        self._process: BaseProcess | None = None

    def begin(self) -> Iterator[Noted]:
        """Compile, or begin to; every process calls this, and the first one compiles for all."""
        settings, engine = self.learner.settings, self.learner.engine
        if not settings.compile:
            return
        if settings.images is not None or not can_fork(engine.device):
            yield Noted("compiling the network before the first step, which takes half a minute or more")
            self.learner.compile()
        elif engine.first:
            self._process = self._fork()
            yield Noted("the network is being compiled; the training goes on meanwhile")

    def _fork(self) -> BaseProcess:
        reason = self._reason = Path(self._open.enter_context(tempfile.TemporaryDirectory()), "reason")

        def work(_: int) -> None:
            try:
                self.learner.rehearse()
            except Exception as error:
                files.write_text(reason, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
                raise SystemExit(1) from None

        return self._open.enter_context(forked_workers(work, 1))[0]

    @property
    def done(self) -> bool:
        """Whether the first process knows that all is compiled and not yet used."""
        return self._process is not None and self._process.exitcode == 0

    def settle(self, done: bool, share: float) -> Iterator[Noted]:
        """Use what is compiled once it is `done`, as all processes know; give up where it does not pay any more."""
        if done:
            self.learner.compile()
        if self._process is None or not (done or self._process.exitcode or share > PATIENCE):
            return
        news = "the network is compiled" if done else "compiling takes too long to pay; the training goes on without"
        if self._process.exitcode:
            why = self._reason.read_text("utf-8") if self._reason.is_file() else "its process has died"
            news = f"the network could not be compiled ({why}); the training goes on without"
        self.close()
        yield Noted(news)

    def close(self) -> None:
        """End what has not ended."""
        self._process = None
        self._open.close()
