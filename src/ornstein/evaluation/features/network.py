"""Features of a small network that is trained here, on the classes of the training rows or on themselves."""

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
from ornstein.evaluation.features.space import VALUES, Features, draw_rows, varied
from ornstein.isolation import isolated
from ornstein.networks.layers import CONVOLUTIONS, Linear

__all__ = ["Network"]

LEAST = 32  # training rows, and labelled ones for classes
ROWS = 20_000  # training rows that it is trained on, at most
WIDTH = 64  # of the features
BATCH = 128
EPOCHS = 40  # over the rows, unless the work would be more than WORK
WORK = 2.5e11  # multiplications in the forward calls of a training
FEWEST, MOST = 150, 1200  # steps of a training, whatever the work
GRID = {1: 64, 2: 16, 3: 8}  # largest side after the first convolution, by rank: the cost is bounded by it
TEMPERATURE = 0.1


class Network(Features):
    """The last layer but one, 64 values, of a network trained on the training rows only.

    Where the rows have two classes or more it learns to tell them; else it learns which two changed copies come from
    one row, by the normalised temperature-scaled cross entropy (SimCLR, Chen et al. 2020). Copies are changed by a
    shift of up to an eighth of a side, noise, a scale and an erased box: what any array can bear. Pictures are not
    mirrored, for a mirrored digit or letter is another. Vectors have some values replaced by those of other rows
    instead (Bahri et al. 2022).

    Rows, steps and layers are a function of shape and number of rows, never of a clock. `state` are weights from an
    earlier `state()` on the same rows, in place of a training.
    """

    @isolated(gradients=True)
    def __init__(self, training: Dataset, seed: int = 0, state: dict[str, Tensor] | None = None,
                 tell: Callable[[float], None] | None = None) -> None:
        spec = training.spec
        numbered = np.flatnonzero(training.labels >= 0)
        known = np.unique(training.labels[numbered])
        labelled = len(numbered) >= LEAST and len(known) >= 2
        rows = draw_rows(numbered if labelled else np.arange(len(training)),
                         min(ROWS, VALUES // math.prod(spec.shape)), seed)
        x = varied(training, rows, LEAST, "network")
        y = torch.from_numpy(training.labels[rows]) if labelled else None
        # Its own state, set back afterwards: whoever draws before or after draws the same.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed % 2**63)
            self.body, head = _build(x), Linear(WIDTH, len(spec.classes)) if labelled else nn.Sequential(
                Linear(WIDTH, WIDTH), nn.ReLU(), Linear(WIDTH, WIDTH))
            self.whole = nn.ModuleDict({"body": self.body, "head": head})
            if state is None:
                _train(self.body, head, x, y, tell)
            else:
                self.whole.load_state_dict(state)
            self.whole.eval().requires_grad_(False)
        self.head = head if labelled else None
        digest = hashlib.sha256(b"".join(value.numpy().tobytes() for value in self.body.state_dict().values()))
        things = f"{len(rows):,} training {'pictures' if spec.kind == 'picture' else 'samples'} of “{spec.name}”"
        what = f"tells the {len(known)} classes of {things}" if labelled else f"recognises changed copies of {things}"
        super().__init__("network", f"network: a small one that {what}, sha256 {digest.hexdigest()[:8]}", spec,
                         spec.classes if labelled else ())

    def state(self) -> dict[str, Tensor]:
        return self.whole.state_dict()

    def _features(self, x: Tensor) -> Tensor:
        # Filled up to a whole batch: a row's features do not depend on how many come with it.
        filled = torch.cat([x, x[:1].expand(self.batch - len(x), *x.shape[1:])])
        return self.body(filled)[:len(x)]

    def _scores(self, x: Tensor) -> Tensor:
        return self.head(self._features(x)) if self.head is not None else super()._scores(x)


class _Standard(nn.Module):
    """Values less their mean over their deviation: of each channel, or of each value of a vector."""

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
    """The network for samples like x: three layers for vectors, four convolutions for grids, however large."""
    if x.ndim == 2:
        return nn.Sequential(_Standard(x), Linear(x.shape[1], 128), nn.ReLU(), Linear(128, 128), nn.ReLU(),
                             Linear(128, WIDTH), nn.ReLU())
    rank, sides = x.ndim - 2, x.shape[2:]
    convolution: Callable[..., nn.Module] = CONVOLUTIONS[rank]
    # Only the first convolution sees the whole grid, and steps over it; a blur of single pixels is still in its reach.
    step = tuple(math.ceil(side / GRID[rank]) for side in sides)
    into = convolution(x.shape[1], 32, tuple(one + 2 for one in step), stride=step, padding=1)
    norm = functools.partial(nn.GroupNorm, 8, dtype=torch.float32)
    layers: list[nn.Module] = [_Standard(x), into, norm(32), nn.ReLU()]
    for inside, outside, stride in ((32, 64, 2), (64, 64, 2), (64, 64, 1)):
        layers += [convolution(inside, outside, 3, stride=stride, padding=1), norm(outside), nn.ReLU()]
    # Means over the two halves of every side, so that what is where is not lost.
    pool = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)[rank - 1]
    return nn.Sequential(*layers, nn.Sequential(pool(2), nn.Flatten()), Linear(64 * 2**rank, WIDTH), nn.ReLU())


def _work(body: nn.Sequential, x: Tensor) -> int:
    """Multiplications in one sample's forward call."""
    work, state = 0, x[:1]
    with torch.no_grad():
        for layer in body:
            state = layer(state)
            if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
                work += layer.weight.numel() * int(np.prod(state.shape[2:]))
    return work


def _train(body: nn.Sequential, head: nn.Module, x: Tensor, y: Tensor | None,
           tell: Callable[[float], None] | None = None) -> None:
    """Fit body and head to labels, or to telling changed copies apart where there are none."""
    batch = min(BATCH, len(x))
    views = 1 if y is not None else 2
    most = min(MOST, WORK / (_work(body, x) * batch * views))
    steps = int(max(FEWEST, min(EPOCHS * len(x) / batch, most)))
    weights = [*body.parameters(), *head.parameters()]
    optimiser = torch.optim.AdamW(weights, lr=3e-3, weight_decay=1e-2)
    slope = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps, pct_start=0.1)
    change = _changes(x)
    for step in range(steps):
        index = torch.randint(len(x), (batch,), device="cpu") if len(x) > batch else \
            torch.randperm(len(x), device="cpu")
        rows = x[index]
        if y is not None:
            loss = F.cross_entropy(head(body(change(rows, 0.5))), y[index], label_smoothing=0.05)
        else:
            # NT-Xent of 2 B rows of which row i and row i + B come from one sample (Chen et al. 2020, equation 1).
            z = F.normalize(head(body(torch.cat([change(rows, 1.0), change(rows, 1.0)]))), dim=1)
            alike = (z @ z.T / TEMPERATURE).fill_diagonal_(-torch.inf)
            loss = F.cross_entropy(alike, torch.arange(len(z), device="cpu").roll(len(rows)))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        slope.step()
        if tell:
            tell((step + 1) / steps)


