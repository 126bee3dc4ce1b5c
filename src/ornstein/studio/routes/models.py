"""Routes for the served models and their reports."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import FileResponse

from ornstein import files
from ornstein.diffusion.samplers.loop import samplers
from ornstein.evaluation.report_files import PAGE
from ornstein.studio import responses
from ornstein.studio.errors import Refused, content_response, error_responses, one_line
from ornstein.studio.state import CurrentStudio

# A run may come from somebody else, so its report may neither run scripts nor load anything.
POLICY = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'"
router = APIRouter(prefix="/api", tags=["models"])


@router.get("/models", response_model=responses.Models)
def models(studio: CurrentStudio) -> dict[str, Any]:
    """List all models, the default one first; one that cannot be loaded has an error."""
    cards = list[dict[str, Any]]()
    for name in studio.library.paths():
        try:
            cards.append(studio.library.card(name))
        except Refused as error:
            cards.append({"name": name, "error": one_line(error)})
    return {"models": cards, "samplers": {"auto": None, **samplers()}}


@router.get("/models/{name:path}", response_model=responses.Card, responses=error_responses(404, 409))
def model(name: str, studio: CurrentStudio) -> dict[str, Any]:
    """Return one model: the data it draws, the budgets it was tuned for, and its training."""
    return studio.library.card(name)


@router.get("/evaluation/{name:path}", response_model=responses.Report, responses=error_responses(404, 409))
def evaluation(name: str, studio: CurrentStudio) -> dict[str, Any]:
    """Return the report.json of a model's evaluation."""
    try:
        return files.read_json(studio.library.report(name))
    except ValueError as error:
        raise Refused(409, one_line(error), "model") from None


@router.get("/report/{name:path}", response_class=FileResponse,
            responses=content_response("text/html", "<!doctype html>") | error_responses(404))
def report(name: str, studio: CurrentStudio) -> FileResponse:
    """Return the page of that report, which the browser isolates from the studio."""
    page = studio.library.report(name).with_name(PAGE)
    if not page.is_file():
        raise Refused(404, f"the report of the model {name!r} has no page", "model")
    return FileResponse(page, media_type="text/html", headers={"Content-Security-Policy": POLICY})
