"""An HTTP protocol with deadlines: slow or stalled clients cannot hold connections open."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from ornstein.studio.limits import MAX_HEADER, REQUEST_SECONDS

__all__ = ["DeadlineProtocol"]

CHUNK = 16_384  # bytes of a body that must arrive within each deadline, except the last
STALLED = 60.0  # seconds after which a response that the client does not read is aborted


class DeadlineProtocol(H11Protocol):
    """Closes a connection when its request does not arrive, or its response is not read, in time."""

    patience = REQUEST_SECONDS
    _request_timer: asyncio.TimerHandle | None = None
    _stall_timer: asyncio.TimerHandle | None = None
    _received = 0

    def connection_made(self, transport: Any) -> None:
        """Start the deadline of the first request."""
        super().connection_made(transport)
        self._start_timer()

    def data_received(self, data: bytes) -> None:
        """Receive bytes; a complete request stops the deadline, a full chunk of its body restarts it."""
        self._received += len(data)
        super().data_received(data)
        complete = self.conn.their_state not in (h11.IDLE, h11.SEND_BODY)
        if complete and self._request_timer is not None:
            self._request_timer.cancel()
            self._request_timer = None
        elif not complete and (self._request_timer is None or (
                self.conn.their_state is h11.SEND_BODY and self._received >= CHUNK)):
            self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the deadlines."""
        for timer in (self._request_timer, self._stall_timer):
            if timer is not None:
                timer.cancel()
        self._request_timer = self._stall_timer = None
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Start the deadline of a client that has stopped reading."""
        super().pause_writing()
        self._stall_timer = self.loop.call_later(STALLED, self.transport.abort)

    def resume_writing(self) -> None:
        """Cancel that deadline, because the client reads again."""
        super().resume_writing()
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None

    def _start_timer(self) -> None:
        if self._request_timer is not None:
            self._request_timer.cancel()
        self._received, self._request_timer = 0, self.loop.call_later(self.patience, self._on_timeout)

    def _on_timeout(self) -> None:
        self._request_timer = None
        self.transport.abort()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002
        """Refuse what is not HTTP with 400, and a head that is too large with 431."""
        too_large = len(self.conn.trailing_data[0]) >= MAX_HEADER
        status, reason = (431, b"Request Header Fields Too Large") if too_large else (400, b"Bad Request")
        error = f"the request's head has more than {MAX_HEADER:,} bytes" if too_large else "this is not valid HTTP"
        body = json.dumps({"error": error, "field": None, "limit": MAX_HEADER if too_large else None}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()),
                   (b"connection", b"close")]
        for event in (h11.Response(status_code=status, headers=headers, reason=reason), h11.Data(data=body),
                      h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
