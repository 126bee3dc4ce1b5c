"""What many devices need: one training step as rank 3 of 1,024 processes, without 1,023 of them, and the arithmetic.

    python benchmarks/scale.py

The `fake` process group answers every collective at once, so that the split of weights, averages, moments and batches,
and the plan of a checkpoint, are those of the real job; times and losses are not.
"""

from __future__ import annotations

import time

import torch
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore

import ornstein as orn
from ornstein.training.engine import Engine, to_local
from ornstein.training.learner import Learner
from ornstein.training.plan import resolve

RANK = 3
NETWORK = {"widths": [64, 128, 192], "depths": [1, 2, 2]}


def step(world: int, shard: int, batch: int) -> dict[str, float]:
    """One step of a U-Net as one rank of `world`, in groups of `shard`."""
    dist.init_process_group("fake", rank=RANK, world_size=world, store=FakeStore())
    try:
        data = orn.load_data("digits")
        engine = Engine()
        engine.configure("fsdp", shard)
        settings = orn.Settings(images=1, batch=batch, options=NETWORK, processes=world)
        begin = time.perf_counter()
        learner = Learner(resolve(settings, data, "cpu"), data.split()[0], engine)
        built = time.perf_counter()
        learner.step(1e-3)
        stepped = time.perf_counter()
        learner.loader.close()
        tensors = learner.state()[0]
        return {"world": world, "shard": shard, "batch": batch, "rows": batch // world,
                "weights": sum(value.numel() for value in learner.weights),
                "here": sum(to_local(value).numel() for value in learner.weights),
                "state MB": sum(value.numel() * value.element_size() for value in tensors.values()) / 1e6,
                "state MB here": sum(to_local(value).numel() * value.element_size()
                                     for value in tensors.values()) / 1e6,
                "build s": built - begin, "step s": stepped - built}
    finally:
        dist.destroy_process_group()


def main() -> None:
    torch.set_num_threads(1)
    rows = [step(8, 8, 1024), step(64, 8, 4096), step(1024, 8, 8192), step(1024, 1024, 8192)]
    print("| " + " | ".join(rows[0]) + " |\n|" + "---|" * len(rows[0]))
    for row in rows:
        print("| " + " | ".join(f"{value:,.3g}" if isinstance(value, float) else f"{value:,}" for value in row.values())
              + " |")


if __name__ == "__main__":
    main()
