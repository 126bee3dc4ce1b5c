"""Going on from a run's weights (--from) beside a training from scratch: other pictures, longer, another size.

    python benchmarks/finetune.py                       # birds of CIFAR-10 from its nine other classes, and digits
    python benchmarks/finetune.py --rates 1 0.5 0.25    # with other shares of the usual learning rate

Losses are of the averaged weights on pictures that no training has seen, with the same times and noise in every row.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import ornstein as orn
from ornstein import noise
from ornstein.diffusion.loss import Density, denoising_loss

PARQUET = Path(__file__).parents[2] / "shared/data/cifar10/train.parquet"
BIRD, BIRDS, UNSEEN = 2, 500, 1000


def cifar(side: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """All training pictures, (50000, 3, side, side) uint8, and their labels."""
    import pyarrow.parquet as pq

    table = pq.read_table(PARQUET)
    pictures = [Image.open(io.BytesIO(cell.as_py()["bytes"])).convert("RGB") for cell in table["image"]]
    if side != 32:
        pictures = [one.resize((side, side), Image.Resampling.LANCZOS) for one in pictures]
    return np.stack([np.asarray(one).transpose(2, 0, 1) for one in pictures]), np.array(table["label"].to_pylist())


@torch.no_grad()
def loss(model: torch.nn.Module, values: np.ndarray, labels: np.ndarray | None = None) -> float:
    """Mean denoising loss on unseen values, times even along the path."""
    x = model.data.encode(values)
    places = (noise.generator(0, "held_out").permutation(len(x)) + 0.5) / len(x)
    t = Density(model.schedule, "angle")(torch.from_numpy(places))
    condition = None if labels is None or not model.data.classes else torch.from_numpy(labels)
    parts = []
    for start in range(0, len(x), 100):
        part = slice(start, start + 100)
        eps = noise.per_sample(0, "held_out", range(part.start, min(part.stop, len(x))), 0, x[part])
        told = None if condition is None else condition[part]
        parts.append(denoising_loss(model, x[part], t[part], eps, told, "unit", model.data_std))
    return float(torch.cat(parts).mean())


def train(data: object, images: int, seed: int, out: Path, start: Path | None = None, rate: float = 1.0) -> object:
    """A training by pictures seen, in one process so that rows are alike on any machine."""
    options: dict[str, object] = {} if start is None else {"init_from": str(start)}
    if start is not None and rate != 1:
        options["learning_rate"] = rate * 2e-3
    begun = time.monotonic()
    model = orn.Trainer(data, images=images, seed=seed, out=out, overwrite=True, compile=False, **options).fit()
    print(f"    {images:,} pictures in {time.monotonic() - begun:.0f} s", flush=True)
    return model


def birds(folder: Path, seeds: int, rates: list[float], base: int, scratch: int, share: int) -> None:
    """500 birds from a run on the other nine classes."""
    values, labels = cifar()
    other, bird = labels != BIRD, np.flatnonzero(labels == BIRD)
    few, unseen = values[bird[:BIRDS]], values[bird[-UNSEEN:]]
    place = folder / "nine"
    if not (place / "model.safetensors").exists():
        names = labels[other]
        train((values[other], np.where(names > BIRD, names - 1, names)), base, 0, place)
    print(f"birds: {BIRDS} of them, from {base:,} pictures of nine other classes; losses on {UNSEEN:,} unseen birds")
    for seed in range(1, seeds + 1):
        alone = loss(train(few, scratch, seed, folder / "alone"), unseen)
        print(f"  seed {seed}: from scratch, {scratch:,} pictures: {alone:.4f}", flush=True)
        for rate in rates:
            for images in (scratch // share, scratch // (2 * share)):
                value = loss(train(few, images, seed, folder / "birds", place, rate), unseen)
                print(f"  seed {seed}: --from, rate x {rate:g}, {images:,}: {value:.4f}", flush=True)


def longer(folder: Path, seeds: int, rates: list[float], half: int) -> None:
    """The same digits for longer, in two halves and in one run of the whole length."""
    unseen, labels = orn.load_data("digits").split()[1].batch(range(179))
    values = orn.load_data("digits").spec.decode(unseen)
    print(f"digits for longer: {half:,} and {half:,} more, beside {2 * half:,} in one; losses on held-out digits")
    for seed in range(1, seeds + 1):
        whole = loss(train("digits", 2 * half, seed, folder / "whole"), values, labels.numpy())
        first = loss(train("digits", half, seed, folder / "half"), values, labels.numpy())
        print(f"  seed {seed}: in one {whole:.4f}; the first half {first:.4f}", flush=True)
        for rate in rates:
            model = train("digits", half, seed + 100, folder / "more", folder / "half", 2 * rate)
            value = loss(model, values, labels.numpy())
            behind = 100 * (value / whole - 1)
            print(f"  seed {seed}: --from, rate x {rate:g}: {value:.4f}, {behind:+.1f} %", flush=True)


def larger(folder: Path, rates: list[float], scratch: int, share: int) -> None:
    """Birds at 48 pixels from the run at 32."""
    values, labels = cifar(48)
    bird = np.flatnonzero(labels == BIRD)
    few, unseen = values[bird[:BIRDS]], values[bird[-UNSEEN:]]
    alone = loss(train(few, scratch, 1, folder / "alone48"), unseen)
    print(f"birds at 48 pixels from scratch, {scratch:,} pictures: {alone:.4f}", flush=True)
    for rate in rates:
        value = loss(train(few, scratch // share, 1, folder / "birds48", folder / "nine", rate), unseen)
        print(f"birds at 48 pixels --from nine classes at 32, rate x {rate:g}, {scratch // share:,}: {value:.4f}")


def main() -> None:
    """Every row, or those asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", default=["longer", "birds", "larger"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rates", type=float, nargs="+", default=[1.0], help="shares of the usual learning rate")
    parser.add_argument("--base", type=int, default=240_000, help="pictures seen of the nine classes")
    parser.add_argument("--scratch", type=int, default=60_000, help="pictures seen from scratch")
    parser.add_argument("--half", type=int, default=100_000, help="digits seen in each half")
    parser.add_argument("--keep", type=Path, help="folder for the runs; a temporary one by default")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.keep or Path(temporary)
        if "longer" in asked.rows:
            longer(folder, asked.seeds, asked.rates, asked.half)
        if "birds" in asked.rows:
            birds(folder, asked.seeds, asked.rates, asked.base, asked.scratch, 3)
        if "larger" in asked.rows:
            larger(folder, asked.rates, asked.scratch, 3)


if __name__ == "__main__":
    main()
