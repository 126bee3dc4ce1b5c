"""`ornstein info`: describe a model, a run or a picture, without importing torch."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from ornstein import files
from ornstein.cli.app import Out, app
from ornstein.display import say
from ornstein.files import MANIFEST, MODEL, SETTINGS, STATES

__all__ = ["info"]

MAX_HEADER = 100_000_000  # bytes, by the format
FIXED_SUFFIX = ".frequency"  # of constants in a network's embedding of times, which are not weights
MAX_LISTED = 12  # entries of a list
SAMPLE_FACTS = ("model", "run", "seed", "count", "number", "class", "sampler", "nfe", "steps", "tolerance", "guidance",
                "label", "condition", "grid", "scale", "noise", "ornstein")
RECIPE = ("batch", "learning_rate", "weighting", "density", "mirror", "label_dropout", "precision", "seed", "init_from")
LOSSES = {"loss": "training", "held_out": "held out", "gap": "held out minus training"}
LABELS = {"nfe": "network calls", "number": "number in its folder", "noise": "random numbers", "ornstein": "version",
          "count": "samples", "model": "model (SHA-256)", "grid": "options"}


@app.command(sort_key=8.5)
def info(
    file: Annotated[Out, Parameter(help="A run's folder, a model.safetensors file, or a picture, film or .npz file "
                                        "that Ornstein drew.")],
    *,
    as_json: Annotated[bool, Parameter(name="--json", help="Print all of it as JSON.", negative=())] = False,
) -> None:
    """Describe a model, a run or a picture drawn by Ornstein."""
    facts = _facts(file)
    if as_json:
        say(json.dumps(facts, ensure_ascii=False))
        return
    lines = list(_lines(facts))
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        say(f"{name:{width}}  {value}")


def _facts(file: Path) -> dict[str, Any]:
    """All metadata of a file or a folder, with its kind."""
    if file.is_dir():
        if not (file / MODEL).exists() and not (file / SETTINGS).exists():
            raise ValueError(f"{file} is not a run: it has neither {MODEL} nor {SETTINGS}; name the folder of a run, "
                             "or a file")
        model = (_model(file / MODEL) if (file / MODEL).exists() else
                 {"model": f"none yet: {file / MODEL} does not exist"})
        return {"kind": "run", "file": str(file), **model, **_run(file)}
    if not file.exists():
        raise FileNotFoundError(f"{file} does not exist; name a run, a model's file or a picture")
    if file.suffix.lower() == ".safetensors":
        return {"kind": "model", "file": str(file), **_model(file)}
    from ornstein.figures.formats import read_facts

    facts = read_facts(file)
    if facts is None:
        raise ValueError(f"{file} is not a run, a model or a picture of Ornstein's: it does not say where it is from, "
                         "or another program rewrote it")
    return {"kind": "edited" if "edit" in facts else "sampled" if "model" in facts else "drawn", "file": str(file),
            **facts}


def _model(file: Path) -> dict[str, Any]:
    """The header of a model's file, and its digest, which identifies it in pictures."""
    with files.open_regular(file) as content:
        size = int.from_bytes(content.read(8), "little")
        try:
            header: dict[str, Any] = json.loads(content.read(size) if size <= MAX_HEADER else b"")
            facts = json.loads(header["__metadata__"]["ornstein"])
            entries = [entry for name, entry in header.items()
                       if name.startswith("network.") and not name.endswith(FIXED_SUFFIX)]
            weights = sum(math.prod(entry["shape"]) for entry in entries)
            dtypes = sorted({entry["dtype"] for entry in entries})
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise ValueError(f"{file} is not a model of Ornstein's: its description cannot be read") from None
        if not isinstance(facts, dict):
            raise ValueError(f"{file} is not a model of Ornstein's: its description is not a table")
        content.seek(0)
        facts["file_sha256"] = hashlib.file_digest(content, "sha256").hexdigest()
    return {**facts, "weights": weights, "stored_as": dtypes}


def _run(folder: Path) -> dict[str, Any]:
    """The settings of a run, and the data and cost of its last state."""
    from ornstein.settings import Settings

    facts = dict[str, Any]()
    if (folder / SETTINGS).is_file():
        try:
            facts["recipe"] = Settings.from_yaml(files.read_text(folder / SETTINGS)).as_dict()
        except ValueError as error:
            raise ValueError(f"{folder / SETTINGS}: {error}") from None
    states = sorted((folder / STATES).glob(f"*/{MANIFEST}")) if (folder / STATES).is_dir() else []
    note = files.read_json(states[-1]).get("note") if states else None
    if isinstance(note, dict):
        facts["trained"] = {name: note[name] for name in ("images", "step", "seconds", "finished", "processes")
                            if name in note}
        facts["data_sha256"] = note.get("digest")
    return facts


