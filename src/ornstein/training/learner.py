"""What learns: a network, its average and its optimiser, one step at a time."""

from __future__ import annotations

import copy
import functools
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ornstein import noise
from ornstein.data import Dataset
from ornstein.diffusion.denoiser import NetworkDenoiser
from ornstein.diffusion.linear import LinearGuess
from ornstein.diffusion.loss import Density, denoising_loss, draw_times
from ornstein.diffusion.schedule import SCHEDULES
from ornstein.names import find
from ornstein.networks import build
from ornstein.settings import Settings
from ornstein.training.average import exponent, update

__all__ = ["Learner", "learning_rate"]

HELD_OUT = 512  # samples, at most, of which the held-out loss is taken
FITTED, FITTED_VALUES = 20_000, 2**25  # samples, and values in them, that mean and guess are fitted to at most


class Learner:
    """A denoiser in training, its averaged twin, and the optimiser between them.

    Args:
        settings: resolved by `plan.resolve`.
        data: to learn from, without the held-out rows.
        device: "cpu" or "cuda".
        network: the user's own, in place of the one that the settings name.
    """

    def __init__(self, settings: Settings, data: Dataset, device: str, network: nn.Module | None = None) -> None:
        self.settings, self.data, self.device = settings, data, device
        self.step_number = self.images = 0
        # An epoch's order is needed by all its steps, and by one step of the epoch after it.
        self._order = functools.lru_cache(2)(
            lambda epoch: noise.generator(settings.seed, "order", epoch).permutation(len(data)))
        self.gamma = exponent(settings.average)
        schedule = find("schedule", settings.schedule, SCHEDULES)()
        self.density = Density(schedule, settings.density)
        self.model = self._model(network, schedule).to(device).train()
        self.average = copy.deepcopy(self.model).eval().requires_grad_(False)
        matrices = [value for value in self.model.network.parameters() if value.ndim > 1]
        vectors = [value for value in self.model.network.parameters() if value.ndim <= 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": vectors, "weight_decay": 0.0}],
            lr=settings.learning_rate, betas=(0.9, 0.99), fused=True)

    def _model(self, network: nn.Module | None, schedule: Any) -> NetworkDenoiser:
        settings, spec = self.settings, self.data.spec
        if network is None:
            shape = {"shape": list(spec.shape), "classes": len(spec.classes) if settings.classes else 0}
            # The networks draw their first weights from torch's generator.
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(int(noise.generator(settings.seed, "weights").integers(2**63)))
                network = build(settings.network, {**shape, **settings.options})
        most = min(FITTED, max(FITTED_VALUES // math.prod(spec.shape), 2))
        rows = noise.generator(0, "order", 0, 1).permutation(len(self.data))[:most]
        x = self.data.batch(rows)[0]
        mean = x.mean(0)
        centred = x - mean
        std = max(float(centred.square().mean().sqrt()), 1e-3)
        linear = None if settings.linear == "none" else LinearGuess.fit(centred / std, settings.linear)
        return NetworkDenoiser(network, schedule, spec.shape, settings.predicts, std, mean, linear=linear,
                               x_range=(-1.0, 1.0) if spec.levels else None, data=spec, precision=settings.precision)

    def step(self, learning_rate: float) -> Tensor:
        """One step of the optimiser and of the average on the next batch; the batch's mean loss, not yet read."""
        settings, number = self.settings, self.step_number
        x, classes = self.data.batch(self._rows(number))
        rng = noise.generator(settings.seed, "train", 0, number)
        eps = torch.from_numpy(rng.standard_normal(x.shape, dtype=np.float32))
        dropped = torch.from_numpy(rng.random(len(x)) < settings.label_dropout)
        t = self.density(draw_times(len(x), settings.seed, number, settings.times))
        x, eps, classes = (value.to(self.device, non_blocking=True)
                           for value in (x, eps, classes.masked_fill(dropped, -1)))
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        losses = denoising_loss(self.model, x, t, eps, classes, settings.weighting, self.model.data_std)
        loss = losses.mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.step_number, self.images = number + 1, self.images + len(x)
        update(self.average.parameters(), self.model.parameters(), self.step_number, self.gamma)
        for mean, buffer in zip(self.average.network.buffers(), self.model.network.buffers(), strict=True):
            mean.copy_(buffer)
        return loss.detach()

    def _rows(self, step: int) -> np.ndarray:
        """Rows of the step's batch: every sample once an epoch, epochs in a new order each, batches across them."""
        count, batch = len(self.data), self.settings.batch
        places = np.arange(step * batch, (step + 1) * batch)
        return np.array([self._order(int(place) // count)[place % count] for place in places])

    @torch.no_grad()
    def held_out(self, data: Dataset) -> float:
        """Loss of the average on samples that it never saw, with the same noise each time."""
        rows = np.arange(len(data))[:HELD_OUT]
        x, classes = data.batch(rows)
        rng = noise.generator(0, "held_out")
        eps = torch.from_numpy(rng.standard_normal(x.shape, dtype=np.float32))
        t = self.density(torch.from_numpy((rng.permutation(len(rows)) + 0.5) / len(rows)))
        x, eps, classes = (value.to(self.device) for value in (x, eps, classes))
        # x-hat is not moved into the range of the data, as in training; the network itself is at rest.
        self.average.training = True
        losses = [denoising_loss(self.average, x[i:i + 64], t[i:i + 64], eps[i:i + 64], classes[i:i + 64],
                                 self.settings.weighting, self.model.data_std) for i in range(0, len(rows), 64)]
        self.average.training = False
        return float(torch.cat(losses).mean())

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that the next step depends on: tensors, and what JSON holds."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"average.{name}": value for name, value in self.average.network.named_parameters()}
        inner = self.optimizer.state_dict()["state"]
        tensors |= {f"optimizer.{index}.{name}": value
                    for index, entry in inner.items() for name, value in entry.items()}
        return tensors, {"step": self.step_number, "images": self.images}

    def restore(self, tensors: dict[str, Tensor], note: dict[str, Any]) -> None:
        """Go back to a state.

        Raises:
            ValueError: the state of another network.
        """
        def part(prefix: str) -> dict[str, Tensor]:
            return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}

        try:
            self.model.load_state_dict(part("model."))
            self.average.load_state_dict({**part("model."), **{f"network.{name}": value
                                                               for name, value in part("average.").items()}})
        except RuntimeError as error:
            what = str(error).splitlines()[-1].strip()
            raise ValueError(f"the state to go on from is of another network: {what}") from None
        weights = [weight for group in self.optimizer.param_groups for weight in group["params"]]
        entries: dict[int, dict[str, Tensor]] = {}
        for name, value in part("optimizer.").items():
            index, _, field = name.partition(".")
            weight = weights[int(index)]
            # A fused optimiser walks weight and moments in memory order, which a file does not keep.
            fitted = torch.empty_like(weight).copy_(value) if value.shape == weight.shape else value
            entries.setdefault(int(index), {})[field] = fitted
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": entries})
        self.step_number, self.images = note["step"], note["images"]


def learning_rate(settings: Settings, share: float) -> float:
    """Linear warm-up over the first part of the budget, then linear decay to 0 at its end."""
    rise = min(1.0, share / settings.warmup) if settings.warmup else 1.0
    return settings.learning_rate * rise * max(0.0, 1 - share)
