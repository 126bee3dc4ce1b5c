"""Five hundred colour pictures in two classes, three minutes: beside a Gaussian fitted to the same pictures.

The judge is a random forest on pictures pooled to 8x8: the area under its curve, real against generated.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import ornstein as orn
from ornstein.evaluation.classifier import forest_auc
from ornstein.evaluation.distances import nearest

CLASSES = {1: "automobile", 8: "ship"}
EACH = 250
PARQUET = Path(__file__).parents[2] / "shared/data/cifar10/train.parquet"


def make_folder(parquet: Path, folder: Path) -> None:
    """The first 250 pictures of each class as PNG files in two sub-folders."""
    import pyarrow.parquet as pq

    table = pq.read_table(parquet)
    count = dict.fromkeys(CLASSES, 0)
    for cell, label in zip(table["image"], table["label"].to_pylist(), strict=True):
        if label in CLASSES and count[label] < EACH:
            place = folder / CLASSES[label]
            place.mkdir(parents=True, exist_ok=True)
            Image.open(io.BytesIO(cell.as_py()["bytes"])).convert("RGB").save(place / f"{count[label]:04d}.png")
            count[label] += 1


def pooled(pictures: np.ndarray, side: int = 8) -> np.ndarray:
    """(N, C, H, W) averaged down to (N, C, side, side)."""
    count, channels, height, width = pictures.shape
    return pictures.reshape(count, channels, side, height // side, side, width // side).mean((3, 5))


def gaussian(pictures: np.ndarray, count: int) -> np.ndarray:
    """Samples of the full-covariance Gaussian of the pictures, rounded and clipped to 8 bits."""
    rows = pictures.reshape(len(pictures), -1).astype(np.float64)
    mean = rows.mean(0)
    mixed = np.random.default_rng(0).standard_normal((count, len(rows))) @ (rows - mean) / np.sqrt(len(rows) - 1)
    return np.round(mean + mixed).clip(0, 255).reshape(count, *pictures.shape[1:])


def main() -> None:
    """Make the folder, train with the command a user would type, draw and judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parquet", type=Path, default=PARQUET)
    parser.add_argument("--out", type=Path, default=Path("runs/cifar-500"))
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--set", nargs="*", default=[], help="settings of the training, key=value")
    parser.add_argument("--seed", type=int, default=0)
    words = parser.parse_args()
    if not words.parquet.is_file():
        sys.exit("the pictures are not there; skipped (name them with --parquet)")
    folder = words.out / "pictures"
    make_folder(words.parquet, folder)
    begin = time.monotonic()
    subprocess.run([sys.executable, "-m", "ornstein", "train", folder, "--minutes", str(words.minutes), "--seed",
                    str(words.seed), "--out", words.out / "run", "--overwrite",
                    *(word for pair in words.set for word in ("--set", pair))], check=True)
    taken = time.monotonic() - begin
    subprocess.run([sys.executable, "-m", "ornstein", "sample", words.out / "run", "--count", "64", "--out",
                    words.out / "grid.png"], check=True)
    data, model = orn.load_data(folder), orn.load(words.out / "run")
    drawn = model.data.decode(orn.sample(model, 2 * EACH, condition=torch.arange(2 * EACH) % 2)).astype(np.float64)
    training, held = data.split()
    trained = np.asarray(training.values)
    real = pooled(data.values.astype(np.float64))
    ratio = np.median(nearest(drawn, trained)) / np.median(nearest(np.asarray(held.values), trained))
    exact = np.mean(nearest(drawn, trained) == 0)
    auc = [forest_auc(real, pooled(fake)) for fake in (drawn, gaussian(data.values, 2 * EACH))]
    print(f"process {taken:.1f} s for --minutes {words.minutes:g}; pictures seen {model.metrics['images']:,.0f}")
    print(f"AUC of a forest, pooled to 8x8: ours {auc[0]:.3f}, Gaussian {auc[1]:.3f} (lower by {auc[1] - auc[0]:.3f})")
    print(f"nearest training picture, generated over held out: {ratio:.3f}; exact copies {exact:.1%}")


if __name__ == "__main__":
    main()
