"""The card of a model: the README.md of a folder for the Hugging Face Hub."""

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
    """What a card says of a model that the model's file does not."""

    name: str
    licence: str | None
    sheet: str  # file name of the picture of samples
    count: int  # samples in it
    settings: Mapping[str, Any]  # of the training; empty where they are not known
    note: Mapping[str, Any]  # of its last state: digest of the data, seconds
    report: Mapping[str, Any] | None


def card(model: NetworkDenoiser, facts: Facts) -> str:
    """The page in Markdown, with the table of facts that the Hub reads at its head."""
    parts = [_head(model, facts), _use(facts), _data(model, facts), _training(model, facts), _figures(facts),
             _limits(model, facts)]
    return "\n".join(line for part in parts for line in (*part, ""))


def _head(model: NetworkDenoiser, facts: Facts) -> Iterator[str]:
    picture = _spec(model).kind == "picture"
    front = {"license": facts.licence or "unknown", "library_name": "ornstein",
             **({"pipeline_tag": "unconditional-image-generation"} if picture else {}),
             "tags": ["ornstein", "diffusion", *(["class-conditional"] if _spec(model).classes else [])]}
    yield "---"
    yield yaml.safe_dump(front, sort_keys=False).rstrip()
    yield "---"
    yield ""
    yield f"# {_plain(facts.name)}"
    yield ""
    yield (f"A diffusion model of {'pictures' if picture else 'samples'}, {_size(_spec(model))}, trained on "
           f"{_plain(_spec(model).name)} with Ornstein.")
    yield ""
    yield f"![{facts.count} samples]({facts.sheet})"
    yield ""
    yield f"*The first {facts.count} samples of seed 0, none of them chosen.*"


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
    of_report = {} if facts.report is None else facts.report.get("data", {})
    yield "## Data"
    yield ""
    yield from _table({
        "name": spec.name, "a sample": _size(spec),
        "samples to train on": of_report.get("training"), "samples held out": of_report.get("held_out"),
        "classes": ", ".join(spec.classes), "conditions": ", ".join(spec.conditions),
        "SHA-256 of values and labels": facts.note.get("digest", "not known")})


def _training(model: NetworkDenoiser, facts: Facts) -> Iterator[str]:
    yield "## Training"
    yield ""
    seconds, images = facts.note.get("seconds"), model.metrics.get("images")
    held = model.metrics.get("held_out")
    yield from _table({
        "weights": f"{sum(weight.numel() for weight in model.parameters()):,}",
        "samples seen": None if images is None else f"{images:,.0f}",
        "time": None if seconds is None else f"{seconds / 60:.1f} minutes",
        "processes": facts.settings.get("processes"),
        "loss on held-out samples": None if held is None else f"{held:.4g}"})
    if facts.settings:
        yield ""
        yield "The recipe, as `ornstein train --config` takes it:"
        yield ""
        yield "```yaml"
        yield yaml.safe_dump(dict(facts.settings), sort_keys=False).rstrip()
        yield "```"


def _figures(facts: Facts) -> Iterator[str]:
    yield "## How good it is"
    yield ""
    if facts.report is None:
        yield "Not measured: `ornstein evaluate` does, with error bars, where the data are at hand."
        return
    drawn = facts.report["drawn"]
    yield " ".join(_plain(sentence) for sentence in facts.report["verdict"])
    yield ""
    how = f"{drawn['nfe']} network calls each" if drawn.get("nfe") else f"sampler {drawn.get('sampler')}"
    yield (f"{drawn['count']:,} samples, {how}, against unseen data; 95 % intervals. The last column is the same "
           "figure of real data in their place.")
    yield ""
    yield "| figure | samples | real data |"
    yield "|---|---|---|"
    for one in facts.report["measures"]:
        floor = None if one["floor"] is None else Interval(*(one[f"floor{end}"] for end in ENDS))
        name = _plain(f"{one['name']}, {one['features']}" if one["features"] else one["name"])
        yield f"| {name} | {Interval(one['value'], one['limit'], one['low'], one['high'])} | {floor or ''} |"
    for one in facts.report["likelihood"]:
        value, error = (one["nats"], one["error"]) if one["bits"] is None else (one["bits"], one["bits_error"])
        yield (f"| {_plain(one['name'])}, {'nats a sample' if one['bits'] is None else 'bits a value'} | "
               f"{value:.4g} ± {error:.2g} | |")


def _limits(model: NetworkDenoiser, facts: Facts) -> Iterator[str]:
    spec = _spec(model)
    least, most = (math.exp(-end / 2) for end in reversed(model.log_snr_range))
    yield "## Limits"
    yield ""
    yield (f"- It draws what {_plain(spec.name)} holds, {_size(spec)}, and nothing else; what is rare there is rare "
           "here, and what is one-sided stays so.")
    yield f"- It was trained on noise from {least:.2g} to {most:.3g} times the signal."
    copies = None if facts.report is None else facts.report.get("memorisation")
    yield "- Samples may be copies of training data: " + (
        "that was not measured." if copies is None else
        f"{100 * copies['share']:.2g} % are near one, where {100 * copies['expected']:.2g} % are expected of a model "
        f"that copies nothing (p = {copies['p_value']:.2g}).")
    if facts.licence is None:
        yield "- Its licence is not known: whoever publishes it names one (`ornstein export --license`)."


ENDS = ("", "_limit", "_low", "_high")


def _spec(model: NetworkDenoiser) -> Any:
    return model.data


def _size(spec: DataSpec) -> str:
    """The size of a sample, in words."""
    if spec.kind != "picture":
        return f"of shape {' x '.join(map(str, spec.shape))}"
    colour = {1: "grey", 3: "in colour", 4: "in colour, with transparency"}
    return f"{spec.shape[2]} x {spec.shape[1]} pixels, {colour.get(spec.shape[0], f'{spec.shape[0]} channels')}"


def _table(rows: Mapping[str, Any]) -> Iterator[str]:
    yield "| | |"
    yield "|---|---|"
    yield from (f"| {name} | {_plain(str(value))} |" for name, value in rows.items() if value not in (None, ""))


def _plain(text: str) -> str:
    """Text of others as text: no markup of Markdown or HTML."""
    return "".join(f"\\{letter}" if letter in "\\`*_[]<>|#!" else letter for letter in printable(text))
