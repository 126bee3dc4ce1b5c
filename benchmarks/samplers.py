"""Samplers on data whose exact denoiser is known: the error against the flow's own end, by network calls."""

from __future__ import annotations

import argparse
import json
import math
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import ornstein as orn
from ornstein.diffusion.adaptive import integrate

TUNED = "tuned"
CALLS = (5, 8, 10, 15, 20, 30, 50)
MIXTURES = ((2, 6), (8, 16), (64, 32))  # dimensions and components
WIDTHS = {"narrow": (0.05, 0.15), "wide": (0.3, 0.6)}  # deviations of the components
SCHEDULES = {"chain": orn.Chain.linear(), "cosine": orn.Cosine()}


def mixture(schedule: orn.Schedule, dim: int, components: int, low: float, high: float, seed: int) -> orn.ExactMixture:
    """Standard normal means, deviations from low to high, weights a softmax of normals, the whole standardised."""
    rng = np.random.default_rng(seed)
    mean, std = rng.standard_normal((components, dim)), rng.uniform(low, high, components)
    weight = np.exp(rng.standard_normal(components))
    weight /= weight.sum()
    centre = weight @ mean
    scale = np.sqrt((weight @ ((mean - centre) ** 2 + std[:, None] ** 2)).mean())
    return orn.ExactMixture(torch.from_numpy(weight), torch.from_numpy((mean - centre) / scale),
                            torch.from_numpy((std / scale) ** 2), schedule)


def reference(denoiser: orn.Denoiser, z: Tensor) -> Tensor:
    """Where the flow takes z, by steps of order 5 that each row chooses for an error of 1e-10."""
    level = denoiser.schedule.level(1.0)

    def slope(y: Tensor, angle: Tensor, _: Tensor) -> Tensor:
        time = denoiser.schedule.time(-2 * torch.log(torch.tan(angle)))
        return denoiser(denoiser.schedule.level(time).radius[:, None] * y, time).v

    start, end = torch.as_tensor(level.angle), torch.zeros((), dtype=torch.float64)
    return integrate(slope, z / level.radius, start, end, lambda one, _: torch.full_like(one, 1e-10), 20000)[0]


def errors(x: Tensor | None, truth: Tensor) -> tuple[float, float]:
    """Median over samples of each one's root mean square over dimensions, and the root mean square of all."""
    if x is None or not x.isfinite().all():
        return math.inf, math.inf
    each = (x - truth).square().mean(1).sqrt()
    return float(each.median()), float(each.square().mean().sqrt())


def tuned(model: orn.Denoiser, z: Tensor, calls: int) -> Tensor:
    """Samples after `ornstein.tune` on other starts than these."""
    orn.tune(model, calls, starts=128, seed=1)
    end = orn.sample(model, nfe=calls, z=z, batch=len(z))
    model.tuned = {}
    return end


def measure(ours: list[str], others: bool, starts: int, seed: int, width: str, path: str) -> list[dict[str, object]]:
    """One entry a mixture, number of calls and sampler: names, median and root mean square."""
    rows: list[dict[str, object]] = []
    schedule = SCHEDULES[path]
    for dim, components in MIXTURES:
        model = mixture(schedule, dim, components, *WIDTHS[width], seed)
        x = model.draw(starts, seed)
        generator = torch.Generator().manual_seed(seed)
        eps = torch.randn(x.shape, generator=generator, dtype=torch.float64)
        z = orn.draw(orn.Encoder(schedule).kernel(x, 1.0), eps)
        truth = reference(model, z)
        walks = dict.fromkeys(ours)
        if others:
            from sampler_peers import peers

            walks |= peers(schedule.beta if isinstance(schedule, orn.Chain) else None)
        for calls in CALLS:
            for name, walk in walks.items():
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    end = (tuned(model, z, calls) if name == TUNED else walk(model, z, calls) if walk else
                           orn.sample(model, sampler=name, nfe=calls, z=z, batch=starts))
                median, rms = errors(end, truth)
                rows.append({"width": width, "path": path, "dim": dim, "calls": calls, "name": name,
                             "ours": walk is None, "median": median, "rms": rms})
    return rows


