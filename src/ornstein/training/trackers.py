"""Trackers: observers of a training, such as TensorBoard, or a logger of the user's own."""

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

__all__ = ["TRACKERS", "TensorBoard", "Tracker", "check_trackers", "make_trackers", "track", "tracker_factories"]

FLUSH_SECONDS = 5  # of events that a killed training may lose


@runtime_checkable
class Tracker(Protocol):
    """A callable for the events of a training: a function, or an object with `__call__`.

    The first process calls it with `Started`, then with every event (`Progress` about once a second, `Drawn` whenever
    samples have been drawn), and at the end once with `Finished`, `Interrupted` or `Failed`, unless the process is
    killed. What must be refused before the training starts, such as a missing key, belongs in the constructor. A
    tracker that raises does not end the training, which goes on without it, after a warning. The training waits while
    a tracker works.
    """

    def __call__(self, event: Event, /) -> None:
        """Handle an event, a copy for each tracker except that the model of `Finished` is the one that `fit` returns.

        Args:
            event: one of `ornstein.training.events`.
        """


class TensorBoard:
    """Writes event files for TensorBoard, with pictures seen as steps.

    Args:
        folder: for the event files of this run alone, since a new run hides earlier events there; by default
            tensorboard/ in the run's folder.

    Raises:
        ModuleNotFoundError: TensorBoard is not installed.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ModuleNotFoundError(f"tracker tensorboard needs TensorBoard ({error}): "
                                      "pip install 'ornstein[tensorboard]'") from error
        self.folder, self._writer_class = None if folder is None else Path(folder), SummaryWriter

    def __call__(self, event: Event, /) -> None:
        """Write settings as text, metrics as scalars and pictures as images; close the file at the end.

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
        """Open an event file, which hides steps that were written after the state that the run resumes from."""
        if self.folder is None and event.run is None:
            raise ValueError("folder is None, and the run is kept in memory; give TensorBoard(folder), or out")
        folder = self.folder or Path(event.run or "", "tensorboard")
        purge = 0 if event.resumed_at is None else event.resumed_at + 1
        if self.folder is None:
            files.refuse_link(folder)
        # A new run removes the event files with this suffix, and no others.
        self._writer = self._writer_class(str(folder), purge_step=purge, flush_secs=FLUSH_SECONDS,
                                          filename_suffix=".ornstein")
        if event.resumed_at is None:
            lines = yaml.safe_dump(event.settings.as_dict(), sort_keys=False, allow_unicode=True).splitlines()
            self._writer.add_text("settings", "\n".join(f"    {line}" for line in lines), 0)


TRACKERS: dict[str, type] = {"tensorboard": TensorBoard}


def check_trackers(trackers: Iterable[Tracker]) -> tuple[Tracker, ...]:
    """Return the trackers as a tuple; TypeError if they are not a list, or one cannot be called with an event."""
    if isinstance(trackers, str) or not isinstance(trackers, Iterable):
        raise TypeError(f"trackers is {trackers!r}; it must be a list of trackers, such as [TensorBoard()]")
    trackers = tuple(trackers)
    for tracker in trackers:
        if inspect.isclass(tracker):
            raise TypeError(f"tracker is the class {tracker.__name__}; give an instance, {tracker.__name__}()")
        try:
            with suppress(ValueError):  # a function in C may not say how it is called
                inspect.signature(tracker).bind(None)
        except TypeError as error:
            raise TypeError(f"tracker {_name(tracker)} cannot be called with an event ({error}); a tracker is a "
                            "function(event), or an object with __call__(self, event)") from None
    return trackers


def tracker_factories(names: Sequence[str]) -> dict[str, Callable[[], Tracker]]:
    """Factories of the trackers named "tensorboard" or path.py:Class, whose file is run.

    Raises ValueError for an unknown name or class, FileNotFoundError for a file, ModuleNotFoundError for TensorBoard.
    """
    factories: dict[str, Callable[[], Tracker]] = {}
    for name in names:
        if ":" in name or name.endswith(".py"):
            factories[name] = load_class(name, (object,), "a tracker")
        else:
            factories[name] = find("tracker", name, TRACKERS)
            factories[name]()  # fails now if its library is missing
    return factories


def make_trackers(factories: Mapping[str, Callable[[], Tracker]]) -> tuple[Tracker, ...]:
    """Make the trackers; ValueError if a constructor raises, otherwise as `check_trackers`."""
    trackers = []
    for name, make in factories.items():
        try:
            trackers.append(make())
        except Exception as error:  # from the user's own code
            raise ValueError(f"tracker {name} could not be made: {_describe(error)}") from error
    return check_trackers(trackers)


def track(events: Iterable[Event], trackers: Iterable[Tracker]) -> Iterator[Event]:
    """Pass on the events of a training and send them to trackers, with `Warned` for each tracker that fails."""
    active: list[Tracker] = []  # those that have received `Started` and have not failed
    images = 0
    try:
        for event in events:
            images = getattr(event, "images", images)
            if isinstance(event, Started):
                yield event
                active += trackers
                yield from _notify(active, event)
                continue
            yield from _notify(active, event)  # before the consumer, who may stop at it
            if isinstance(event, Finished | Interrupted):
                active.clear()
            yield event
    except Exception as error:
        yield from _notify(active, Failed(_describe(error)))
        raise
    except BaseException:  # the consumer has stopped, or a second Ctrl-C
        for warning in _notify(active, Interrupted(images)):
            warnings.warn(warning.text, RuntimeWarning, stacklevel=2)
        raise


def _notify(active: list[Tracker], event: Event) -> list[Warned]:
    """Call every tracker; remove those that raise from the list."""
    warned = []
    for tracker in tuple(active):
        try:
            tracker(event if isinstance(event, Finished) else copy.deepcopy(event))
        except Exception as error:
            active[:] = [other for other in active if other is not tracker]
            warned.append(Warned(f"tracker {_name(tracker)} failed at {type(event).__name__} ({_describe(error)}); the "
                                 "training goes on without it"))
    return warned


def _name(tracker: Any) -> str:
    return repr(tracker) if isinstance(tracker, str) else getattr(tracker, "__name__", type(tracker).__name__)


def _describe(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
