"""How a training shows itself: one moving line on a terminal, plain lines elsewhere, or JSON."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from typing import TYPE_CHECKING, Any

from ornstein.names import printable

if TYPE_CHECKING:
    from ornstein.training.events import Event, Progress

__all__ = ["Display", "Parts", "say"]

PLAIN_SECONDS = 5.0  # between lines of progress where nothing can move
CLEAR = "\r\x1b[K"  # back to the start of the line, and what is there removed


def say(line: str, *, error: bool = False, moving: bool = False) -> None:
    """Print one line, in place of the one that moves if it is `moving`; what a terminal would obey is shown as escapes.
    """
    text = printable(line)
    if moving:  # of a line that wraps only the end could be taken back
        import shutil

        text = CLEAR + text[:shutil.get_terminal_size().columns - 1]
    print(text, end="" if moving else "\n", flush=True, file=sys.stderr if error else sys.stdout)


class Display:
    """Prints what a training tells: as lines, as one JSON object a line, or, where another process does, not at all."""

    def __init__(self, as_json: bool = False, silent: bool = False) -> None:
        self.silent = silent
        self.as_json, self.moving = as_json, sys.stdout.isatty() and not as_json
        self.last, self.open = -PLAIN_SECONDS, False

    def say(self, line: str) -> None:
        """One line of text."""
        if self.silent:
            return
        if self.as_json:
            _json("note", text=line)
        else:
            if self.open:
                say("")
            self.open = False
            say(line)

    def event(self, event: Event) -> None:
        """Show an event of `ornstein.training.events`."""
        from ornstein.training.events import Drawn, Finished, Noted, Progress, Started, Warned

        if self.silent or isinstance(event, Drawn):
            return
        if self.as_json:
            facts = {item.name: getattr(event, item.name) for item in dataclasses.fields(event) if item.name != "model"}
            if isinstance(event, Started):
                facts["settings"] = event.settings.as_dict()
            _json(type(event).__name__.lower(), **facts)
        elif isinstance(event, Progress):
            self._progress(event)
        elif isinstance(event, Noted):
            self.say(event.text)
        elif isinstance(event, Warned):
            self.say(f"warning: {event.text}")
        elif isinstance(event, Started):
            for note in event.notes:
                self.say(note)
            for reason in event.reasons:
                self.say(f"chosen: {reason}")
            settings = event.settings
            budget = f"{settings.images:,} samples" if settings.images else f"{settings.minutes:g} minutes"
            self.say(f"{settings.network} of {event.parameters:,} weights on {event.samples:,} samples "
                     f"({event.held_out:,} more held out), {settings.precision} on {event.device}"
                     + (f" in {settings.processes} processes" if settings.processes != 1 else "") + f", for {budget}")
            if event.resumed_at is not None:
                self.say(f"continues from {event.resumed_at:,} samples")
        elif isinstance(event, Finished) and event.already:
            self.say(f"this run has already finished, with {event.images:,} samples seen")
        elif isinstance(event, Finished):
            held_out, gap = event.model.metrics["held_out"], event.model.metrics["gap"]
            self.say(f"done in {_clock(event.seconds)}: {event.images:,} samples seen" + (
                "" if held_out is None else f", held-out loss {held_out:.4f}, {_gap(gap)} the training loss"))

    def _progress(self, event: Progress) -> None:
        extra = "" if event.held_out is None else f"  held out {event.held_out:.4f} ({_gap(event.gap)} training)"
        extra += f"  {event.skipped} steps skipped" if event.skipped else ""
        rate = f"{event.rate:,.0f}/s  " if event.rate else ""
        loss = "no loss yet" if event.loss is None else f"loss {event.loss:.4f}"
        line = f"{100 * event.share:3.0f} %  {_clock(event.left)} left  {event.images:,} samples  {rate}{loss}{extra}"
        if self.moving:
            say(line, moving=True)
            self.open = True
        elif time.monotonic() - self.last >= PLAIN_SECONDS:
            self.last = time.monotonic()
            say(line)


def _json(kind: str, **facts: Any) -> None:
    say(json.dumps({"event": kind, **facts}, default=str))


def _gap(gap: float | None) -> str:
    """How far a held-out loss is from the training loss, in words."""
    return f"{abs(gap or 0.0):.4f} {'below' if (gap or 0.0) < 0 else 'above'}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class Parts:
    """Shows how far a job of several parts is: one moving line on a terminal, else a line when a part begins, or JSON.
    """

    def __init__(self, as_json: bool = False, name: str = "") -> None:
        self.as_json, self.moving = as_json, sys.stdout.isatty() and not as_json
        self.name, self.part, self.last = name, "", 0.0

    def __enter__(self) -> Parts:
        return self

    def __exit__(self, *_: object) -> None:
        if self.moving:  # clear the moving line, for what comes next
            say("", moving=True)

    def __call__(self, part: str, share: float, left: float | None = None) -> None:
        """Show the part that is under way, the share of the whole job that is done, and the seconds that are left."""
        named = f"{self.name}: {part}" if self.name else part
        line = f"{100 * share:3.0f} %  {named}" + ("" if left is None else f", {_clock(left)} left")
        if self.as_json:
            self.event("part", job=self.name, part=part, share=round(share, 4), left=left)
        elif self.moving:
            say(line, moving=True)
        elif part != self.part or time.monotonic() - self.last >= PLAIN_SECONDS:
            self.last = time.monotonic()
            say(line)
        self.part = part

    def event(self, kind: str, **facts: Any) -> None:
        """One line of JSON."""
        _json(kind, **facts)
