"""Two sets of arrays whose statistics are known, traces and volumes, trained on and compared with their samples."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch

import ornstein
from ornstein.figures.pictures import write
from ornstein.figures.statistics import statistics

SLOPES = (1.0, 2.0, 3.0, 4.0, 2.0)  # power of each channel of the volumes falls as frequency^-slope
SCALES = (1.0, 10.0, 0.01, 3.0, 100.0)


def traces(count: int = 2000, length: int = 128, seed: int = 0) -> np.ndarray:
    """(count, 2, length) float32: three damped sines of random phase and size; channel 1 is their rate of change."""
    rng = np.random.default_rng(seed)
    time_, phase = np.arange(length) / length, rng.uniform(0, 2 * np.pi, (count, 3, 1))
    size, rate = rng.uniform(0.3, 1.0, (count, 3, 1)), 2 * np.pi * np.array([3.0, 7.0, 12.0])[:, None]
    decay = rng.uniform(1.0, 4.0, (count, 3, 1))
    wave = size * np.exp(-decay * time_)
    place = (wave * np.sin(rate * time_ + phase)).sum(1)
    speed = (wave * np.cos(rate * time_ + phase) * rate / rate.max()).sum(1)
    return np.stack([place, speed], 1).astype(np.float32)


def volumes(count: int = 500, side: int = 12, seed: int = 0) -> np.ndarray:
    """(count, 5, side, side, side) float32: Gaussian random fields, each channel with a slope and a scale of its own.

    Channels 0 and 1 share half of their waves; the mean of each channel is twice its scale.
    """
    rng = np.random.default_rng(seed)
    axis = np.fft.fftfreq(side)
    frequency = np.sqrt(sum(grid**2 for grid in np.meshgrid(axis, axis, axis, indexing="ij")))
    frequency[0, 0, 0] = np.inf
    waves = np.fft.fftn(rng.standard_normal((count, len(SLOPES), side, side, side)), axes=(2, 3, 4))
    waves[:, 1] = (waves[:, 0] + waves[:, 1]) / np.sqrt(2)
    fields = []
    for channel, (slope, scale) in enumerate(zip(SLOPES, SCALES, strict=True)):
        field = np.fft.ifftn(waves[:, channel] * frequency ** (-slope / 2), axes=(1, 2, 3)).real
        fields.append(scale * (2 + field / field.std()))
    return np.stack(fields, 1).astype(np.float32)


def main() -> None:
    """Train on each set through the files that a user has, draw, compare, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=75.0, help="wall clock of each training")
    parser.add_argument("--sets", nargs="+", default=["traces", "volumes"], choices=["traces", "volumes"])
    parser.add_argument("--network", default="auto", help="auto, unet or dit")
    parser.add_argument("--nfe", type=int, default=30, help="network calls a sample")
    parser.add_argument("--out", type=Path, required=True, help="folder for the sets, the runs and the figures")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    for name in asked.sets:
        file = asked.out / f"{name}.npy"
        np.save(file, {"traces": traces, "volumes": volumes}[name]())
        data = ornstein.load_data(file)
        model = ornstein.Trainer(data, asked.network, minutes=asked.seconds / 60, out=asked.out / name,
                                 overwrite=True).fit()
        train, _ = data.split()
        rows, start = len(train), time.perf_counter()
        x = ornstein.sample(model, rows, nfe=asked.nfe)
        took = time.perf_counter() - start
        write(data.spec, x[:64], None, asked.out / f"{name}-samples.png", {})
        write(data.spec, data.spec.encode(np.asarray(train.values[:64])), None, asked.out / f"{name}-data.png", {})
        real = np.asarray(train.values[np.arange(rows)])
        weights = sum(value.numel() for value in model.network.parameters())
        print(f"{name}: {weights:,} weights, {model.metrics['images']:,} samples seen in {asked.seconds:g} s, loss "
              f"{model.metrics['loss']:.4f} (held out {model.metrics['held_out']:.4f}), {rows} samples in {took:.1f} s")
        # The floor: what other rows of the same distribution score.
        other = {"traces": traces, "volumes": volumes}[name](rows, seed=1)
        for what, values in (("samples", data.spec.decode(x)), ("new data", other)):
            found = statistics(data.spec, real, values, asked.out / f"{name}-statistics-{what.replace(' ', '-')}.png")
            lines = found["spectrum"]
            far = np.array([np.abs(row[inside]).max() for row, inside in
                            zip(lines["difference"], lines["bands"], strict=True)])
            print(f"  {what:8}  spectrum {lines['largest']:.1%} (channels {', '.join(f'{one:.1%}' for one in far)}), "
                  f"all bands {lines['largest_of_all']:.1%}; W1 {found['wasserstein_largest']:.3f} std (channels "
                  f"{', '.join(f'{one:.3f}' for one in found['wasserstein'])})", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
