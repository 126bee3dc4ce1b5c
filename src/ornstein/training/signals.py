"""Ctrl-C, SIGTERM and, where there is one, SIGHUP as a wish to stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

__all__ = ["SIGNALS", "signals"]

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


@contextmanager
def signals(stop: Callable[[int], None]) -> Generator[None, None, None]:
    """Let the first Ctrl-C, SIGTERM or SIGHUP ask for a stop; a second one ends the program as ever.

    A signal that is ignored stays so: nohup, or a script that starts a training in the background, wants that.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[int, Any] = {number: handler for number in SIGNALS
                              if (handler := signal.getsignal(number)) not in (signal.SIG_IGN, None)}

    def handle(number: int, _: Any) -> None:
        stop(number)
        signal.signal(number, before[number])

    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
