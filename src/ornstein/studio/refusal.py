"""What the studio answers when it refuses something: one sentence, the field and the limit."""

from __future__ import annotations

import errno
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException

from ornstein.arguments import printable, shorten

__all__ = ["ANSWERS", "EVENTS", "NPY", "PNG", "Fault", "Refused", "answer", "content", "faults", "install", "no_room",
           "sentence"]


class Fault(BaseModel):
    """An error, as every route answers it."""

    model_config = ConfigDict(json_schema_extra={"examples": [
        {"error": "count is 1000; it must be at most 64", "field": "count", "limit": 64}]})
    error: str = Field(description="One sentence: what is wrong, and what is allowed.",
                       examples=["count is 1000; it must be at most 64"])
    field: str | None = Field(None, description="The field of the request that caused it.", examples=["count"])
    limit: Any = Field(None, description="The limit that was exceeded, or the values that are allowed.", examples=[64])


class Refused(Exception):
    """An answer other than success: its status, one sentence, the field that caused it, the limit, when to come again.
    """

    def __init__(self, status: int, error: str, field: str | None = None, limit: Any = None,
                 retry: int | None = None) -> None:
        super().__init__(error)
        self.status, self.field, self.limit, self.retry = status, field, limit, retry


ANSWERS: dict[int | str, dict[str, Any]] = {
    400: {"model": Fault, "description": "The request cannot be read."},
    401: {"model": Fault, "description": "The token is missing or wrong."},
    403: {"model": Fault, "description": "Asked by another site, or under another host's name."},
    404: {"model": Fault, "description": "There is no such thing."},
    405: {"model": Fault, "description": "The address takes other methods."},
    409: {"model": Fault, "description": "It cannot be done now."},
    413: {"model": Fault, "description": "The body is too large."},
    422: {"model": Fault, "description": "A value is not allowed."},
    429: {"model": Fault, "description": "This client has too many jobs; come again after Retry-After seconds."},
    503: {"model": Fault, "description": "The queue is full; come again after Retry-After seconds."},
    507: {"model": Fault, "description": "The disk of the studio is full."},
}


def faults(*status: int) -> dict[int | str, dict[str, Any]]:
    """What a route answers besides what all do."""
    return {one: ANSWERS[one] for one in status}


def content(kind: str, example: str | None = None) -> dict[int | str, dict[str, Any]]:
    """An answer that is no JSON."""
    schema = {"type": "string"} | ({"format": "binary"} if example is None else {"examples": [example]})
    return {200: {"content": {kind: {"schema": schema}}}}


PNG, NPY = content("image/png"), content("application/octet-stream")
EVENTS = content("text/event-stream", 'event: progress\ndata: {"status": "running", "progress": 0.5}\n\n')


def sentence(error: BaseException | str) -> str:
    """What an exception says, on one printable line of bounded length."""
    return shorten(printable(" ".join(str(error).split())), 400) or type(error).__name__


def answer(status: int, error: str, field: str | None = None, limit: Any = None,
           retry: int | None = None) -> JSONResponse:
    """An error as JSON."""
    headers = {} if retry is None else {"Retry-After": str(retry)}
    return JSONResponse({"error": sentence(error), "field": field, "limit": limit}, status, headers)


def no_room(error: BaseException) -> bool:
    """Whether the disk is full."""
    if isinstance(error, OperationalError):
        return "is full" in str(error.orig)
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def install(app: FastAPI) -> None:
    """Have the application answer every error in this form."""

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> JSONResponse:
        return answer(error.status, str(error), error.field, error.limit, error.retry)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return answer(422, *_first(error))

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> JSONResponse:
        texts = {404: "there is nothing at this address", 405: "this address does not take this method"}
        return answer(error.status_code, texts.get(error.status_code, str(error.detail)))

    @app.exception_handler(OperationalError)
    @app.exception_handler(OSError)
    async def disk(_: Request, error: OSError | OperationalError) -> JSONResponse:
        if not no_room(error):
            raise error
        return answer(507, "the disk of the studio is full; make room there, or delete pictures of the bin")

    @app.exception_handler(Exception)
    async def other(_: Request, error: Exception) -> JSONResponse:
        return answer(500, f"the studio failed ({type(error).__name__}); its log says where")


def _first(error: RequestValidationError) -> tuple[str, str | None, Any]:
    """The first thing that is wrong with a request; what was sent is repeated only where it is short."""
    first = error.errors()[0]
    if first["type"] in ("model_attributes_type", "missing") and first["loc"] == ("body",):
        return "the body must be a JSON object, sent as Content-Type: application/json", None, None
    place = [str(part) for part in first["loc"][1:] if part not in KINDS]
    field, limits = shorten(printable(".".join(place)), 60) or None, first.get("ctx", {})
    limit = next((limits[name] for name in ("le", "ge", "lt", "gt", "max_length", "min_length", "pattern", "expected",
                                            "expected_tags") if name in limits), None)
    if first["type"] == "union_tag_invalid":
        field = "kind"
    given = first.get("input")
    value = f" is {shorten(printable(str(given)), 40)}" if isinstance(given, str | int | float) else ""
    what = first["msg"][:1].lower() + first["msg"][1:]
    text = f"{field or 'the body'}{value}: {what}".replace(": input should be", "; it must be", 1)  # pydantic's words
    return text, field, limit if isinstance(limit, str | int | float) else None


KINDS = {"generate", "fill", "vary", "interpolate", "restore", "trace", "nearest"}  # tags in a place, not fields
