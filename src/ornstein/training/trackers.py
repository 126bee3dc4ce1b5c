"""Trackers: what follows a training from outside, such as TensorBoard, or a logger of the user's own."""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import yaml

from ornstein import files
from ornstein.arguments import find
from ornstein.training.events import Drawn, Event, Failed, Finished, Interrupted, Progress, Started, Warned
from ornstein.user_classes import load_class

__all__ = ["TRACKERS", "TensorBoard", "Tracker", "checked", "follow", "made", "named"]

FLUSH_SECONDS = 5  # that a training which is killed may lose of what is shown of it


@runtime_checkable
class Tracker(Protocol):
    """What is called with the events of a training: a function, or an object with `__call__`.

    In the first process, if there are several, it is told of `Started`, then of all that happens (`Progress` about
    once a second, `Drawn` whenever samples have been drawn), and at the end once of `Finished`, `Interrupted` or
    `Failed`; a process that is killed has no time to say so. What must be refused before a training starts, such as a
    key that is missing, belongs in the constructor. A tracker that raises does not end the training, which goes on
    without it and with one warning. While a tracker works the training waits.
    """

    def __call__(self, event: Event, /) -> None:
        """Take note of an event, a copy for each tracker; only the model of `Finished` is the one that `fit` returns.

        Args:
            event: of `ornstein.training.events`.
        """


class TensorBoard:
    """Writes event files for TensorBoard; its steps are pictures seen.

    Args:
        folder: for the event files of this run and no other, since a new run hides what is there; by default
            tensorboard/ in the folder of the run.

    Raises:
        ModuleNotFoundError: TensorBoard is not installed.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ModuleNotFoundError(f"tracker tensorboard needs TensorBoard ({error}): "
                                      "pip install 'ornstein[tensorboard]'") from error
        self.folder, self._kind = None if folder is None else Path(folder), SummaryWriter

    def __call__(self, event: Event, /) -> None:
        """Write settings as text, figures as scalars and pictures as images; the end closes the file.

        Raises:
            ValueError: neither the tracker nor the run has a folder.
        """
        if isinstance(event, Started):
            self._begin(event)
        elif isinstance(event, Progress):
            for name, value in event.figures.items():
                self._writer.add_scalar(name, value, event.images)
        elif isinstance(event, Drawn):
            import numpy as np
            from PIL import Image

            for name, path in event.pictures.items():
                with Image.open(path) as image:
                    self._writer.add_image(name, np.asarray(image.convert("RGB")), event.images, dataformats="HWC")
        elif isinstance(event, Finished | Interrupted | Failed):
            self._writer.close()

    def _begin(self, event: Started) -> None:
        """Open an event file; steps that a lost stretch wrote after the state are hidden by it."""
        if self.folder is None and event.run is None:
            raise ValueError("folder is None, and the run is kept in memory; give TensorBoard(folder), or out")
        place = self.folder or Path(event.run or "", "tensorboard")
        lost = 0 if event.resumed_at is None else event.resumed_at + 1
        if self.folder is None:
            files.refuse_link(place)
        # A new run in the folder removes what has this ending, and no event files of others.
        self._writer = self._kind(str(place), purge_step=lost, flush_secs=FLUSH_SECONDS, filename_suffix=".ornstein")
        if event.resumed_at is None:
            lines = yaml.safe_dump(event.settings.as_dict(), sort_keys=False, allow_unicode=True).splitlines()
            self._writer.add_text("settings", "\n".join(f"    {line}" for line in lines), 0)


TRACKERS: dict[str, type] = {"tensorboard": TensorBoard}


def checked(trackers: Iterable[Tracker]) -> tuple[Tracker, ...]:
    """The trackers, after a TypeError for what is no list of them, or cannot be called with an event."""
    if isinstance(trackers, str) or not isinstance(trackers, Iterable):
        raise TypeError(f"trackers is {trackers!r}; it must be a list of trackers, such as [TensorBoard()]")
    trackers = tuple(trackers)
    for tracker in trackers:
        if inspect.isclass(tracker):
            raise TypeError(f"tracker is the class {tracker.__name__}; give an object of it, {tracker.__name__}()")
        try:
            with suppress(ValueError):  # a function in C may not say how it is called
                inspect.signature(tracker).bind(None)
        except TypeError as error:
            raise TypeError(f"tracker {_name(tracker)} cannot be called with an event ({error}); a tracker is a "
                            "function(event), or an object with __call__(self, event)") from None
    return trackers


def named(names: Sequence[str]) -> dict[str, Callable[[], Tracker]]:
    """What makes the trackers that the command line names, "tensorboard" or path.py:Class; the user's file is run.

    Raises ValueError for an unknown name or class, FileNotFoundError for a file, ModuleNotFoundError for TensorBoard.
    """
    kinds: dict[str, Callable[[], Tracker]] = {}
    for name in names:
        if ":" in name or name.endswith(".py"):
            kinds[name] = load_class(name, (object,), "a tracker")
        else:
            kinds[name] = find("tracker", name, TRACKERS)
            kinds[name]()  # says now if its library is missing
    return kinds


def made(kinds: Mapping[str, Callable[[], Tracker]]) -> tuple[Tracker, ...]:
    """The trackers that `named` found, made; a ValueError if a constructor raises, else as `checked`."""
    trackers = []
    for name, kind in kinds.items():
        try:
            trackers.append(kind())
        except Exception as error:  # of the user's own code
            raise ValueError(f"tracker {name} could not be made: {_said(error)}") from error
    return checked(trackers)


def follow(events: Iterable[Event], trackers: Iterable[Tracker]) -> Iterator[Event]:
    """Pass on the events of a training and tell them to trackers, with `Warned` for each that is left out."""
    active: list[Tracker] = []  # those that have been told of the start and have not failed
    images = 0
    try:
        for event in events:
            images = getattr(event, "images", images)
            if isinstance(event, Started):
                yield event
                active += trackers
                yield from _tell(active, event)
                continue
            yield from _tell(active, event)  # before whoever listens, who may leave at it
            if isinstance(event, Finished | Interrupted):
                active.clear()
            yield event
    except Exception as error:
        yield from _tell(active, Failed(_said(error)))
        raise
    except BaseException:  # nobody listens any more, or Ctrl-C for the second time
        for lost in _tell(active, Interrupted(images)):
            warnings.warn(lost.text, RuntimeWarning, stacklevel=2)
        raise


def _tell(active: list[Tracker], event: Event) -> list[Warned]:
    """Call every tracker; one that raises leaves the list."""
    lost = []
    for tracker in tuple(active):
        try:
            tracker(event if isinstance(event, Finished) else copy.deepcopy(event))
        except Exception as error:
            active[:] = [other for other in active if other is not tracker]
            lost.append(Warned(f"tracker {_name(tracker)} failed at {type(event).__name__} ({_said(error)}); the "
                               "training goes on without it"))
    return lost


def _name(tracker: Any) -> str:
    return repr(tracker) if isinstance(tracker, str) else getattr(tracker, "__name__", type(tracker).__name__)


def _said(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
