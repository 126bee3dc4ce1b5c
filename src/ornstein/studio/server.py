"""The studio's ASGI application and its server."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import anyio.to_thread
import uvicorn
from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from ornstein.display import say
from ornstein.studio.deadlines import DeadlineProtocol
from ornstein.studio.errors import ERROR_RESPONSES, install_handlers
from ornstein.studio.guard import Guard
from ornstein.studio.limits import MAX_HEADER
from ornstein.studio.routes import evaluations, files, forward, gallery, health, jobs, models, trainings
from ornstein.studio.state import Studio

__all__ = ["create_app", "serve", "server_config"]

PAGE = Path(__file__).parent / "page"
THREADS = 16  # for routes that wait for the database or a disk


class JsonFormatter(logging.Formatter):
    """Formats each record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields = {"time": self.formatTime(record), "level": record.levelname, "from": record.name,
                  "message": record.getMessage()}
        return json.dumps(fields | ({"traceback": self.formatException(record.exc_info)} if record.exc_info else {}))


def create_app(studio: Studio, host: str = "127.0.0.1", token: str | None = None) -> FastAPI:
    """The ASGI application of a studio, behind its guard."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        studio.start()
        try:
            yield
        finally:
            studio.close()

    app = FastAPI(title="Ornstein studio", version=studio.version, lifespan=lifespan, docs_url=None, redoc_url=None,
                  responses={status: ERROR_RESPONSES[status] for status in (400, 401, 403, 413, 422, 507)},
                  description="Draw from, edit with and train your own diffusion models. Errors are JSON objects with "
                              "error, field and limit.")
    app.state.studio = studio
    install_handlers(app)
    for module in (health, models, jobs, files, gallery, forward, trainings, evaluations):
        app.include_router(module.router)
    app.mount("/", StaticFiles(directory=PAGE, html=True))
    app.add_middleware(Guard, limits=studio.limits, host=host, token=token)
    return app


def serve(studio: Studio, host: str, port: int, token: str | None) -> None:
    """Serve a studio until Ctrl-C.

    Raises:
        OSError: the port is in use or not allowed.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("alembic").setLevel(logging.WARNING)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise OSError(f"port {port} of {host} cannot be opened ({(error.strerror or str(error)).lower()}); choose "
                      "another with --port") from None
    url_host = f"[{host}]" if ":" in host else host
    query = f"?token={token}" if token else ""
    say(f"the studio is at http://{url_host}:{listener.getsockname()[1]}/{query}  (Ctrl-C ends it)")
    uvicorn.Server(server_config(create_app(studio, host, token))).run(sockets=[listener])


def server_config(app: FastAPI, protocol: type[DeadlineProtocol] = DeadlineProtocol) -> uvicorn.Config:
    """Uvicorn's configuration: no websockets, small heads, and deadlines."""
    return uvicorn.Config(app, http=protocol, ws="none", log_config=None, access_log=False, server_header=False,
                          h11_max_incomplete_event_size=MAX_HEADER, timeout_keep_alive=30, timeout_graceful_shutdown=3)
