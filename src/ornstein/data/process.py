"""What a process must make for itself."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Generic, TypeVar

__all__ = ["PerProcess"]

Made = TypeVar("Made")


class PerProcess(Generic[Made]):
    """Threads, locks and open files: made when they are first asked for, and anew in a forked or spawned process.
    `make` can be pickled."""

    def __init__(self, make: Callable[[], Made]) -> None:
        self._make = make
        self._made: tuple[int, Made] | None = None

    def __call__(self) -> Made:
        """Return the one of this process."""
        if self._made is None or self._made[0] != os.getpid():
            self._made = os.getpid(), self._make()
        return self._made[1]

    def __getstate__(self) -> dict[str, Any]:
        return {"_make": self._make, "_made": None}
