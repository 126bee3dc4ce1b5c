"""The models that are served."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import FileResponse

from ornstein import files
from ornstein.diffusion.samplers.loop import samplers
from ornstein.evaluation.written import PAGE
from ornstein.studio import answers
from ornstein.studio.refusal import Refused, content, faults, sentence
from ornstein.studio.state import Used

# A report lies in a run, which may be of others: nothing in it may run or ask for anything.
POLICY = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'"
router = APIRouter(prefix="/api", tags=["models"])


@router.get("/models", response_model=answers.Models)
def models(studio: Used) -> dict[str, Any]:
    """All models, the first one the default; those that cannot be loaded say why."""
    found = list[dict[str, Any]]()
    for name in studio.library.paths():
        try:
            found.append(studio.library.card(name))
        except Refused as error:
            found.append({"name": name, "error": sentence(error)})
    return {"models": found, "samplers": {"auto": None, **samplers()}}


@router.get("/models/{name:path}", response_model=answers.Card, responses=faults(404, 409))
def model(name: str, studio: Used) -> dict[str, Any]:
    """One model: what it draws, what it was tuned for, and how it was trained."""
    return studio.library.card(name)


@router.get("/evaluation/{name:path}", response_model=answers.Report, responses=faults(404, 409))
def evaluation(name: str, studio: Used) -> dict[str, Any]:
    """The report of `ornstein evaluate` on a model, as it is in report.json."""
    try:
        return files.read_json(studio.library.report(name))
    except ValueError as error:
        raise Refused(409, sentence(error), "model") from None


@router.get("/report/{name:path}", response_class=FileResponse,
            responses=content("text/html", "<!doctype html>") | faults(404))
def report(name: str, studio: Used) -> FileResponse:
    """The page of that report: without scripts, and kept from the studio by the browser."""
    page = studio.library.report(name).with_name(PAGE)
    if not page.is_file():
        raise Refused(404, f"the report of the model {name!r} has no page", "model")
    return FileResponse(page, media_type="text/html", headers={"Content-Security-Policy": POLICY})
