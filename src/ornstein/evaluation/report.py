"""All that an evaluation found out about one model, as figures, as text and as JSON."""

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
    """All that `ornstein.evaluate` found out about one model.

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
        restorations: how held-out rows come back from their measurements, one of each operator that was asked for.
        seconds: of each part of the evaluation.
        notes: sentences that a reader must know.
        pictures: "samples", "real", and "pair-0-sample", "pair-0-training", "restored-0" ...: images that the page
            shows.
        others: reports of the other sets that `ornstein.compare` was given; none of `ornstein.evaluate`.
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
        return "\n".join(line for one in (self, *self.others) for line in one.lines())

    def lines(self) -> Iterator[str]:
        """The figures as lines of text."""
        yield f"{self.name}: {' '.join(self.verdict)}"
        other = "unseen" if self.known == "training" else "real"
        yield f"  {self.drawn['count']:,} samples against {self.data['held_out']:,} {other} {self.things}"
        for features, group in groupby(self.measures, key=lambda one: one.features):
            yield f"  {features or 'values'}"
            for one in group:
                yield f"    {one.name:32}  {one.found}" + (f"  real data {one.floor}" if one.floor else "")
        if self.likelihood:
            yield f"  likelihood of unseen data, ± one standard error ({self.likelihood[0].units})"
        for like in self.likelihood:
            yield f"    {like.name:36}  {like}" + (f" ({like.grid})" if like.grid else "")
        if (copies := self.memorisation) is not None:
            yield (f"  {'E' if copies.copies else 'No e'}vidence of copies: {100 * copies.share:.2f} % of the samples "
                   f"are near a {self.known} picture, {100 * copies.expected:.2f} % expected (p = "
                   f"{copies.p_value:.2g})")
        for one in self.restorations:
            yield f"  {one.how}"
            yield f"    {'inside the 50 % intervals':32}  {one.half}"
            yield f"    {'inside the 90 % intervals':32}  {one.most}"
            for name, found, linear in (("error of the mean", one.error, one.linear_error),
                                        ("CRPS", one.crps, one.linear_crps)):
                yield f"    {name:32}  {found}" + (f"  best linear estimate {linear}" if linear else "")
        if (sentence := finding(self.measures, self.things)) is not None:
            yield f"  {sentence.striptags()}"
        yield from (f"  {note}" for note in self.notes)

    @property
    def things(self) -> str:
        """What the samples are called: "pictures" or "samples"."""
        return "pictures" if self.data.get("kind") == "picture" else "samples"

    @property
    def known(self) -> str:
        """What the rows are called that copies are looked for in: "training", or "real" where nobody knows better."""
        return self.data.get("known", "training")

    @property
    def foreign(self) -> bool:
        """Whether the samples are from files or of another program, and no model is known."""
        return "source" in self.drawn

    @property
    def verdict(self) -> list[str]:
        """What was found, in sentences without a technical term."""
        shared, count = self.drawn.get("also_real", 0), self.drawn.get("count")
        said = verdict(self.measures, self.memorisation, self.things, self.restorations, self.known)
        if shared == count:
            return [f"All of these {count:,} {self.things} are real ones, in both sets the same: this comparison says "
                    "nothing of a generator."]
        if not shared:
            return said
        return [*said, f"{shared:,} of these {count:,} {self.things} are real ones: the same {self.things} are in both "
                       "sets."]

    def same_data(self, other: Report) -> bool:
        """Whether another model was judged by the same unseen rows."""
        return all(self.data.get(name) == other.data.get(name) for name in ("shape", "held_out", "held_out_sha256"))

    def as_dict(self) -> dict[str, Any]:
        """The figures as plain JSON values, without the pictures."""
        facts = {name: value for name, value in vars(self).items() if name not in ("pictures", "others")}
        facts["measures"] = [one.as_dict() for one in self.measures]
        return {"format": FORMAT, "verdict": self.verdict, **json.loads(json.dumps(facts, default=asdict))}

    def measure(self, key: str, features: str | None = None) -> Measure:
        """The measure of a key, and of a feature space where there are several.

        Raises:
            KeyError: there is none.
        """
        for one in self.measures:
            if one.key == key and features in (None, one.features):
                return one
        raise KeyError(f"{key!r} was not measured; there are {', '.join(one.key for one in self.measures)}")
