"""A model as a folder that the Hugging Face Hub takes, with its card; nothing here uses a network."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
from pathlib import Path
from typing import Any

from ornstein import files
from ornstein.checkpoint import MODEL, digest, load
from ornstein.description import describe
from ornstein.evaluation.report_files import FIGURES
from ornstein.exporting.card import Facts, card
from ornstein.figures import pictures
from ornstein.figures.formats import options
from ornstein.request import Request
from ornstein.training.run import Run

__all__ = ["write_hub"]

CARD, CONFIG, SHEET = "README.md", "config.json", "samples.png"
NAMES = (MODEL, CARD, CONFIG, SHEET)
MOST = 40  # samples of the sheet


def write_hub(run: Path, folder: Path, licence: str | None = None, report: Path | None = None) -> None:
    """Write config.json, model.safetensors, README.md and samples.png of a run, or of a model's file, into a folder.

    Args:
        run: whose model it is.
        folder: new, or one that was written so before.
        licence: of the model, as the Hub calls it, such as "apache-2.0"; None says that it is not known.
        report: folder of an evaluation of this model; that in the run where it has one.

    Raises:
        FileExistsError: files of others in the folder.
        ValueError: a report on another model, or no report; a model that says nothing of its data.
        OSError: the disk refuses.
    """
    for name in NAMES:
        files.check_replaceable(folder / name, ours=True)
    files.check_writable(folder)
    model = load(run)
    if model.data is None:
        raise ValueError(f"{run} says nothing of its data, which a card is about")
    place = run / "report" if report is None and (run / "report" / FIGURES).is_file() else report
    found = None if place is None else _report(place, digest(run))
    request = Request(pictures.even(model.data, MOST))
    classes = request.conditions(model)
    sheet = pictures.show(model.data, request.draw(model), pictures.arranged(request.count, classes), classes)
    facts = Facts(folder.absolute().name, licence, SHEET, request.count, *_of_run(run), found)
    about = {**request.facts(), "model": digest(run), "ornstein": importlib.metadata.version("ornstein")}
    with files.filling(folder) as place:
        shutil.copyfile(run / MODEL if run.is_dir() else run, place / MODEL)
        config = {"library_name": "ornstein", "ornstein_version": about["ornstein"], **describe(model)}
        (place / CONFIG).write_text(json.dumps(config, indent=2) + "\n", "utf-8")
        (place / CARD).write_text(card(model, facts), "utf-8")
        sheet.save(place / SHEET, **options(".png", about))


def _of_run(run: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings of the training and the note of its last state; nothing of both where they are not there."""
    settings = Run(run).settings() if run.is_dir() else None
    if settings is None:
        return {}, {}
    record = {name: _public(value) for name, value in settings.as_dict().items() if name != "data_path"}
    try:
        state = Run(run).states(settings.keep).newest()[0]
    except ValueError:  # no state is whole, and the card says that what they tell is not known
        state = None
    return record, {} if state is None else dict(state.metadata)


def _public(value: Any) -> Any:
    """A setting without the places of this machine: of a path from the root its name alone."""
    if isinstance(value, list):
        return [_public(one) for one in value]
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def _report(place: Path, model: str) -> dict[str, Any]:
    """The figures of an evaluation, of this model and no other."""
    path = place / FIGURES if place.is_dir() else place
    found = files.read_json(path)
    judged = found.get("model")
    if not isinstance(judged, dict) or not isinstance(found.get("measures"), list):
        raise ValueError(f"{path} is no report of `ornstein evaluate`")
    if judged.get("sha256") != model:
        raise ValueError(f"{path} is a report on another model, or on this one before it changed; evaluate again, or "
                         "leave it out")
    return found
