"""Every way of making digits on the same data, the same minute of the same machine, and the same judges."""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from judges import FOOTNOTES, Drawn, Judge, heading, labels_of, line
from peers import COUNT, diffusers_unet, gaussian, prototype, resample

import ornstein

CALLS = 20  # network calls a sample of ours


def ours(_: ornstein.Dataset, seconds: float, seeds: list[int]) -> Iterator[Drawn]:
    """Ornstein as its command line trains and samples, once for each seed."""
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            started, busy = time.perf_counter(), time.process_time()
            model = ornstein.Trainer("digits", minutes=seconds / 60, seed=seed, out=Path(folder) / "run").fit()
            used = time.perf_counter() - started
            cores = (time.process_time() - busy) / used
        labels, start = labels_of(COUNT), time.perf_counter()
        samples = ornstein.sample(model, COUNT, condition=labels, nfe=CALLS, seed=seed)
        weights = sum(value.numel() for value in model.network.parameters())
        yield Drawn(f"ornstein, seed {seed}", samples, labels, CALLS, weights, model.metrics["images"], used,
                    cores, time.perf_counter() - start)


def arguments() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = ["resample", "gaussian", "prototype", "diffusers", "ours"]
    parser.add_argument("--seconds", type=float, default=60.0, help="wall clock of each training")
    parser.add_argument("--rows", type=lambda text: text.split(","), default=names, help=",".join(names))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="seeds of the rows of ours")
    parser.add_argument("--out", type=Path, help="file for one line of JSON a row")
    asked = parser.parse_args()
    if unknown := set(asked.rows) - set(names):
        parser.error(f"--rows knows {', '.join(names)}; not {', '.join(sorted(unknown))}")
    return asked


def main() -> None:
    """Train, draw and judge row after row, then print the table."""
    asked = arguments()
    data = ornstein.load_data("digits")
    train, judge = data.split()[0], Judge(data)
    makers = {"resample": resample, "gaussian": gaussian, "prototype": prototype, "diffusers": diffusers_unet,
              "ours": partial(ours, seeds=asked.seeds)}
    about = f"torch {torch.__version__}, {torch.get_num_threads()} threads; {asked.seconds:g} s for each training\n"
    about += judge.about()
    print(about, flush=True)
    table = []
    for name in asked.rows:
        for drawn in makers[name](train, asked.seconds):
            table.append(judge(drawn))
            print(line(table[-1]), flush=True)
    print(f"\n{about}\n\n{heading()}", *map(line, table), f"\n{FOOTNOTES}", sep="\n")
    if asked.out:
        asked.out.write_text("".join(json.dumps(figures) + "\n" for figures in table), "utf-8")


if __name__ == "__main__":
    main()
