"""Tar shards on a server, read in parts, with retries."""

from __future__ import annotations

import functools
import io
import logging
import time
from typing import Any, BinaryIO, ClassVar

from ornstein.data import web

__all__ = ["RemoteShard", "is_remote"]

BUFFER_BYTES = 2**20  # fetched at once while reading headers
RETRY_DELAYS = (1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60, 60)  # seconds between tries, about 7 minutes in all
MAX_DELAY = 60.0  # seconds, even if the server asks for more
QUIET_SECONDS = 2.0  # waiting up to this long is not logged

log = logging.getLogger(__name__)


def is_remote(source: str) -> bool:
    """Whether a source is an http or https address."""
    return source.lower().startswith(("http://", "https://"))


class RemoteShard:
    """A tar file on a server that supports byte ranges; failed requests are retried after each of the `delays`, in
    seconds."""

    threads: ClassVar[int] = web.THREADS  # sequential requests would each wait for the network

    def __init__(self, address: str, delays: tuple[float, ...] = RETRY_DELAYS) -> None:
        self.address, self.delays = web.check_address(address), delays

    @property
    def name(self) -> str:
        """The printable address, without user, password and query."""
        return web.redact_address(self.address)

    @functools.cached_property
    def _first_byte(self) -> web.Part:
        return self._fetch(0, 1)

    def signature(self) -> list[Any] | None:
        """Return the full address, the size and the server's name of the version; None if it names none."""
        return [self.address, self._first_byte.total, self._first_byte.version] if self._first_byte.version else None

    def open(self) -> BinaryIO:
        """Open the shard for reading and seeking."""
        return io.BufferedReader(_RangeReader(self, self._first_byte.total), BUFFER_BYTES)

    def read(self, offset: int, size: int) -> bytes:
        """Return `size` bytes from `offset`, fewer at the end of the file."""
        end = min(offset + size, self._first_byte.total)
        return b"".join(self._read_part(start, min(web.MAX_PART_BYTES, end - start))
                        for start in range(offset, end, web.MAX_PART_BYTES))

    def _read_part(self, offset: int, size: int) -> bytes:
        part = self._fetch(offset, size)
        if (part.total, part.version) != (self._first_byte.total, self._first_byte.version):
            raise ValueError(f"{self.name}: changed on the server while it was read; start again")
        return part.content

    def _fetch(self, offset: int, size: int) -> web.Part:
        attempt, waited = 0, 0.0
        while True:
            attempt += 1
            try:
                return web.fetch(self.address, offset, size)
            except web.TransientError as error:
                if attempt > len(self.delays):
                    raise ConnectionError(f"{self.name}: no answer in {attempt} tries ({error}); "
                                          "try again when the server is back") from error
                delay = min(max(self.delays[attempt - 1], error.retry_after), MAX_DELAY)
                waited += delay
                if waited > QUIET_SECONDS:
                    log.warning("%s: %s; try %d of %d follows in %.0f s", self.name, error, attempt + 1,
                                len(self.delays) + 1, delay)
            pause(delay)


def pause(seconds: float) -> None:
    """Wait between two tries."""
    time.sleep(seconds)


class _RangeReader(io.RawIOBase):
    """A shard as a seekable raw file."""

    def __init__(self, shard: RemoteShard, size: int) -> None:
        self.shard, self.size, self.position = shard, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self.position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.position, io.SEEK_END: self.size}[whence]
        return self.position

    def tell(self) -> int:
        return self.position

    def readinto(self, buffer: Any, /) -> int:
        content = self.shard.read(self.position, len(buffer))
        buffer[:len(content)] = content
        self.position += len(content)
        return len(content)
