"""How fast an exported sampler is beside PyTorch: ratios of medians, taken in turn on one thread.

    python benchmarks/exported.py runs/digits [--nfe 10] [--rounds 15]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import torch

import ornstein as orn

ROWS = (1, 16, 64)


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("run", type=Path)
    words.add_argument("--nfe", type=int, default=10)
    words.add_argument("--rounds", type=int, default=15)
    asked = words.parse_args()
    torch.set_num_threads(1)
    model = orn.load(asked.run)
    with tempfile.TemporaryDirectory() as folder:
        path, begin = Path(folder, "sampler.onnx"), time.perf_counter()
        orn.export(model, path, asked.nfe)
        print(f"exported in {time.perf_counter() - begin:.1f} s, {path.stat().st_size / 1e6:.2f} MB, "
              f"{sum(weight.numel() for weight in model.parameters()):,} weights, {asked.nfe} calls")
        begin, options = time.perf_counter(), onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(path, options)
        print(f"opened in {time.perf_counter() - begin:.2f} s")
    for rows in ROWS:
        z = torch.from_numpy(np.random.default_rng(0).standard_normal((rows, *model.shape), dtype=np.float32))
        classes = model.data.cycle(rows) if model.data is not None else None
        inputs = {"z": z.numpy()} | ({} if classes is None else {"class": classes.numpy()})
        seconds = in_turn({"PyTorch": lambda z=z, c=classes: orn.sample(model, z=z, condition=c, nfe=asked.nfe,
                                                                        batch=len(z)),
                           "onnxruntime": lambda inputs=inputs: session.run(None, inputs)}, asked.rounds)
        ratios = [ours / theirs for ours, theirs in zip(*seconds.values(), strict=True)]
        medians = ", ".join(f"{name} {1e3 * statistics.median(taken):8.1f} ms" for name, taken in seconds.items())
        print(f"{rows:3d} samples: {medians}, {statistics.median(ratios):.2f} times as fast ({min(ratios):.2f} to "
              f"{max(ratios):.2f})")


def in_turn(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Processor seconds of each call, one after another in each round."""
    taken = {name: list[float]() for name in calls}
    for _ in range(rounds + 1):
        for name, call in calls.items():
            begin = time.process_time()
            call()
            taken[name].append(time.process_time() - begin)
    return {name: times[1:] for name, times in taken.items()}  # the first of each warms up


if __name__ == "__main__":
    main()
