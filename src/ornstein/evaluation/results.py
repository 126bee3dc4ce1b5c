"""The figures of an evaluation: plain numbers with error bars."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from ornstein.figures.chart import LEVEL, NORMAL, number

__all__ = ["LEVEL", "NORMAL", "Calibration", "Curve", "Interval", "Likelihood", "Measure", "Memorisation", "Pair",
           "Restoration"]

COVERAGE = 0.9  # of the intervals by which a model is judged too sure or not


@dataclass(frozen=True)
class Interval:
    """A figure of the given samples and the 95 % interval of what it estimates.

    Args:
        value: as measured on the samples.
        limit: the estimate for infinitely many samples (bias removed); None where there is no such estimate.
        low, high: ends of the interval, of the distance between the two distributions where there is a limit, else of
            the expected value at these numbers of samples.
    """

    value: float
    limit: float | None
    low: float
    high: float

    @property
    def estimate(self) -> float:
        """The limit where there is one, else the value."""
        return self.value if self.limit is None else self.limit

    @property
    def half(self) -> float:
        """Half the width, which determines the digits that are shown."""
        return (self.high - self.low) / 2

    @property
    def ends(self) -> str:
        """Both ends as text, "[0.81, 1.14]"."""
        return f"[{number(self.low, self.half)}, {number(self.high, self.half)}]"

    def __str__(self) -> str:
        return f"{number(self.estimate, self.half)} {self.ends}"

    def disjoint(self, other: Interval) -> bool:
        """Whether two intervals do not overlap."""
        return math.isfinite(self.low + other.low) and (self.high < other.low or other.high < self.low)


@dataclass(frozen=True)
class Measure:
    """One distance or score between generated and real data, with its 95 % interval and its floor.

    Args:
        key: short name: "frechet", "kernel", "precision", "recall", "density", "coverage", "auc", "texture",
            "accuracy".
        name: for people.
        features: name of the feature space, "" if there is none.
        found: held-out real data against the samples; for "auc" and "texture" training data, or all real data of a
            comparison, against the samples. Also available as `value`, `limit`, `low` and `high`.
        floor: the same figure with real data in place of the samples: training rows that no feature was fitted to, or
            held-out ones for "auc" and "texture"; None if not measured.
        best: the score of indistinguishable data: 0 for distances, 0.5 for "auc" and "texture", 1 for shares.
        real, generated: numbers of samples.
    """

    key: str
    name: str
    features: str
    found: Interval
    floor: Interval | None
    best: float
    real: int
    generated: int

    @property
    def value(self) -> float:
        """The figure as measured on the samples."""
        return self.found.value

    @property
    def limit(self) -> float | None:
        """The estimate for infinitely many samples, or None."""
        return self.found.limit

    @property
    def low(self) -> float:
        """Lower end of the interval."""
        return self.found.low

    @property
    def high(self) -> float:
        """Upper end of the interval."""
        return self.found.high

    @property
    def comparable(self) -> bool:
        """Whether figure and floor estimate the same: both without bias, or both at these numbers of samples."""
        return self.floor is not None and (self.found.limit is None) == (self.floor.limit is None)

    @property
    def differs(self) -> bool | None:
        """Whether samples are shown to differ from real data; None if figure and floor cannot be compared."""
        return self.found.disjoint(self.floor) if self.floor is not None and self.comparable else None

    def as_dict(self) -> dict[str, Any]:
        """The fields as one table of JSON values: `value`, `limit`, `low`, `high`, and those of the floor."""
        floor = dict.fromkeys(vars(self.found)) if self.floor is None else vars(self.floor)
        facts = {**vars(self), **vars(self.found), **{f"floor_{key}": value for key, value in floor.items()}}
        del facts["found"]
        return facts | {"floor": facts.pop("floor_value")}


@dataclass(frozen=True)
class Likelihood:
    """How likely unseen data are, as a mean over samples in nats a sample, and in bits a value where data have levels.

    Args:
        key: "bound", "chain", "bound-dequantised" or "ode", of the model; "gaussian" or "gaussian-class".
        name: for people.
        grid: description of the times that the number belongs to.
        nats: mean of log p.
        error: standard error of that mean.
        count: samples.
        bits: bits per value of the data with levels; None for continuous data.
        bits_error: standard error of that.
        terms: (name, mean, standard error) in nats of the terms of `nats`; () where it is a single term.
        each: nats of each sample, for comparing two models sample by sample.
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

    @property
    def of_model(self) -> bool:
        """Whether it is the model's, not that of a Gaussian for comparison."""
        return not self.key.startswith("gaussian")

    @property
    def units(self) -> str:
        """An explanation of its units."""
        if self.bits is None:
            return "nats a sample: the logarithm of its density, more is better"
        return ("bits a value: the cost of storing one with this model, less is better; nats a sample: the logarithm "
                "of its probability, more is better")

    def __str__(self) -> str:
        bits = "" if self.bits is None else f"{self.bits:.4f} ± {self.bits_error:.4f} bits a value, "
        return f"{bits}{self.nats:.2f} ± {self.error:.2f} nats a sample"

    @classmethod
    def read(cls, facts: dict[str, Any]) -> Likelihood:
        """Read it from plain JSON values."""
        return cls(**facts | {"terms": tuple(tuple(term) for term in facts["terms"]), "each": tuple(facts["each"])})


