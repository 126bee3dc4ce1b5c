"""Memory that `sample` needs beyond its result, in blocks of one network call: `python benchmarks/sample_memory.py`.

Each count is drawn in a process of its own, on one core so that no forked worker's memory is missed.
"""

from __future__ import annotations

import subprocess
import sys

DRAW = """
import os, resource, sys
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import torch
import ornstein as orn
torch.set_num_threads(1)
count, shape = int(sys.argv[1]), (3, 64, 64)
network = orn.UNet(shape, widths=[16, 32], depths=[1, 1])
model = orn.NetworkDenoiser(network, orn.Cosine(), shape, data_std=0.5).eval()
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
orn.sample(model, 1, nfe=1, batch=1)
before = peak()
x = orn.sample(model, count, nfe=2, sampler="adams-bashforth")
print(peak() - before, x.numel() * 4 / 2**20)
"""


def main() -> None:
    """MiB beyond the result for several counts, and over those of one block of 32."""
    one = None
    for count in (32, 64, 1000, 8000, 20_000):
        run = subprocess.run([sys.executable, "-c", DRAW, str(count)], capture_output=True, text=True, check=True)
        used, result = map(float, run.stdout.split())
        one = one or used - result
        print(f"{count:6d} pictures of 3x64x64: result {result:7.1f} MiB, beyond it {used - result:6.1f} MiB, "
              f"{(used - result) / one:.2f} of one block's", flush=True)


if __name__ == "__main__":
    main()
