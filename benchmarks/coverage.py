"""How often the 95 % intervals of an evaluation hold what they are intervals of, beside a percentile bootstrap."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ornstein.evaluation.classifier import forest_auc_interval
from ornstein.evaluation.distances import Neighbours, frechet, kernel, neighbours
from ornstein.evaluation.intervals import Interval, frechet_interval, kernel_interval, neighbour_intervals

RESAMPLES = 100


@dataclass(frozen=True)
class Laws:
    """Two Gaussians of independent values: N(middle, spread^2), and that moved and scaled.

    Args:
        width: values a sample.
        real, generated: how many samples.
        move: by this many spreads.
        scale: times this spread.
        falling: spread 1 / i of the i-th value in place of 1.
    """

    width: int
    real: int
    generated: int
    move: float = 0.0
    scale: float = 1.0
    falling: bool = False

    def __str__(self) -> str:
        kind = "1/i" if self.falling else "1"
        return f"{self.width:4d} {kind:>6} {self.real:5d} {self.generated:6d} {self.move:5.2f} {self.scale:5.2f}"

    @property
    def spread(self) -> np.ndarray:
        return 1 / np.arange(1, self.width + 1) if self.falling else np.ones(self.width)

    def draw(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        real = rng.standard_normal((self.real, self.width))
        generated = rng.standard_normal((self.generated, self.width)) * self.scale + self.move
        return real * self.spread, generated * self.spread

    def frechet(self) -> float:
        return float((self.spread**2).sum() * (self.move**2 + (self.scale - 1) ** 2))

    def kernel(self) -> float:
        laws = [(0 * self.spread, self.spread), (self.move * self.spread, self.scale * self.spread)]
        a, b = laws
        return self._mean_kernel(a, a) + self._mean_kernel(b, b) - 2 * self._mean_kernel(a, b)

    def _mean_kernel(self, a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray]) -> float:
        first = a[0] @ b[0]
        second = np.sum(_second(*a) * _second(*b))
        third = np.sum(_third(*a) * _third(*b))
        return float(1 + 3 * first / self.width + 3 * second / self.width**2 + third / self.width**3)


def _second(mean: np.ndarray, spread: np.ndarray) -> np.ndarray:
    return np.diag(spread**2) + np.outer(mean, mean)


def _third(mean: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """(F, F, F) third moments of a Gaussian (Isserlis 1918)."""
    cov = np.diag(spread**2)
    return (np.einsum("i,j,k->ijk", mean, mean, mean) + np.einsum("ij,k->ijk", cov, mean)
            + np.einsum("ik,j->ijk", cov, mean) + np.einsum("jk,i->ijk", cov, mean))


def naive(of: Callable[[np.ndarray, np.ndarray], float | Neighbours], real: np.ndarray, generated: np.ndarray,
          seed: int) -> np.ndarray:
    """(2, ...) ends of the percentile bootstrap, resampling both sets."""
    rng = np.random.default_rng(seed)
    some = [of(*(rows[rng.integers(0, len(rows), len(rows))] for rows in (real, generated))) for _ in range(RESAMPLES)]
    return np.quantile(np.array(some), [0.025, 0.975], axis=0)


def row(name: str, laws: Laws, found: list[Interval], ends: np.ndarray | None, truth: float | None,
        seconds: float) -> str:
    """One line of the table; without a truth it is the mean value over the repetitions."""
    low, high, value = (np.array([getattr(one, key) for one in found]) for key in ("low", "high", "value"))
    limits = [one.limit for one in found if one.limit is not None]
    truth = float(value.mean()) if truth is None else truth
    over, under = np.mean(low > truth), np.mean(high < truth)
    other = "-" if ends is None else f"{np.mean((ends[:, 0] <= truth) & (truth <= ends[:, 1])):.3f}"
    limit = f"{np.mean(limits):10.5f}" if limits else f"{'-':>10}"
    return (f"{name:<9} {laws} {truth:10.5f} {value.mean():10.5f} {limit} {np.mean(high - low):9.5f} "
            f"{1 - over - under:8.3f} {over:6.3f} {under:6.3f} {other:>9} {seconds:8.3f}")


def distance_rows(kind: str, laws: Laws, repetitions: int, bootstrap: bool) -> list[str]:
    """Lines for one pair of laws."""
    interval, of, truth = {
        "frechet": (frechet_interval, frechet, laws.frechet()), "kernel": (kernel_interval, kernel, laws.kernel()),
        "shares": (neighbour_intervals, neighbours, None)}[kind]
    found, ends, taken = [], [], 0.0
    for seed in range(repetitions):
        real, generated = laws.draw(seed)
        begin = time.perf_counter()
        found.append(interval(real, generated))
        taken += time.perf_counter() - begin
        if bootstrap:
            ends.append(naive(of, real, generated, seed))
    taken /= repetitions
    other = np.array(ends) if bootstrap else None
    if kind != "shares":
        if (known := sum(one.limit is not None for one in found)) < repetitions:
            print(f"{known} of {repetitions} have a limit; the line below is of those" if known else
                  "none has a limit: the interval below is that of the expected value")
            keep = np.array([(one.limit is not None) == bool(known) for one in found])
            found = [one for one, kept in zip(found, keep, strict=True) if kept]
            other, truth = None if other is None else other[keep], truth if known else None
        return [row(kind, laws, found, other, truth, taken)]
    return [row(name, laws, [one[place] for one in found], None if other is None else other[:, :, place], None, taken)
            for place, name in enumerate(Neighbours._fields)]


def forest_row(laws: Laws, repetitions: int, trees: int) -> str:
    """The line of a forest: its expected area under the curve is the mean over the repetitions."""
    begin = time.perf_counter()
    found = [forest_auc_interval(*laws.draw(seed), trees=trees) for seed in range(repetitions)]
    return row("auc", laws, found, None, None, (time.perf_counter() - begin) / repetitions)


CASES = {
    "frechet": [Laws(width, n, m, move, scale, falling) for width in (4, 16)
                for n, m in ((300, 300), (300, 1500), (1500, 1500))
                for move, scale in ((0, 1), (0.05, 1), (0.3, 1.2)) for falling in (False, True)]
    + [Laws(64, 297, 1500, move, scale, falling) for move, scale in ((0, 1), (0.1, 1.1)) for falling in (False, True)]
    + [Laws(64, 130, 1500, 0.1, 1.1, falling) for falling in (False, True)],
    "kernel": [Laws(width, n, m, move, scale, falling) for width in (4, 16)
               for n, m in ((300, 300), (300, 1500), (1500, 1500))
               for move, scale in ((0, 1), (0.05, 1), (0.3, 1.2)) for falling in (False, True)],
    "shares": [Laws(4, 300, 300), Laws(16, 300, 300), Laws(4, 300, 300, 0.5), Laws(16, 300, 1500, 0.2, 1.2),
               Laws(16, 300, 1500, 0, 0.7), Laws(16, 1500, 1500)],
    "auc": [Laws(4, 300, 300), Laws(16, 300, 300), Laws(4, 300, 300, 0.3), Laws(4, 300, 300, 1.5),
            Laws(16, 300, 300, 0.1, 1.2), Laws(4, 150, 600), Laws(16, 1500, 1500)],
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kinds", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--widths", nargs="*", type=int, help="values a sample, of the laws to take; all without")
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--trees", type=int, default=100, help="of each forest")
    parser.add_argument("--bootstrap", action=argparse.BooleanOptionalAction, default=True,
                        help="also the percentile bootstrap, which takes most of the time")
    words = parser.parse_args()
    print(f"{'':9} {'':4} {'spread':>6} {'real':>5} {'gener.':>6} {'move':>5} {'scale':>5} {'truth':>10} {'value':>10} "
          f"{'limit':>10} {'width':>9} {'covered':>8} {'above':>6} {'below':>6} {'bootstrap':>9} {'seconds':>8}")
    for kind in words.kinds:
        for laws in (laws for laws in CASES[kind] if not words.widths or laws.width in words.widths):
            if kind == "auc":
                print(forest_row(laws, words.repetitions, words.trees), flush=True)
            else:
                large = laws.generated * laws.real > 1e6 and kind != "frechet"
                print(*distance_rows(kind, laws, words.repetitions, words.bootstrap and not large), sep="\n",
                      flush=True)


if __name__ == "__main__":
    main()