@dataclass(frozen=True)
class Curve:
    """A figure by log SNR, most noise first.

    Args:
        name: of the curve: "training", "held out", "lowest possible", "bound".
        log_snr: (n,) positions.
        value: (n,) means.
        error: (n,) standard errors.
    """

    name: str
    log_snr: tuple[float, ...]
    value: tuple[float, ...]
    error: tuple[float, ...]

    @classmethod
    def read(cls, facts: dict[str, Any]) -> Curve:
        """Read it from plain JSON values."""
        return cls(facts["name"], *(tuple(facts[name]) for name in ("log_snr", "value", "error")))


@dataclass(frozen=True)
class Pair:
    """A generated picture and the training picture nearest to it.

    Args:
        sample: index of the generated picture.
        training: row of the training picture in its set.
        ratio: its distance relative to the next nearest ones, 0 for a copy; `typical` for held-out pictures.
        how: the change of the training picture that comes nearest: "as it is", "flipped", "cropped".
        name: of the training picture, such as its file's, where the data have names.
        of: name of the generated picture, likewise.
    """

    sample: int
    training: int
    ratio: float
    how: str
    name: str = ""
    of: str = ""


@dataclass(frozen=True)
class Memorisation:
    """Evidence of copies: how near samples, compared with held-out pictures, are to training pictures.

    Args:
        share: of the samples that are near a training picture.
        expected: this share if the samples were like held-out pictures.
        threshold: the ratio below which a picture counts as near.
        p_value: probability of so many near samples if they were like held-out pictures.
        false_alarms: probability that `copies` is True for a model that copies nothing.
        copies: whether p_value is at most 0.01.
        exact: share of the samples that equal a training picture exactly.
        distance: median distance to the nearest training picture, relative to that of held-out ones.
        typical: median ratio of held-out pictures.
        pairs: the nearest pairs, nearest first.
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
        """Read it from plain JSON values."""
        return cls(**facts | {"pairs": tuple(Pair(**pair) for pair in facts["pairs"])})


@dataclass(frozen=True)
class Calibration:
    """How well draws agree with the truth, over all values that the measurement leaves open.

    Args:
        half: share of the truth inside the central 50 % interval of the draws.
        most: share of it inside the central 90 % interval.
        ranks: frequency of the truth's ranks among the draws in 20 equal bins, relative to a uniform distribution: 1
            each if the model is right.
        ranks_error: their standard errors.
        crps: mean continuous ranked probability score of the draws, estimated without bias (Ferro 2014); lower is
            better.
        error: root mean square error of the mean of the draws.
    """

    half: Interval
    most: Interval
    ranks: tuple[float, ...]
    ranks_error: tuple[float, ...]
    crps: Interval
    error: Interval


@dataclass(frozen=True)
class Restoration(Calibration):
    """How well held-out rows are restored from their own measurements, and how sure of it the model is.

    Errors and CRPS are on the scale of the model, where the data lie in -1..1, over the values that the measurement
    leaves open. Intervals are over rows: the values of one row are not independent.

    Args:
        operator: the measurement of each row, such as "mask=0.5".
        noise: standard deviation of the measurements' noise, on the model's scale.
        rows: number of restored rows.
        draws: number of draws of each row.
        nfe: network calls a draw.
        values: number of values of a row that the measurement leaves open.
        linear_crps, linear_error: those of the best linear estimate, a Gaussian with the training data's mean and
            covariance given the measurement; None for samples too large to compute it.
    """

    operator: str
    noise: float
    rows: int
    draws: int
    nfe: int
    values: int
    linear_crps: Interval | None = None
    linear_error: Interval | None = None

    @property
    def sure(self) -> str:
        """The verdict by its 90 % intervals: "too sure", "less sure than it could be", or "as sure as it should be"."""
        return ("too sure" if self.most.high < COVERAGE else
                "less sure than it could be" if self.most.low > COVERAGE else "as sure as it should be")

    @property
    def how(self) -> str:
        """How the rows were restored, as a line of text."""
        noise = f"noise {number(self.noise)}" if self.noise else "no noise"
        return (f"restored from {self.operator} with {noise}: {self.rows} rows, {self.draws} draws each, {self.nfe} "
                f"network calls a draw, {self.values:,} value{'s' * (self.values != 1)} a row left open")
