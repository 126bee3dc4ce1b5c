"""The command line: the user's words, each a thin call of the library. Nothing heavy is imported before it is used."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from typing import TextIO

from cyclopts import CycloptsError, MissingArgumentError
from cyclopts.exceptions import UnknownOptionError, UnusedCliTokensError

from ornstein import terminal
from ornstein.arguments import SYNONYMS
from ornstein.cli import (
    adopt,
    average,
    compare,
    edit,
    evaluate,
    export,
    info,
    look,
    nearest,
    sample,
    studio,
    train,
    tune,
)
from ornstein.cli.app import app
from ornstein.display import say

# What they print is not all that they leave.
WRITERS = {"adopt", "compare", "edit", "evaluate", "export", "sample", "studio", "trace", "train", "tune"}
FOR_PROGRAMMERS = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)

__all__ = ["adopt", "app", "average", "compare", "edit", "evaluate", "export", "info", "look", "main", "nearest",
           "sample", "studio", "train", "tune"]


def main() -> None:
    """Run the command line; every error is one line on standard error, a traceback only with --debug."""
    words = sys.argv[1:]
    debug = "--debug" in words
    logging.lastResort = _Lines(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            for kind in () if sys.warnoptions else FOR_PROGRAMMERS:
                warnings.simplefilter("ignore", kind)
            app([word for word in words if word != "--debug"], exit_on_error=False, print_error=False)
    except SystemExit as end:  # also of a command that ends well
        if not end.code and terminal.is_output_lost() and not {*words[:1]} & WRITERS:
            raise SystemExit(1) from None
        raise
    except Exception as error:  # whatever a file of the user's own, or a fault of ours, may raise
        if terminal.was_interrupted():  # a library has made another error of it
            raise KeyboardInterrupt from error
        if debug:
            raise
        usage = isinstance(error, CycloptsError | ValueError | TypeError | FileExistsError | FileNotFoundError
                           | ModuleNotFoundError)
        if "WORLD_SIZE" in os.environ:
            _leave(error, usage)
        known = usage or isinstance(error, OSError | RuntimeError)
        _fail(error if known else f"{type(error).__name__}: {error} (--debug shows where)", 2 if usage else 1)


class _Lines(logging.Handler):
    """What a library logs, one printable line each."""

    def emit(self, record: logging.LogRecord) -> None:
        say(f"{record.levelname.lower()}: {' '.join(record.getMessage().split())}", error=True)


def _warn(message: Warning | str, category: type[Warning], filename: str, lineno: int,  # noqa: ARG001
          file: TextIO | None = None, line: str | None = None) -> None:  # noqa: ARG001
    say(f"warning: {' '.join(str(message).split())}", error=True)


def _leave(error: Exception, usage: bool) -> None:
    """End one of several processes."""
    from ornstein.training import launch
    from ornstein.training.events import TrainingFailed

    line = _line(error)
    if not (usage or isinstance(error, TrainingFailed)):
        # Most often another process has died. All start again, and the first one says so.
        launch.report_error(line)
        raise SystemExit(1)
    if launch.report_outcome(2 if usage else 1, f"ornstein: {line}"):
        raise SystemExit(1)


def _fail(error: Exception | str, code: int) -> None:
    say(f"ornstein: {_line(error)}", error=True)
    raise SystemExit(code)


def _line(error: Exception | str) -> str:
    line = " ".join(str(error).split())
    if isinstance(error, MissingArgumentError) and error.argument is not None and error.command_chain:
        name = error.argument.name if error.argument.index is None else error.argument.name.strip("-").upper()
        return f"{name} is missing (ornstein {' '.join(error.command_chain)} --help says what it takes)"
    if isinstance(error, UnusedCliTokensError) and error.unused_tokens:
        left = " ".join(error.unused_tokens[:3]) + (" ..." if len(error.unused_tokens) > 3 else "")
        return f"{left} {'is' if len(error.unused_tokens) == 1 else 'are'} one too many (--help says what it takes)"
    if isinstance(error, OSError) and error.filename and error.strerror:
        line = f"{error.filename}: {error.strerror.lower()}; name another path"
    if not isinstance(error, CycloptsError):
        return line
    if isinstance(error, UnknownOptionError) and "train" in (error.command_chain or ()):
        line = _setting(error) or line
    command = " ".join(error.command_chain or ())
    return f"{line} (ornstein {command} --help shows the options)" if command else (
        f"{line} (ornstein --help shows the commands)")


def _setting(error: UnknownOptionError) -> str:
    """What to say of an option that is a setting without a flag, or one that others call so."""
    from ornstein.settings import Settings

    flag = (error.token.keyword or error.token.value).partition("=")[0]
    word = flag.strip("-").replace("-", "_")
    name = SYNONYMS.get(word, word)
    option = f"--{name.replace('_', '-')}"
    if not hasattr(Settings(), name):
        return ""
    known = any(option in argument.names for argument in error.argument_collection)
    return f"Unknown option: {flag}. Did you mean {option if known else f'--set {name}=...'}?"
