"""Features of a small network that is trained here, on the classes of the training rows or self-supervised."""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ornstein.data.dataset import Dataset
from ornstein.evaluation.features.space import VALUES, Features, draw_rows, varied_rows
from ornstein.isolation import isolated
from ornstein.networks.layers import CONVOLUTIONS, Linear

__all__ = ["NetworkFeatures"]

MIN_ROWS = 32  # training rows, or labelled ones to learn classes
ROWS = 20_000  # largest number of rows that it is trained on
WIDTH = 64  # of the features
BATCH = 128
EPOCHS = 40  # unless the work would exceed WORK
WORK = 2.5e11  # multiplications in the forward calls of a training
MIN_STEPS, MAX_STEPS = 150, 1200  # of a training, whatever the work
GRID = {1: 64, 2: 16, 3: 8}  # largest side after the first convolution, by rank, which bounds the cost
TEMPERATURE = 0.1


class NetworkFeatures(Features):
    """The last but one layer, 64 values, of a network trained on the training rows only.

    Where the rows have two classes or more it learns to classify them; otherwise it learns which two augmented copies
    come from one row, by the normalised temperature-scaled cross entropy (SimCLR, Chen et al. 2020). Copies are
    augmented by a shift of up to an eighth of a side, noise, a scale and an erased box, which suit any array. Pictures
    are not mirrored, since a mirrored digit or letter is a different one. Vectors instead have some values replaced by
    those of other rows (Bahri et al. 2022).

    Rows, steps and layers depend on shape and number of rows, never on a clock. `state` are weights from an earlier
    `state()` on the same rows, loaded instead of training.
    """

    @isolated(gradients=True)
    def __init__(self, training: Dataset, seed: int = 0, state: dict[str, Tensor] | None = None,
                 progress: Callable[[float], None] | None = None) -> None:
        spec = training.spec
        labelled_rows = np.flatnonzero(training.labels >= 0)
        classes = np.unique(training.labels[labelled_rows])
        has_labels = len(labelled_rows) >= MIN_ROWS and len(classes) >= 2
        rows = draw_rows(labelled_rows if has_labels else np.arange(len(training)),
                         min(ROWS, VALUES // math.prod(spec.shape)), seed)
        x = varied_rows(training, rows, MIN_ROWS, "network")
        y = torch.from_numpy(training.labels[rows]) if has_labels else None
        # Torch's random state is restored afterwards, so that other draws are unaffected.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed % 2**63)
            self.body, head = _build(x), Linear(WIDTH, len(spec.classes)) if has_labels else nn.Sequential(
                Linear(WIDTH, WIDTH), nn.ReLU(), Linear(WIDTH, WIDTH))
            self.model = nn.ModuleDict({"body": self.body, "head": head})
            if state is None:
                _train(self.body, head, x, y, progress)
            else:
                self.model.load_state_dict(state)
            self.model.eval().requires_grad_(False)
        self.head = head if has_labels else None
        digest = hashlib.sha256(b"".join(value.numpy().tobytes() for value in self.body.state_dict().values()))
        data = f"{len(rows):,} training {'pictures' if spec.kind == 'picture' else 'samples'} of “{spec.name}”"
        task = f"to tell {len(classes)} classes apart" if has_labels else "to recognise changed copies"
        super().__init__("network", f"network: a small one trained {task}, on {data}, sha256 {digest.hexdigest()[:8]}",
                         spec, spec.classes if has_labels else ())

    def state(self) -> dict[str, Tensor]:
        return self.model.state_dict()

    def _features(self, x: Tensor) -> Tensor:
        # Padded to a full batch, so that a row's features do not depend on the number of rows.
        padded = torch.cat([x, x[:1].expand(self.batch - len(x), *x.shape[1:])])
        return self.body(padded)[:len(x)]

    def _scores(self, x: Tensor) -> Tensor:
        return self.head(self._features(x)) if self.head is not None else super()._scores(x)


class _Standard(nn.Module):
    """Standardises each channel, or each value of a vector."""

    mean: Tensor
    std: Tensor

    def __init__(self, x: Tensor) -> None:
        super().__init__()
        over = [0, *range(2, x.ndim)]
        self.register_buffer("mean", x.mean(over, keepdim=True))
        std = x.std(over, keepdim=True, unbiased=False)
        self.register_buffer("std", torch.where(std > 1e-6, std, 1.0))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


def _build(x: Tensor) -> nn.Sequential:
    """The network for samples like x: three layers for vectors, four convolutions for grids of any size."""
    if x.ndim == 2:
        return nn.Sequential(_Standard(x), Linear(x.shape[1], 128), nn.ReLU(), Linear(128, 128), nn.ReLU(),
                             Linear(128, WIDTH), nn.ReLU())
    rank, sides = x.ndim - 2, x.shape[2:]
    convolution: Callable[..., nn.Module] = CONVOLUTIONS[rank]
    # Only the first convolution sees the full grid, with a stride; it can still detect a blur of single pixels.
    first_stride = tuple(math.ceil(side / GRID[rank]) for side in sides)
    kernel = tuple(size + 2 for size in first_stride)
    first_layer = convolution(x.shape[1], 32, kernel, stride=first_stride, padding=1)
    norm = functools.partial(nn.GroupNorm, 8, dtype=torch.float32)
    layers: list[nn.Module] = [_Standard(x), first_layer, norm(32), nn.ReLU()]
    for channels_in, channels_out, stride in ((32, 64, 2), (64, 64, 2), (64, 64, 1)):
        layers += [convolution(channels_in, channels_out, 3, stride=stride, padding=1), norm(channels_out), nn.ReLU()]
    # Means over the two halves of every side, which keep coarse positions.
    pool = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)[rank - 1]
    return nn.Sequential(*layers, nn.Sequential(pool(2), nn.Flatten()), Linear(64 * 2**rank, WIDTH), nn.ReLU())


def _work(body: nn.Sequential, x: Tensor) -> int:
    """Multiplications in the forward call of one sample."""
    work, output = 0, x[:1]
    with torch.no_grad():
        for layer in body:
            output = layer(output)
            if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
                work += layer.weight.numel() * int(np.prod(output.shape[2:]))
    return work


def _train(body: nn.Sequential, head: nn.Module, x: Tensor, y: Tensor | None,
           progress: Callable[[float], None] | None = None) -> None:
    """Fit body and head to labels, or without them to recognising augmented copies."""
    batch = min(BATCH, len(x))
    views = 1 if y is not None else 2
    limit = min(MAX_STEPS, WORK / (_work(body, x) * batch * views))
    steps = int(max(MIN_STEPS, min(EPOCHS * len(x) / batch, limit)))
    parameters = [*body.parameters(), *head.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=3e-3, weight_decay=1e-2)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps, pct_start=0.1)
    augment = _augmentation(x)
    for step in range(steps):
        index = torch.randint(len(x), (batch,), device="cpu") if len(x) > batch else \
            torch.randperm(len(x), device="cpu")
        rows = x[index]
        if y is not None:
            loss = F.cross_entropy(head(body(augment(rows, 0.5))), y[index], label_smoothing=0.05)
        else:
            # NT-Xent of 2 B rows, where rows i and i + B come from one sample (Chen et al. 2020, equation 1).
            z = F.normalize(head(body(torch.cat([augment(rows, 1.0), augment(rows, 1.0)]))), dim=1)
            similarity = (z @ z.T / TEMPERATURE).fill_diagonal_(-torch.inf)
            loss = F.cross_entropy(similarity, torch.arange(len(z), device="cpu").roll(len(rows)))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        scheduler.step()
        if progress:
            progress((step + 1) / steps)


