"""Compilation of the network, before the first step or in a process beside the training."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from multiprocessing.process import BaseProcess
from pathlib import Path

from ornstein import files
from ornstein.training.events import Noted
from ornstein.training.forking import can_fork
from ornstein.training.learner import Learner
from ornstein.workers import forked_workers

__all__ = ["Compilation"]

GIVE_UP_SHARE = 0.25  # of the budget, after which a compiled network would not be used long enough to pay off


class Compilation:
    """Compiles a learner's network if its settings say so.

    A training by images repeats bit for bit, so all its steps must run the same code: it compiles before the first
    one. A training by minutes goes on while a forked process compiles into PyTorch's cache on disk.
    """

    def __init__(self, learner: Learner) -> None:
        self.learner, self._resources = learner, ExitStack()
        self._process: BaseProcess | None = None

    def start(self) -> Iterator[Noted]:
        """Compile now, or start to in the background; every process calls this, and the first one forks."""
        settings, engine = self.learner.settings, self.learner.engine
        if not settings.compile:
            return
        if settings.images is not None or not can_fork(engine.device):
            yield Noted("compiling the network before the first step, which takes half a minute or more")
            self.learner.compile()
        elif engine.is_first:
            self._process = self._fork()
            yield Noted("the network is being compiled; the training goes on meanwhile")

    def _fork(self) -> BaseProcess:
        reason = self._reason = Path(self._resources.enter_context(tempfile.TemporaryDirectory()), "reason")

        def work(_: int) -> None:
            try:
                self.learner.compile_ahead()
            except Exception as error:
                files.write_text(reason, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
                raise SystemExit(1) from None

        return self._resources.enter_context(forked_workers(work, 1))[0]

    @property
    def is_done(self) -> bool:
        """Whether the background compilation has succeeded and is not yet used; known to the first process only."""
        return self._process is not None and self._process.exitcode == 0

    def update(self, done: bool, share: float) -> Iterator[Noted]:
        """Switch to the compiled network once it is `done`, in all processes; give up when it no longer pays off."""
        if done:
            self.learner.compile()
        if self._process is None or not (done or self._process.exitcode or share > GIVE_UP_SHARE):
            return
        message = "the network is compiled" if done else (
            "compiling takes too long to pay off; the training goes on without")
        if self._process.exitcode:
            reason = self._reason.read_text("utf-8") if self._reason.is_file() else "its process died"
            message = f"the network could not be compiled ({reason}); the training goes on without"
        self.close()
        yield Noted(message)

    def close(self) -> None:
        """Stop the background process, if it is still running."""
        self._process = None
        self._resources.close()
