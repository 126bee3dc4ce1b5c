"""Progress of long work: one line that is rewritten on a terminal or in a notebook, else plain lines or JSON."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Generator
from typing import Any, TextIO

from ornstein.arguments import printable

__all__ = ["PLAIN_SECONDS", "ProgressLine", "can_rewrite", "emit", "format_duration", "progress_callback", "rescaled",
           "say"]

PLAIN_SECONDS = 5.0  # between plain lines of progress
REWRITE_SECONDS = 0.1  # between updates of a line that is rewritten, of which a notebook keeps each
CLEAR = "\r\x1b[K"  # go to the start of the line and erase it


def can_rewrite(stream: TextIO | None) -> bool:
    """Whether lines of a stream can be overwritten: on a terminal, or in a notebook."""
    # Jupyter's stream is not a terminal, and yet obeys a carriage return.
    return stream is not None and (stream.isatty() or type(stream).__module__.partition(".")[0] == "ipykernel")


def say(line: str, *, error: bool = False, moving: bool = False) -> None:
    """Print one line with control characters escaped; with `moving`, in place of the previous moving line."""
    text, stream = printable(line), sys.stderr if error else sys.stdout
    if moving:  # of a line that wraps, only the last row could be overwritten
        import shutil

        width = shutil.get_terminal_size().columns - 1
        # A notebook can only erase a line with spaces.
        text = CLEAR + text[:width] if stream.isatty() else f"\r{text[:width]:{width}}" + ("" if text else "\r")
    print(text, end="" if moving else "\n", flush=True, file=stream)


def emit(kind: str, **facts: Any) -> None:
    """Print an event as one line of JSON."""
    say(json.dumps({"event": kind, **facts}, default=str))


def format_duration(seconds: float) -> str:
    """Seconds as m:ss, or h:mm:ss from an hour on."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class ProgressLine:
    """Progress of a job of several parts: a moving line if possible, else a plain line now and then, or JSON.

    It is printed on standard output, or with `error` on standard error.
    """

    def __init__(self, as_json: bool = False, name: str = "", error: bool = False) -> None:
        self.as_json, self.error, self.name = as_json, error, name
        self.moving = can_rewrite(sys.stderr if error else sys.stdout) and not as_json
        self.part, self.printed_at = "", 0.0

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(self, *_: object) -> None:
        if self.moving:
            say("", error=self.error, moving=True)

    def __call__(self, part: str, share: float, left: float | None = None) -> None:
        """Show the current part, the share of the whole job that is done, and the seconds that are left."""
        label = f"{self.name}: {part}" if self.name else part
        line = f"{100 * share:3.0f} %  {label}" + ("" if left is None else f", {format_duration(left)} left")
        if self.as_json:
            emit("part", job=self.name, part=part, share=round(share, 4), left=left)
        elif self.moving:
            if part != self.part or share >= 1 or time.monotonic() - self.printed_at >= REWRITE_SECONDS:
                self.printed_at = time.monotonic()
                say(line, error=self.error, moving=True)
        elif part != self.part or time.monotonic() - self.printed_at >= PLAIN_SECONDS:
            self.printed_at = time.monotonic()
            say(line, error=self.error)
        self.part = part


@contextlib.contextmanager
def progress_callback(progress: bool | Callable[[float], None],
                      part: str) -> Generator[Callable[[float], None], None, None]:
    """Yield a callback that takes the share of a job that is done.

    It is the caller's own function, a line of progress on standard error, or one that does nothing.
    """
    if not progress or callable(progress):
        yield progress if callable(progress) else lambda _: None
        return
    start = time.monotonic()
    with ProgressLine(error=True) as line:
        yield lambda share: line(part, share, (time.monotonic() - start) * (1 / share - 1) if share else None)


def rescaled(callback: Callable[[float], None], first: float, last: float) -> Callable[[float], None]:
    """A progress callback of a part that takes the whole job from the share `first` to `last`."""
    return lambda share: callback(first + share * (last - first))
