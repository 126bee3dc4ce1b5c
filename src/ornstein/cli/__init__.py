"""The command line: thin commands around the library, which import nothing heavy before they need it."""

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
    inspection,
    nearest,
    sample,
    studio,
    train,
    tune,
)
from ornstein.cli.app import app
from ornstein.display import say

# Commands with results beside what they print.
WRITERS = {"adopt", "compare", "edit", "evaluate", "export", "sample", "studio", "trace", "train", "tune"}
HIDDEN_WARNINGS = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)

__all__ = ["adopt", "app", "average", "compare", "edit", "evaluate", "export", "info", "inspection", "main", "nearest",
           "sample", "studio", "train", "tune"]


def main() -> None:
    """Run the command line; every error is one line on standard error, a traceback only with --debug."""
    words = sys.argv[1:]
    debug = "--debug" in words
    logging.lastResort = _LogHandler(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            for category in () if sys.warnoptions else HIDDEN_WARNINGS:
                warnings.simplefilter("ignore", category)
            app([word for word in words if word != "--debug"], exit_on_error=False, print_error=False)
    except SystemExit as end:  # successful commands raise it too
        if not end.code and terminal.is_output_lost() and not {*words[:1]} & WRITERS:
            raise SystemExit(1) from None
        raise
    except Exception as error:  # the user's own classes may raise anything
        if terminal.was_interrupted():  # but a library replaced the exception
            raise KeyboardInterrupt from error
        if debug:
            raise
        is_usage = isinstance(error, CycloptsError | ValueError | TypeError | FileExistsError | FileNotFoundError
                              | ModuleNotFoundError)
        if "WORLD_SIZE" in os.environ:
            _exit_process(error, is_usage)
        is_expected = is_usage or isinstance(error, OSError | RuntimeError)
        _fail(error if is_expected else f"{type(error).__name__}: {error} (--debug shows where)", 2 if is_usage else 1)


class _LogHandler(logging.Handler):
    """Prints log records of libraries, one line each."""

    def emit(self, record: logging.LogRecord) -> None:
        say(f"{record.levelname.lower()}: {' '.join(record.getMessage().split())}", error=True)


def _show_warning(message: Warning | str, category: type[Warning], filename: str, lineno: int,  # noqa: ARG001
                  file: TextIO | None = None, line: str | None = None) -> None:  # noqa: ARG001
    say(f"warning: {' '.join(str(message).split())}", error=True)


def _exit_process(error: Exception, is_usage: bool) -> None:
    """Exit one of several processes of a training."""
    from ornstein.training import launch
    from ornstein.training.events import TrainingFailed

    line = _message(error)
    if not (is_usage or isinstance(error, TrainingFailed)):
        # Most often another process has died. All restart, and the first one reports it.
        launch.report_error(line)
        raise SystemExit(1)
    if launch.report_outcome(2 if is_usage else 1, f"ornstein: {line}"):
        raise SystemExit(1)


def _fail(error: Exception | str, code: int) -> None:
    say(f"ornstein: {_message(error)}", error=True)
    raise SystemExit(code)


def _message(error: Exception | str) -> str:
    line = " ".join(str(error).split())
    if isinstance(error, MissingArgumentError) and error.argument is not None and error.command_chain:
        name = error.argument.name if error.argument.index is None else error.argument.name.strip("-").upper()
        return f"{name} is missing (ornstein {' '.join(error.command_chain)} --help says what it takes)"
    if isinstance(error, UnusedCliTokensError) and error.unused_tokens:
        unused = " ".join(error.unused_tokens[:3]) + (" ..." if len(error.unused_tokens) > 3 else "")
        return f"{unused} {'is' if len(error.unused_tokens) == 1 else 'are'} one too many (--help says what it takes)"
    if isinstance(error, OSError) and error.filename and error.strerror:
        line = f"{error.filename}: {error.strerror.lower()}; name another path"
    if not isinstance(error, CycloptsError):
        return line
    if isinstance(error, UnknownOptionError) and "train" in (error.command_chain or ()):
        line = _suggest_setting(error) or line
    command = " ".join(error.command_chain or ())
    return f"{line} (ornstein {command} --help shows the options)" if command else (
        f"{line} (ornstein --help shows the commands)")


def _suggest_setting(error: UnknownOptionError) -> str:
    """Suggest a setting for an unknown option that has no flag, or that is called so elsewhere; "" if there is none."""
    from ornstein.settings import Settings

    flag = (error.token.keyword or error.token.value).partition("=")[0]
    name = flag.strip("-").replace("-", "_")
    name = SYNONYMS.get(name, name)
    option = f"--{name.replace('_', '-')}"
    if not hasattr(Settings(), name):
        return ""
    has_flag = any(option in argument.names for argument in error.argument_collection)
    return f"Unknown option: {flag}. Did you mean {option if has_flag else f'--set {name}=...'}?"
