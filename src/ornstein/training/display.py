"""The output of a training: one updating line on a terminal or in a notebook, plain lines elsewhere, or JSON."""

from __future__ import annotations

import dataclasses
import sys
import time
from typing import TYPE_CHECKING

from ornstein.display import PLAIN_SECONDS, can_rewrite, emit, format_duration, say

if TYPE_CHECKING:
    from ornstein.training.events import Event, Progress

__all__ = ["Display"]


class Display:
    """Prints the events of a training as text or as one JSON object per line; prints nothing if `silent`, as in all
    processes but the first. Writes to standard output, or with `error` to standard error."""

    def __init__(self, as_json: bool = False, silent: bool = False, error: bool = False) -> None:
        self.silent, self.error = silent, error
        self.as_json, self.moving = as_json, can_rewrite(sys.stderr if error else sys.stdout) and not as_json
        self.last_printed, self.line_is_open = -PLAIN_SECONDS, False

    def say(self, line: str) -> None:
        """Print one line of text."""
        if self.silent:
            return
        if self.as_json:
            emit("note", text=line)
        else:
            self.close()
            say(line, error=self.error)

    def close(self) -> None:
        """End the updating line, if there is one, and begin another."""
        if self.line_is_open:
            say("", error=self.error)
        self.line_is_open = False

    def event(self, event: Event) -> None:
        """Show an event of `ornstein.training.events`."""
        from ornstein.training.events import Drawn, Finished, Noted, Progress, Started, Warned

        if self.silent or isinstance(event, Drawn):
            return
        if self.as_json:
            names = [field.name for field in dataclasses.fields(event) if field.name != "model"]
            fields = {name: getattr(event, name) for name in names}
            if isinstance(event, Started):
                fields["settings"] = event.settings.as_dict()
            emit(type(event).__name__.lower(), **fields)
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
            budget = f"{settings.images:,} samples" if settings.images else (
                f"{settings.minutes:g} minute{'s' * (settings.minutes != 1)}")
            self.say(f"{settings.network} of {event.parameters:,} weights on {event.samples:,} samples "
                     f"({event.held_out:,} more held out), {settings.precision} on {event.device}"
                     + (f" in {settings.processes} processes" if settings.processes != 1 else "") + f", for {budget}")
            if event.resumed_at is not None:
                self.say(f"continues from {event.resumed_at:,} samples")
        elif isinstance(event, Finished) and event.already:
            self.say(f"this run has already finished, with {event.images:,} samples seen; --from trains its weights "
                     "further, in another folder")
        elif isinstance(event, Finished):
            held_out, gap = event.model.metrics["held_out"], event.model.metrics["gap"]
            self.say(f"done in {format_duration(event.seconds)}: {event.images:,} samples seen" + (
                "" if held_out is None else f"; loss of the averaged weights: {_losses(held_out, gap)}"))

    def _progress(self, event: Progress) -> None:
        suffix = "" if event.held_out is None else f"  averaged weights: {_losses(event.held_out, event.gap)}"
        suffix += f"  {event.skipped} steps skipped" if event.skipped else ""
        rate = f"{event.rate:,.0f}/s  " if event.rate else ""
        loss = "no loss yet" if event.loss is None else f"loss {event.loss:.4f}"
        line = (f"{100 * event.share:3.0f} %  {format_duration(event.left)} left  {event.images:,} samples  "
                f"{rate}{loss}{suffix}")
        if self.moving:
            say(line, error=self.error, moving=True)
            self.line_is_open = True
        elif time.monotonic() - self.last_printed >= PLAIN_SECONDS:
            self.last_printed = time.monotonic()
            say(line, error=self.error)


def _losses(held_out: float, gap: float | None) -> str:
    """Training and held-out loss of the same weights at the same noise: their gap shows memorisation."""
    return f"training {held_out - (gap or 0.0):.4f}, held out {held_out:.4f}"
