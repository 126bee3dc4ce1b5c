"""Few calls: what `ornstein tune` learns beside auto, the known rules and 50 calls, all from the same noise.

Fréchet distance of pixels to the held-out digits in floors (excess over 50 calls) and the area under the curve of a
forest that tells samples from the training digits; on exact mixtures the errors against the flow's own end.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from cifar import pooled
from judges import Judge
from samplers import MIXTURES, SCHEDULES, WIDTHS, errors, mixture, reference
from solver_peers import learn

import ornstein as orn
from ornstein.diffusion.samplers.loop import plan_walk
from ornstein.evaluation.classifier import forest_auc
from ornstein.evaluation.distances import frechet
from ornstein.training.reopen import reopen
from ornstein.tuning.paths import exact_starts

MANY = 50
COUNT = 2000
SAMPLES, SHOWN = 2500, 20  # of the runs that are no digits: judged, and drawn on a sheet


def digits(runs: list[Path], budgets: list[int], seeds: list[int], quick: bool, peers: bool) -> None:
    """A line a run and budget: excess distance and AUC of auto and tuned, of LD3, GS and the best of diffusers."""
    from ornstein.evaluation.discrepancy import discrepancy

    data = orn.load_data("digits")
    judge, labels = Judge(data), torch.arange(COUNT) % 10
    near = discrepancy(judge.train)

    def judged(x: torch.Tensor) -> tuple[float, float]:
        rows = judge.rounded(x)
        return judge.distance(rows), float(np.mean([judge._forest(rows, labels.numpy(), seed) for seed in range(2)]))

    for run in runs:
        model = orn.load(run)
        model.tuned = {}
        starts = [torch.randn(COUNT, *model.shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        many = [judged(orn.sample(model, z=z, condition=labels, nfe=MANY)) for z in starts]
        print(f"{run.name}: 50 calls {np.mean([one[0] for one in many]):.3f} / {np.mean([one[1] for one in many]):.3f}",
              flush=True)
        for calls in budgets:
            begin = time.perf_counter()
            choice = orn.tune(model, calls, condition=torch.arange(256) % 10, quick=quick,
                              distance=lambda x: near(judge.rounded(x)))
            seconds, tuned = time.perf_counter() - begin, model.tuned.pop(calls)
            for name in ("auto", "tuned"):
                model.tuned = {calls: tuned} if name == "tuned" else {}
                about = f"{choice.sampler}, damping {choice.damping:g}, {seconds:.0f} s" if name == "tuned" else ""
                report(run, calls, name, [judged(orn.sample(model, z=z, condition=labels, nfe=calls)) for z in starts],
                       many, about)
            if peers:
                taught, unseen = (exact_starts(model, calls, range(first, first + count), torch.arange(count) % 10, 3)
                                  for first, count in ((0, 512), (512, 128)))
                for name, corrected in (("LD3", False), ("GS", True)):
                    begin = time.perf_counter()
                    solver = learn(model, plan_walk(model, "auto", calls, None, None)[1], taught, unseen, corrected)
                    seconds = time.perf_counter() - begin
                    report(run, calls, name, [judged(solver.sample(z, labels)) for z in starts], many,
                           f"{seconds:.0f} s")
                from sampler_digits import scheduled
                from sampler_peers import schedulers

                theirs = {name: scheduled(make, model, starts[0], labels, calls) for name, make in schedulers()}
                best = min((judge.distance(judge.rounded(x)), name) for name, x in theirs.items()
                           if x is not None and x.isfinite().all())
                print(json.dumps({"run": run.name, "calls": calls, "name": f"diffusers {best[1]}",
                                  "excess": round(best[0] - many[0][0], 4),
                                  "auc": round(judged(theirs[best[1]])[1], 4)}), flush=True)


def report(run: Path, calls: int, name: str, found: list[tuple[float, float]], many: list[tuple[float, float]],
           about: str) -> None:
    """A line of the excess distance over many calls on the same noise, with its error, and of the AUC."""
    excess = [few[0] - reference[0] for few, reference in zip(found, many, strict=True)]
    print(json.dumps({"run": run.name, "calls": calls, "name": name, "excess": round(float(np.mean(excess)), 4),
                      "error": round(float(np.std(excess, ddof=1)) / math.sqrt(len(excess)), 4),
                      "auc": round(float(np.mean([area for _, area in found])), 4), "about": about}), flush=True)


def other_runs(runs: list[Path], budgets: list[int], seeds: list[int], quick: bool, sheet: Path | None) -> None:
    """A line for each run of pictures or arrays and each budget, tuned by `ornstein tune` on a copy of the run.

    Pictures are pooled to 8 x 8 first, as in quality.py; the distance is in floors: that of the training rows.
    """
    for run in runs:
        data = reopen(run).trained_on
        training, held_out = data.split()
        real, unseen = (features(data.spec, part.batch(range(min(len(part), SAMPLES)))[0])
                        for part in (training, held_out))
        floor = frechet(unseen, real)

        def judged(x: torch.Tensor, real=real, unseen=unseen, floor=floor, spec=data.spec) -> tuple[float, float]:
            fake = features(spec, x)
            return frechet(unseen, fake) / floor, forest_auc(real[:len(fake)], fake)

        model = orn.load(run)
        model.tuned = {}
        labels = data.spec.cycle(SAMPLES)
        starts = [torch.randn(SAMPLES, *model.shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]

        def drawn(calls: int, model=model, labels=labels, starts=starts, name=run.name) -> list[tuple[float, float]]:
            x = [orn.sample(model, z=z, condition=labels, nfe=calls) for z in starts]
            if sheet and (model.tuned or calls == MANY):
                orn.save_pictures(x[0][:SHOWN], sheet / f"{name}-{calls}.png", model.data)
            return [judged(one) for one in x]

        many = drawn(MANY)
        print(f"{run.name}: 50 calls {np.mean([one[0] for one in many]):.3f} / {np.mean([one[1] for one in many]):.3f}",
              flush=True)
        for calls in budgets:
            with tempfile.TemporaryDirectory() as folder:
                copy = Path(folder) / run.name
                shutil.copytree(run, copy)
                begin = time.perf_counter()
                subprocess.run([sys.executable, "-m", "ornstein", "tune", copy, "--nfe", str(calls),
                                *["--quick"] * quick], check=True, stdout=sys.stderr)
                seconds, tuned = time.perf_counter() - begin, orn.load(copy).tuned
            for name, choices in (("auto", {}), ("tuned", tuned)):
                model.tuned = choices
                about = f"{tuned[calls].sampler}, {seconds:.0f} s" if name == "tuned" else ""
                report(run, calls, name, drawn(calls), many, about)
            model.tuned = {}


def features(spec: orn.DataSpec, x: torch.Tensor) -> np.ndarray:
    """Samples as rows in the data's own units, pictures pooled to 8 x 8."""
    values = spec.decode(x).astype(np.float64)
    return (pooled(values) if spec.kind == "picture" and spec.shape[-1] > 8 else values).reshape(len(values), -1)


