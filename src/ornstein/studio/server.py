"""The studio as an application, and the process that serves it."""

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
from ornstein.studio.limits import HEADER
from ornstein.studio.protocol import Deadlines
from ornstein.studio.refusal import ANSWERS, install
from ornstein.studio.routes import evaluations, files, forward, gallery, health, jobs, models, trainings
from ornstein.studio.safety import Guard
from ornstein.studio.state import Studio

__all__ = ["application", "configured", "serve"]

PAGE = Path(__file__).parent / "page"
THREADS = 16  # for routes that wait for the database or a disk


class Lines(logging.Formatter):
    """Each record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        facts = {"time": self.formatTime(record), "level": record.levelname, "from": record.name,
                 "message": record.getMessage()}
        return json.dumps(facts | ({"traceback": self.formatException(record.exc_info)} if record.exc_info else {}))


def application(studio: Studio, host: str = "127.0.0.1", token: str | None = None) -> FastAPI:
    """The ASGI application of a studio, with everything that guards it."""

    @contextlib.asynccontextmanager
    async def living(_: FastAPI) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        studio.start()
        try:
            yield
        finally:
            studio.close()

    app = FastAPI(title="Ornstein studio", version=studio.version, lifespan=living, docs_url=None, redoc_url=None,
                  responses={status: ANSWERS[status] for status in (400, 401, 403, 413, 422, 507)},
                  description="Draw, edit and train with diffusion models of one's own. Errors are JSON with error, "
                              "field and limit.")
    app.state.studio = studio
    install(app)
    for part in (health, models, jobs, files, gallery, forward, trainings, evaluations):
        app.include_router(part.router)
    app.mount("/", StaticFiles(directory=PAGE, html=True))
    app.add_middleware(Guard, limits=studio.limits, host=host, token=token)
    return app


def serve(studio: Studio, host: str, port: int, token: str | None) -> None:
    """Serve a studio until Ctrl-C.

    Raises:
        OSError: the port is taken, or not allowed.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(Lines())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("alembic").setLevel(logging.WARNING)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    door = socket.socket(family, socket.SOCK_STREAM)
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        door.bind((host, port))
    except OSError as error:
        door.close()
        raise OSError(f"port {port} of {host} cannot be opened ({(error.strerror or str(error)).lower()}); choose "
                      "another with --port") from None
    shown = f"[{host}]" if ":" in host else host
    query = f"?token={token}" if token else ""
    say(f"the studio is at http://{shown}:{door.getsockname()[1]}/{query}  (Ctrl-C ends it)")
    uvicorn.Server(configured(application(studio, host, token))).run(sockets=[door])


def configured(app: FastAPI, protocol: type[Deadlines] = Deadlines) -> uvicorn.Config:
    """How an application is served: no websockets, small heads, and deadlines."""
    return uvicorn.Config(app, http=protocol, ws="none", log_config=None, access_log=False, server_header=False,
                          h11_max_incomplete_event_size=HEADER, timeout_keep_alive=30, timeout_graceful_shutdown=3)
