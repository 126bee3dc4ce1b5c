"""Errors of the studio, all returned as JSON in one form: a sentence, the field and the limit."""

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

__all__ = ["ERROR_RESPONSES", "EVENTS", "NPY", "PNG", "Fault", "Refused", "content_response", "error_response",
           "error_responses", "install_handlers", "is_disk_full", "one_line"]


class Fault(BaseModel):
    """The body of every error response."""

    model_config = ConfigDict(json_schema_extra={"examples": [
        {"error": "count is 1000; it must be at most 64", "field": "count", "limit": 64}]})
    error: str = Field(description="One sentence: what is wrong, and what is allowed.",
                       examples=["count is 1000; it must be at most 64"])
    field: str | None = Field(None, description="The field of the request that caused the error.", examples=["count"])
    limit: Any = Field(None, description="The limit that was exceeded, or the allowed values.", examples=[64])


class Refused(Exception):
    """A request that is refused.

    Args:
        status: HTTP status of the response.
        error: one sentence for the client.
        field: the field of the request that caused it.
        limit: the limit that was exceeded.
        retry_after: seconds after which the client may try again.
    """

    def __init__(self, status: int, error: str, field: str | None = None, limit: Any = None,
                 retry_after: int | None = None) -> None:
        super().__init__(error)
        self.status, self.field, self.limit, self.retry_after = status, field, limit, retry_after


ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    400: {"model": Fault, "description": "The request cannot be read."},
    401: {"model": Fault, "description": "The token is missing or wrong."},
    403: {"model": Fault, "description": "The request comes from another site or names another host."},
    404: {"model": Fault, "description": "Not found."},
    405: {"model": Fault, "description": "The address does not allow this method."},
    409: {"model": Fault, "description": "Not possible in the current state."},
    413: {"model": Fault, "description": "The body is too large."},
    422: {"model": Fault, "description": "A value is not allowed."},
    429: {"model": Fault, "description": "This client has too many jobs; try again after Retry-After seconds."},
    503: {"model": Fault, "description": "The queue is full; try again after Retry-After seconds."},
    507: {"model": Fault, "description": "The studio's disk is full."},
}


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The errors that a route documents in addition to those of all routes."""
    return {status: ERROR_RESPONSES[status] for status in statuses}


def content_response(media_type: str, example: str | None = None) -> dict[int | str, dict[str, Any]]:
    """Document a successful response that is not JSON."""
    schema = {"type": "string"} | ({"format": "binary"} if example is None else {"examples": [example]})
    return {200: {"content": {media_type: {"schema": schema}}}}


PNG, NPY = content_response("image/png"), content_response("application/octet-stream")
EVENTS = content_response("text/event-stream",
                          'event: progress\ndata: {"status": "running", "progress": 0.5}\n\n')


def one_line(error: BaseException | str) -> str:
    """The message of an exception as one printable line of bounded length."""
    return shorten(printable(" ".join(str(error).split())), 400) or type(error).__name__


def error_response(status: int, error: str, field: str | None = None, limit: Any = None,
                   retry_after: int | None = None) -> JSONResponse:
    """An error as JSON."""
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return JSONResponse({"error": one_line(error), "field": field, "limit": limit}, status, headers)


def is_disk_full(error: BaseException) -> bool:
    """Whether an error means that the disk is full."""
    if isinstance(error, OperationalError):
        return "is full" in str(error.orig)
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def install_handlers(app: FastAPI) -> None:
    """Have the application answer every error in this form."""

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> JSONResponse:
        return error_response(error.status, str(error), error.field, error.limit, error.retry_after)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return error_response(422, *_first_problem(error))

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> JSONResponse:
        texts = {404: "there is nothing at this address", 405: "this address does not allow this method"}
        return error_response(error.status_code, texts.get(error.status_code, str(error.detail)))

    @app.exception_handler(OperationalError)
    @app.exception_handler(OSError)
    async def disk(_: Request, error: OSError | OperationalError) -> JSONResponse:
        if not is_disk_full(error):
            raise error
        return error_response(507, "the disk of the studio is full; free some space, or delete pictures in the bin")

    @app.exception_handler(Exception)
    async def other(_: Request, error: Exception) -> JSONResponse:
        return error_response(500, f"the studio failed ({type(error).__name__}); see its log")


def _first_problem(error: RequestValidationError) -> tuple[str, str | None, Any]:
    """(message, field, limit) of the first invalid value of a request; only a short value is repeated."""
    first = error.errors()[0]
    if first["type"] in ("model_attributes_type", "missing") and first["loc"] == ("body",):
        return "the body must be a JSON object, sent as Content-Type: application/json", None, None
    path = [str(key) for key in first["loc"][1:] if key not in KINDS]
    field, context = shorten(printable(".".join(path)), 60) or None, first.get("ctx", {})
    limit = next((context[name] for name in ("le", "ge", "lt", "gt", "max_length", "min_length", "pattern", "expected",
                                             "expected_tags") if name in context), None)
    if first["type"] == "union_tag_invalid":
        field = "kind"
    sent = first.get("input")
    value = f" is {shorten(printable(str(sent)), 40)}" if isinstance(sent, str | int | float) else ""
    problem = first["msg"][:1].lower() + first["msg"][1:]
    message = f"{field or 'the body'}{value}: {problem}".replace(": input should be", "; it must be", 1)  # pydantic's
    return message, field, limit if isinstance(limit, str | int | float) else None


KINDS = {"generate", "fill", "vary", "interpolate", "restore", "trace", "nearest"}  # tags in a location, not fields
