"""Routes to upload files; each request's body is one file."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse

from ornstein.studio import arrays, responses
from ornstein.studio.errors import Refused, content_response, error_responses
from ornstein.studio.requests import Id
from ornstein.studio.state import CurrentStudio
from ornstein.studio.store import new_id

router = APIRouter(prefix="/api/files", tags=["files"])
Name = Annotated[str, Query(max_length=255, description="Name of the file, for display.")]
RAW_BODY = {"requestBody": {"required": True, "content": {"application/octet-stream": {
    "schema": {"type": "string", "format": "binary"}}}}}


@router.post("", status_code=201, response_model=responses.File, openapi_extra=RAW_BODY)
async def post(request: Request, studio: CurrentStudio, name: Name = "") -> dict[str, Any]:
    """Upload a picture, a zip of pictures or a .npy file with samples, as the raw body."""
    return _response(await studio.uploads.save(new_id(), name, request.stream()))


@router.put("/{id}", status_code=201, response_model=responses.File, openapi_extra=RAW_BODY,
            responses=error_responses(409))
async def put(id: Id, request: Request, studio: CurrentStudio, name: Name = "") -> dict[str, Any]:
    """Upload a file under an id of your choice. Uploading the same file again changes nothing."""
    return _response(await studio.uploads.save(id, name, request.stream()))


@router.get("/{id}", response_model=responses.File, responses=error_responses(404))
def get(id: Id, studio: CurrentStudio) -> dict[str, Any]:
    """Return the description of an upload."""
    return _response(studio.uploads.find(id))


@router.get("/{id}/content", response_class=FileResponse, responses=content_response("image/*") | error_responses(404))
def content(id: Id, studio: CurrentStudio) -> FileResponse:
    """Return an uploaded picture."""
    row = studio.uploads.find(id)
    if row["kind"] != "picture":
        raise Refused(422, f"file {id} is not a picture", "id")
    return FileResponse(studio.uploads.path_of(row))


@router.get("/{id}/values", response_model=responses.Values, responses=error_responses(404, 409))
def values(id: Id, studio: CurrentStudio, model: Annotated[str | None, Query(max_length=200)] = None,
           row: Annotated[int, Query(ge=0, le=10**9)] = 0) -> dict[str, Any]:
    """Return the values of a trace or a vector from an upload or the gallery, by channel, null where unknown."""
    return arrays.read_values(studio.library.get(model), studio.uploads.locate(id, "id"), row)


@router.delete("/{id}", status_code=204, responses=error_responses(404))
def delete(id: Id, studio: CurrentStudio) -> None:
    """Delete an upload."""
    studio.uploads.remove(id)


def _response(row: dict[str, Any]) -> dict[str, Any]:
    columns = ("id", "name", "kind", "bytes", "sha256", "width", "height", "pictures", "created")
    return {name: row[name] for name in columns} | {
        "url": f"/api/files/{row['id']}/content" if row["kind"] == "picture" else None}
