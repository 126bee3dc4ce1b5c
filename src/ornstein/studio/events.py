"""What happens to a job or a training, told to whoever listens: the latest of each kind, so that nobody falls behind.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.concurrency import run_in_threadpool

__all__ = ["SSE", "STREAM", "Listeners"]

SSE = "text/event-stream"
STREAM = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
MOST = 200  # lines that are kept for a listener
ALIVE = 10.0  # seconds after which a silent stream sends a comment, by which a lost client is noticed


class Listener:
    """One client that listens."""

    def __init__(self, previews: bool) -> None:
        self.previews = previews
        self.loop, self.news, self.waiting = asyncio.get_running_loop(), dict[str, Any](), asyncio.Event()

    def put(self, kind: str, data: Any) -> None:
        """Keep an event in place of the last one of its kind, but every line; called in the loop's own thread."""
        if kind == "log":
            data = [*self.news.get(kind, ()), data][-MOST:]
        self.news.pop(kind, None)
        self.news[kind] = data
        self.waiting.set()


class Listeners:
    """All that listen to one thing."""

    def __init__(self) -> None:
        self.there = set[Listener]()

    @property
    def watching(self) -> list[Listener]:
        """Those who want previews."""
        return [one for one in list(self.there) if one.previews]

    def tell(self, kind: str, data: Any) -> None:
        """Tell all of an event, from any thread."""
        for one in self.watching if kind == "preview" else list(self.there):
            one.loop.call_soon_threadsafe(one.put, kind, data)

    async def stream(self, first: list[tuple[str, Any]], last: frozenset[str],
                     ended: Callable[[], tuple[str, Any] | None] = lambda: None,
                     previews: bool = True) -> AsyncIterator[str]:
        """Server-sent events: what is the case, then what happens, up to an event of the `last` kinds; `ended` is asked
        once, for the thing may have ended before anybody listened."""
        listener = Listener(previews)
        self.there.add(listener)
        try:
            for kind, data in [*first, *filter(None, [await run_in_threadpool(ended)])]:
                listener.put(kind, data)
            while True:
                try:
                    await asyncio.wait_for(listener.waiting.wait(), ALIVE)
                except TimeoutError:
                    yield ": still here\n\n"
                    continue
                listener.waiting.clear()
                news, listener.news = listener.news, {}
                for kind, data in news.items():
                    for one in data if kind == "log" else [data]:
                        yield f"event: {kind}\ndata: {json.dumps(one)}\n\n"
                    if kind in last:
                        return
        finally:
            self.there.discard(listener)
