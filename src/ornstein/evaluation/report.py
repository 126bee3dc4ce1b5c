"""What an evaluation found: plain figures with error bars, for a program to read and for the page to show."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from PIL.Image import Image

__all__ = ["Curve", "Likelihood", "Measure", "Memorisation", "Pair", "Report"]

FORMAT = 1


@dataclass(frozen=True)
class Measure:
    """One distance or score between generated and real data, with its 95 % interval and its floor.

    Args:
        key: short name: "frechet", "kernel", "precision", "recall", "density", "coverage", "auc", "accuracy".
        name: for people, with the features named where it has some.
        features: name of the feature space, "" where there is none.
        value: on the samples at hand, held-out real data against generated; "auc": training data against generated.
        low, high: ends of the 95 % interval, of `limit` where there is one, else of `value`.
        best: what indistinguishable data would score: 0 for distances, 0.5 for "auc", 1 for shares.
        real, generated: how many samples of each.
        limit: the estimate for infinitely many samples (bias removed); None where the value has no such bias.
        floor: the same figure of real data in place of the generated: training rows that no feature was fitted to;
            for "auc" held-out ones; None without.
        floor_low, floor_high: its 95 % interval, as for the value.
        floor_limit: its estimate for infinitely many samples, where it has one.
    """

    key: str
    name: str
    features: str
    value: float
    low: float
    high: float
    best: float
    real: int
    generated: int
    limit: float | None = None
    floor: float | None = None
    floor_low: float | None = None
    floor_high: float | None = None
    floor_limit: float | None = None


@dataclass(frozen=True)
class Likelihood:
    """How likely unseen data are, as a mean over samples in nats a sample, and in bits a value where data have levels.

    Args:
        key: "bound", "chain", "bound-dequantised" or "ode", of the model; "gaussian" or "gaussian-class".
        name: for people.
        grid: the times that the number belongs to, in words.
        nats: mean of log p.
        error: standard error of that mean.
        count: samples.
        bits: bits per value of the data with levels; None for continuous data.
        bits_error: standard error of that.
        terms: (name, mean, standard error) in nats of what `nats` is made of; () where it is one term.
        each: nats of each sample, by which two models are compared sample by sample.
    """

    key: str
    name: str
    grid: str
    nats: float
    error: float
    count: int
    bits: float | None = None
    bits_error: float | None = None
    terms: tuple[tuple[str, float, float], ...] = ()
    each: tuple[float, ...] = field(default=(), repr=False)

    @classmethod
    def read(cls, facts: dict[str, Any]) -> Likelihood:
        """The same from plain JSON values."""
        return cls(**facts | {"terms": tuple(tuple(term) for term in facts["terms"]), "each": tuple(facts["each"])})


@dataclass(frozen=True)
class Curve:
    """A figure by log SNR: means and standard errors at each, most noise first.

    Args:
        name: of the line: "training", "held out", "lowest possible", "bound".
        log_snr: (n,) where.
        value: (n,) means.
        error: (n,) standard errors.
    """

    name: str
    log_snr: tuple[float, ...]
    value: tuple[float, ...]
    error: tuple[float, ...]

    @classmethod
    def read(cls, facts: dict[str, Any]) -> Curve:
        """The same from plain JSON values."""
        return cls(facts["name"], *(tuple(facts[name]) for name in ("log_snr", "value", "error")))


@dataclass(frozen=True)
class Pair:
    """A generated picture and the training picture nearest to it.

    Args:
        sample: number of the generated one.
        training: row of the training one in its set.
        ratio: its distance over that to the next ones, 0 for a copy; held-out pictures have `typical`.
        how: how the training picture was changed to come so near: "as it is", "flipped", "cropped".
        name: of the training picture, such as its file's, where the data have names.
    """

    sample: int
    training: int
    ratio: float
    how: str
    name: str = ""


@dataclass(frozen=True)
class Memorisation:
    """Evidence of copies: samples beside held-out pictures, each by how near a training picture is.

    Args:
        share: of the samples that are nearer than the threshold.
        expected: of the samples, if they were like held-out pictures.
        threshold: the ratio below which a picture counts as near.
        p_value: chance of so many near samples, if they were like held-out pictures.
        false_alarms: how often `copies` would be True for a model without copies.
        copies: whether p_value is below false_alarms.
        exact: share of the samples that are a training picture to the last level.
        distance: median distance to the nearest training picture, over the same of held-out ones.
        typical: median ratio of held-out pictures.
        pairs: the nearest pairs first.
    """

    share: float
    expected: float
    threshold: float
    p_value: float
    false_alarms: float
    copies: bool
    exact: float
    distance: float
    typical: float
    pairs: tuple[Pair, ...] = ()

    @classmethod
    def read(cls, facts: dict[str, Any]) -> Memorisation:
        """The same from plain JSON values."""
        return cls(**facts | {"pairs": tuple(Pair(**pair) for pair in facts["pairs"])})


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
        seconds: of each part of the evaluation.
        notes: sentences that a reader must know.
        pictures: "samples", "real", and "pair-0-sample", "pair-0-training" ...: images that the page shows.
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
    seconds: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    pictures: dict[str, Image] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        from ornstein.evaluation.compare import lines

        return "\n".join(lines([self]))

    def as_dict(self) -> dict[str, Any]:
        """The figures as plain JSON values, without the pictures."""
        facts = {name: value for name, value in vars(self).items() if name != "pictures"}
        return {"format": FORMAT, **json.loads(json.dumps(facts, default=asdict))}

    def measure(self, key: str, features: str | None = None) -> Measure:
        """The measure of a key, and of a feature space where there are several.

        Raises:
            KeyError: there is none.
        """
        for one in self.measures:
            if one.key == key and features in (None, one.features):
                return one
        raise KeyError(f"{key!r} was not measured; there are {', '.join(one.key for one in self.measures)}")
