"""What noise costs beside one call of NumPy for as many float32 normals, and beside a generator for each sample."""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable, Mapping

import numpy as np
import torch

from ornstein import noise

THIN = ((1, 2), (1000, 2), (1, 1, 8, 8), (64, 1, 8, 8), (1, 3, 64, 64), (64, 3, 32, 32))


def race(runners: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Least seconds of this thread on a processor that each takes, in turn, so that a busy machine is so for all."""
    least = dict.fromkeys(runners, float("inf"))
    for _ in range(rounds):
        for name, run in runners.items():
            begin = time.thread_time()
            run()
            least[name] = min(least[name], time.thread_time() - begin)
    return least


def each_its_generator(like: torch.Tensor) -> torch.Tensor:
    """The noise of version 1."""
    rows = [noise.generator(0, "sample", row, 1).standard_normal(like.shape[1:]) for row in range(len(like))]
    return torch.from_numpy(np.stack(rows)).to(like)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=256, help="pictures of 3 x 64 x 64")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--compile", action="store_true", help="through torch.compile too, which takes a minute")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    like, rng = torch.empty(asked.rows, 3, 64, 64), np.random.default_rng(0)

    def ours(like: torch.Tensor) -> torch.Tensor:
        return noise.per_sample(0, "sample", range(len(like)), 1, like)

    runners = {"numpy, float32": lambda: rng.standard_normal(like.numel(), dtype=np.float32),
               "float32": lambda: ours(like), "float64": lambda: ours(like.double())}
    if asked.compile:
        compiled = torch.compile(ours, dynamic=False)
        compiled(like)
        runners["float32, compiled"] = lambda: compiled(like)
    found = race(runners, asked.rounds)
    for name, seconds in found.items():
        print(f"{asked.rows} x 3 x 64 x 64, {name}: {seconds / like.numel() * 1e9:.1f} ns a normal, "
              f"{seconds / found['numpy, float32']:.2f} of NumPy's")
    for shape in THIN:
        thin = torch.empty(shape)
        both = race({"now": functools.partial(ours, thin),
                     "a generator each": functools.partial(each_its_generator, thin)}, 10 * asked.rounds)
        print(f"{shape}: " + ", ".join(f"{name} {seconds * 1e6:.0f} us" for name, seconds in both.items()))


if __name__ == "__main__":
    main()
