"""How long work shows itself: one moving line on a terminal and in a notebook, plain lines elsewhere, or JSON."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Generator
from typing import Any, TextIO

from ornstein.arguments import printable

__all__ = ["PLAIN_SECONDS", "Parts", "clock", "emit", "live", "say", "telling", "within"]

PLAIN_SECONDS = 5.0  # between lines of progress where nothing can move
MOVING_SECONDS = 0.1  # between two states of a line that moves: a notebook keeps each of them
CLEAR = "\r\x1b[K"  # back to the start of the line, and what is there removed


def live(stream: TextIO | None) -> bool:
    """Whether a line of a stream can be written over: on a terminal, or in a notebook."""
    # Jupyter's stream says that it is no terminal, and yet goes back to the start of a line.
    return stream is not None and (stream.isatty() or type(stream).__module__.partition(".")[0] == "ipykernel")


def say(line: str, *, error: bool = False, moving: bool = False) -> None:
    """Print one line, in place of the one that moves if it is `moving`; what a terminal would obey is shown as escapes.
    """
    text, stream = printable(line), sys.stderr if error else sys.stdout
    if moving:  # of a line that wraps only the end could be taken back
        import shutil

        wide = shutil.get_terminal_size().columns - 1
        # A notebook has no other way to remove a line than spaces.
        text = CLEAR + text[:wide] if stream.isatty() else f"\r{text[:wide]:{wide}}" + ("" if text else "\r")
    print(text, end="" if moving else "\n", flush=True, file=stream)


def emit(kind: str, **facts: Any) -> None:
    """One line of JSON."""
    say(json.dumps({"event": kind, **facts}, default=str))


def clock(seconds: float) -> str:
    """Seconds as minutes and seconds, with hours where there are any."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class Parts:
    """Shows how far a job of several parts is: one moving line where a line can move, else a line when a part begins,
    or JSON; on standard output, or with `error` on standard error.
    """

    def __init__(self, as_json: bool = False, name: str = "", error: bool = False) -> None:
        self.as_json, self.moving = as_json, live(sys.stderr if error else sys.stdout) and not as_json
        self.error = error
        self.name, self.part, self.last = name, "", 0.0

    def __enter__(self) -> Parts:
        return self

    def __exit__(self, *_: object) -> None:
        if self.moving:  # clear the moving line, for what comes next
            say("", error=self.error, moving=True)

    def __call__(self, part: str, share: float, left: float | None = None) -> None:
        """Show the part that is under way, the share of the whole job that is done, and the seconds that are left."""
        named = f"{self.name}: {part}" if self.name else part
        line = f"{100 * share:3.0f} %  {named}" + ("" if left is None else f", {clock(left)} left")
        if self.as_json:
            self.event("part", job=self.name, part=part, share=round(share, 4), left=left)
        elif self.moving:
            if part != self.part or share >= 1 or time.monotonic() - self.last >= MOVING_SECONDS:
                self.last = time.monotonic()
                say(line, error=self.error, moving=True)
        elif part != self.part or time.monotonic() - self.last >= PLAIN_SECONDS:
            self.last = time.monotonic()
            say(line, error=self.error)
        self.part = part

    def event(self, kind: str, **facts: Any) -> None:
        """One line of JSON."""
        emit(kind, **facts)


@contextlib.contextmanager
def telling(progress: bool | Callable[[float], None], part: str) -> Generator[Callable[[float], None], None, None]:
    """What is to be called with the share of a job that is done: a function of the caller's, a line of progress on
    standard error, or what does nothing.
    """
    if not progress or callable(progress):
        yield progress if callable(progress) else lambda _: None
        return
    began = time.monotonic()
    with Parts(error=True) as parts:
        yield lambda share: parts(part, share, (time.monotonic() - began) * (1 / share - 1) if share else None)


def within(tell: Callable[[float], None], first: float, last: float) -> Callable[[float], None]:
    """What is to be called with the share of a part that is done, which goes from one share of the whole to another."""
    return lambda share: tell(first + share * (last - first))
