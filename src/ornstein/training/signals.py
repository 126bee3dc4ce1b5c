"""Ctrl-C, SIGTERM and, where it exists, SIGHUP as requests to stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

__all__ = ["SIGNALS", "stop_on_signals"]

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


@contextmanager
def stop_on_signals(on_signal: Callable[[int], None]) -> Generator[None, None, None]:
    """Pass the first Ctrl-C, SIGTERM or SIGHUP to `on_signal`; a second one ends the program as usual.

    An ignored signal stays ignored, as under nohup or in a script that starts a training in the background.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers: dict[int, Any] = {number: handler for number in SIGNALS
                                if (handler := signal.getsignal(number)) not in (signal.SIG_IGN, None)}

    def handle(number: int, _: Any) -> None:
        on_signal(number)
        signal.signal(number, handlers[number])

    for number in handlers:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
