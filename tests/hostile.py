"""A server on this machine that answers as a script says, and counts the bytes that it was able to send."""

import contextlib
import re
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import Any

ENDLESS = 2**26  # bytes after which the server gives up on a client that takes everything


@dataclass
class Request:
    """What was asked for: the number of the request from 1, its path, and the bytes first..last."""

    number: int
    path: str
    first: int
    last: int
    head: str
    content: bytes

    @property
    def body(self) -> bytes:
        """The bytes that were asked for."""
        return self.content[self.first:self.last + 1]

    def answer(self, body: bytes | None = None, status: str = "206 Partial Content", **headers: Any) -> bytes:
        """A right answer, with what is named here in place; a header of None is left out, one of a list repeated."""
        body = self.body if body is None else body
        named = {"Content_Range": f"bytes {self.first}-{self.last}/{len(self.content)}", "Content_Length": len(body),
                 "ETag": '"one"'} | headers
        lines = [f"{name.replace('_', '-')}: {one}" for name, value in named.items() if value is not None
                 for one in (value if isinstance(value, list) else [value])]
        return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode("latin-1") + body


@dataclass
class Hostile:
    """The server; `script(request)` gives the pieces of an answer, and True last where the connection stays open."""

    content: bytes
    script: Any = None
    asked: list[Request] = field(default_factory=list)
    sent: int = 0
    connections: int = 0

    def __post_init__(self) -> None:
        self.lock = threading.Lock()
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**16)
        self.port = self.socket.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            rest = b""
            while True:
                while b"\r\n\r\n" not in rest:
                    if not (more := connection.recv(65536)):
                        return
                    rest += more
                head, _, rest = rest.partition(b"\r\n\r\n")
                text = head.decode("latin-1")
                first, last = map(int, re.search(r"bytes=(\d+)-(\d+)", text).groups())
                with self.lock:
                    request = Request(len(self.asked) + 1, text.split(" ")[1], first, last, text, self.content)
                    self.asked.append(request)
                stays = False
                for piece in self.script(request):
                    if piece is None:
                        connection.recv(1)  # nothing more, until the client goes away
                        return
                    if piece is True:
                        stays = True
                        break
                    connection.sendall(piece)
                    self.sent += len(piece)
                if not stays:
                    return


def right(request: Request):
    """What a good server answers."""
    yield request.answer()
    yield True


def endless(piece: bytes, start: bytes = b""):
    """A start, and one piece again and again."""
    yield start
    for _ in range(ENDLESS // len(piece)):
        yield piece


def plain(status="206 Partial Content", body=None, keeps=False, **headers):
    """An answer that differs from the right one in its status, its body or its headers."""
    def script(request):
        yield request.answer(body(request) if callable(body) else body, status, **{
            name: value(request) if callable(value) else value for name, value in headers.items()})
        if keeps:
            yield True
    return script


def raw(*pieces):
    """Bytes as they are; None waits until the client has gone."""
    return lambda request: iter([piece(request) if callable(piece) else piece for piece in pieces])


def moved(target, status="302 Found", hops=1):
    """Sent on, so many times before the right answer."""
    def script(request):
        if request.path.count("x") >= hops:
            return right(request)
        place = target(request) if callable(target) else target
        return iter([f"HTTP/1.1 {status}\r\nLocation: {place}\r\nContent-Length: 3\r\n\r\nabc".encode("latin-1"), True])
    return script


def first(count, script):
    """So many answers of a script to one request, then the right one."""
    seen = {}

    def both(request):
        seen[request.first] = seen.get(request.first, 0) + 1
        return (script if seen[request.first] <= count else right)(request)
    return both


def at(request, change=0, total=0):
    """The Content-Range of a request, moved, or of another size."""
    return f"bytes {request.first + change}-{request.last + change}/{len(request.content) + total}"


def chunked(request, *, extra=b"", end=b"0\r\n\r\n"):
    """The right answer in two chunks."""
    body = request.body + extra
    half = len(body) // 2
    parts = [b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:half], body[half:]) if part]
    return request.answer(b"".join(parts) + end, Content_Length=None, Transfer_Encoding="chunked")


def head(request, **headers):
    """The headers of the right answer."""
    return request.answer(b"", **({"Content_Length": len(request.body)} | headers))


def drip(text, start=b""):
    """A letter now and then."""
    yield start
    for letter in text:
        time.sleep(0.02)
        yield bytes([letter])