def _changes(x: Tensor) -> Callable[[Tensor, float], Tensor]:
    """What changes rows at random, by a strength in [0, 1], without making another thing of them."""
    over = [0, *range(2, x.ndim)]
    std = x.std(over, keepdim=True, unbiased=False)
    kind: dict[str, Any] = {"dtype": torch.float32, "device": "cpu"}  # whatever torch's defaults are

    def change(rows: Tensor, strength: float) -> Tensor:
        lead = (len(rows), *(1,) * (rows.ndim - 1))
        if rows.ndim == 2:
            others = rows[torch.randperm(len(rows), device="cpu")]
            rows = torch.where(torch.rand(rows.shape, **kind) < 0.3 * strength, others, rows)
            return rows + 0.1 * strength * std * torch.randn(rows.shape, **kind)
        for axis in range(2, rows.ndim):
            rows = _shift(rows, axis)
        inside = torch.ones(lead, **kind)
        for axis in range(2, rows.ndim):
            side = rows.shape[axis]
            place = torch.arange(side, device="cpu").view([-1 if one == axis else 1 for one in range(rows.ndim)])
            start = torch.rand(lead, **kind) * side * 1.5 - side * 0.25
            inside = inside * ((place >= start) & (place < start + side * 0.4 * strength))
        mean = rows.mean(list(range(2, rows.ndim)), keepdim=True)
        rows = rows * (1 - inside) + mean * inside
        # A scale about the row's mean, so that dark and bright stay what they are.
        rows = mean + (rows - mean) * (1 + 0.4 * strength * (torch.rand(lead, **kind) - 0.5))
        return rows + 0.1 * strength * std * torch.randn(rows.shape, **kind)

    return change


def _shift(rows: Tensor, axis: int) -> Tensor:
    """Each row moved along an axis by up to an eighth of it; its edge is repeated."""
    side = rows.shape[axis]
    reach = side // 8
    if not reach:
        return rows
    by = torch.randint(-reach, reach + 1, (len(rows), *(1,) * (rows.ndim - 1)), device="cpu")
    place = torch.arange(side, device="cpu").view([-1 if one == axis else 1 for one in range(rows.ndim)])
    return torch.take_along_dim(rows, (place + by).clamp(0, side - 1), axis)
