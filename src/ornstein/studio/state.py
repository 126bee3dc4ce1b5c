"""The state of a running studio, which its routes share."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Request

from ornstein.studio.batching import Batcher
from ornstein.studio.errors import Refused
from ornstein.studio.evaluations import Evaluations
from ornstein.studio.jobs import Jobs
from ornstein.studio.library import Library
from ornstein.studio.limits import LIMITS, Limits
from ornstein.studio.metrics import Metrics
from ornstein.studio.processes import Processes
from ornstein.studio.store import Store
from ornstein.studio.trainings import Trainings
from ornstein.studio.uploads import Uploads

__all__ = ["CurrentStudio", "Studio"]


class Studio:
    """The components of a studio, started and closed together.

    Args:
        source: a run, a model's file or a folder of runs to serve; None for none.
        folder: the folder of the studio's own data.
        database: URL of the database; None for a SQLite file in that folder.
        limits: the limits on what clients may ask.
        version: the version of Ornstein, which every picture records.
    """

    def __init__(self, source: Path | None, folder: Path, database: str | None = None, limits: Limits = LIMITS,
                 version: str = "0") -> None:
        self.limits, self.version, self.metrics = limits, version, Metrics()
        self.store = Store(folder, database)
        self.uploads = Uploads(self.store, limits)
        self.processes = Processes(self.store, limits)
        self.trainings = Trainings(self.processes, self.uploads)
        self.library = Library(source, self.trainings.models)
        self.trainings.library = self.library
        self.evaluations = Evaluations(self.processes, self.library)
        self.batcher = Batcher()
        self._warm_up_thread = threading.Thread(target=self._warm_up, name="warm", daemon=True)
        self.jobs = Jobs(self.store, self.library, self.uploads, self.batcher, limits, version,
                         self.metrics.on_job_end)

    def start(self) -> None:
        """Start the threads of all components."""
        self.jobs.start()
        self.processes.start()
        self._warm_up_thread.start()

    def _warm_up(self) -> None:
        """Load the first model, and the parts of torch that it needs, before a client waits for them."""
        with suppress(Refused):  # no model, or one that reports its error when it is used
            self.library.get(None)

    def close(self) -> None:
        """Close all components; trainings and evaluations continue."""
        if self._warm_up_thread.is_alive():  # a thread that is importing must not outlive the interpreter
            self._warm_up_thread.join()
        self.jobs.close()
        self.batcher.close()
        self.processes.close()
        self.store.close()


async def _current_studio(request: Request) -> Studio:
    return request.app.state.studio


CurrentStudio = Annotated[Studio, Depends(_current_studio)]