def mixtures(budgets: list[int], seeds: list[int], before: Path | None) -> None:
    """A line a mixture and budget: median and root mean square error, and their ratios to those in a file of before."""
    old = {} if before is None else {tuple(row["cell"]): row for row in map(json.loads, before.open(encoding="utf-8"))}
    ratios: dict[int, list[tuple[float, float]]] = {}
    for path, schedule in SCHEDULES.items():
        for seed in seeds:
            for dim, components in MIXTURES:
                model = mixture(schedule, dim, components, *WIDTHS["narrow"], seed)
                z = torch.randn(256, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed + 50))
                z *= schedule.level(1.0).radius
                truth = reference(model, z)
                for calls in budgets:
                    model.tuned = {}
                    begin = time.perf_counter()
                    choice = orn.tune(model, calls, starts=128, seed=1)
                    seconds = time.perf_counter() - begin
                    median, square = errors(orn.sample(model, z=z, nfe=calls), truth)
                    row = {"cell": [path, seed, dim, calls], "median": median, "rms": square, "rule": choice.sampler,
                           "seconds": round(seconds, 1)}
                    if was := old.get((path, seed, dim, calls)):
                        row["ratio"] = [round(was["median"] / median, 2), round(was["rms"] / square, 2)]
                        ratios.setdefault(calls, []).append((was["median"] / median, was["rms"] / square))
                    print(json.dumps(row), flush=True)
    for calls, found in ratios.items():
        means = [math.exp(np.mean(np.log([one[which] for one in found]))) for which in (0, 1)]
        print(f"{calls} calls, {len(found)} cells: median divided by {means[0]:.2f} (least "
              f"{min(one[0] for one in found):.2f}), root mean square by {means[1]:.2f}", flush=True)


def main() -> None:
    """What is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="*", help="of `ornstein train digits`, or of other data "
                        "with --other; none: exact mixtures")
    parser.add_argument("--calls", type=int, nargs="+", default=[3, 4, 6])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--peers", action="store_true", help="LD3 and GS on all noises, every scheduler of "
                        "diffusers on the first; digits only")
    parser.add_argument("--before", type=Path, help="lines of the mixtures by another version, to divide by these")
    parser.add_argument("--other", action="store_true", help="the runs are of other data than digits")
    parser.add_argument("--sheet", type=Path, help="folder for sheets of samples of other runs")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    if (asked.peers and asked.other) or (asked.sheet and not asked.other):
        parser.error("--peers is for digits, and --sheet for --other")
    if asked.other:
        other_runs(asked.runs, asked.calls, asked.seeds, asked.quick, asked.sheet)
    elif asked.runs:
        digits(asked.runs, asked.calls, asked.seeds, asked.quick, asked.peers)
    else:
        mixtures(asked.calls, asked.seeds, asked.before)


if __name__ == "__main__":
    main()
