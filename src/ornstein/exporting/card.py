"""The model card: the README.md of a folder for the Hugging Face Hub."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import yaml

from ornstein.arguments import printable
from ornstein.data import DataSpec
from ornstein.diffusion.denoiser import NetworkDenoiser
from ornstein.evaluation.results import Interval

__all__ = ["Facts", "card"]


class Facts(NamedTuple):
    """Facts of a card that are not in the model's file."""

    name: str
    licence: str | None
    sheet: str  # file name of the picture of samples
    count: int  # samples in it
    settings: Mapping[str, Any]  # of the training; empty if unknown
    note: Mapping[str, Any]  # of its last state: digest of the data, seconds
    report: Mapping[str, Any] | None


def card(model: NetworkDenoiser, facts: Facts) -> str:
    """The card in Markdown, with the metadata for the Hub at its head."""
    sections = [_head(model, facts), _use(facts), _data(model, facts), _training(model, facts), _figures(facts),
                _limits(model, facts)]
    return "\n".join(line for section in sections for line in (*section, ""))


def _head(model: NetworkDenoiser, facts: Facts) -> Iterator[str]:
    is_picture = _spec(model).kind == "picture"
    metadata = {"license": facts.licence or "unknown", "library_name": "ornstein",
                **({"pipeline_tag": "unconditional-image-generation"} if is_picture else {}),
                "tags": ["ornstein", "diffusion", *(["class-conditional"] if _spec(model).classes else [])]}
    yield "---"
    yield yaml.safe_dump(metadata, sort_keys=False).rstrip()
    yield "---"
    yield ""
    yield f"# {_plain(facts.name)}"
    yield ""
    yield (f"A diffusion model of {'pictures' if is_picture else 'samples'}, {_size(_spec(model))}, trained on "
           f"{_plain(_spec(model).name)} with Ornstein.")
    yield ""
    yield f"![{facts.count} samples]({facts.sheet})"
    yield ""
    yield f"*The first {facts.count} samples of seed 0, not selected.*"


def _use(facts: Facts) -> Iterator[str]:
    yield "## Use"
    yield ""
    yield "With this folder downloaded and Ornstein installed:"
    yield ""
    yield "```bash"
    yield f"ornstein sample {shlex.quote(facts.name)} --count 16 --out new.png"
    yield "```"
    yield ""
    yield "```python"
    yield "import ornstein as orn"
    yield ""
    yield f"model = orn.load({facts.name!r})"
    yield "x = orn.sample(model, 16, seed=1)          # in [-1, 1]"
    yield "values = model.data.decode(x)              # in the data's own values"
    yield "```"
    yield ""
    yield "The weights are safetensors and the rest is JSON: loading them runs no code."


def _data(model: NetworkDenoiser, facts: Facts) -> Iterator[str]:
    spec = _spec(model)
    counts = {} if facts.report is None else facts.report.get("data", {})
    yield "## Data"
    yield ""
    yield from _table({
        "name": spec.name, "sample": _size(spec),
        "training samples": counts.get("training"), "held-out samples": counts.get("held_out"),
        "classes": ", ".join(spec.classes), "conditions": ", ".join(spec.conditions),
        "SHA-256 of values and labels": facts.note.get("digest", "unknown")})


def _training(model: NetworkDenoiser, facts: Facts) -> Iterator[str]:
    yield "## Training"
    yield ""
    seconds, images = facts.note.get("seconds"), model.metrics.get("images")
    loss = model.metrics.get("held_out")
    yield from _table({
        "weights": f"{sum(weight.numel() for weight in model.parameters()):,}",
        "samples seen": None if images is None else f"{images:,.0f}",
        "time": None if seconds is None else f"{seconds / 60:.1f} minutes",
        "processes": facts.settings.get("processes"),
        "loss on held-out samples": None if loss is None else f"{loss:.4g}"})
    if facts.settings:
        yield ""
        yield "The settings, for `ornstein train --config`:"
        yield ""
        yield "```yaml"
        yield yaml.safe_dump(dict(facts.settings), sort_keys=False).rstrip()
        yield "```"


def _figures(facts: Facts) -> Iterator[str]:
    yield "## How good it is"
    yield ""
    if facts.report is None:
        yield "Not measured; `ornstein evaluate` does so, with error bars, if the data are available."
        return
    drawn = facts.report["drawn"]
    yield " ".join(_plain(sentence) for sentence in facts.report["verdict"])
    yield ""
    method = f"{drawn['nfe']} network calls each" if drawn.get("nfe") else f"sampler {drawn.get('sampler')}"
    yield (f"{drawn['count']:,} samples, {method}, against unseen data; 95 % intervals. The last column has the same "
           "figures for real data instead of samples.")
    yield ""
    yield "| figure | samples | real data |"
    yield "|---|---|---|"
    for measure in facts.report["measures"]:
        floor = None if measure["floor"] is None else Interval(*(measure[f"floor{suffix}"] for suffix in SUFFIXES))
        name = _plain(f"{measure['name']}, {measure['features']}" if measure["features"] else measure["name"])
        interval = Interval(measure["value"], measure["limit"], measure["low"], measure["high"])
        yield f"| {name} | {interval} | {floor or ''} |"
    for result in facts.report["likelihood"]:
        unit, value, error = (("nats per sample", result["nats"], result["error"]) if result["bits"] is None else
                              ("bits per value", result["bits"], result["bits_error"]))
        yield f"| {_plain(result['name'])}, {unit} | {value:.4g} ± {error:.2g} | |"


def _limits(model: NetworkDenoiser, facts: Facts) -> Iterator[str]:
    spec = _spec(model)
    low, high = (math.exp(-end / 2) for end in reversed(model.log_snr_range))
    yield "## Limits"
    yield ""
    yield (f"- It draws samples like those of {_plain(spec.name)}, {_size(spec)}, and nothing else; what is rare in "
           "them is rare here, and their biases remain.")
    yield f"- It was trained on noise from {low:.2g} to {high:.3g} times the signal."
    copies = None if facts.report is None else facts.report.get("memorisation")
    yield "- Samples may be copies of training data: " + (
        "this was not measured." if copies is None else
        f"{100 * copies['share']:.2g} % are close to one, and {100 * copies['expected']:.2g} % are expected of a model "
        f"that copies nothing (p = {copies['p_value']:.2g}).")
    if facts.licence is None:
        yield "- Its licence is unknown: name one before publishing it (`ornstein export --license`)."


SUFFIXES = ("", "_limit", "_low", "_high")


def _spec(model: NetworkDenoiser) -> Any:
    return model.data


def _size(spec: DataSpec) -> str:
    """Describe the size of a sample."""
    if spec.kind != "picture":
        return f"of shape {' x '.join(map(str, spec.shape))}"
    colour = {1: "grey", 3: "in colour", 4: "in colour, with transparency"}
    return f"{spec.shape[2]} x {spec.shape[1]} pixels, {colour.get(spec.shape[0], f'{spec.shape[0]} channels')}"


def _table(rows: Mapping[str, Any]) -> Iterator[str]:
    yield "| | |"
    yield "|---|---|"
    yield from (f"| {name} | {_plain(str(value))} |" for name, value in rows.items() if value not in (None, ""))


def _plain(text: str) -> str:
    """Escape the markup of Markdown and HTML in foreign text."""
    return "".join(f"\\{character}" if character in "\\`*_[]<>|#!" else character for character in printable(text))