def _augmentation(x: Tensor) -> Callable[[Tensor, float], Tensor]:
    """A random augmentation of rows, by a strength in [0, 1], that preserves what they show."""
    axes = [0, *range(2, x.ndim)]
    std = x.std(axes, keepdim=True, unbiased=False)
    options: dict[str, Any] = {"dtype": torch.float32, "device": "cpu"}  # independent of torch's defaults

    def augment(rows: Tensor, strength: float) -> Tensor:
        row_shape = (len(rows), *(1,) * (rows.ndim - 1))
        if rows.ndim == 2:
            others = rows[torch.randperm(len(rows), device="cpu")]
            rows = torch.where(torch.rand(rows.shape, **options) < 0.3 * strength, others, rows)
            return rows + 0.1 * strength * std * torch.randn(rows.shape, **options)
        for axis in range(2, rows.ndim):
            rows = _shift(rows, axis)
        erased = torch.ones(row_shape, **options)
        for axis in range(2, rows.ndim):
            side = rows.shape[axis]
            position = _along(axis, rows)
            start = torch.rand(row_shape, **options) * side * 1.5 - side * 0.25
            erased = erased * ((position >= start) & (position < start + side * 0.4 * strength))
        mean = rows.mean(list(range(2, rows.ndim)), keepdim=True)
        rows = rows * (1 - erased) + mean * erased
        # Scaled about the row's mean, so that dark stays dark and bright stays bright.
        rows = mean + (rows - mean) * (1 + 0.4 * strength * (torch.rand(row_shape, **options) - 0.5))
        return rows + 0.1 * strength * std * torch.randn(rows.shape, **options)

    return augment


def _shift(rows: Tensor, axis: int) -> Tensor:
    """Shift each row along an axis by up to an eighth of the side, repeating the edge."""
    side = rows.shape[axis]
    limit = side // 8
    if not limit:
        return rows
    offset = torch.randint(-limit, limit + 1, (len(rows), *(1,) * (rows.ndim - 1)), device="cpu")
    return torch.take_along_dim(rows, (_along(axis, rows) + offset).clamp(0, side - 1), axis)


def _along(axis: int, rows: Tensor) -> Tensor:
    """Positions along an axis, shaped to broadcast against rows."""
    return torch.arange(rows.shape[axis], device="cpu").view([-1 if i == axis else 1 for i in range(rows.ndim)])
