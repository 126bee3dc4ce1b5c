"""Draws from posteriors that are known exactly: `orn.restore` beside the methods of azula, on 37 cells.

    python benchmarks/restore.py                          # ours at 20, 50 and 100 calls a draw
    python benchmarks/restore.py --peers --calls 50       # azula's methods too (pip install --no-deps azula einops)
    python benchmarks/restore.py --cells d64 --pairs 60    # some of the cells, less certain

A cell is a law of the data (mixtures of 3, 12 and 24 isotropic Gaussians in d = 2, 8 and 64, and a Gaussian random walk
of 64), a measurement (every second value, a circular Gaussian blur of width 1.5, a random projection to d / 2) and its
noise. Judged are, for 8 observations with 1,000 draws each, the sliced Wasserstein-2 distance to exact draws over that
between two sets of exact draws, and, for 200 pairs of truth and observation with 50 draws each, how often the central
90 % of the draws hold the truth along a random direction, in units of the posterior's deviations. A call with its
vector-Jacobian product is 2 calls, and every particle counts.
"""

from __future__ import annotations

import argparse
import functools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

import ornstein as orn
from ornstein.diffusion.editing import posterior as ours
from ornstein.diffusion.estimate import Estimate
from ornstein.diffusion.level import as_time
from ornstein.diffusion.linear import wiener_gain

SCHEDULE = orn.Cosine()
Method = Callable[["Cell", Tensor, int, int, int], Tensor]  # (cell, y (B, M), draws of each, calls, seed) -> (B, N, d)


class Mixture(orn.ExactMixture):
    """As `ExactMixture`, by expanded squares: fast, and exact enough for widths of 0.05."""

    def forward(self, z: Tensor, t: Tensor | float, condition: object = None) -> Estimate:
        level = self.level(z, t)
        signal, sigma = (entry.reshape(-1, 1) for entry in self.schedule.level(as_time(t)))
        total = signal**2 * self.variance + sigma**2
        far = z.square().sum(1, keepdim=True) + signal**2 * self.mean.square().sum(1)
        square = far - 2 * signal * (z @ self.mean.T)
        share = (self.weight.log() - 0.5 * (square / total + self.mean.shape[1] * total.log())).softmax(1)
        c, s = signal / torch.hypot(signal, sigma), sigma / torch.hypot(signal, sigma)
        gain = wiener_gain(c, s, self.variance)
        v = (share * gain).sum(1, keepdim=True) * z / torch.hypot(signal, sigma) - (share * (gain * c + s)) @ self.mean
        return Estimate(z, level, v)

    def components(self) -> tuple[Tensor, Tensor, Tensor]:
        """Weights (K,), means (K, d), covariances (K, d, d)."""
        return self.weight, self.mean, self.variance[:, None, None] * torch.eye(self.mean.shape[1])


class Walk(orn.ExactGaussian):
    """A Gaussian random walk of unit mean variance."""

    def components(self) -> tuple[Tensor, Tensor, Tensor]:
        """As for a mixture."""
        return torch.ones(1), self.mean[None], (self.basis * self.power @ self.basis.T)[None]


