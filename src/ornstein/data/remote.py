"""Tar shards on a server, read in parts; a server that is slow or gone is asked again until it answers."""

from __future__ import annotations

import functools
import http.client
import io
import time
import urllib.error
import urllib.request
from typing import Any, BinaryIO, ClassVar
from urllib.parse import urlsplit

from ornstein.data.spec import printable

__all__ = ["RemoteShard", "is_remote"]

BLOCK = 2**20  # bytes that are fetched at once while the headers are read
TIMEOUT = 30.0  # seconds without a byte until a request is given up
WAITS = (1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60, 60)  # seconds between tries: some 7 minutes in all
PASSING = (408, 425, 429, 500, 502, 503, 504)  # what a server says that may say something else later


def is_remote(source: str) -> bool:
    """Whether a source is an address of http or https."""
    return source.lower().startswith(("http://", "https://"))


class RemoteShard:
    """A tar file on a server that answers requests for ranges of bytes.

    Args:
        address: http or https.
        waits: seconds to wait before each new try; when they are used up, the fault is raised.

    Raises:
        ConnectionError: the server did not answer within the tries.
        ValueError: it answers, but not with the range that was asked for.
    """

    threads: ClassVar[int] = 16  # one request after the other would wait for the network each time

    def __init__(self, address: str, waits: tuple[float, ...] = WAITS) -> None:
        self.address, self.waits = address, waits

    @property
    def name(self) -> str:
        """Printable address, without user, password and query."""
        parts = urlsplit(self.address)
        return printable(f"{parts.scheme}://{parts.hostname}{parts.path}")

    @functools.cached_property
    def _head(self) -> tuple[int, str]:
        _, headers = self._ask(0, 1)
        size = headers.get("Content-Range", "").rpartition("/")[2]
        if not size.isdecimal():
            raise ValueError(f"{self.name}: the server does not say how large it is; copy the shard to a disk")
        return int(size), headers.get("ETag") or headers.get("Last-Modified") or ""

    def facts(self) -> list[Any]:
        """Address, size and what the server calls its version."""
        return [self.name, *self._head]

    def open(self) -> BinaryIO:
        """Open it for reading and seeking."""
        return io.BufferedReader(_Ranges(self, self._head[0]), BLOCK)

    def read(self, offset: int, size: int) -> bytes:
        """Return some of its bytes, fewer at its end."""
        size = min(size, self._head[0] - offset)
        return self._ask(offset, size)[0] if size > 0 else b""

    def _ask(self, offset: int, size: int) -> tuple[bytes, Any]:
        # Opened by http and https only: `is_remote` has looked.
        request = urllib.request.Request(self.address, headers={  # noqa: S310
            "Range": f"bytes={offset}-{offset + size - 1}", "User-Agent": "ornstein"})
        for wait in (*self.waits, None):
            try:
                with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310
                    if answer.status != 206:
                        raise ValueError(f"{self.name}: the server does not give parts of a file (status "
                                         f"{answer.status}); copy the shard to a disk")
                    content = answer.read()
                if len(content) == size:
                    return content, answer.headers
                fault = f"{len(content)} of {size} bytes came"
            except urllib.error.HTTPError as error:
                if error.code not in PASSING:
                    raise ConnectionError(f"{self.name}: the server answers {error.code} {error.reason}; "
                                          "check the address") from error
                fault = f"{error.code} {error.reason}"
            except (OSError, http.client.HTTPException) as error:
                fault = printable(str(error)) or type(error).__name__
            if wait is None:
                break
            time.sleep(wait)
        raise ConnectionError(f"{self.name}: no answer in {len(self.waits) + 1} tries ({fault}); "
                              "run it again when the server is back")


class _Ranges(io.RawIOBase):
    """Bytes of a shard as a file."""

    def __init__(self, shard: RemoteShard, size: int) -> None:
        self.shard, self.size, self.place = shard, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self.place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.place, io.SEEK_END: self.size}[whence]
        return self.place

    def tell(self) -> int:
        return self.place

    def readinto(self, buffer: Any, /) -> int:
        content = self.shard.read(self.place, len(buffer))
        buffer[:len(content)] = content
        self.place += len(content)
        return len(content)
