"""How far an evaluation is and how long it will take, from what the first rows of each part have cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

__all__ = ["Pace", "Tell"]

Tell = Callable[[str, float, float | None], None]
TRUSTED = 0.1  # share of a part, from which on what it has taken says all about what it will take


@dataclass
class _Part:
    """One part: the seconds that it was expected to take, and has taken: `now` for what was done now, `before` for the
    share `kept` of earlier runs."""

    expected: float
    share: float = 0.0
    kept: float = 0.0
    now: float = 0.0
    before: float = 0.0

    def left(self) -> float:
        """Seconds that the rest will take."""
        fresh = self.share - self.kept
        trust = min(1.0, fresh / TRUSTED) if self.expected else float(fresh > 0)
        whole = (1 - trust) * self.expected + (trust * self.now / fresh if fresh > 0 else 0.0)
        return whole * (1 - self.share)


class Pace:
    """Times the named parts of a job in their order, and calls `tell` with the part that is under way, the share of the
    whole job that is done, which never falls, and the seconds that are left, None until they are known.

    What is left of a part is expected to take as long as a trial of it says, and, once some of it is done, as long as
    that has taken: no part is expected to cost what it costs elsewhere.
    """

    clock = staticmethod(time.perf_counter)

    def __init__(self, tell: Tell, parts: tuple[str, ...]) -> None:
        self._tell, self._parts, self._known, self._share = tell, {name: _Part(0.0) for name in parts}, False, 0.0

    def expect(self, seconds: dict[str, float]) -> None:
        """What each part is expected to take as a whole; from now on the time that is left is told."""
        for name, value in seconds.items():
            self._parts[name].expected = value
        self._known = True

    def timed(self, work: Callable[[], object]) -> float:
        """Seconds that a piece of work takes, the least of two trials: the first may load what it needs."""
        taken = []
        for _ in range(2):
            started = self.clock()
            work()
            taken.append(self.clock() - started)
        return min(taken)

    @contextmanager
    def __call__(self, name: str) -> Iterator[Callable[..., None]]:
        """Time a part; yields what to call with the share of it that is done, and, where earlier runs did it, their
        seconds."""
        part, last = self._parts[name], self.clock()
        self._say(name)

        def share(done: float, kept: float | None = None) -> None:
            nonlocal last
            moment = self.clock()
            if kept is None:
                part.now += moment - last
            else:
                part.before += kept
                part.kept += done - part.share
            part.share, last = done, moment
            self._say(name)

        yield share
        part.now += self.clock() - last
        part.share = 1.0

    def _say(self, name: str) -> None:
        used = sum(part.now + part.before for part in self._parts.values())
        left = sum(part.left() for part in self._parts.values())
        known = self._known and used + left > 0
        if known:
            self._share = max(self._share, min(used / (used + left), 1.0))
        self._tell(name, self._share, left if known else None)

    @property
    def seconds(self) -> dict[str, float]:
        """What each part has taken, what was done before included."""
        return {name: round(part.now + part.before, 2) for name, part in self._parts.items() if part.share == 1}
