"""The network, its averages and its optimiser, trained one step at a time."""

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
from ornstein.training import finetune
from ornstein.training.average import WIDEST, exponent, update
from ornstein.training.engine import Engine, to_full, to_local
from ornstein.training.events import TrainingFailed
from ornstein.training.limits import build_schedule, network_options
from ornstein.training.loader import Batch, Loader

__all__ = ["Learner", "learning_rate"]

HELD_OUT = 512  # samples at most for the held-out loss
FIT_SAMPLES, FIT_VALUES = 20_000, 2**25  # samples, and values in them, that mean and linear guess are fitted to at most
MAX_SKIPS = 10  # steps in a row without finite gradients, after which the training has failed
MIN_STD = 1e-6  # standard deviation of values in -1..1 below which only rounding is left in float32
MAX_HALVINGS = 3  # of the micro-batch, after which memory is too small


class Learner:
    """A denoiser in training, its averages and its optimiser.

    The settings are resolved and the data exclude the held-out rows; `network` is the user's own, if there is one, and
    `source` a model whose weights are copied where they fit, as `transfer_summary` says.
    """

    def __init__(self, settings: Settings, data: Dataset, engine: Engine, network: nn.Module | None = None,
                 source: NetworkDenoiser | None = None) -> None:
        self.settings, self.data, self.engine, self.device = settings, data, engine, engine.device
        self.step_number = self.images = 0
        self.halvings = 0
        # Steps skipped in all, in a row now, and in a row at most; kept on the device, so that no step waits for it.
        self.skips = torch.zeros(3, dtype=torch.float32, device=self.device)
        self.micro_batch = settings.micro_batch
        double = 2 * settings.average
        self.second_width = double if double <= WIDEST else settings.average / 2
        self.gamma, self.second_gamma = exponent(settings.average), exponent(self.second_width)
        schedule = build_schedule(settings)
        self.density = Density(schedule, settings.density)
        self.loader = Loader(settings, data, schedule, self.density, engine)
        self.transfer_summary = ""
        self.model = self._build_model(network, schedule, source).to(self.device).train()
        _refuse_tied_weights(self.model)
        engine.broadcast(self.model.state_dict().values())
        self.average = copy.deepcopy(self.model).eval().requires_grad_(False)
        for model in (self.model, self.average):
            engine.shard_model(model)
        self.second_average = [value.detach().clone() for value in self.model.network.parameters()]
        self.has_custom_network = network is not None
        self.model.known_conditions = True
        self.wrapped = engine.wrap(self.model, self.has_custom_network)
        self.weights = list(self.model.network.parameters())
        matrices = [value for value in self.weights if value.ndim > 1]
        vectors = [value for value in self.weights if value.ndim <= 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": vectors, "weight_decay": 0.0}],
            lr=settings.peak_rate, betas=(0.9, 0.99), fused=True)
        for value in self.weights:  # as AdamW's first step would, so that a state is complete from the start
            self.optimizer.state[value] = {"step": torch.zeros((), dtype=torch.float32, device=self.device),
                                           "exp_avg": torch.zeros_like(value), "exp_avg_sq": torch.zeros_like(value)}

    def _build_model(self, network: nn.Module | None, schedule: Any, source: NetworkDenoiser | None) -> NetworkDenoiser:
        settings, spec = self.settings, self.data.spec
        if network is None:
            # Networks initialise their weights from torch's generator.
            with torch.device("cpu"), torch.random.fork_rng(devices=[]):
                torch.manual_seed(int(noise.generator(settings.seed, "weights").integers(2**63)))
                network = build(settings.network, network_options(settings, self.data))
        if source is not None:
            self.transfer_summary = finetune.transfer_weights(network, source, spec, settings.init_from)
        count = min(FIT_SAMPLES, max(FIT_VALUES // math.prod(spec.shape), 2))
        rows = noise.generator(0, "order", 0, 1).permutation(len(self.data))[:count]
        x, condition = self.data.batch(rows)
        mean = x.mean(0, dtype=torch.float64).float()
        centred = x - mean
        std = float(centred.square().mean().sqrt())
        # The deviation of rows that are all alike is rounding, not a scale.
        std = std if std > MIN_STD * max(1.0, float(mean.abs().max())) else 1.0
        linear = None if settings.linear == "none" else LinearGuess.fit(centred / std, settings.linear)
        moments = _condition_moments(condition) if spec.conditions else (None, None)
        with torch.device("cpu"):  # torch's default device may be another
            return NetworkDenoiser(network, schedule, spec.shape, settings.predicts, std, mean, linear=linear,
                                   x_range=_data_range(spec), data=spec, precision=settings.precision,
                                   condition_mean=moments[0], condition_std=moments[1])

    def step(self, learning_rate: float) -> Tensor:
        """Take one step of the optimiser and the averages on the next batch, without synchronising with the device;
        return the mean loss of this process's rows, NaN if the step is skipped.

        A step whose gradient is not finite is skipped and counted; it leaves weights and optimiser as they were.
        """
        batch = self.loader(self.step_number)
        buffers = [buffer.clone() for buffer in self.model.network.buffers()]
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        loss = self._gradient(batch)
        self.step_number, self.images = self.step_number + 1, self.images + self.settings.batch_size
        gradients = [value.grad for value in self.weights if value.grad is not None]
        # The same in every process, since gradients are averaged over all of them.
        usable = to_full(torch.nn.utils.get_total_norm(gradients)).isfinite()
        self.optimizer.found_inf = 1 - usable.float()  # pyrefly: ignore  # as PyTorch's GradScaler does
        self.optimizer.step()
        for buffer, before in zip(self.model.network.buffers(), buffers, strict=True):
            buffer.copy_(torch.where(usable, buffer, before))
        for average, gamma in ((self.average.parameters(), self.gamma), (self.second_average, self.second_gamma)):
            weights = map(to_local, self.model.parameters())
            update(map(to_local, average), weights, self.step_number, gamma)
        for mean, buffer in zip(self.average.network.buffers(), self.model.network.buffers(), strict=True):
            mean.copy_(buffer)
        total, in_a_row, longest = self.skips
        in_a_row = torch.where(usable, 0.0, in_a_row + 1)
        self.skips = torch.stack([torch.where(usable, total, total + 1), in_a_row, torch.maximum(in_a_row, longest)])
        self.optimizer.zero_grad(set_to_none=True)
        return torch.where(usable, loss, math.nan)

    @property
    def skipped(self) -> int:
        """Steps skipped so far."""
        return int(self.skips[0])

    def check_gradients(self) -> None:
        """Raise TrainingFailed if too many steps in a row had no finite gradient."""
        if self.skips[2] >= MAX_SKIPS:
            raise TrainingFailed(f"the gradient was not finite in {MAX_SKIPS} steps in a row, up to {self.images:,} "
                                 "pictures; the last checkpoint is kept: resume from it (--resume) if the data were "
                                 "at fault, or start again with a lower learning_rate or precision fp32")

    def compile(self) -> None:
        """Train through `torch.compile` from now on; a pass over the next batch, without a step, compiles it."""
        from torch._dynamo import config

        self.wrapped = self.engine.wrap(self.model, self.has_custom_network, compiled=True)
        buffers = [buffer.clone() for buffer in self.model.network.buffers()]
        # On a CPU one graph for any number of processes, so that what `compile_ahead` compiled is found in the cache.
        with config.patch(optimize_ddp=self.device != "cpu"):
            self._gradient(self.loader(self.step_number))
        self.optimizer.zero_grad(set_to_none=True)
        for buffer, before in zip(self.model.network.buffers(), buffers, strict=True):
            buffer.copy_(before)

    def compile_ahead(self) -> None:
        """Compile what `compile` will need into PyTorch's cache on disk; runs in a process beside the training."""
        rows, condition = self.settings.batch_size // self.engine.world, self.data.batch(np.zeros(1, dtype=np.int64))[1]
        rows = min(rows, self.micro_batch or rows)
        x = torch.zeros(rows, *self.model.shape, dtype=torch.float32, device="cpu")
        condition = condition.expand(rows, *condition.shape[1:]).clone()
        model = Engine.single().wrap(self.model, compiled=True)
        denoising_loss(model, x, x.new_full((rows,), 0.5), x, condition, self.settings.weighting,
                       self.model.data_std).sum().backward()

    def _gradient(self, batch: Batch) -> Tensor:
        """Compute the gradient of the batch's mean loss, in as many passes as the memory requires."""
        while True:
            try:
                return self._accumulate(batch, self.micro_batch or len(batch.x))
            except (MemoryError, RuntimeError) as error:
                if not _is_out_of_memory(error):
                    raise
                # Outside the handler: a traceback keeps the tensors of the failed pass alive.
            self._halve_micro_batch(len(batch.x))

    def _accumulate(self, batch: Batch, rows: int) -> Tensor:
        count, total = len(batch.x), torch.zeros((), dtype=torch.float32, device=self.device)
        for start in range(0, count, rows):
            chunk = batch if rows >= count else self.loader.select(batch, slice(start, start + rows))
            with self.engine.sync(self.wrapped, last=start + rows >= count):
                losses = denoising_loss(self.wrapped, chunk.x, chunk.t, chunk.eps, chunk.condition,
                                        self.settings.weighting, self.model.data_std)
                loss = losses.sum() / count
                loss.backward()
            total += loss.detach()
        return total

    def _halve_micro_batch(self, rows: int) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        current = self.micro_batch or rows
        if current == 1 or self.halvings == MAX_HALVINGS:
            raise TrainingFailed(f"the memory is too small for {current} samples of shape {self.data.spec.shape} at "
                                 "once; free memory, or choose a smaller network, size or batch")
        self.micro_batch, self.halvings = -(-current // 2), self.halvings + 1
        if self.device != "cpu":
            torch.cuda.empty_cache()
        if self.engine.world > 1:
            # The other processes wait in the middle of a pass: all restart, from run.yaml.
            raise MemoryError(f"out of memory with {current} samples per process at once; {self.micro_batch} are next")

    @torch.no_grad()
    def average_loss(self, data: Dataset) -> float:
        """Loss of the averaged model on the first samples of a data set, with the same noise each time."""
        rows = np.arange(len(data))[:HELD_OUT]
        x, condition = data.batch(rows)
        t = self.density(torch.from_numpy((noise.generator(0, "held_out").permutation(len(rows)) + 0.5) / len(rows)))
        x, t, condition = (value.to(self.device) for value in (x, t, condition))
        self.average.training = True
        losses = torch.zeros(len(rows), dtype=torch.float32, device=self.device)
        for start in self.engine.assigned(range(0, len(rows), 64)):
            chunk = slice(start, min(start + 64, len(rows)))
            eps = noise.per_sample(0, "held_out", range(chunk.start, chunk.stop), 0, x[chunk])
            losses[chunk] = denoising_loss(self.average, x[chunk], t[chunk], eps, condition[chunk],
                                           self.settings.weighting, self.model.data_std)
        self.average.training = False
        return sum(self.engine.combine(losses.tolist())) / len(rows)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that the next step depends on: the learner's own tensors, and metadata for JSON."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"average.{name}": value for name, value in self.average.network.named_parameters()}
        tensors |= {f"second.{name}": value for name, value in self._second_weights().items()}
        tensors |= {f"optimizer.{index}.{name}": value for index, weight in enumerate(self.weights)
                    for name, value in self.optimizer.state[weight].items()}
        return tensors, {"step": self.step_number, "images": self.images, "noise": noise.VERSION,
                         "skipped": self.skipped, "skips_in_a_row": int(self.skips[1])}

    def restore(self, metadata: Mapping[str, Any]) -> None:
        """Resume from a state whose tensors are in place; ValueError if it was made with another scale of the data."""
        for name in ("data_mean", "data_std"):
            before, after = self.average.get_buffer(name), self.model.get_buffer(name)
            if "spec" not in metadata and not torch.allclose(before, after, 1e-3, 1e-3):
                raise ValueError("the run was started by an older version of Ornstein, which scaled the data "
                                 "differently; start another run, in another folder")
        self.step_number, self.images = metadata["step"], metadata["images"]
        self.skips = self.skips.new_tensor([metadata["skipped"], metadata["skips_in_a_row"], 0])
        # Mean and linear guess too: with another number of threads they would round differently.
        for name, buffer in self.average.named_buffers():
            buffer.copy_(self.model.get_buffer(name))

    def _second_weights(self) -> dict[str, Tensor]:
        return dict(zip((name for name, _ in self.model.network.named_parameters()), self.second_average, strict=True))

    def averages(self) -> dict[float, dict[str, Tensor]]:
        """The full weights of both averages by relative width; every process must call this."""
        first = dict(self.average.network.named_parameters())
        both = {self.settings.average: first, self.second_width: self._second_weights()}
        return {width: {name: to_full(value.detach()) for name, value in weights.items()}
                for width, weights in both.items()}

    def average_state(self) -> dict[str, Tensor]:
        """The full tensors of the averaged model; every process must call this."""
        return {name: to_full(value) for name, value in self.average.state_dict().items()}


def _refuse_tied_weights(model: nn.Module) -> None:
    names: dict[tuple[int, int], str] = {}
    for name, value in model.state_dict().items():
        if value.numel() and (other := names.setdefault((value.data_ptr(), value.numel()), name)) != name:
            raise ValueError(f"network has one tensor under two names, {other} and {name}, which a file cannot hold; "
                             "give it one name")


def _data_range(spec: DataSpec) -> tuple[float, float] | None:
    """The range of x-hat: the ends of data on levels, if they are the same in all channels."""
    minimum, maximum = spec.ends
    levels = spec.levels if isinstance(spec.levels, tuple) else (spec.levels,)
    same = all(levels) and (minimum == minimum.flat[0]).all() and (maximum == maximum.flat[0]).all()
    return (float(minimum.flat[0]), float(maximum.flat[0])) if same else None


def _condition_moments(condition: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each column over the rows without NaN; a deviation of 1 for a constant."""
    known = condition[~condition.isnan().any(1)].double()
    std = known.std(0, correction=0)
    return known.mean(0), torch.where(std > 1e-12 * known.mean(0).abs(), std, 1.0)


def _is_out_of_memory(error: BaseException) -> bool:
    text = str(error)
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in text


def learning_rate(settings: Settings, share: float) -> float:
    """Linear warm-up over the first part of the budget, times (1 - share)^decay, which is 0 at its end."""
    warmup = min(1.0, share / settings.warmup) if settings.warmup else 1.0
    return settings.peak_rate * warmup * max(0.0, 1 - share) ** settings.decay
