"""Files that others have made, opened only where they are regular ones."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

__all__ = ["open_regular"]


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file to read its bytes; a pipe or a device in its place would be waited for without end.

    Args:
        path: of the file, or of a link to it.

    Raises:
        FileNotFoundError: there is no such file.
        PermissionError: it must not be read.
        ValueError: it is a folder, a pipe, a socket or a device.
    """
    refused = f"{os.fspath(path)!r} is not a regular file; name another"  # as repr shows it: on one printable line
    try:
        file = open(path, "rb", opener=_without_waiting)  # noqa: SIM115
    except IsADirectoryError:
        raise ValueError(refused) from None
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket
            raise ValueError(refused) from None
        raise
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise ValueError(refused)
    return file


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