def kind(name: str) -> str:
    """ours, shipped, or warped: a peer on times that its library does not offer."""
    return "warped" if "times t^" in name else "shipped"


def table(rows: list[dict[str, object]], what: str) -> str:
    """The best peer of each cell, picked with hindsight, beside auto and the best of ours."""
    lines = ["| mixture | row |" + "".join(f" {calls} |" for calls in CALLS), "| --- " * (len(CALLS) + 2) + "|"]
    for dim, components in MIXTURES:
        here = [row for row in rows if row["dim"] == dim]
        groups = {"best peer as shipped": [row for row in here if not row["ours"] and kind(row["name"]) == "shipped"],
                  "best peer, times warped too": [row for row in here if not row["ours"]],
                  "auto": [row for row in here if row["name"] == "auto"],
                  TUNED: [row for row in here if row["name"] == TUNED],
                  "best of ours": [row for row in here if row["ours"]]}
        for name, group in groups.items():
            if group:
                cells = [min(row[what] for row in group if row["calls"] == calls) for calls in CALLS]
                lines.append(f"| d = {dim}, {components} | {name} |" + "".join(f" {cell:.1e} |" for cell in cells))
    return "\n".join(lines)


def ratios(rows: list[dict[str, object]], what: str) -> str:
    """How auto and tuned compare with the best peer of each cell: geometric mean, cells won, and the worst cell."""
    told = []
    for name in ("auto", TUNED):
        for label in ("shipped", "warped"):
            found = []
            for dim, _ in MIXTURES:
                for calls in CALLS:
                    cell = [row for row in rows if (row["dim"], row["calls"]) == (dim, calls)]
                    theirs = [row[what] for row in cell if not row["ours"] and
                              (label == "warped" or kind(row["name"]) == "shipped")]
                    own = [row[what] for row in cell if row["name"] == name]
                    if theirs and own:
                        found.append(own[0] / min(theirs))
            if found:
                mean = math.exp(sum(map(math.log, found)) / len(found))
                told.append(f"{name} / {label}: geometric mean {mean:.2f}, at or below 1 in "
                            f"{sum(r <= 1 for r in found)} of {len(found)}, worst {max(found):.2f}")
    return "\n".join(told)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", choices=WIDTHS, default="narrow")
    parser.add_argument("--path", choices=SCHEDULES, default="chain")
    parser.add_argument("--starts", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0, help="of the mixtures and the starts")
    parser.add_argument("--samplers", nargs="*", default=["auto", *orn.samplers()], help="of ours")
    parser.add_argument("--ours", action="store_true", help="leave the peers out")
    parser.add_argument("--tune", action="store_true", help="tune for each cell too: minutes a cell")
    parser.add_argument("--out", type=Path, help="file of one line of JSON a row")
    options = parser.parse_args()
    ours = [name for name in options.samplers if not orn.samplers().get(name, {"stochastic": False})["stochastic"]]
    ours += [TUNED] * options.tune
    rows = measure(ours, not options.ours, options.starts, options.seed, options.width, options.path)
    if options.out:
        options.out.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    for what in ("median", "rms"):
        print(f"\n{what} error, {options.width} components, {options.path}\n\n{table(rows, what)}\n")
        print(ratios(rows, what))
    for calls in CALLS:
        cell = sorted((row for row in rows if row["calls"] == calls and not row["ours"]), key=lambda row: row["median"])
        for dim, _ in MIXTURES:
            best = [f"{row['name']} {row['median']:.1e}" for row in cell if row["dim"] == dim][:2]
            print(f"{calls} calls, d = {dim}: {'; '.join(best)}")


if __name__ == "__main__":
    main()
