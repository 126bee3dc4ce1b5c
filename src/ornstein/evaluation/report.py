"""The result of an evaluation, as figures, as text and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import groupby
from typing import Any

from PIL.Image import Image

from ornstein.evaluation.ranking import finding
from ornstein.evaluation.results import Curve, Interval, Likelihood, Measure, Memorisation, Pair, Restoration
from ornstein.evaluation.verdict import verdict

__all__ = ["Curve", "Interval", "Likelihood", "Measure", "Memorisation", "Pair", "Report", "Restoration"]

FORMAT = 1


@dataclass
class Report:
    """The result of `ornstein.evaluate`.

    Args:
        name: of the model, for people.
        created: date and time, ISO 8601.
        version: of Ornstein.
        data: facts of the data: name, shape, kind, classes, training, held_out.
        model: facts of the model, for its card: weights, sha256, network, schedule, settings, images, minutes ...
        drawn: how the samples were drawn: count, sampler, nfe, seed, seconds, and times.
        measures: distances and scores.
        likelihood: of held-out data, and of simple models of them.
        steps: the bound's terms in nats by log SNR; None without.
        levels: denoising losses by log SNR.
        memorisation: evidence of copies; None where nothing is held out.
        restorations: how well held-out rows are restored from their measurements, one entry an operator.
        seconds: of each part of the evaluation.
        notes: sentences that a reader needs to know.
        pictures: "samples", "real", and "pair-0-sample", "pair-0-training", "restored-0" ...: images that the page
            shows.
        others: reports of the further sets given to `ornstein.compare`; empty for `ornstein.evaluate`.
    """

    name: str
    created: str
    version: str
    data: dict[str, Any]
    model: dict[str, Any]
    drawn: dict[str, Any]
    measures: list[Measure] = field(default_factory=list)
    likelihood: list[Likelihood] = field(default_factory=list)
    steps: Curve | None = None
    levels: list[Curve] = field(default_factory=list)
    memorisation: Memorisation | None = None
    restorations: list[Restoration] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    pictures: dict[str, Image] = field(default_factory=dict, repr=False)
    others: list[Report] = field(default_factory=list, repr=False)

    def __str__(self) -> str:
        return "\n".join(line for report in (self, *self.others) for line in report.lines())

    def lines(self) -> Iterator[str]:
        """The figures as lines of text."""
        yield f"{self.name}: {' '.join(self.verdict)}"
        other = "unseen" if self.known == "training" else "real"
        yield f"  {self.drawn['count']:,} samples against {self.data['held_out']:,} {other} {self.things}"
        for features, group in groupby(self.measures, key=lambda measure: measure.features):
            yield f"  {features or 'values'}"
            for measure in group:
                floor = f"  real data {measure.floor}" if measure.floor else ""
                yield f"    {measure.name:32}  {measure.found}{floor}"
        if self.likelihood:
            yield f"  likelihood of unseen data, ± one standard error ({self.likelihood[0].units})"
        for entry in self.likelihood:
            yield f"    {entry.name:36}  {entry}" + (f" ({entry.grid})" if entry.grid else "")
        if (copies := self.memorisation) is not None:
            yield (f"  {'E' if copies.copies else 'No e'}vidence of copies: {100 * copies.share:.2f} % of the samples "
                   f"are near a {self.known} picture, {100 * copies.expected:.2f} % expected (p = "
                   f"{copies.p_value:.2g})")
        for restored in self.restorations:
            yield f"  {restored.how}"
            yield f"    {'inside the 50 % intervals':32}  {restored.half}"
            yield f"    {'inside the 90 % intervals':32}  {restored.most}"
            for name, found, linear in (("error of the mean", restored.error, restored.linear_error),
                                        ("CRPS", restored.crps, restored.linear_crps)):
                yield f"    {name:32}  {found}" + (f"  best linear estimate {linear}" if linear else "")
        if (sentence := finding(self.measures, self.things)) is not None:
            yield f"  {sentence.striptags()}"
        yield from (f"  {note}" for note in self.notes)

    @property
    def things(self) -> str:
        """What samples are called: "pictures" or "samples"."""
        return "pictures" if self.data.get("kind") == "picture" else "samples"

    @property
    def known(self) -> str:
        """What the rows that may be copied are called: "training", or "real" where the training data are unknown."""
        return self.data.get("known", "training")

    @property
    def foreign(self) -> bool:
        """Whether the samples are given and no model is known."""
        return "source" in self.drawn

    @property
    def verdict(self) -> list[str]:
        """The findings in sentences without technical terms."""
        shared, count = self.drawn.get("also_real", 0), self.drawn.get("count")
        sentences = verdict(self.measures, self.memorisation, self.things, self.restorations, self.known)
        if shared == count:
            return [f"All of these {count:,} {self.things} are in the real set too, so this comparison says nothing "
                    "about a generator."]
        if not shared:
            return sentences
        return [*sentences, f"{shared:,} of these {count:,} {self.things} are in the real set too."]

    def same_data(self, other: Report) -> bool:
        """Whether another report is about the same unseen rows."""
        return all(self.data.get(name) == other.data.get(name) for name in ("shape", "held_out", "held_out_sha256"))

    def as_dict(self) -> dict[str, Any]:
        """The figures as plain JSON values, without the pictures."""
        facts = {name: value for name, value in vars(self).items() if name not in ("pictures", "others")}
        facts["measures"] = [measure.as_dict() for measure in self.measures]
        return {"format": FORMAT, "verdict": self.verdict, **json.loads(json.dumps(facts, default=asdict))}

    def measure(self, key: str, features: str | None = None) -> Measure:
        """Return the measure of a key and, where there are several, of a feature space.

        Raises:
            KeyError: it was not measured.
        """
        for measure in self.measures:
            if measure.key == key and features in (None, measure.features):
                return measure
        keys = ", ".join(measure.key for measure in self.measures)
        raise KeyError(f"{key!r} was not measured; the measures are {keys}")
