"""Trainings: processes of their own, found again after a restart."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ornstein.studio.library import Library
from ornstein.studio.limits import Limits
from ornstein.studio.refusal import Refused
from ornstein.studio.store import Store
from ornstein.studio.uploads import Uploads

__all__ = ["Trainings"]


class Trainings:
    """The trainings of a studio."""

    library: Library

    def __init__(self, store: Store, uploads: Uploads, limits: Limits) -> None:
        self.store, self.uploads, self.limits, self.running = store, uploads, limits, 0

    def models(self) -> Mapping[str, Path]:
        """Folders of the trainings' runs, by name."""
        return {}

    def start(self) -> None:
        """Find those that run."""

    def close(self) -> None:
        """Let go of them."""

    def begin(self, body: dict[str, Any]) -> dict[str, Any]:
        """Begin a training."""
        raise Refused(501, f"trainings are not there yet ({len(body)})")

    def all(self) -> list[dict[str, Any]]:
        """All of them."""
        return []

    def get(self, id: str) -> dict[str, Any]:
        """One."""
        raise Refused(404, f"there is no training {id}", "id")
