"""A finished run opened again: its model, the data that it was trained on, and data to hold it against."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from ornstein.adoption.adopted import Adopted
from ornstein.checkpoint import digest, load
from ornstein.data import Dataset, load_data, may_be_pictures
from ornstein.diffusion.denoiser import NetworkDenoiser
from ornstein.machine import default_device
from ornstein.settings import Settings
from ornstein.training.run import Run, located

__all__ = ["Reopened", "reopen"]


class Reopened(NamedTuple):
    """What an evaluation needs of a run.

    `trained_on` has labels also where the model was trained without; `held` are other data, or None; `facts` are for
    the model's card, and `notes` what a reader of the figures must know.
    """

    model: NetworkDenoiser
    trained_on: Dataset
    held: Dataset | None
    facts: dict[str, Any]
    notes: list[str]


def reopen(run: Path, data: str | None = None, trained_on: str | None = None, judged: bool = True) -> Reopened:
    """Open the folder of a run, or a model's file, and the data that belong to it.

    Args:
        run: folder, or model.safetensors.
        data: what to hold the model against, in place of the rows held out of its training.
        trained_on: where the data that it was trained on are now; None where the run says so.
        judged: whether rows held out of the training must be unseen, so that the data must be what they were.

    Raises:
        FileNotFoundError: no such run, or no such data.
        ValueError: a damaged model; data that are unknown, cannot be read, or have changed since.
    """
    model, facts, notes = load(run).to(default_device()), dict[str, Any](sha256=digest(run)), list[str]()
    settings = Run(run).settings() if run.is_dir() else None
    if settings is None:
        if data is None and trained_on is None and isinstance(model, Adopted) and model.trained_on is not None:
            data = model.trained_on
        if data is None and trained_on is None:
            raise ValueError(f"{run} does not say what it was trained on; name it with --data or --trained-on")
        if trained_on is None:
            notes.append(f"{data} are taken for what {run} was trained on, and rows held out of them for unseen: "
                         "if they were not, floors, copies and training losses say nothing (--trained-on)")
            trained_on, data = data, None
        known = _read(str(trained_on), model, None)
    else:
        facts["settings"] = {name: value for name, value in settings.as_dict().items() if name != "data_path"}
        known = _again(run, model, settings, trained_on, data, notes, judged)
    held = None if data is None else _read(data, model, settings)
    if held is not None and held.digest() == known.digest():
        notes.append(f"{data} are what {run} was trained on: the rows held out of training are the unseen ones")
        held = None
    return Reopened(model, known, held, facts, notes)


def _again(run: Path, model: NetworkDenoiser, settings: Settings, trained_on: str | None, data: str | None,
           notes: list[str], judged: bool) -> Dataset:
    """The data of a training, which must be what they were where the model is judged by its own held-out rows."""
    place = trained_on or settings.data
    try:
        place = trained_on or located(settings)
        known = load_data(place, **settings.reading)
    except (ImportError, OSError, ValueError) as error:
        if trained_on is not None:
            raise
        raise ValueError(f"{place}, what {run} was trained on, cannot be read again ({error}); say where it is now "
                         "with --trained-on") from None
    try:
        state = Run(run).states(settings.keep).newest()[0]
    except ValueError as error:
        state = None
        notes.append(f"{str(error).partition(';')[0]}: whether {place} has changed since the training is not known")
    if state is not None and state.note["digest"] != known.digest():
        if judged and data is None:
            raise ValueError(f"{place} is not what {run} was trained on: values or labels have changed, and rows that "
                             "it has seen could pass for unseen; name unseen data with --data")
        what = "floors, copies and training losses" if judged else "these rows"
        notes.append(f"{place} has changed since {run} was trained: {what} are of what is there now")
    return _read(place, model, settings) if settings.classes is False else known


def _read(data: str | list[str], model: NetworkDenoiser, settings: Settings | None) -> Dataset:
    """Data as those of the training were read, with labels where there are any."""
    array = isinstance(data, str) and Path(data).suffix in (".npy", ".npz")
    spec = model.data
    layout = settings.layout if settings is not None else model.data.layout if model.data is not None else "auto"
    asked: dict[str, Any] = {"layout": layout} if array else {}
    if spec is not None and spec.kind == "picture" and may_be_pictures(data):
        asked |= {**spec.reading, "fit": settings.fit if settings is not None else "cut"}
    return load_data(data, **asked)
