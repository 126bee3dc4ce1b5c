"""A model as a folder for the Hugging Face Hub, with its card; nothing is sent over a network."""

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
from ornstein.figures.formats import save_options
from ornstein.request import Request
from ornstein.training.run import Run

__all__ = ["write_hub"]

CARD, CONFIG, SHEET = "README.md", "config.json", "samples.png"
NAMES = (MODEL, CARD, CONFIG, SHEET)
MAX_SAMPLES = 40  # of the sheet


def write_hub(run: Path, folder: Path, licence: str | None = None, report: Path | None = None) -> None:
    """Write config.json, model.safetensors, README.md and samples.png of a run, or of a model's file, into a folder.

    Args:
        run: folder of a run, or a model's file.
        folder: a new one, or one that was written by this function.
        licence: of the model, by the Hub's name, such as "apache-2.0"; None for unknown.
        report: folder of an evaluation of this model; by default that in the run, if it has one.

    Raises:
        FileExistsError: the folder holds files that Ornstein did not write.
        ValueError: not a report, or one on another model; a model without a description of its data.
        OSError: the folder cannot be written.
    """
    for name in NAMES:
        files.check_replaceable(folder / name, ours=True)
    files.check_writable(folder)
    model = load(run)
    if model.data is None:
        raise ValueError(f"{run} has no description of its data, which the card needs")
    path = run / "report" if report is None and (run / "report" / FIGURES).is_file() else report
    figures = None if path is None else _read_report(path, digest(run))
    request = Request(pictures.even_count(model.data, MAX_SAMPLES))
    classes = request.conditions(model)
    sheet = pictures.show(model.data, request.draw(model), pictures.column_count(request.count, classes), classes)
    facts = Facts(folder.absolute().name, licence, SHEET, request.count, *_training_facts(run), figures)
    metadata = {**request.facts(), "model": digest(run), "ornstein": importlib.metadata.version("ornstein")}
    with files.filling(folder) as temporary:
        shutil.copyfile(run / MODEL if run.is_dir() else run, temporary / MODEL)
        config = {"library_name": "ornstein", "ornstein_version": metadata["ornstein"], **describe(model)}
        (temporary / CONFIG).write_text(json.dumps(config, indent=2) + "\n", "utf-8")
        (temporary / CARD).write_text(card(model, facts), "utf-8")
        sheet.save(temporary / SHEET, **save_options(".png", metadata))


def _training_facts(run: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings of the training and the note of its last state; empty if there are none."""
    settings = Run(run).settings() if run.is_dir() else None
    if settings is None:
        return {}, {}
    record = {name: _public(value) for name, value in settings.as_dict().items() if name != "data_path"}
    try:
        state = Run(run).states(settings.keep).newest()[0]
    except ValueError:  # no state is intact, and the card leaves out what it would tell
        state = None
    return record, {} if state is None else dict(state.metadata)


def _public(value: Any) -> Any:
    """A setting without paths of this machine: the file name of an absolute path."""
    if isinstance(value, list):
        return [_public(entry) for entry in value]
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def _read_report(path: Path, digest: str) -> dict[str, Any]:
    """Read the figures of an evaluation; ValueError for one of another model."""
    path = path / FIGURES if path.is_dir() else path
    report = files.read_json(path)
    model = report.get("model")
    if not isinstance(model, dict) or not isinstance(report.get("measures"), list):
        raise ValueError(f"{path} is not a report of `ornstein evaluate`")
    if model.get("sha256") != digest:
        raise ValueError(f"{path} is a report on another model, or on this one before it changed; evaluate again, or "
                         "leave it out")
    return report
