"""Everything that one studio is made of, for its routes."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Request

from ornstein.studio.batching import Batcher
from ornstein.studio.evaluations import Evaluations
from ornstein.studio.jobs import Jobs
from ornstein.studio.library import Library
from ornstein.studio.limits import LIMITS, Limits
from ornstein.studio.metrics import Metrics
from ornstein.studio.processes import Processes
from ornstein.studio.refusal import Refused
from ornstein.studio.store import Store
from ornstein.studio.trainings import Trainings
from ornstein.studio.uploads import Uploads

__all__ = ["Studio", "Used"]


class Studio:
    """The parts of a studio, begun and ended together.

    Args:
        place: a run, or a folder of runs, that is served; None for none.
        folder: of the studio's own data.
        database: a URL, or None for a file in that folder.
        limits: on what clients ask.
        version: of Ornstein, which every picture tells.
    """

    def __init__(self, place: Path | None, folder: Path, database: str | None = None, limits: Limits = LIMITS,
                 version: str = "0") -> None:
        self.limits, self.version, self.metrics = limits, version, Metrics()
        self.store = Store(folder, database)
        self.uploads = Uploads(self.store, limits)
        self.processes = Processes(self.store, limits)
        self.trainings = Trainings(self.processes, self.uploads)
        self.library = Library(place, self.trainings.models)
        self.trainings.library = self.library
        self.evaluations = Evaluations(self.processes, self.library)
        self.batcher = Batcher()
        self._warming = threading.Thread(target=self._warm, name="warm", daemon=True)
        self.jobs = Jobs(self.store, self.library, self.uploads, self.batcher, limits, version,
                         self.metrics.ended)

    def start(self) -> None:
        """Begin to work."""
        self.jobs.start()
        self.processes.start()
        self._warming.start()

    def _warm(self) -> None:
        """Load the first model, and all that torch loads with it, before somebody waits for that."""
        with suppress(Refused):  # there is none, or it says why when it is asked for
            self.library.get(None)

    def close(self) -> None:
        """End; trainings and evaluations go on by themselves."""
        if self._warming.is_alive():  # a thread that is importing does not survive the interpreter's end
            self._warming.join()
        self.jobs.close()
        self.batcher.close()
        self.processes.close()
        self.store.close()


async def _studio(request: Request) -> Studio:
    return request.app.state.studio


Used = Annotated[Studio, Depends(_studio)]