def _lines(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if facts["kind"] in ("run", "model"):
        yield from _model_lines(facts)
        return
    yield {"sampled": "picture", "edited": "edited picture", "drawn": "drawing"}[facts["kind"]], facts["file"]
    rest = [name for name in facts if name not in (*SAMPLE_FACTS, "kind", "file", "tuned", "cells", "studio")]
    for name in (*SAMPLE_FACTS, *rest):
        if facts.get(name) is not None:
            yield LABELS.get(name, name), _text(facts[name])
    if isinstance(tuned := facts.get("tuned"), Mapping):
        yield "tuned", _choice(tuned)
    if job := _table(facts.get("studio")).get("job"):
        yield "job of the studio", _text(job)
    if facts["kind"] == "sampled":
        yield "draw it again", f"ornstein sample --again {facts['file']}"


def _model_lines(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield facts["kind"], facts["file"]
    if isinstance(facts.get("model"), str):
        yield "model", facts["model"]
    for name in ("network", "schedule"):
        if name in facts:
            part = facts[name]
            options = _table(part).get("options")
            yield name, "one of its user's own" if part is None else (
                _text(_table(part).get("name")) + (f", {_text(options)}" if options else ""))
    if "weights" in facts:
        yield "weights", (f"{facts['weights']:,} ({', '.join(facts['stored_as'])}), predicts "
                          f"{_text(facts.get('predicts'))}")
    yield from _data_lines(facts)
    recipe, metrics, trained = (_table(facts.get(name)) for name in ("recipe", "metrics", "trained"))
    if recipe:
        yield "recipe", _text({name: recipe[name] for name in RECIPE if recipe.get(name) not in (None, False)})
    if metrics or trained:
        cost = [f"{metrics['images']:,} samples seen"] if isinstance(metrics.get("images"), int) else []
        seconds = trained.get("seconds")
        cost += [f"{seconds / 60:.1f} minutes in {trained.get('processes', 1)} process"
                 f"{'es' * (trained.get('processes', 1) != 1)}"] if isinstance(seconds, int | float) else []
        cost += ["not finished"] if trained.get("finished") is False else []
        yield "cost", ", ".join(cost) or "unknown"
        losses = {label: metrics[name] for name, label in LOSSES.items() if name in metrics}
        if losses:
            yield "losses", _text(losses)
    tuned = facts.get("tuned")
    for choice in tuned if isinstance(tuned, list) else ():
        yield "tuned", _choice(choice)
    if "weights" in facts and not tuned:
        yield "tuned", "not yet (ornstein tune)"
    if "format" in facts:
        yield "file format", _text(facts["format"])
    if "file_sha256" in facts:
        yield "SHA-256", facts["file_sha256"]


def _data_lines(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    data, recipe = _table(facts.get("data")), _table(facts.get("recipe"))
    if data:
        levels = f", {data['levels']} levels" if isinstance(data.get("levels"), int) else ""
        yield "data", (f"{_text(data.get('name'))}: {_text(data.get('kind'))}s of {_text(data.get('shape'))}, values "
                       f"{_text(data.get('least'))} to {_text(data.get('most'))}{levels}")
        for name in ("classes", "conditions"):
            if names := data.get(name):
                yield name, f"{len(names)}: {_text(names)}"
    if recipe:
        yield "read from", _text(recipe.get("data_path") or recipe.get("data"))
    if facts.get("data_sha256"):
        yield "data SHA-256", _text(facts["data_sha256"])


def _choice(choice: Any) -> str:
    """Describe a tuned choice."""
    if not isinstance(choice, Mapping):
        return _text(choice)
    guidance = f", guidance {_text(choice['guidance'])}" if choice.get("guidance") not in (None, 1, 1.0) else ""
    damping = f", damped by {_text(choice['damping'])}" if choice.get("damping") else ""
    return f"{_text(choice.get('nfe'))} calls: {_text(choice.get('sampler'))}{guidance}{damping}"


def _table(value: Any) -> Mapping[str, Any]:
    """The value if it is a table, else an empty one; files may hold anything."""
    return value if isinstance(value, Mapping) else {}


def _text(value: Any) -> str:
    """Format any value on one line."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{str(name).replace('_', ' ')} {_text(entry)}" for name, entry in value.items())
    if isinstance(value, list):
        if value and all(isinstance(entry, int) for entry in value):
            return " x ".join(map(str, value))
        return ", ".join(map(_text, value[:MAX_LISTED])) + (" ..." if len(value) > MAX_LISTED else "")
    return str(value)
