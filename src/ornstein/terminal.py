"""Standard streams and Ctrl-C, from the program's first moment on; nothing heavy is imported here."""

from __future__ import annotations

import codecs
import errno
import os
import signal
import sys
from contextlib import suppress
from types import FrameType
from typing import Any, TextIO

__all__ = ["finish", "is_output_lost", "prepare", "stop", "was_interrupted"]

STOPPED = 128 + signal.SIGINT  # exit code
PLAIN = {"±": "+-", "×": "x", "→": "->", "–": "-", "—": "-", "…": "...", "·": "*"}

_program, _interrupts, _said = 0, 0, False
_faults: dict[str, OSError] = {}  # by the name of the stream


def prepare() -> None:
    """Make the program survive a terminal that is gone, closed, full or knows few characters, and Ctrl-C stop it."""
    global _program
    _program = os.getpid()
    # Ignored by whoever started the program: a script that runs it in the background.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
    codecs.register_error("ornstein", _otherwise)
    for number, name in ((0, "stdin"), (1, "stdout"), (2, "stderr")):
        try:
            os.fstat(number)
        except OSError:  # closed: the next file to be opened would have this number, and get what is printed
            os.open(os.devnull, os.O_RDWR)
        if name != "stdin":
            stream = getattr(sys, name) or os.fdopen(number, "w", encoding="utf-8", closefd=False)
            stream.reconfigure(errors="ornstein")
            setattr(sys, name, _Output(stream, number, name))


class _Output:
    """A stream of text whose lines may get lost without ending anything."""

    def __init__(self, stream: TextIO, number: int, name: str) -> None:
        self.stream, self.number, self.name = stream, number, name

    def write(self, text: str) -> int:
        try:
            return self.stream.write(text)
        except OSError as error:
            self._lose(error)
            return len(text)

    def flush(self) -> None:
        try:
            self.stream.flush()
        except OSError as error:
            self._lose(error)

    def _lose(self, error: OSError) -> None:
        _faults[self.name] = error
        # What is left in buffers, and all that comes, goes nowhere and raises nothing.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.number)
        os.close(nowhere)
        if error.errno != errno.EPIPE and self.name == "stdout":
            why = (error.strerror or str(error)).lower()
            print(f"ornstein: standard output cannot be written ({why}); what it would show is lost", file=sys.stderr)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def is_output_lost() -> bool:
    """Whether output is missing that somebody waits for: a reader that has gone, as `head` does, does not."""
    sys.stdout.flush()
    fault = _faults.get("stdout")
    return fault is not None and fault.errno != errno.EPIPE


def _otherwise(error: UnicodeError) -> tuple[str, int]:
    """What to write for characters that the terminal does not have."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start:error.end]
    return "".join(PLAIN.get(one) or one.encode("ascii", "backslashreplace").decode() for one in missing), error.end


def was_interrupted() -> bool:
    """Whether Ctrl-C has been pressed, whatever has become of the exception since."""
    return _interrupts > 0


def finish() -> None:
    """Nothing is left that an exception could unwind: from now on Ctrl-C ends the program at once."""
    global _interrupts
    _interrupts += 1


def stop() -> None:
    """End the program at once, after Ctrl-C, with a line that says so."""
    finish()
    if "multiprocessing" in sys.modules:
        for child in sys.modules["multiprocessing"].active_children():
            child.terminate()
    sys.stdout.flush()
    _leave()


def _interrupt(_: int, frame: FrameType | None) -> None:
    """The first Ctrl-C is an exception, unless a module is being imported; the next one waits for nothing."""
    global _interrupts
    _interrupts += 1
    if os.getpid() != _program:
        os._exit(STOPPED)  # a process that was forked: the program itself answers
    if _interrupts == 1 and not _importing(frame):
        raise KeyboardInterrupt
    _leave()


def _importing(frame: FrameType | None) -> bool:
    # A half imported module stays behind, and extensions make other errors of the exception.
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


def _leave() -> None:
    global _said
    if not _said and "WORLD_SIZE" not in os.environ:  # one of several: the command that started them says it
        _said = True
        line = "ornstein: stopped at once; what was not saved before is lost\n"
        with suppress(OSError):  # there may be nobody to read it
            os.write(2, line.encode())
    os._exit(STOPPED)

