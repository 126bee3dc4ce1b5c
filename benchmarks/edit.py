"""Measurements undone on real data: how far off, and how sure, beside what else one would do.

    python benchmarks/edit.py --rows digits            # half of the pixels gone; 60,000 pictures of training
    python benchmarks/edit.py --rows traces            # gaps of 10, 30 and 50 % in motion and blood pressure
    python benchmarks/edit.py --rows cifar --minutes 10  # colour from grey, and 8 x 8 pixels made 32 x 32

Coverage is of central 50 and 90 % intervals over the values that are unknown, CRPS and errors over the same, all with
95 % intervals over rows. A Gaussian is the best linear estimate: mean and covariance of the training rows. The traces
are those that come with the package aeon, of which pip fetches the wheel alone: nothing of it is installed or run.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from finetune import cifar
from PIL import Image
from sklearn.svm import SVC

import ornstein as orn
from ornstein import noise
from ornstein.diffusion.editing.operator import read_operator, selection
from ornstein.evaluation.intervals import kernel_interval, pooled_share_interval
from ornstein.evaluation.measures import texture
from ornstein.evaluation.restoration import calibration, gaussian_crps, linear_estimate, scores, unmeasured
from ornstein.figures.pictures import captioned

AEON = "aeon==1.6.0"
TRACES = {  # series, name of the file in the wheel
    "motion": "GunPoint/GunPoint_{}.ts",
    "pressure": "KDD-TSAD_135/135_UCR_Anomaly_InternalBleeding16_{}.csv",
}
LENGTH, WINDOWS = 128, 40
GAPS = (0.1, 0.3, 0.5)


def line(name: str, half: Any, most: Any, crps: Any, error: Any) -> None:
    """One row of a table."""
    print(f"| {name} | {half or '–'} | {most or '–'} | {crps} | {error} |", flush=True)


def heading(title: str) -> None:
    print(f"\n{title}\n\n| row | inside 50 % | inside 90 % | CRPS | error of the mean |\n{'| --- ' * 5}|", flush=True)


def of_draws(name: str, truth: np.ndarray, draws: np.ndarray) -> None:
    found = calibration(truth, draws)
    line(name, found.half, found.most, found.crps, found.error)


def of_gaussian(name: str, truth: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> None:
    """A row of normal laws (N, D), whose intervals are known."""
    deviation = np.broadcast_to(deviation, mean.shape)
    count = np.full(len(truth), truth.shape[1])
    inside = [pooled_share_interval((np.abs(truth - mean) <= reach * deviation).sum(1), count)
              for reach in (0.6745, 1.6449)]
    line(name, *inside, *scores(truth, gaussian_crps(truth, mean, deviation), mean))


def of_point(name: str, truth: np.ndarray, guess: np.ndarray) -> None:
    """A row of guesses without an interval, whose CRPS is the absolute error."""
    line(name, None, None, *scores(truth, np.abs(guess - truth), guess))


def trained(data: Any, folder: Path, name: str, **options: Any) -> tuple[Any, float]:
    begun = time.monotonic()
    model = orn.Trainer(data, out=folder / name, overwrite=True, compile=False, **options).fit()
    return model, time.monotonic() - begun


def digits(folder: Path, asked: argparse.Namespace) -> None:
    """Held-out digits with half of their pixels gone."""
    data = orn.load_data("digits")
    training, held = data.split()
    model, seconds = trained("digits", folder, "digits", images=asked.images, classes=False, seed=0)
    x, labels = held.batch(range(asked.pictures or 200))
    operator = read_operator("mask=0.5", model.shape)
    y, left = operator(x), unmeasured(operator)
    begun = time.monotonic()
    draws = orn.restore(model, y, operator, 0.0, asked.draws, nfe=asked.nfe, seed=0)
    drawing = time.monotonic() - begun
    draws = model.data.encode(model.data.decode(draws)).unflatten(0, (len(x), -1))
    heading(f"digits: {len(x)} held out, half of the pixels gone, {asked.draws} draws each, {asked.nfe} calls; "
            f"{seconds:.0f} s of training, {drawing:.0f} s of drawing")
    true, flat = x.flatten(1)[:, left].double().numpy(), draws.flatten(2)[..., left].double().numpy()
    of_draws("ornstein", true, flat)
    mean, deviation = linear_estimate(training, operator, y, 0.0, 0)
    of_gaussian("Gaussian", true, mean[:, left], deviation[left])
    rows, classes = training.batch(range(len(training)))
    judge = SVC(C=10, gamma=0.064).fit(rows.flatten(1), classes)
    seen = SVC(C=10, gamma=0.064).fit(operator(rows).flatten(1), classes)
    told = torch.from_numpy(judge.predict(draws.reshape(-1, 64))).reshape(len(x), -1)
    right = (told == labels[:, None]).sum(1).numpy()
    votes = torch.nn.functional.one_hot(told, 10).sum(1).argmax(1)
    guess = y.new_tensor(mean).float()
    print("\nclass recognised: of all draws "
          f"{pooled_share_interval(right, np.full(len(x), told.shape[1]))}, of the class that most draws have "
          f"{float((votes == labels).float().mean()):.3f}, of the Gaussian's mean "
          f"{np.mean(judge.predict(guess) == labels.numpy()):.3f}, by a classifier of the pixels that are left "
          f"{np.mean(seen.predict(y.flatten(1)) == labels.numpy()):.3f}, of the whole digits "
          f"{np.mean(judge.predict(x.flatten(1)) == labels.numpy()):.3f}", flush=True)


def colours(folder: Path, asked: argparse.Namespace) -> None:
    """CIFAR-10's pictures in grey, and at a quarter of their size."""
    values, _ = cifar()
    count, few = asked.pictures or 100, max(1, (asked.pictures or 100) // 5)
    real, held = values[-1000:-count], values[-count:]
    data = orn.load_data(values[:-1000])
    model, seconds = trained(data, folder, "cifar", minutes=asked.minutes, seed=0)
    x, other = model.data.encode(held), model.data.encode(real)
    for name in ("grey", "down=4"):
        operator = read_operator(name, model.shape)
        y = operator(x)
        begun = time.monotonic()
        one = orn.restore(model, y, operator, 0.0, 1, nfe=asked.nfe, seed=0)
        draws = orn.restore(model, y[:few], operator, 0.0, 19, nfe=asked.nfe, seed=0).unflatten(0, (few, -1))
        drawing = time.monotonic() - begun
        if name == "grey":
            plain, called = y[:, None].expand(x.shape), "grey"
        else:
            plain, called = bicubic(model.data, y), "bicubic"
        heading(f"CIFAR-10, {name}: {few} pictures, 19 draws each, {asked.nfe} calls; {seconds / 60:.1f} min of "
                f"training, {drawing:.0f} s of drawing")
        true = x[:few].flatten(1).double().numpy()
        of_draws("ornstein", true, draws.flatten(2).double().numpy())
        mean, deviation = linear_estimate(data, operator, y, 0.0, 0)
        of_gaussian("Gaussian", true, mean[:few], deviation)
        of_point(called, true, plain[:few].flatten(1).double().numpy())
        linear = x.new_tensor(mean).reshape(x.shape).clamp(-1, 1)
        print(f"\nkernel distances of {count} pictures to {len(other)} other real ones, by pixels and by texture:")
        for row, rows in (("real", x), ("ornstein, one draw", one.clamp(-1, 1)), ("Gaussian, mean", linear),
                          (called, plain)):
            print(f"    {row}: {apart(other, rows, torch.clone)}, {apart(other, rows, texture)}", flush=True)
        parts = [x[:few], plain[:few], linear[:few], *draws.unbind(1)[:3], draws.mean(1), 4 * draws.std(1) - 1]
        shown = torch.stack([part.clamp(-1, 1) for part in parts], 1)[:8]
        names = ["truth", called, "Gaussian", "draw 1", "draw 2", "draw 3", "mean", "spread"]
        picture = captioned(model.data, shown.flatten(0, 1), len(parts), names * len(shown))
        picture.save(asked.out / f"cifar-{name.partition('=')[0]}.png")


def apart(real: torch.Tensor, rows: torch.Tensor, of: Callable[..., torch.Tensor]) -> Any:
    """Kernel distance of what is seen of pictures, on the scale that the real ones have."""
    a, b = (of(side).flatten(1).double().numpy() for side in (real, rows))
    return kernel_interval((a - a.mean(0)) / a.std(0), (b - a.mean(0)) / a.std(0))


def bicubic(spec: Any, y: torch.Tensor) -> torch.Tensor:
    """Small pictures (B, 3, h, w) at the size of the data."""
    height, width = spec.shape[1:]
    return torch.stack([torch.stack([torch.from_numpy(np.asarray(Image.fromarray(channel).resize(
        (width, height), Image.Resampling.BICUBIC))) for channel in one.numpy()]) for one in y])


def series(name: str, archive: zipfile.ZipFile) -> tuple[np.ndarray, np.ndarray]:
    """Windows to train on, and unseen ones, (N, 1, 128) each."""
    parts = []
    for part in ("TRAIN", "TEST"):
        text = archive.read(f"aeon/datasets/data/{TRACES[name].format(part)}").decode()
        rows = [row for row in text.splitlines() if row.strip() and row[0] not in "#@"]
        parts.append(np.array([row.partition(":")[0].split(",") for row in rows], float) if name == "motion" else
                     np.array([row.split(",")[1] for row in rows[1:]], float)[None])
    if name == "motion":  # 150 hands to learn from and 50 unseen ones, 150 values each
        unseen, known = parts
        starts = range(0, known.shape[1] - LENGTH + 1, 2)
        return (np.concatenate([known[:, start:start + LENGTH] for start in starts])[:, None],
                unseen[:WINDOWS, None, 11:11 + LENGTH])
    trace = np.concatenate(parts, 1)[0]  # one of 8,700 values, of which every third is taken, and the end is unseen
    cut = int(0.7 * len(trace))

    def windows(piece: np.ndarray, step: int) -> np.ndarray:
        starts = range(0, len(piece) - 3 * LENGTH, step)
        return np.stack([piece[start:start + 3 * LENGTH:3] for start in starts])[:, None]

    unseen = windows(trace[cut:], 1)
    return windows(trace[:cut], 2), unseen[np.linspace(0, len(unseen) - 1, WINDOWS).astype(int)]


def traces(folder: Path, asked: argparse.Namespace) -> None:
    """Gaps in sensors' traces, each at a place of its own."""
    subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--dest", folder, AEON], check=True)
    archive = zipfile.ZipFile(next(folder.glob("aeon-*.whl")))
    for name in asked.series:
        known, unseen = series(name, archive)
        data = orn.load_data(known)
        model, seconds = trained(data, folder, name, minutes=asked.minutes, seed=0)
        lengths, fitted = fitted_kernel(known)
        for gap in GAPS:
            one_gap(name, gap, model, data, unseen, fitted, asked)
        print(f"\n{name}: {len(known):,} windows to learn from, {seconds / 60:.1f} min of training; the Gaussian "
              f"process: {lengths}", flush=True)


def one_gap(name: str, share: float, model: Any, data: Any, unseen: np.ndarray, kernel: Any,
            asked: argparse.Namespace) -> None:
    """The rows of a table of gaps of a share of the windows."""
    wide = round(share * LENGTH)
    starts = noise.generator(0, "evaluate").integers(4, LENGTH - wide - 3, len(unseen))
    gone = np.zeros((len(unseen), LENGTH), bool)
    for row, start in enumerate(starts):
        gone[row, start:start + wide] = True
    x, mask = model.data.encode(unseen), torch.from_numpy(~gone)[:, None]
    begun = time.monotonic()
    draws = orn.inpaint(model, x, mask, asked.draws, nfe=asked.nfe, seed=0)
    drawing = time.monotonic() - begun
    heading(f"{name}: gaps of {100 * share:.0f} % in {len(unseen)} windows of {LENGTH}, {asked.draws} draws each, "
            f"{asked.nfe} calls; {drawing:.0f} s of drawing")
    values = model.data.decode(draws).reshape(len(unseen), -1, LENGTH).astype(float)
    true = unseen[:, 0][gone].reshape(len(unseen), wide)
    of_draws("ornstein", true, np.stack([one[:, gap] for one, gap in zip(values, gone, strict=True)]))
    place, laws = np.arange(LENGTH, dtype=float), {"Gaussian": [], "Gaussian process": []}
    unit = float(np.ptp(model.data.decode(torch.tensor([-1.0, 1.0]).reshape(2, 1, 1).expand(2, *model.shape)))) / 2
    for row, gap in zip(range(len(unseen)), gone, strict=True):
        operator = selection(mask[row].reshape(model.shape))
        mean, deviation = linear_estimate(data, operator, operator(x[row:row + 1]), 0.0, 0)
        mean = model.data.decode(torch.from_numpy(mean).float().reshape(1, *model.shape)).flatten()
        laws["Gaussian"].append((mean[gap], deviation[gap] * unit))
        middle = unseen[row, 0][~gap].mean()
        process = kernel(place[~gap, None], unseen[row, 0][~gap] - middle)
        mean, deviation = process.predict(place[gap, None], return_std=True)
        laws["Gaussian process"].append((mean + middle, deviation))
    for law, pairs in laws.items():
        of_gaussian(law, true, *(np.stack(side) for side in zip(*pairs, strict=True)))
    of_point("linear interpolation", true, np.stack([
        np.interp(place[gap], place[~gap], row[0][~gap]) for row, gap in zip(unseen, gone, strict=True)]))


def fitted_kernel(known: np.ndarray, windows: int = 20) -> tuple[str, Any]:
    """A Gaussian process with RBF and white noise, whose three numbers are the medians of those fitted to windows."""
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

    kernel = ConstantKernel(known.var(), (1e-4, 1e6)) * RBF(8, (0.5, 500)) + WhiteKernel(
        known.var() / 100, (1e-8 * known.var(), known.var()))
    place = np.arange(LENGTH, dtype=float)[:, None]
    found = [GaussianProcessRegressor(kernel, n_restarts_optimizer=2, random_state=0).fit(place, one[0] - one.mean())
             for one in known[noise.generator(0, "evaluate", 1).permutation(len(known))[:windows]]]
    chosen = kernel.clone_with_theta(np.median([one.kernel_.theta for one in found], 0))
    return str(chosen), lambda at, values: GaussianProcessRegressor(chosen, optimizer=None).fit(at, values)


def main() -> None:
    """Every row, or those asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    rows = {"digits": digits, "traces": traces, "cifar": colours}
    parser.add_argument("--rows", nargs="+", default=list(rows), choices=list(rows))
    parser.add_argument("--images", type=int, default=60_000, help="digits seen in training")
    parser.add_argument("--minutes", type=float, default=10.0, help="of training on pictures, or on each series")
    parser.add_argument("--draws", type=int, default=59, help="of each row; one less than a multiple of 20")
    parser.add_argument("--nfe", type=int, default=50, help="network calls a draw")
    parser.add_argument("--pictures", type=int, help="digits (200), or pictures of CIFAR-10 (100)")
    parser.add_argument("--series", nargs="+", default=list(TRACES), choices=list(TRACES))
    parser.add_argument("--out", type=Path, default=Path("."), help="folder for pictures")
    parser.add_argument("--keep", type=Path, help="folder for the runs; a temporary one by default")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        for name in asked.rows:
            rows[name](asked.keep or Path(temporary), asked)


if __name__ == "__main__":
    main()
