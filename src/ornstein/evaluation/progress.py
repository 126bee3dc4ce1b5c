"""Progress of an evaluation, and the time left as estimated from what has been done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

__all__ = ["Progress", "ProgressCallback"]

ProgressCallback = Callable[[str, float, float | None], None]
TRUSTED = 0.1  # share of a part after which only its measured speed counts, not the estimate


@dataclass
class _Part:
    """Time of one part in seconds: `now` was spent in this run, `before` in earlier runs on a share `restored`."""

    expected: float
    share: float = 0.0
    restored: float = 0.0
    now: float = 0.0
    before: float = 0.0

    def left(self) -> float:
        """Estimated seconds for the rest of the part."""
        fresh = self.share - self.restored
        trust = min(1.0, fresh / TRUSTED) if self.expected else float(fresh > 0)
        total = (1 - trust) * self.expected + (trust * self.now / fresh if fresh > 0 else 0.0)
        return total * (1 - self.share)


class Progress:
    """Times the named parts of a job, one after the other, and reports them to a callback.

    The callback gets the name of the current part, the share of the whole job that is done, which never decreases, and
    the seconds left, None until they can be estimated. The estimate of a part begins with a trial run on this machine
    and moves to the measured speed as the part proceeds.
    """

    clock = staticmethod(time.perf_counter)

    def __init__(self, callback: ProgressCallback, parts: tuple[str, ...]) -> None:
        self._callback, self._parts = callback, {name: _Part(0.0) for name in parts}
        self._known, self._share = False, 0.0

    def expect(self, seconds: dict[str, float]) -> None:
        """Set the expected seconds of parts; from now on the time left is reported."""
        for name, value in seconds.items():
            self._parts[name].expected = value
        self._known = True

    def time_trial(self, work: Callable[[], object]) -> float:
        """Seconds that a piece of work takes: the shorter of two runs, since the first may load what it needs."""
        seconds = []
        for _ in range(2):
            started = self.clock()
            work()
            seconds.append(self.clock() - started)
        return min(seconds)

    @contextmanager
    def __call__(self, name: str) -> Iterator[Callable[..., None]]:
        """Time a part; yields a function to call with the share of it that is done, and with the seconds that an
        earlier run took for it if it was loaded from there."""
        part, last = self._parts[name], self.clock()
        self._report(name)

        def update(done: float, seconds_before: float | None = None) -> None:
            nonlocal last
            now = self.clock()
            if seconds_before is None:
                part.now += now - last
            else:
                part.before += seconds_before
                part.restored += done - part.share
            part.share, last = done, now
            self._report(name)

        yield update
        part.now += self.clock() - last
        part.share = 1.0

    def _report(self, name: str) -> None:
        used = sum(part.now + part.before for part in self._parts.values())
        left = sum(part.left() for part in self._parts.values())
        known = self._known and used + left > 0
        if known:
            self._share = max(self._share, min(used / (used + left), 1.0))
        self._callback(name, self._share, left if known else None)

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds that each finished part has taken, earlier runs included."""
        return {name: round(part.now + part.before, 2) for name, part in self._parts.items() if part.share == 1}
