"""The models that are served."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from ornstein import files
from ornstein.diffusion.samplers.loop import samplers
from ornstein.studio.refusal import Refused, sentence
from ornstein.studio.state import Used

router = APIRouter(prefix="/api", tags=["models"])


@router.get("/models")
def models(studio: Used) -> dict[str, Any]:
    """All models, the first one the default; those that cannot be loaded say why."""
    found = list[dict[str, Any]]()
    for name in studio.library.paths():
        try:
            found.append(studio.library.card(name))
        except Refused as error:
            found.append({"name": name, "error": sentence(error)})
    return {"models": found, "samplers": {"auto": None, **samplers()}}


@router.get("/models/{name:path}")
def model(name: str, studio: Used) -> dict[str, Any]:
    """One model: what it draws, what it was tuned for, and how it was trained."""
    return studio.library.card(name)


@router.get("/evaluation/{name:path}")
def evaluation(name: str, studio: Used) -> dict[str, Any]:
    """The report of `ornstein evaluate` on a model, as it is in report.json."""
    try:
        return files.read_json(studio.library.report(name))
    except ValueError as error:
        raise Refused(409, sentence(error), "model") from None
