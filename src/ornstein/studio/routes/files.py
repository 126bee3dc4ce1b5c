"""Uploads: one file a request, as the raw body."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse

from ornstein.studio import answers, arrays
from ornstein.studio.bodies import Id
from ornstein.studio.refusal import Refused, faults
from ornstein.studio.refusal import content as content_of
from ornstein.studio.state import Used
from ornstein.studio.store import new_id

router = APIRouter(prefix="/api/files", tags=["files"])
Name = Annotated[str, Query(max_length=255, description="Of the file, for people.")]
RAW = {"requestBody": {"required": True, "content": {"application/octet-stream": {
    "schema": {"type": "string", "format": "binary"}}}}}


@router.post("", status_code=201, response_model=answers.File, openapi_extra=RAW)
async def post(request: Request, studio: Used, name: Name = "") -> dict[str, Any]:
    """Send a picture, a zip of pictures or a .npy file of one sample, as the body itself."""
    return _shown(await studio.uploads.take(new_id(), name, request.stream()))


@router.put("/{id}", status_code=201, response_model=answers.File, openapi_extra=RAW, responses=faults(409))
async def put(id: Id, request: Request, studio: Used, name: Name = "") -> dict[str, Any]:
    """Send a file under an id of one's own choice; sent again, nothing changes."""
    return _shown(await studio.uploads.take(id, name, request.stream()))


@router.get("/{id}", response_model=answers.File, responses=faults(404))
def get(id: Id, studio: Used) -> dict[str, Any]:
    """What is known of an upload."""
    return _shown(studio.uploads.find(id))


@router.get("/{id}/content", response_class=FileResponse, responses=content_of("image/*") | faults(404))
def content(id: Id, studio: Used) -> FileResponse:
    """The picture itself."""
    row = studio.uploads.find(id)
    if row["kind"] != "picture":
        raise Refused(422, f"file {id} is no picture", "id")
    return FileResponse(studio.uploads.path_of(row))


@router.get("/{id}/values", response_model=answers.Values, responses=faults(404, 409))
def values(id: Id, studio: Used, model: Annotated[str | None, Query(max_length=200)] = None,
           row: Annotated[int, Query(ge=0, le=10**9)] = 0) -> dict[str, Any]:
    """A trace or a vector, of an upload or of the gallery, in numbers: channel by channel, null where unknown."""
    return arrays.values(studio.library.get(model), studio.uploads.locate(id, "id"), row)


@router.delete("/{id}", status_code=204, responses=faults(404))
def delete(id: Id, studio: Used) -> None:
    """Delete an upload."""
    studio.uploads.remove(id)


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    kept = ("id", "name", "kind", "bytes", "sha256", "width", "height", "pictures", "created")
    return {name: row[name] for name in kept} | {
        "url": f"/api/files/{row['id']}/content" if row["kind"] == "picture" else None}
