"""Standard streams and Ctrl-C from the start of the program; imports nothing heavy."""

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

EXIT_CODE = 128 + signal.SIGINT
ASCII = {"±": "+-", "×": "x", "→": "->", "–": "-", "—": "-", "…": "...", "·": "*"}

_program_pid, _interrupts, _is_reported = 0, 0, False
_write_errors: dict[str, OSError] = {}  # by the name of the stream


def prepare() -> None:
    """Set up output streams that never raise, whatever the terminal can show, and a handler of Ctrl-C."""
    global _program_pid
    _program_pid = os.getpid()
    # A script that runs the program in the background has it ignore the signal.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
    codecs.register_error("ornstein", _replace_characters)
    for number, name in ((0, "stdin"), (1, "stdout"), (2, "stderr")):
        try:
            os.fstat(number)
        except OSError:  # closed: the next opened file would get its descriptor, and receive the output
            os.open(os.devnull, os.O_RDWR)
        if name != "stdin":
            stream = getattr(sys, name) or os.fdopen(number, "w", encoding="utf-8", closefd=False)
            stream.reconfigure(errors="ornstein")
            setattr(sys, name, _Output(stream, number, name))


class _Output:
    """A text stream that drops output instead of raising when it cannot be written."""

    def __init__(self, stream: TextIO, number: int, name: str) -> None:
        self.stream, self.number, self.name = stream, number, name

    def write(self, text: str) -> int:
        try:
            return self.stream.write(text)
        except OSError as error:
            self._drop(error)
            return len(text)

    def flush(self) -> None:
        try:
            self.stream.flush()
        except OSError as error:
            self._drop(error)

    def _drop(self, error: OSError) -> None:
        _write_errors[self.name] = error
        # Buffered and later output goes to the null device.
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self.number)
        os.close(null)
        if error.errno != errno.EPIPE and self.name == "stdout":
            reason = (error.strerror or str(error)).lower()
            print(f"ornstein: standard output cannot be written ({reason}); what it would show is lost",
                  file=sys.stderr)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def is_output_lost() -> bool:
    """Whether output was dropped for another reason than a closed pipe, as `head` leaves it."""
    sys.stdout.flush()
    error = _write_errors.get("stdout")
    return error is not None and error.errno != errno.EPIPE


def _replace_characters(error: UnicodeError) -> tuple[str, int]:
    """Replace characters that the terminal's encoding lacks; a codecs error handler."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start:error.end]
    return "".join(ASCII.get(character) or character.encode("ascii", "backslashreplace").decode()
                   for character in missing), error.end


def was_interrupted() -> bool:
    """Whether Ctrl-C was pressed, even if a library has replaced the exception."""
    return _interrupts > 0


def finish() -> None:
    """Make Ctrl-C end the program at once from now on, as there is nothing left to unwind."""
    global _interrupts
    _interrupts += 1


def stop() -> None:
    """End the program at once after Ctrl-C, and say so."""
    finish()
    if "multiprocessing" in sys.modules:
        for child in sys.modules["multiprocessing"].active_children():
            child.terminate()
    sys.stdout.flush()
    _exit()


def _interrupt(_: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt at the first Ctrl-C, unless a module is being imported; exit at the next one."""
    global _interrupts
    _interrupts += 1
    if os.getpid() != _program_pid:
        os._exit(EXIT_CODE)  # a forked process: the program itself reports the interrupt
    if _interrupts == 1 and not _is_importing(frame):
        raise KeyboardInterrupt
    _exit()


def _is_importing(frame: FrameType | None) -> bool:
    # An exception would leave a half-imported module, and extensions would replace it by other errors.
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


def _exit() -> None:
    global _is_reported
    if not _is_reported and "WORLD_SIZE" not in os.environ:  # under torchrun, its command reports it
        _is_reported = True
        line = "ornstein: stopped at once; what was not saved before is lost\n"
        with suppress(OSError):  # nobody may be reading it
            os.write(2, line.encode())
    os._exit(EXIT_CODE)

