"""What learns: a network, its average and its optimiser, one step at a time."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ornstein import noise
from ornstein.data import Dataset, DataSpec
from ornstein.diffusion.denoiser import NetworkDenoiser
from ornstein.diffusion.linear import LinearGuess
from ornstein.diffusion.loss import Density, denoising_loss
from ornstein.networks import build
from ornstein.settings import Settings
from ornstein.training import engine as processes
from ornstein.training import finetune
from ornstein.training.average import WIDEST, exponent, update
from ornstein.training.engine import Engine
from ornstein.training.events import TrainingFailed
from ornstein.training.limits import network_options, schedule_of
from ornstein.training.loader import Batch, Loader

__all__ = ["Learner", "learning_rate"]

HELD_OUT = 512  # samples, at most, of which the held-out loss is taken
FITTED, FITTED_VALUES = 20_000, 2**25  # samples, and values in them, that mean and guess are fitted to at most
SKIPS = 10  # steps in a row without finite gradients, after which a training has lost its way
FLAT = 1e-6  # deviation of values within -1..1, below which float32 tells them apart no more
HALVINGS = 3  # of the micro-batch, after which memory is too small


class Learner:
    """A denoiser in training, its averaged twin, and the optimiser between them.

    Settings are resolved, data without the held-out rows; `network` is the user's own, if there is one, and `start` a
    model whose weights are taken where they fit, which `taken` says.
    """

    def __init__(self, settings: Settings, data: Dataset, engine: Engine, network: nn.Module | None = None,
                 start: NetworkDenoiser | None = None) -> None:
        self.settings, self.data, self.engine, self.device = settings, data, engine, engine.device
        self.step_number = self.images = 0
        self.halvings = 0
        # Steps skipped in all, in a row, and in a row at worst: on the device, which a step must not wait for.
        self.skips = torch.zeros(3, dtype=torch.float32, device=self.device)
        self.micro_batch = settings.micro_batch
        twice = 2 * settings.average
        self.second_width = twice if twice <= WIDEST else settings.average / 2
        self.gamma, self.second_gamma = exponent(settings.average), exponent(self.second_width)
        schedule = schedule_of(settings)
        self.density = Density(schedule, settings.density)
        self.loader = Loader(settings, data, schedule, self.density, engine)
        self.taken = ""
        self.model = self._model(network, schedule, start).to(self.device).train()
        _refuse_tied(self.model)
        engine.same(self.model.state_dict().values())
        self.average = copy.deepcopy(self.model).eval().requires_grad_(False)
        for model in (self.model, self.average):
            engine.split(model)
        self.second = [value.detach().clone() for value in self.model.network.parameters()]
        self.own = network is not None
        self.model.known_conditions = True
        self.trained = engine.wrap(self.model, self.own)
        self.weights = list(self.model.network.parameters())
        matrices = [value for value in self.weights if value.ndim > 1]
        vectors = [value for value in self.weights if value.ndim <= 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": vectors, "weight_decay": 0.0}],
            lr=settings.peak_rate, betas=(0.9, 0.99), fused=True)
        for value in self.weights:  # as the optimiser's first step would, so that a state is whole from the start
            self.optimizer.state[value] = {"step": torch.zeros((), dtype=torch.float32, device=self.device),
                                           "exp_avg": torch.zeros_like(value), "exp_avg_sq": torch.zeros_like(value)}

    def _model(self, network: nn.Module | None, schedule: Any, start: NetworkDenoiser | None) -> NetworkDenoiser:
        settings, spec = self.settings, self.data.spec
        if network is None:
            # The networks draw their first weights from torch's generator.
            with torch.device("cpu"), torch.random.fork_rng(devices=[]):
                torch.manual_seed(int(noise.generator(settings.seed, "weights").integers(2**63)))
                network = build(settings.network, network_options(settings, self.data))
        if start is not None:
            self.taken = finetune.begin(network, start, spec, settings.init_from)
        most = min(FITTED, max(FITTED_VALUES // math.prod(spec.shape), 2))
        rows = noise.generator(0, "order", 0, 1).permutation(len(self.data))[:most]
        x, condition = self.data.batch(rows)
        mean = x.mean(0, dtype=torch.float64).float()
        centred = x - mean
        std = float(centred.square().mean().sqrt())
        # What is left of rows that are all alike is rounding, and no scale.
        std = std if std > FLAT * max(1.0, float(mean.abs().max())) else 1.0
        linear = None if settings.linear == "none" else LinearGuess.fit(centred / std, settings.linear)
        moments = _moments(condition) if spec.conditions else (None, None)
        with torch.device("cpu"):  # whatever torch's default is
            return NetworkDenoiser(network, schedule, spec.shape, settings.predicts, std, mean, linear=linear,
                                   x_range=_inside(spec), data=spec, precision=settings.precision,
                                   condition_mean=moments[0], condition_std=moments[1])

    def step(self, learning_rate: float) -> Tensor:
        """One step of the optimiser and of the averages on the next batch, of which the host reads nothing; the mean
        loss of this process's rows, NaN where it is of no use.

        A step whose gradient is not finite is counted, and leaves weights and optimiser as they were.
        """
        batch = self.loader(self.step_number)
        buffers = [buffer.clone() for buffer in self.model.network.buffers()]
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        loss = self._gradient(batch)
        self.step_number, self.images = self.step_number + 1, self.images + self.settings.batch_size
        gradients = [value.grad for value in self.weights if value.grad is not None]
        # The same in every process, as each has all processes' sum.
        usable = processes.full(torch.nn.utils.get_total_norm(gradients)).isfinite()
        self.optimizer.found_inf = 1 - usable.float()  # pyrefly: ignore  # as PyTorch's own scaler of gradients does
        self.optimizer.step()
        for buffer, before in zip(self.model.network.buffers(), buffers, strict=True):
            buffer.copy_(torch.where(usable, buffer, before))
        for average, gamma in ((self.average.parameters(), self.gamma), (self.second, self.second_gamma)):
            weights = map(processes.local, self.model.parameters())
            update(map(processes.local, average), weights, self.step_number, gamma)
        for mean, buffer in zip(self.average.network.buffers(), self.model.network.buffers(), strict=True):
            mean.copy_(buffer)
        total, row, worst = self.skips
        row = torch.where(usable, 0.0, row + 1)
        self.skips = torch.stack([torch.where(usable, total, total + 1), row, torch.maximum(row, worst)])
        self.optimizer.zero_grad(set_to_none=True)
        return torch.where(usable, loss, math.nan)

    @property
    def skipped(self) -> int:
        """Steps skipped so far."""
        return int(self.skips[0])

    def judge(self) -> None:
        """Raise TrainingFailed if too many steps in a row had no finite gradient."""
        if self.skips[2] >= SKIPS:
            raise TrainingFailed(f"the gradient was not finite in {SKIPS} steps in a row, up to {self.images:,} "
                                 "pictures; the last checkpoint is kept: go on from it with --resume if the data were "
                                 "at fault, or start again with a lower learning_rate or precision fp32")

    def compile(self) -> None:
        """Train through `torch.compile` from now on; the next step is run without taking it, to have it compiled."""
        from torch._dynamo import config

        self.trained = self.engine.wrap(self.model, self.own, compiled=True)
        buffers = [buffer.clone() for buffer in self.model.network.buffers()]
        # On a CPU one graph, whether there are other processes or not: what `rehearse` has compiled is found again.
        with config.patch(optimize_ddp=self.device != "cpu"):
            self._gradient(self.loader(self.step_number))
        self.optimizer.zero_grad(set_to_none=True)
        for buffer, before in zip(self.model.network.buffers(), buffers, strict=True):
            buffer.copy_(before)

    def rehearse(self) -> None:
        """Compile what `compile` will, in a process beside the training that shares PyTorch's cache on disk with it."""
        rows, condition = self.settings.batch_size // self.engine.world, self.data.batch(np.zeros(1, dtype=np.int64))[1]
        rows = min(rows, self.micro_batch or rows)
        x = torch.zeros(rows, *self.model.shape, dtype=torch.float32, device="cpu")
        condition = condition.expand(rows, *condition.shape[1:]).clone()
        twin = Engine.alone().wrap(self.model, compiled=True)
        denoising_loss(twin, x, x.new_full((rows,), 0.5), x, condition, self.settings.weighting,
                       self.model.data_std).sum().backward()

    def _gradient(self, batch: Batch) -> Tensor:
        """Leave the gradient of the batch's mean loss in the weights, by as many passes as the memory asks for."""
        while True:
            try:
                return self._accumulate(batch, self.micro_batch or len(batch.x))
            except (MemoryError, RuntimeError) as error:
                if not _out_of_memory(error):
                    raise
                # Outside the handler: a traceback keeps the tensors of the failed pass alive.
            self._halve(len(batch.x))

    def _accumulate(self, batch: Batch, rows: int) -> Tensor:
        count, total = len(batch.x), torch.zeros((), dtype=torch.float32, device=self.device)
        for start in range(0, count, rows):
            part = batch if rows >= count else self.loader.part(batch, slice(start, start + rows))
            with self.engine.sync(self.trained, last=start + rows >= count):
                losses = denoising_loss(self.trained, part.x, part.t, part.eps, part.condition,
                                        self.settings.weighting, self.model.data_std)
                loss = losses.sum() / count
                loss.backward()
            total += loss.detach()
        return total

    def _halve(self, rows: int) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        now = self.micro_batch or rows
        if now == 1 or self.halvings == HALVINGS:
            raise TrainingFailed(f"the memory is too small for {now} samples of shape {self.data.spec.shape} at once; "
                               "free memory, or choose a smaller network, size or batch")
        self.micro_batch, self.halvings = -(-now // 2), self.halvings + 1
        if self.device != "cpu":
            torch.cuda.empty_cache()
        if self.engine.world > 1:
            # The others wait in the middle of a pass: all start again, from run.yaml.
            raise MemoryError(f"out of memory with {now} samples a process at once; {self.micro_batch} are next")

    @torch.no_grad()
    def average_loss(self, data: Dataset) -> float:
        """Loss of the average on the first samples of a set, with the same noise each time."""
        rows = np.arange(len(data))[:HELD_OUT]
        x, condition = data.batch(rows)
        t = self.density(torch.from_numpy((noise.generator(0, "held_out").permutation(len(rows)) + 0.5) / len(rows)))
        x, t, condition = (value.to(self.device) for value in (x, t, condition))
        self.average.training = True
        losses = torch.zeros(len(rows), dtype=torch.float32, device=self.device)
        for start in self.engine.share(range(0, len(rows), 64)):
            part = slice(start, min(start + 64, len(rows)))
            eps = noise.per_sample(0, "held_out", range(part.start, part.stop), 0, x[part])
            losses[part] = denoising_loss(self.average, x[part], t[part], eps, condition[part],
                                          self.settings.weighting, self.model.data_std)
        self.average.training = False
        return sum(self.engine.total(losses.tolist())) / len(rows)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that the next step depends on: tensors, which are the learner's own, and what JSON holds."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"average.{name}": value for name, value in self.average.network.named_parameters()}
        tensors |= {f"second.{name}": value for name, value in self._seconds().items()}
        tensors |= {f"optimizer.{index}.{name}": value for index, weight in enumerate(self.weights)
                    for name, value in self.optimizer.state[weight].items()}
        return tensors, {"step": self.step_number, "images": self.images, "noise": noise.VERSION,
                         "skipped": self.skipped, "skips_in_a_row": int(self.skips[1])}

    def restore(self, note: Mapping[str, Any]) -> None:
        """Go on from a state whose tensors are in place; ValueError for one to which these data had another scale."""
        for name in ("data_mean", "data_std"):
            before, after = self.average.get_buffer(name), self.model.get_buffer(name)
            if "spec" not in note and not torch.allclose(before, after, 1e-3, 1e-3):
                raise ValueError("the run was begun by an older version of Ornstein, to which the data had another "
                                 "scale; start another run, in another folder")
        self.step_number, self.images = note["step"], note["images"]
        self.skips = self.skips.new_tensor([note["skipped"], note["skips_in_a_row"], 0])
        # Mean and linear guess too: another number of threads rounds its own otherwise.
        for name, buffer in self.average.named_buffers():
            buffer.copy_(self.model.get_buffer(name))

    def _seconds(self) -> dict[str, Tensor]:
        return dict(zip((name for name, _ in self.model.network.named_parameters()), self.second, strict=True))

    def averages(self) -> dict[float, dict[str, Tensor]]:
        """Weights of both averages by their relative width, whole; every process must ask."""
        first = dict(self.average.network.named_parameters())
        both = {self.settings.average: first, self.second_width: self._seconds()}
        return {width: {name: processes.full(value.detach()) for name, value in weights.items()}
                for width, weights in both.items()}

    def averaged(self) -> dict[str, Tensor]:
        """The average's tensors, whole; every process must ask."""
        return {name: processes.full(value) for name, value in self.average.state_dict().items()}


def _refuse_tied(model: nn.Module) -> None:
    places: dict[tuple[int, int], str] = {}
    for name, value in model.state_dict().items():
        if value.numel() and (other := places.setdefault((value.data_ptr(), value.numel()), name)) != name:
            raise ValueError(f"network has one tensor under two names, {other} and {name}; a file cannot hold it: give "
                             "it one name")


def _inside(spec: DataSpec) -> tuple[float, float] | None:
    """What x-hat lies in: the ends of data on levels, where all channels have the same."""
    least, most = spec.ends
    levels = spec.levels if isinstance(spec.levels, tuple) else (spec.levels,)
    alike = all(levels) and (least == least.flat[0]).all() and (most == most.flat[0]).all()
    return (float(least.flat[0]), float(most.flat[0])) if alike else None


def _moments(condition: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each column over the rows that are told anything; 1 for a constant."""
    known = condition[~condition.isnan().any(1)].double()
    std = known.std(0, correction=0)
    return known.mean(0), torch.where(std > 1e-12 * known.mean(0).abs(), std, 1.0)


def _out_of_memory(error: BaseException) -> bool:
    text = str(error)
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in text


def learning_rate(settings: Settings, share: float) -> float:
    """Linear warm-up over the first part of the budget, times (1 - share)^decay, which is 0 at its end."""
    rise = min(1.0, share / settings.warmup) if settings.warmup else 1.0
    return settings.peak_rate * rise * max(0.0, 1 - share) ** settings.decay
