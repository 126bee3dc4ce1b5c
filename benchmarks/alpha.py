"""Transparency learned as a fourth channel beside the same pictures laid on white: both trained at once, a thread each.

    python benchmarks/alpha.py [--pictures PATH/twemoji] [--size 16] [--minutes 5] [--out runs/alpha]

The term is half the integral of E |eps - eps-hat|^2 over log SNR in [-9, 9] on held-out pictures, in nats: of a value,
and of a pixel, which has four of them with transparency and three without. Both sets run from -1 to 1 over 0..255.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from quality import term

import ornstein as orn

PICTURES = Path(__file__).parents[2] / "shared/data/twemoji"
ROWS = {"laid on white": [], "with --alpha": ["--alpha"]}


def main() -> None:
    """Train both with the command that a user would type, and compare them on the same pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, default=PICTURES)
    parser.add_argument("--size", type=int, default=16)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--out", type=Path, default=Path("runs/alpha"))
    words = parser.parse_args()
    if not words.pictures.is_dir():
        sys.exit("the pictures are not there; skipped (name them with --pictures)")
    runs = {name: words.out / name.replace(" ", "-").lstrip("-") for name in ROWS}
    trainings = [subprocess.Popen(
        [sys.executable, "-m", "ornstein", "train", words.pictures, "--size", str(words.size), "--minutes",
         str(words.minutes), "--processes", "1", "--set", "threads=1", "--out", runs[name], "--overwrite", *options],
        stdout=subprocess.DEVNULL) for name, options in ROWS.items()]
    if any(training.wait() for training in trainings):
        sys.exit("a training failed")
    print("| twemoji | pictures seen | term, nats a value | nats a pixel |\n| --- | ---: | ---: | ---: |")
    for name, options in ROWS.items():
        held = orn.load_data(words.pictures, size=words.size, alpha=bool(options)).split()[1]
        model = orn.load(runs[name])
        found, error = term(model, *held.batch(np.arange(len(held))))
        channels = model.shape[0]
        print(f"| {name} | {model.metrics['images']:,} | {found:.3f} ± {error:.3f} | {channels * found:.2f} ± "
              f"{channels * error:.2f} |", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
