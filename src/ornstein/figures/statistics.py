"""Statistics of samples and data: power spectra and marginal distributions, as numbers and as one figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ornstein import files
from ornstein.data import Dataset, DataSpec
from ornstein.diffusion.denoiser import NetworkDenoiser
from ornstein.diffusion.samplers import sample
from ornstein.figures.arrays import COLOURS, SHEET_LIMITS, entry_names, new_figure, shorten, style_axes
from ornstein.figures.pictures import CALLS

__all__ = ["compare", "marginals", "power", "spectrum", "statistics"]

POWER = 0.99  # share of the data's power in the bands that a spectrum is mainly judged by
NAMED = ("data", "samples")
COMPARED = 128  # samples that a training draws to compare with its data
GREY, COLOUR = COLOURS[7], COLOURS[1]
TICKS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)


def power(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Power spectrum of each sample and channel of (N, C, *sides): (K,) frequencies in cycles a place, and (N, C, K)
    power.

    The mean of the channel over all samples and places is subtracted, and the spectrum is scaled so that its mean over
    all frequencies is the remaining mean square (Parseval). Bands are as wide as the lowest frequency of the longest
    side; frequency 0 and the corners beyond 0.5 belong to none, and bands that hold no frequency are left out.
    """
    sides = values.shape[2:]
    if not 1 <= len(sides) <= 3 or max(sides) < 2:
        raise ValueError(f"values have shape {values.shape}; a spectrum needs (N, C, *sides) with one to three sides, "
                         "the longest at least 2")
    longest = max(sides)
    axes = tuple(range(2, values.ndim))
    grids = np.meshgrid(*(np.fft.fftfreq(side) for side in sides[:-1]), np.fft.rfftfreq(sides[-1]), indexing="ij")
    band = np.rint(np.sqrt(sum(grid**2 for grid in grids)) * longest).astype(int)
    # Half of the frequencies also stand for their mirror images.
    multiplicity = np.full(band.shape, 2.0)
    multiplicity[..., 0] = 1.0
    if sides[-1] % 2 == 0:
        multiplicity[..., -1] = 1.0
    bands = [number for number in range(1, longest // 2 + 1) if (band == number).any()]
    weight = np.stack([np.where(band == number, multiplicity, 0).ravel() for number in bands])
    weight /= weight.sum(1, keepdims=True)
    mean = values.mean((0, *axes), keepdims=True, dtype=np.float64)
    out = np.empty((*values.shape[:2], len(bands)))
    for start in range(0, len(values), 64):  # in chunks, since spectra are complex and of double precision
        part = np.fft.rfftn(values[start:start + 64] - mean, axes=axes)
        square = (part.real**2 + part.imag**2).reshape(*part.shape[:2], -1) / np.prod(sides)
        out[start:start + 64] = square @ weight.T
    return np.array(bands) / longest, out


def spectrum(data: np.ndarray, samples: np.ndarray) -> dict[str, Any]:
    """How far the mean power of samples (M, C, *sides) is from that of data (N, C, *sides), band by band.

    "frequency" is (K,) in cycles a place; "data" and "samples" (C, K) are mean powers; "difference" (C, K) is samples
    over data minus 1, and "error" its standard error from the spread between samples; "bands" (C, K) marks the
    strongest bands of the data, which hold 99 % of its power; "largest" is the largest |difference| in those,
    "largest_of_all" in all.
    """
    (frequency, a), (_, b) = power(data), power(samples)
    mean, other = a.mean(0), b.mean(0)
    tiny = np.finfo(np.float64).tiny
    ratio = other / np.maximum(mean, tiny)
    spread = [part.var(0, ddof=1) / len(part) / np.maximum(part.mean(0), tiny) ** 2 for part in (a, b)]
    # The power of a band is its mean times its width, which grows with the frequency like the surface of a sphere.
    total = mean * frequency ** (data.ndim - 3)
    order = np.argsort(-total, axis=1)
    before = np.cumsum(np.take_along_axis(total, order, 1), 1) - np.take_along_axis(total, order, 1)
    bands = np.zeros(total.shape, dtype=bool)
    np.put_along_axis(bands, order, before < POWER * total.sum(1, keepdims=True), 1)
    deviation = np.abs(ratio - 1)
    return {"frequency": frequency, "data": mean, "samples": other, "difference": ratio - 1,
            "error": ratio * np.sqrt(sum(spread)), "bands": bands, "largest": float(deviation[bands].max(initial=0.0)),
            "largest_of_all": float(deviation.max())}


def marginals(data: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """Wasserstein-1 distances (C,) between the distributions of each channel's values, in standard deviations of the
    data.

    A channel whose data never vary is measured in its own units.
    """
    from scipy.stats import wasserstein_distance

    channels = ([np.asarray(part[:, channel], dtype=np.float64).ravel() for part in (data, samples)]
                for channel in range(data.shape[1]))
    return np.array([wasserstein_distance(a, b) / (a.std() or 1.0) for a, b in channels])


def statistics(spec: DataSpec, data_values: np.ndarray, sample_values: np.ndarray,
               path: str | Path) -> dict[str, Any]:
    """Compare samples with data, each (N, *spec.shape) with N >= 2 in the data's own units, and draw both into a PNG.

    "data" and "samples" are how many there were; "wasserstein" are the `marginals` of each channel, or of each entry of
    a vector, and "wasserstein_largest" the largest; "spectrum" is that of data with sides, else None.
    """
    for name, values in (("data_values", data_values), ("sample_values", sample_values)):
        if values.shape[1:] != spec.shape or len(values) < 2:
            raise ValueError(f"{name} has shape {values.shape}; it must be (N, {', '.join(map(str, spec.shape))}), "
                             "N >= 2")
        if not np.isfinite(values).all():
            raise ValueError(f"{name} holds values that are not finite; every value must be a finite number")
    with_sides = len(spec.shape) > 1 and max(spec.shape[1:]) > 1
    distances = marginals(data_values, sample_values)
    figures = {"data": len(data_values), "samples": len(sample_values), "wasserstein": distances,
             "wasserstein_largest": float(distances.max()),
             "spectrum": spectrum(data_values, sample_values) if with_sides else None}
    _draw(spec, data_values, sample_values, figures, Path(path))
    return figures


def compare(model: NetworkDenoiser, data: Dataset, path: Path | None) -> None:
    """Compare samples of a model in training, from the same noise each time, with its traces, fields or volumes.

    Without a path samples are only drawn, for a process that shares the model but writes nothing.
    """
    if data.spec.kind == "picture" or len(data.spec.shape) < 2 or len(data) < 2:
        return
    x = sample(model, COMPARED, condition=data.spec.cycle(COMPARED), nfe=CALLS)
    if path is not None:
        rows = np.linspace(0, len(data) - 1, min(len(data), 4 * COMPARED)).astype(np.int64)
        statistics(data.spec, np.asarray(data.values[rows]), data.spec.decode(x), path)


def _draw(spec: DataSpec, data: np.ndarray, samples: np.ndarray, figures: dict[str, Any], path: Path) -> None:
    channels, lines = spec.shape[0], figures["spectrum"]
    drawn = min(channels, 6 if lines else SHEET_LIMITS["values"])
    columns = drawn if lines else min(drawn, 4)
    rows = 2 if lines else -(-drawn // columns)
    figure = new_figure(max(2.9 * columns, 6.4), 2.7 * rows + 1.0)
    grid = figure.subplots(rows, columns, squeeze=False)
    names = entry_names(spec)
    for number in range(drawn):
        if lines:
            _spectrum(grid[0, number], lines, number)
        axes = grid[1, number] if lines else grid.flat[number]
        _histogram(axes, data[:, number], samples[:, number])
        style_axes(axes, f"{shorten(names[number], 20)}: W1 {figures['wasserstein'][number]:.3f} std",
                   "" if spec.columns else "value", size=9)
        axes.locator_params("x", nbins=4)  # numbers such as 100000 need the room
    for axes in list(grid.flat)[drawn * rows if lines else drawn:]:
        axes.set_axis_off()
    heading = f"{spec.name}: {len(samples):,} samples beside {len(data):,} rows of data"
    if drawn < channels:
        heading += f" (the first {drawn} of {channels} {'values' if len(spec.shape) == 1 else 'channels'})"
    summary = f"marginals differ by at most {figures['wasserstein_largest']:.3f} std (Wasserstein-1)"
    if lines:
        summary = (f"spectrum differs by at most {lines['largest']:.1%} where {POWER:.0%} of the power lies, "
                   f"{lines['largest_of_all']:.1%} over all bands\n") + summary
    figure.suptitle(f"{heading}\n{summary}".replace("$", r"\$"), fontsize=9.5)
    handles, labels = grid.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=9, frameon=False)
    with files.replacing(path) as file:
        figure.savefig(file, dpi=110, metadata={"Software": "ornstein statistics"})


def _spectrum(axes: Any, lines: dict[str, Any], channel: int) -> None:
    frequency = lines["frequency"]
    for name, colour, style in zip(NAMED, (GREY, COLOUR), ("-", "--"), strict=True):
        axes.loglog(frequency, lines[name][channel], style, color=colour, lw=1.8, label=name,
                    marker="." if len(frequency) < 12 else None)
    mean, error = lines["data"][channel], lines["error"][channel]
    axes.fill_between(frequency, mean * np.maximum(1 - 2 * error, 1e-3), mean * (1 + 2 * error), color=GREY,
                      alpha=0.2, lw=0, label="two standard errors")
    inside = lines["bands"][channel]
    largest = np.abs(lines["difference"][channel][inside]).max(initial=0.0)
    axes.set_xticks([tick for tick in TICKS if frequency[0] <= tick <= frequency[-1]] or [float(frequency[-1])])
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    style_axes(axes, f"channel {channel}: spectrum {largest:.1%}", "frequency (cycles a place)",
               "power" if channel == 0 else "", 9)


def _histogram(axes: Any, data: np.ndarray, samples: np.ndarray) -> None:
    # Without a thousandth at either end, so that one outlier does not flatten the rest.
    both: Sequence[np.ndarray] = [np.asarray(part, dtype=np.float64).ravel() for part in (data, samples)]
    low, high = (float(pick(np.quantile(part, share) for part in both))
                 for pick, share in ((min, 0.001), (max, 0.999)))
    if not high > low:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, 1 + min(60, max(10, len(min(both, key=len)) // 10)))
    for part, name, colour in zip(both, NAMED, (GREY, COLOUR), strict=True):
        density = np.histogram(part, edges)[0] / (len(part) * (edges[1] - edges[0]))
        axes.stairs(density, edges, color=colour, lw=1.5, fill=name == "data", alpha=0.35 if name == "data" else 1,
                    label=name)
    axes.set_yticks([])
