"""HTTP by h11 with deadlines: whoever is slow to ask, or to take the answer, does not keep a connection."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from ornstein.studio.limits import HEADER, SLOW

__all__ = ["Deadlines"]

MOVES = 16_384  # bytes of a body that must arrive in that time, or its end
STALLED = 60.0  # seconds after which an answer that nobody reads is given up


class Deadlines(H11Protocol):
    """Closes a connection whose request does not arrive in time."""

    patience = SLOW
    _timer: asyncio.TimerHandle | None = None
    _stall: asyncio.TimerHandle | None = None
    _came = 0

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Take bytes; those of a request that is complete end the wait."""
        self._came += len(data)
        super().data_received(data)
        complete = self.conn.their_state not in (h11.IDLE, h11.SEND_BODY)
        if complete and self._timer is not None:
            self._timer.cancel()
            self._timer = None
        elif not complete and (self._timer is None or (self.conn.their_state is h11.SEND_BODY and self._came >= MOVES)):
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadlines."""
        for timer in (self._timer, self._stall):
            if timer is not None:
                timer.cancel()
        self._timer = self._stall = None
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client does not read."""
        super().pause_writing()
        self._stall = self.loop.call_later(STALLED, self.transport.abort)

    def resume_writing(self) -> None:
        """It reads again."""
        super().resume_writing()
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def _wait(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._came, self._timer = 0, self.loop.call_later(self.patience, self._late)

    def _late(self) -> None:
        self._timer = None
        self.transport.abort()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002
        """Refuse what is not HTTP, and a head that is too large with its own status."""
        large = len(self.conn.trailing_data[0]) >= HEADER
        status, reason = (431, b"Request Header Fields Too Large") if large else (400, b"Bad Request")
        error = f"the request's head has more than {HEADER:,} bytes" if large else "this is no valid HTTP request"
        body = json.dumps({"error": error, "field": None, "limit": HEADER if large else None}).encode()
        head = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()),
                (b"connection", b"close")]
        for event in (h11.Response(status_code=status, headers=head, reason=reason), h11.Data(data=body),
                      h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
