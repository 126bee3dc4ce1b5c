"""Trackers: what follows a training from outside, such as TensorBoard, or a logger of the user's own."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import yaml

from ornstein import files
from ornstein.names import find
from ornstein.own import find_class
from ornstein.training.events import Drawn, Event, Finished, Interrupted, Progress, Started, Warned

__all__ = ["TRACKERS", "Outcome", "TensorBoard", "Tracker", "checked", "follow", "made", "named"]

FLUSH_SECONDS = 5  # that a training which is killed may lose of what is shown of it
Outcome = Literal["finished", "interrupted", "failed"]


@runtime_checkable
class Tracker(Protocol):
    """Three methods that a training calls, in the first process if there are several.

    What must be refused before a training starts, such as a key that is missing, belongs in the constructor. A method
    that raises does not end the training, which goes on without the tracker and with one warning. While a method works
    the training waits.
    """

    def begin(self, settings: Mapping[str, Any], run: Path | None, resumed_at: int | None, /) -> None:
        """A training begins or goes on.

        Args:
            settings: all of run.yaml, as plain values.
            run: folder of the run; None for one that is kept in memory.
            resumed_at: pictures seen at the state that the training goes on from, whatever was recorded after it is
                void; None for a new run.
        """

    def record(self, images: int, figures: Mapping[str, float], pictures: Mapping[str, Path], /) -> None:
        """About once a second, and whenever samples have been drawn.

        Args:
            images: pictures seen, >= 0; never falls, and may stay.
            figures: those of a line of metrics.jsonl that are known by now, of "loss", "held_out", "gap",
                "learning_rate", "images_per_second", "seconds" and "skipped"; empty where there are pictures.
            pictures: PNG files of the run, "samples" and perhaps "statistics"; empty where there are figures.
        """

    def end(self, outcome: Outcome, /) -> None:
        """The training is over; a process that is killed has no time to say so.

        Args:
            outcome: "finished" by its budget, "interrupted" by whoever runs it, or "failed".
        """


CALLS = {"begin": ("settings", "run", "resumed_at"), "record": ("images", "figures", "pictures"), "end": ("outcome",)}
ALL = "a tracker has " + ", ".join(f"{name}({', '.join(facts)})" for name, facts in CALLS.items())


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

    def begin(self, settings: Mapping[str, Any], run: Path | None, resumed_at: int | None, /) -> None:
        """Open an event file; steps that a lost stretch wrote after the state are hidden by it.

        Raises:
            ValueError: neither the tracker nor the run has a folder.
        """
        if self.folder is None and run is None:
            raise ValueError("folder is None, and the run is kept in memory; give TensorBoard(folder), or out")
        place = self.folder or Path(run or "", "tensorboard")
        lost = 0 if resumed_at is None else resumed_at + 1
        if self.folder is None:
            files.refuse_link(place)
        # A new run in the folder removes what has this ending, and no event files of others.
        self._writer = self._kind(str(place), purge_step=lost, flush_secs=FLUSH_SECONDS, filename_suffix=".ornstein")
        if resumed_at is None:
            lines = yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True).splitlines()
            self._writer.add_text("settings", "\n".join(f"    {line}" for line in lines), 0)

    def record(self, images: int, figures: Mapping[str, float], pictures: Mapping[str, Path], /) -> None:
        """Write the figures as scalars and the pictures as images."""
        for name, value in figures.items():
            self._writer.add_scalar(name, value, images)
        for name, path in pictures.items():
            import numpy as np
            from PIL import Image

            with Image.open(path) as image:
                self._writer.add_image(name, np.asarray(image.convert("RGB")), images, dataformats="HWC")

    def end(self, outcome: Outcome, /) -> None:  # noqa: ARG002 - how a run ended has no place in TensorBoard
        """Write what is left and close the file."""
        self._writer.close()


TRACKERS: dict[str, type] = {"tensorboard": TensorBoard}


def checked(trackers: Iterable[Tracker]) -> tuple[Tracker, ...]:
    """The trackers, after refusing what is none.

    Raises:
        TypeError: no list, or an object without the three methods; says what is missing.
    """
    if isinstance(trackers, str) or not isinstance(trackers, Iterable):
        raise TypeError(f"trackers is {trackers!r}; it must be a list of trackers, such as [TensorBoard()]")
    trackers = tuple(trackers)
    for tracker in trackers:
        if inspect.isclass(tracker):
            raise TypeError(f"tracker is the class {tracker.__name__}; give an object of it, {tracker.__name__}()")
        _complete(repr(tracker) if isinstance(tracker, str) else type(tracker).__name__, tracker)
        for call, facts in CALLS.items():
            _callable(f"{type(tracker).__name__}.{call}", getattr(tracker, call), facts)
    return trackers


def named(names: Sequence[str]) -> dict[str, Callable[[], Tracker]]:
    """What makes the trackers that the command line names; of the user's own nothing is made yet.

    Args:
        names: "tensorboard", or path.py:Class of the user's own, whose file is run.

    Raises:
        ValueError: an unknown name, or no such class.
        FileNotFoundError: no such file.
        TypeError: a class without the three methods.
        ModuleNotFoundError: a tracker of ours whose library is not installed.
    """
    kinds: dict[str, Callable[[], Tracker]] = {}
    for name in names:
        if ":" in name or name.endswith(".py"):
            kind = find_class(name, (object,), "a tracker")
            _complete(name, kind)
            kinds[name] = kind
        else:
            kinds[name] = find("tracker", name, TRACKERS)
            kinds[name]()  # says now if its library is missing
    return kinds


def made(kinds: Mapping[str, Callable[[], Tracker]]) -> tuple[Tracker, ...]:
    """The trackers that `named` found, made.

    Raises:
        ValueError: a constructor that raises.
        TypeError: methods that cannot be called as they will be.
    """
    trackers = []
    for name, kind in kinds.items():
        try:
            trackers.append(kind())
        except Exception as error:  # of the user's own code
            raise ValueError(f"tracker {name} could not be made: {_said(error)}") from error
    return checked(trackers)


def follow(events: Iterable[Event], trackers: Iterable[Tracker], run: Path | None) -> Iterator[Event]:
    """Pass on the events of a training, and tell trackers what is theirs.

    Args:
        events: of one training.
        trackers: objects that `checked` has passed.
        run: folder of the run, or None.

    Yields:
        The events, and `Warned` for each tracker that is left out because it raised.
    """
    active: list[Tracker] = []  # those that have begun and not failed
    try:
        for event in events:
            if isinstance(event, Started):
                yield event
                active += trackers
                yield from _tell(active, "begin", event.settings.as_dict(), run, event.resumed_at)
                continue
            if isinstance(event, Progress):
                yield from _tell(active, "record", event.images, _figures(event), {})
            elif isinstance(event, Drawn) and event.pictures:
                yield from _tell(active, "record", event.images, {}, event.pictures)
            elif isinstance(event, Finished | Interrupted):
                # Before the event: whoever listens may leave at it.
                yield from _tell(active, "end", "finished" if isinstance(event, Finished) else "interrupted")
                active.clear()
            yield event
    except Exception:
        yield from _tell(active, "end", "failed")
        raise
    except BaseException:  # nobody listens any more, or Ctrl-C for the second time
        for lost in _tell(active, "end", "interrupted"):
            warnings.warn(lost.text, RuntimeWarning, stacklevel=2)
        raise


def _tell(active: list[Tracker], call: str, *facts: Any) -> list[Warned]:
    """Call every tracker; one that raises leaves the list."""
    lost = []
    for tracker in tuple(active):
        try:
            # Each its own mappings, which it may change.
            getattr(tracker, call)(*(dict(fact) if isinstance(fact, dict) else fact for fact in facts))
        except Exception as error:
            active[:] = [other for other in active if other is not tracker]
            lost.append(Warned(f"tracker {type(tracker).__name__} failed in {call} ({_said(error)}); the training goes "
                               "on without it"))
    return lost


def _figures(event: Progress) -> dict[str, float]:
    """What is known; no rate is measured over the end of a training."""
    values = {"loss": event.loss, "held_out": event.held_out, "gap": event.gap, "learning_rate": event.learning_rate,
              "images_per_second": event.rate or None, "seconds": event.seconds, "skipped": event.skipped}
    return {name: float(value) for name, value in values.items() if value is not None}


def _complete(name: str, there: object) -> None:
    missing = [call for call in CALLS if not callable(getattr(there, call, None))]
    if missing:
        raise TypeError(f"tracker {name} has no method {', '.join(missing)}; {ALL}")


def _callable(name: str, method: Callable, facts: Sequence[str]) -> None:
    try:
        inspect.signature(method).bind(*facts)
    except TypeError as error:
        raise TypeError(f"tracker method {name}{inspect.signature(method)} cannot be called ({error}); {ALL}") from None


def _said(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
