"""Server-sent events of jobs, trainings and evaluations; a slow client gets only the latest event of each kind."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.concurrency import run_in_threadpool

__all__ = ["SSE", "STREAM", "Listeners"]

SSE = "text/event-stream"
STREAM = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
MAX_LINES = 200  # log lines kept for a slow client
KEEP_ALIVE = 10.0  # seconds of silence after which a comment is sent, which reveals a lost connection


class Listener:
    """A client that follows a stream of events."""

    def __init__(self, previews: bool) -> None:
        self.previews = previews
        self.loop, self.pending, self.ready = asyncio.get_running_loop(), dict[str, Any](), asyncio.Event()

    def put(self, kind: str, data: Any) -> None:
        """Replace the last pending event of this kind; log lines accumulate. Call this in the loop's thread."""
        if kind == "log":
            data = [*self.pending.get(kind, ()), data][-MAX_LINES:]
        self.pending.pop(kind, None)
        self.pending[kind] = data
        self.ready.set()


class Listeners:
    """All clients that follow the same job or process."""

    def __init__(self) -> None:
        self.active = set[Listener]()

    @property
    def watching(self) -> list[Listener]:
        """Those that want previews."""
        return [listener for listener in list(self.active) if listener.previews]

    def publish(self, kind: str, data: Any) -> None:
        """Send an event to all clients, from any thread."""
        for listener in self.watching if kind == "preview" else list(self.active):
            listener.loop.call_soon_threadsafe(listener.put, kind, data)

    async def stream(self, first: list[tuple[str, Any]], final: frozenset[str],
                     final_event: Callable[[], tuple[str, Any] | None] = lambda: None,
                     previews: bool = True) -> AsyncIterator[str]:
        """Yield server-sent events, first the given ones, until one of a `final` kind.

        `final_event` is called once, after the client is registered, to catch an end that came before.
        """
        listener = Listener(previews)
        self.active.add(listener)
        try:
            for kind, data in [*first, *filter(None, [await run_in_threadpool(final_event)])]:
                listener.put(kind, data)
            while True:
                try:
                    await asyncio.wait_for(listener.ready.wait(), KEEP_ALIVE)
                except TimeoutError:
                    yield ": still here\n\n"
                    continue
                listener.ready.clear()
                pending, listener.pending = listener.pending, {}
                for kind, data in pending.items():
                    for item in data if kind == "log" else [data]:
                        yield f"event: {kind}\ndata: {json.dumps(item)}\n\n"
                    if kind in final:
                        return
        finally:
            self.active.discard(listener)
