"""A finished run opened again: its model, its training data, and other data to evaluate it on."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from ornstein.adoption.adopted import Adopted
from ornstein.checkpoint import digest, load
from ornstein.data import Dataset, load_data, may_be_pictures
from ornstein.diffusion.denoiser import NetworkDenoiser
from ornstein.machine import default_device
from ornstein.settings import Settings
from ornstein.training.run import Run, locate_data

__all__ = ["Reopened", "reopen"]


class Reopened(NamedTuple):
    """What an evaluation needs of a run.

    `trained_on` has labels even if the model was trained without; `evaluation_data` are other data, or None; `facts`
    are for the model card, and `notes` for the reader of the report.
    """

    model: NetworkDenoiser
    trained_on: Dataset
    evaluation_data: Dataset | None
    facts: dict[str, Any]
    notes: list[str]


def reopen(run: Path, data: str | None = None, trained_on: str | None = None, require_unseen: bool = True) -> Reopened:
    """Open the folder of a run, or a model file, and the data that belong to it.

    Args:
        run: folder, or model.safetensors.
        data: data to evaluate the model on, in place of the rows held out of its training.
        trained_on: where the training data are now; None to take what the run says.
        require_unseen: whether held-out rows must be unseen, so that the data must be unchanged.

    Raises:
        FileNotFoundError: no such run, or no such data.
        ValueError: the model is damaged; the data are unknown, cannot be read, or have changed since the training.
    """
    model, facts, notes = load(run).to(default_device()), dict[str, Any](sha256=digest(run)), list[str]()
    settings = Run(run).settings() if run.is_dir() else None
    if settings is None:
        if data is None and trained_on is None and isinstance(model, Adopted) and model.trained_on is not None:
            data = model.trained_on
        if data is None and trained_on is None:
            raise ValueError(f"{run} does not say what it was trained on; name it with --data or --trained-on")
        if trained_on is None:
            notes.append(f"{data} are taken for what {run} was trained on, and the rows held out of them for unseen: "
                         "otherwise floors, copies and training losses mean nothing (--trained-on)")
            trained_on, data = data, None
        training_data = _read(str(trained_on), model, None)
    else:
        facts["settings"] = {name: value for name, value in settings.as_dict().items() if name != "data_path"}
        training_data = _reload(run, model, settings, trained_on, data, notes, require_unseen)
    evaluation_data = None if data is None else _read(data, model, settings)
    if evaluation_data is not None and evaluation_data.digest() == training_data.digest():
        notes.append(f"{data} are what {run} was trained on: the rows held out of training serve as unseen data")
        evaluation_data = None
    return Reopened(model, training_data, evaluation_data, facts, notes)


def _reload(run: Path, model: NetworkDenoiser, settings: Settings, trained_on: str | None, data: str | None,
            notes: list[str], require_unseen: bool) -> Dataset:
    """Load the training data again; ValueError if they have changed and the model is evaluated on held-out rows."""
    source = trained_on or settings.data
    try:
        source = trained_on or locate_data(settings)
        training_data = load_data(source, **settings.reading)
    except (ImportError, OSError, ValueError) as error:
        if trained_on is not None:
            raise
        raise ValueError(f"{source}, what {run} was trained on, cannot be read again ({error}); say where it is now "
                         "with --trained-on") from None
    try:
        state = Run(run).states(settings.keep).newest()[0]
    except ValueError as error:
        state = None
        notes.append(f"{str(error).partition(';')[0]}: it is not known whether {source} has changed since the training")
    if state is not None and state.metadata["digest"] != training_data.digest():
        if require_unseen and data is None:
            raise ValueError(f"{source} is not what {run} was trained on: values or labels have changed, and seen rows "
                             "could pass for unseen ones; name unseen data with --data")
        results = "floors, copies and training losses" if require_unseen else "these rows"
        notes.append(f"{source} has changed since {run} was trained: {results} refer to what is there now")
    return _read(source, model, settings) if settings.classes is False else training_data


def _read(data: str | list[str], model: NetworkDenoiser, settings: Settings | None) -> Dataset:
    """Load data the way the training data were loaded, with labels if there are any."""
    is_array = isinstance(data, str) and Path(data).suffix in (".npy", ".npz")
    spec = model.data
    layout = settings.layout if settings is not None else model.data.layout if model.data is not None else "auto"
    options: dict[str, Any] = {"layout": layout} if is_array else {}
    if spec is not None and spec.kind == "picture" and may_be_pictures(data):
        options |= {**spec.reading, "fit": settings.fit if settings is not None else "cut"}
    return load_data(data, **options)
