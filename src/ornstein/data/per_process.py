"""Resources that every process must create for itself."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Generic, TypeVar

__all__ = ["PerProcess"]

Resource = TypeVar("Resource")


class PerProcess(Generic[Resource]):
    """A thread pool, lock or open file, created on first use in each process, also after a fork; `make` must be
    picklable."""

    def __init__(self, make: Callable[[], Resource]) -> None:
        self._make = make
        self._made: tuple[int, Resource] | None = None

    def __call__(self) -> Resource:
        """Return the resource of this process."""
        if self._made is None or self._made[0] != os.getpid():
            self._made = os.getpid(), self._make()
        return self._made[1]

    def __getstate__(self) -> dict[str, Any]:
        return {"_make": self._make, "_made": None}
