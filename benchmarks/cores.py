"""Pictures a second of training and drawing on a quiet machine and beside other programs: `python benchmarks/cores.py`.

`--against PATH` names the source folder (src) of another version, which takes turns with this one; figures are medians
over the rounds, each in a process of its own, and ratios between versions are of neighbours in time.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

HERE = Path(__file__).parents[1] / "src"
SPIN = "while True: pass"
CONVOLVE = """
import torch
torch.set_num_threads(2)
layer, x = torch.nn.Conv2d(32, 32, 3, padding=1), torch.randn(64, 32, 32, 32)
while True:
    layer(x).sum().backward()
"""
BESIDE = {"alone": None, "beside one busy core": SPIN, "beside two torch threads": CONVOLVE}
DRAW = """
import sys, time
import ornstein as orn
model, count = orn.load(sys.argv[1]), int(sys.argv[2])
orn.sample(model, 16, nfe=2)
begun = time.monotonic()
orn.sample(model, count, nfe=10)
print(count / (time.monotonic() - begun))
"""


@contextmanager
def beside(program: str | None) -> Generator[None, None, None]:
    """A program that computes meanwhile."""
    if program is None:
        yield
        return
    busy = subprocess.Popen([sys.executable, "-c", program], env={**os.environ, "OMP_NUM_THREADS": "2"})
    try:
        yield
    finally:
        busy.kill()
        busy.wait()


def run(source: Path, *words: str) -> str:
    """What a program prints that uses the version in `source`."""
    env = {**os.environ, "PYTHONPATH": str(source)}
    env.pop("OMP_NUM_THREADS", None)
    return subprocess.run([sys.executable, *words], env=env, capture_output=True, text=True, check=True).stdout


def version(source: Path) -> str:
    """Names folders: no version reads what another has written."""
    return "this" if source == HERE else "other"


def training(source: Path, place: Path, data: str, images: int, more: tuple[str, ...] = ()) -> float:
    """Pictures a second between the second line of progress and the last."""
    out = place / f"run-{version(source)}"
    said = run(source, "-m", "ornstein", "train", data, "--images", str(images), "--out", str(out), "--overwrite",
               "--json", *(word for setting in ("snapshots=0", *more) for word in ("--set", setting)))
    events = [json.loads(line) for line in said.splitlines()]
    steps = [event for event in events if event["event"] == "progress" and event["images"]]
    (first, *_, last) = [event for event in steps if event["rate"]][1:]
    return (last["images"] - first["images"]) / (last["seconds"] - first["seconds"])


def drawing(source: Path, place: Path, data: str, count: int) -> float:
    """Pictures a second of `sample`, 10 calls each, by a model that was trained for a moment."""
    model = place / f"model-{version(source)}-{Path(data).stem}"
    if not model.exists():
        run(source, "-m", "ornstein", "train", data, "--images", "1000", "--out", str(model))
    return float(run(source, "-c", DRAW, str(model), str(count)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", type=Path, help="source folder of another version")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data", nargs="+", default=["digits", "32 px"])
    parser.add_argument("--only", nargs="+", default=["train", "compiled", "draw"])
    parser.add_argument("--beside", nargs="+", default=list(BESIDE))
    parser.add_argument("--scale", type=float, default=1.0, help="of the work in one measurement")
    asked = parser.parse_args()
    sources = {"this": HERE} | ({"other": asked.against} if asked.against else {})
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        colour = place / "colour.npy"
        rng = np.random.default_rng(0)
        coarse = rng.integers(0, 256, (2000, 4, 4, 3)).repeat(8, 1).repeat(8, 2)
        np.save(colour, (coarse * 0.7 + rng.integers(0, 70, (2000, 32, 32, 3))).astype(np.uint8))
        kinds = {"digits": ("digits", 40_000, 3000), "32 px": (str(colour), 5_000, 600)}
        for name in asked.data:
            data, images, count = kinds[name]
            images, count = int(images * asked.scale), int(count * asked.scale)
            jobs = {"train": partial(training, place=place, data=data, images=images),
                    "compiled": partial(training, place=place, data=data, images=2 * images, more=("compile=true",)),
                    "draw": partial(drawing, place=place, data=data, count=count)}
            for job in asked.only:
                if job == "compiled" and name == "digits":
                    continue
                quiet = {}
                for others in asked.beside:
                    rates = {which: [] for which in sources}
                    with beside(BESIDE[others]):
                        for _ in range(asked.rounds):
                            for which, source in sources.items():
                                rates[which].append(jobs[job](source))
                    line = f"| {name} | {job} | {others} |"
                    for which, values in rates.items():
                        rate = statistics.median(values)
                        quiet.setdefault(which, rate)
                        line += f" {rate:,.0f} | {rate / quiet[which]:.2f} |"
                    if asked.against:
                        pairs = [a / b for a, b in zip(*rates.values(), strict=True)]
                        line += f" {statistics.median(pairs):.2f} |"
                    print(line, flush=True)


if __name__ == "__main__":
    main()