@dataclass(frozen=True, eq=False)
class Cell:
    """A law of data and a measurement."""

    name: str
    data: Mixture | Walk
    matrix: Tensor
    noise: float

    def observe(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Measurements (B, M) of x (B, d)."""
        return x @ self.matrix.T + self.noise * torch.randn(len(x), len(self.matrix), generator=generator)

    @functools.cached_property
    def given_y(self) -> tuple[Tensor, ...]:
        """What the posterior's components have in common for every y."""
        _, _, covariance = self.data.components()
        a = self.matrix
        low = torch.linalg.cholesky(a @ covariance @ a.T + (self.noise**2 + 1e-12) * torch.eye(len(a)))
        gain = covariance @ torch.cholesky_solve(a.expand(len(low), -1, -1), low).mT
        power, basis = torch.linalg.eigh(covariance - gain @ a @ covariance)
        return low, gain, basis * power.clamp(min=0).sqrt()[:, None]

    def exact(self, y: Tensor, many: int, generator: torch.Generator) -> Tensor:
        """Draws of q(x | y) for one y (M,), (many, d)."""
        weight, mean, _ = self.data.components()
        low, gain, root = self.given_y
        gap = y - mean @ self.matrix.T
        white = torch.linalg.solve_triangular(low, gap[..., None], upper=False)[..., 0]
        log = weight.log() - 0.5 * white.square().sum(1) - low.diagonal(dim1=1, dim2=2).log().sum(1)
        component = torch.multinomial(log.softmax(0), many, True, generator=generator)
        centre = mean + (gain @ gap[..., None])[..., 0]
        eps = torch.randn(many, mean.shape[1], generator=generator)
        drawn = torch.empty_like(eps)
        for one in component.unique():
            rows = component == one
            drawn[rows] = centre[one] + eps[rows] @ root[one].T
        return drawn


def mixture(many: int, size: int, seed: int) -> Mixture:
    """Means standard normal, deviations 0.1 (0.5 + U), weights softmax of normals, the whole standardised."""
    g = torch.Generator().manual_seed(seed)
    mean, deviation = torch.randn(many, size, generator=g), 0.1 * (0.5 + torch.rand(many, generator=g))
    weight = torch.randn(many, generator=g).softmax(0)
    mean = mean - weight @ mean
    scale = ((weight @ mean.square()).mean() + weight @ deviation.square()).sqrt()
    return Mixture(weight, mean / scale, (deviation / scale) ** 2, SCHEDULE)


def cells() -> list[Cell]:
    """All 37."""
    steps = torch.arange(1.0, 65.0)
    walk = torch.minimum(steps[:, None], steps) / steps.mean()
    laws = {"d2": mixture(3, 2, 1), "d8": mixture(12, 8, 2), "d64": mixture(24, 64, 3),
            "walk": Walk(torch.zeros(64), walk, SCHEDULE)}
    made = []
    for law, data in laws.items():
        size = data.shape[0]
        apart = torch.minimum(torch.arange(size), size - torch.arange(size))
        kernel = torch.exp(-0.5 * (apart / 1.5) ** 2)
        projection, _ = torch.linalg.qr(torch.randn(size, size // 2, generator=torch.Generator().manual_seed(5)))
        matrices = {"mask": torch.eye(size)[::2], "projection": projection.T.contiguous(),
                    "blur": torch.stack([(kernel / kernel.sum()).roll(place) for place in range(size)])}
        for kind, matrix in matrices.items():
            if (law, kind) != ("d2", "blur"):
                noises = (0.0, 0.02, 0.1, 0.5) if kind == "mask" else (0.02, 0.1, 0.5)
                made += [Cell(f"{law} {kind} {noise:g}", data, matrix, noise) for noise in noises]
    return made


def ornstein(cell: Cell, y: Tensor, many: int, calls: int, seed: int) -> Tensor:
    """`orn.restore` with no setting of its own."""
    return orn.restore(cell.data, y, cell.matrix, cell.noise, many, nfe=calls, seed=seed).unflatten(0, (-1, many))


def exact(cell: Cell, y: Tensor, many: int, calls: int, seed: int) -> Tensor:  # noqa: ARG001
    """The posterior itself: what can be reached."""
    return torch.stack([cell.exact(one, many, torch.Generator().manual_seed(seed)) for one in y])


@dataclass(frozen=True)
class Cases:
    """What a cell is judged by; the same for every method."""

    directions: Tensor  # (d, 64)
    observed: Tensor
    exact: Tensor  # (B, 2, 1000, d)
    floor: Tensor  # (B,)
    truth: Tensor
    measured: Tensor
    along: Tensor  # a direction for each pair


def sliced(a: Tensor, b: Tensor, directions: Tensor) -> Tensor:
    """Sliced Wasserstein-2 distance of as many samples, (N, d) each."""
    return ((a @ directions).sort(0).values - (b @ directions).sort(0).values).square().mean().sqrt()


@functools.cache
def cases(cell: Cell, observations: int, pairs: int) -> Cases:
    """Draws what a cell is judged by."""
    g = torch.Generator().manual_seed(100)
    directions = torch.randn(cell.data.shape[0], 64, generator=g)
    directions = directions / directions.norm(dim=0)
    observed = cell.observe(cell.data.draw(observations, 1), g)
    exact = torch.stack([torch.stack([cell.exact(y, 1000, g) for _ in range(4)]) for y in observed])
    floor = torch.stack([torch.stack([sliced(four[i], four[j], directions) for i in range(4) for j in range(i)]).mean()
                         for four in exact])
    truth = cell.data.draw(pairs, 2)
    measured = cell.observe(truth, g)
    deviation = torch.stack([cell.exact(y, 200, g).std(0) for y in measured])
    along = torch.randn(truth.shape, generator=g) / deviation.clamp(min=1e-4)
    return Cases(directions, observed, exact[:, :2], floor, truth, measured, along)


def judge(cell: Cell, method: Method, calls: int, observations: int, pairs: int) -> tuple[float, float, float]:
    """Distance over its floor, share of truths within the central 90 %, greatest deviation of ranks from even."""
    by = cases(cell, observations, pairs)
    drawn = method(cell, by.observed, 1000, calls, 0)
    apart = torch.stack([sliced(mine, two[i], by.directions) / 2
                         for mine, two in zip(drawn, by.exact, strict=True) for i in (0, 1)]).sum()
    drawn = method(cell, by.measured, 50, calls, 1)
    gap = (drawn * by.along[:, None]).sum(-1) - (by.truth * by.along).sum(-1, keepdim=True)
    ties = torch.rand(pairs, generator=torch.Generator().manual_seed(3)) * (1 + (gap.abs() <= 1e-9).sum(1))
    ranks = ((gap < -1e-9).sum(1) + ties) / 51
    uneven = (ranks.sort().values - (torch.arange(pairs) + 0.5) / pairs).abs().max()
    return float(apart / by.floor.sum()), float(((ranks - 0.5).abs() < 0.45).double().mean()), float(uneven)


def main() -> None:
    """Every cell, or those asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, nargs="+", default=[20, 50, 100])
    parser.add_argument("--cells", nargs="+", default=[""], help="parts of the names of cells")
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--observations", type=int, default=8, help="with 1,000 draws each, for the distance")
    parser.add_argument("--pairs", type=int, default=200, help="with 50 draws each, for coverage")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    ours.ROWS = 256  # closed forms have no reason for small blocks
    chosen = [cell for cell in cells() if any(part in cell.name for part in asked.cells)]
    methods: dict[str, Method] = {"exact": exact, "ornstein": ornstein}
    if asked.peers:
        from restore_peers import peers
        methods |= peers()
    for calls in asked.calls:
        rows: dict[str, list[tuple[float, float, float]]] = {}
        for name, method in methods.items():
            begun, rows[name] = time.monotonic(), []
            for cell in chosen:
                rows[name].append(judge(cell, method, calls, asked.observations, asked.pairs))
            report(name, calls, rows[name], time.monotonic() - begun)
            print("   ", "; ".join(f"{cell.name} {row[0]:.2f} ({row[1]:.2f})"
                                   for cell, row in zip(chosen, rows[name], strict=True)), flush=True)
        if asked.peers:
            best = [min((rows[name][i] for name in rows if name not in ("exact", "ornstein")), key=lambda row: row[0])
                    for i in range(len(chosen))]
            report("best peer of each cell, with hindsight", calls, best, 0)


def report(name: str, calls: int, rows: list[tuple[float, float, float]], seconds: float) -> None:
    """One line over all cells."""
    mean = math.exp(sum(math.log(row[0]) for row in rows) / len(rows))
    off, uneven = [abs(row[1] - 0.9) for row in rows], sum(row[2] for row in rows) / len(rows)
    print(f"{name}, {calls} calls: distance {mean:.3f}, |coverage - 0.9| {sum(off) / len(off):.3f}, within 0.04 in "
          f"{sum(value <= 0.04 for value in off)} of {len(rows)}, ranks off by {uneven:.3f} ({seconds:.0f} s)",
          flush=True)


if __name__ == "__main__":
    main()
