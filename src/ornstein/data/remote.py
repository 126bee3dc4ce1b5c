"""Tar shards on a server, read in parts; a server that is slow or gone is asked again until it answers."""

from __future__ import annotations

import functools
import io
import logging
import time
from typing import Any, BinaryIO, ClassVar

from ornstein.data import web

__all__ = ["RemoteShard", "is_remote"]

BLOCK = 2**20  # bytes that are fetched at once while the headers are read
WAITS = (1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60, 60)  # seconds between tries: some 7 minutes in all
MOST_WAIT = 60.0  # seconds, whatever the server asks for
SILENT = 2.0  # seconds of waiting that nobody needs to know of

log = logging.getLogger(__name__)


def is_remote(source: str) -> bool:
    """Whether a source is an address of http or https."""
    return source.lower().startswith(("http://", "https://"))


class RemoteShard:
    """A tar file on a server that answers requests for ranges of bytes, asked again after each of the `waits` in
    seconds."""

    threads: ClassVar[int] = web.THREADS  # one request after the other would wait for the network each time

    def __init__(self, address: str, waits: tuple[float, ...] = WAITS) -> None:
        self.address, self.waits = web.check_address(address), waits

    @property
    def name(self) -> str:
        """Printable address, without user, password and query."""
        return web.shown(self.address)

    @functools.cached_property
    def _first(self) -> web.Part:
        return self._ask(0, 1)

    def facts(self) -> list[Any] | None:
        """The whole address, the size and what the server calls its version; None where it names no version."""
        return [self.address, self._first.total, self._first.version] if self._first.version else None

    def open(self) -> BinaryIO:
        """Open it for reading and seeking."""
        return io.BufferedReader(_Ranges(self, self._first.total), BLOCK)

    def read(self, offset: int, size: int) -> bytes:
        """Return some of its bytes, fewer at its end."""
        end = min(offset + size, self._first.total)
        return b"".join(self._read(start, min(web.MOST, end - start)) for start in range(offset, end, web.MOST))

    def _read(self, offset: int, size: int) -> bytes:
        part = self._ask(offset, size)
        if (part.total, part.version) != (self._first.total, self._first.version):
            raise ValueError(f"{self.name}: has changed on the server while it was read; start again")
        return part.content

    def _ask(self, offset: int, size: int) -> web.Part:
        waits, waited = iter(self.waits), 0.0
        number = 1
        while True:
            number += 1
            try:
                return web.fetch(self.address, offset, size)
            except web.PassingFault as fault:
                wait = next(waits, None)
                if wait is None:
                    raise ConnectionError(f"{self.name}: no answer in {number - 1} tries ({fault}); "
                                          "run it again when the server is back") from fault
                wait = min(max(wait, fault.after), MOST_WAIT)
                waited += wait
                if waited > SILENT:
                    log.warning("%s: %s; try %d of %d follows in %.0f s", self.name, fault, number, len(self.waits) + 1,
                                wait)
            pause(wait)


def pause(seconds: float) -> None:
    """Wait between two tries."""
    time.sleep(seconds)


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
