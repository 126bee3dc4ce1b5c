"""Copies planted among unseen pictures in place of a model's: which are found, at which rate of false alarms."""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional as F

import ornstein
from ornstein.data.dataset import Dataset
from ornstein.evaluation.memorisation import memorisation

SHARES = (0.05, 0.2, 1.0)
Change = Callable[[torch.Tensor, torch.Generator], torch.Tensor]


def cropped(x: torch.Tensor, draw: torch.Generator) -> torch.Tensor:
    """A window of 70 to 95 % of the side anywhere, resized bilinearly: not the nine places that are looked at."""
    side, place = 0.7 + 0.25 * torch.rand(len(x), 1, generator=draw), torch.rand(len(x), 2, generator=draw)
    theta = torch.eye(2, 3) * side[:, :, None]
    theta[:, :, 2] = (2 * place - 1) * (1 - side)
    return F.grid_sample(x, F.affine_grid(theta, list(x.shape), align_corners=False), padding_mode="border",
                         align_corners=False)


def mixed(x: torch.Tensor, draw: torch.Generator) -> torch.Tensor:
    """A quarter each as they are, flipped, with noise of 2 % of the range, and cropped."""
    changes = ("exact", "flipped", "noise 2 %", "cropped")
    return torch.cat([CHANGES[name](part, draw) for name, part in zip(changes, x.tensor_split(4), strict=True)])


CHANGES: dict[str, Change] = {
    "exact": lambda x, _: x,
    "flipped": lambda x, _: x.flip(-1),
    "noise 2 %": lambda x, draw: x + 0.04 * torch.randn(x.shape, generator=draw),
    "noise 5 %": lambda x, draw: x + 0.1 * torch.randn(x.shape, generator=draw),
    "cropped": cropped,
    "mixed": mixed,
}


def rows_of(data: Dataset, rows: np.ndarray) -> Dataset:
    """Some rows of a set, in memory."""
    part = copy.copy(data)
    part.values, part.labels, part.held = np.asarray(data.values[rows]), data.labels[rows], data.held[rows]
    return part


def split(data: Dataset, unseen: int, training: int, seed: int) -> tuple[torch.Tensor, Dataset, Dataset]:
    """Unseen pictures in place of samples, training rows and held-out rows, without a picture in two of them."""
    order = np.random.default_rng(seed).permutation(len(data))
    samples, held = data.batch(order[:unseen])[0], rows_of(data, order[unseen:2 * unseen])
    return samples, rows_of(data, order[2 * unseen:2 * unseen + training]), held


def main() -> None:
    """Plant, judge and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="?", default="digits", help="pictures, as `ornstein train` takes them")
    parser.add_argument("--unseen", type=int, default=297, help="samples, and as many held-out rows")
    parser.add_argument("--training", type=int, default=1200, help="training rows")
    parser.add_argument("--splits", type=int, default=500, help="random splits without copies")
    parser.add_argument("--repeats", type=int, default=10, help="random splits for each row of planted copies")
    asked = parser.parse_args()
    data = ornstein.load_data(asked.data)

    start, found = time.perf_counter(), []
    for seed in range(asked.splits):
        found.append(memorisation(*split(data, asked.unseen, asked.training, seed)))
    used = (time.perf_counter() - start) / max(1, asked.splits)
    if found:
        print(f"{data.spec.name}: {asked.training:,} training, {asked.unseen:,} held out, {asked.unseen:,} samples; "
              f"{used:.2f} s each on {torch.get_num_threads()} thread")
        print(f"no copies, {asked.splits} splits: {sum(one.copies for one in found)} alarms "
              f"({np.mean([one.copies for one in found]):.2%}; stated {found[0].false_alarms:.2%}); near "
              f"{np.mean([one.share for one in found]):.2%} (expected {found[0].expected:.2%})\n")
    print(f"{'copies':<10}{'planted':>9}{'near':>8}{'exact':>8}{'distance':>10}{'median p':>11}{'largest p':>11}"
          f"{'found':>8}")
    for name, change in CHANGES.items():
        for share in SHARES:
            found = []
            for seed in range(asked.repeats):
                samples, training, held = split(data, asked.unseen, asked.training, seed)
                count = round(share * len(samples))
                source = training.batch(np.arange(count))[0]
                samples[:count] = change(source, torch.Generator().manual_seed(seed))
                found.append(memorisation(samples, training, held))
            chances = [one.p_value for one in found]
            print(f"{name:<10}{share:>9.0%}{np.mean([one.share for one in found]):>8.1%}"
                  f"{np.mean([one.exact for one in found]):>8.1%}{np.mean([one.distance for one in found]):>10.2f}"
                  f"{np.median(chances):>11.1e}{max(chances):>11.1e}"
                  f"{sum(one.copies for one in found):>5}/{asked.repeats}", flush=True)


if __name__ == "__main__":
    main()
