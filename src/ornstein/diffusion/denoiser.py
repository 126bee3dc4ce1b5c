"""Denoisers: what a sampler, a loss and a likelihood need to know of a model, and no more."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, get_args

import torch
from torch import Tensor, nn

from ornstein import noise
from ornstein.arguments import Precision, require, require_interval
from ornstein.data.spec import DataSpec
from ornstein.diffusion.condition import Condition, Conditions, moments, standardised
from ornstein.diffusion.estimate import LEAST_SIGNAL, PREDICTIONS, READINGS, Estimate
from ornstein.diffusion.level import Level, as_time, known
from ornstein.diffusion.linear import Gaussian, LinearGuess
from ornstein.diffusion.schedule import Schedule
from ornstein.isolation import isolated
from ornstein.machine import has_bf16
from ornstein.workers import run_pieces, shared_tensor

__all__ = ["Batched", "Denoiser", "NetworkDenoiser", "Wrapped", "answering", "kind_of", "pure_noise"]


class Denoiser(nn.Module):
    """A map from a latent and its time to an `Estimate` of the clean data.

    Everything in Ornstein that uses a model works for any subclass that sets the two attributes and `forward`.

    Args:
        schedule: the path that the latents lie on.
        shape: of one sample, without the batch.
    """

    schedule: Schedule
    shape: tuple[int, ...]
    tuned: dict[Any, Any]  # by network calls, or these with a guidance, what `ornstein.tune` chose
    _takes = Conditions()  # what it can be told of each sample, as far as it is known

    def __init__(self, schedule: Schedule, shape: Sequence[int]) -> None:
        super().__init__()
        self.tuned = {}
        self.schedule = schedule
        self.shape = tuple(shape)

    if TYPE_CHECKING:
        def __call__(self, z: Tensor, t: Tensor | float, condition: Condition = None) -> Estimate: ...

    @abstractmethod
    def forward(self, z: Tensor, t: Tensor | float, condition: Condition = None) -> Estimate:
        """Estimate the clean data behind z.

        Args:
            z: (B, *shape) latents.
            t: () or (B,) times in [0, 1].
            condition: what the denoiser is told about the sample, as `read_condition` takes it.

        Returns:
            `Estimate`, shaped like z.

        Raises:
            ValueError: a time outside [0, 1], or a shape that does not fit.
        """
        raise NotImplementedError(f"{type(self).__name__} has no forward(z, t, condition=None) that gives an Estimate")

    def read_condition(self, condition: Condition, rows: int,
                       device: torch.device | str | None = None) -> Tensor | None:
        """A condition as one entry a row, as this denoiser takes it.

        Args:
            condition: a class or (rows,) classes, as whole numbers or, where the denoiser knows the data, as names; a
                vector (K,) of floats or (rows, K) of them; or None.
            rows: how many there are.
            device: to put it on; its own unless given.

        Returns:
            (rows,) int64 with -1 for none, (rows, K) floats with a row of NaN for none, or None.

        Raises:
            ValueError: a condition of another shape or kind, or a class that is not there.
        """
        return self._takes.read(condition, rows, device)

    def gaussian(self) -> Gaussian | None:
        """The Gaussian with the moments of the data, as far as the denoiser knows them; None where it does not."""
        return None

    def level(self, z: Tensor, t: Tensor | float) -> Level:
        """The level at t for the rows of z, after checking that z holds samples of this denoiser's shape."""
        if z.shape[1:] != self.shape:
            raise ValueError(f"z has shape {tuple(z.shape)}; it must be (B, {', '.join(map(str, self.shape))})")
        memory = known(self.schedule, t)
        ready = memory.fitted if memory else None
        if ready is not None and ready.signal.dtype is z.dtype and ready.signal.device == z.device:
            return ready
        return self.schedule.level(as_time(t)).fit(z)


class Wrapped(Denoiser):
    """A denoiser around another one, of the same data and conditions."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__(denoiser.schedule, denoiser.shape)
        self.denoiser = denoiser

    def read_condition(self, condition: Condition, rows: int,
                       device: torch.device | str | None = None) -> Tensor | None:
        """As for the denoiser inside."""
        return self.denoiser.read_condition(condition, rows, device)

    def gaussian(self) -> Gaussian | None:
        """As for the denoiser inside."""
        return self.denoiser.gaussian()


class Batched:
    """Calls a denoiser on blocks of so many rows, each with its condition; the last block is filled up with its end."""

    def __init__(self, denoiser: Denoiser, conditions: Tensor | None, rows: int) -> None:
        self.denoiser, self.conditions, self.rows = denoiser, conditions, rows

    def __call__(self, z: Tensor, t: Tensor) -> Estimate:
        """The estimate for all rows of z, (B, *shape), at the times t, () or (B,)."""
        if (answer := answering.get()) is not None:
            return Estimate.from_v(answer(self, z, t), z, self.denoiser.schedule.level(t))
        if len(z) == self.rows:
            return self.denoiser(z, t, None if self.conditions is None else self.conditions.to(z.device))
        v = shared_tensor(z.shape, z)

        def ask(block: int) -> None:
            first = block * self.rows
            take = torch.arange(first, first + self.rows, device="cpu").clamp(max=len(z) - 1)
            conditions = None if self.conditions is None else self.conditions[take].to(z.device)
            times = t[take] if t.ndim and len(t) > 1 else t
            v[first:first + self.rows] = self.denoiser(z[take.to(z.device)], times, conditions).v[:len(z) - first]

        for _ in run_pieces(ask, -(-len(z) // self.rows), v.device):
            pass
        return Estimate.from_v(v, z, self.denoiser.schedule.level(t))


# What answers the calls of this thread's walks in their denoiser's place: a service that has one call for many walks.
answering: ContextVar[Callable[[Batched, Tensor, Tensor], Tensor] | None] = ContextVar("answering", default=None)


def pure_noise(denoiser: Denoiser, seed: int, stream: str, numbers: range, like: Tensor) -> Tensor:
    """Latents at t = 1 that hold no data, N(0, (signal^2 + noise^2) I), one for each of a stream's numbers."""
    eps = noise.per_sample(seed, stream, numbers, 0, like.new_empty(len(numbers), *denoiser.shape))
    return eps * denoiser.schedule.level(as_time(1.0)).radius.to(like)


def kind_of(denoiser: Denoiser) -> Tensor:
    """A tensor of the dtype and on the device that a denoiser calculates with."""
    state = [*denoiser.parameters(), *denoiser.buffers()]
    return next((value for value in state if value.is_floating_point()),
                torch.empty(0, dtype=torch.float32, device="cpu"))


class NetworkDenoiser(Denoiser):
    """A denoiser around any network, with inputs and targets of unit variance (Karras et al. 2022, table 1).

    The data are centred and scaled, x' = (x - data_mean) / data_std, so that z' = signal data_std x' + noise eps.
    With r' = hypot(signal data_std, noise) the network sees y = z' / r' and the log SNR of the schedule, clamped to
    `log_snr_range`; it never sees t, so the schedule may be exchanged after training. Its answer means v', x' or eps'
    and is added to the same reading of `linear`, if there is one.

    Args:
        network: called as network(y, log_snr, condition), with y (B, *shape), log_snr (B,) and condition (B,) int64,
            (B, K) floats or None; returns a tensor like y. One whose `options` say hints gets y and, after it along the
            channels, the linear guess of v'.
        schedule: the path of the latents z.
        shape: of one sample.
        predicts: what the network's output means: "v" (c' eps - s' x'), "x" (x') or "eps".
        data_std: standard deviation of the data, > 0: a number, or a tensor that broadcasts against `shape`.
        data_mean: mean of the data, likewise.
        log_snr_range: (least, most) log SNR that the network was trained on.
        linear: the best linear guess of v' for data like these; needs a data_std that is one number.
        x_range: (least, most) value that data have, or None. Outside training x-hat is moved into it: the mean of the
            data behind z lies in any interval that the data lie in, so this can only lessen the error.
        data: what a checkpoint tells about the data, or None.
        precision: of the network's matrix products, "fp32" or, where the device has it in hardware, "bf16".
        condition_mean: (K,) mean of the data's vector conditions, which the network sees centred and scaled too; None
            where there are none.
        condition_std: (K,) their standard deviations, > 0.

    Raises:
        ValueError: an unknown prediction, ranges that do not rise, a mean or deviation that is not finite, a data_std
            or condition_std that is not positive, or a prediction of eps on a schedule that ends with signal /
            hypot(signal, noise) < 1e-3, for the data or for x'; a network with hints and no linear guess; a schedule
            that ends with more noise than the dtype holds.
    """

    data_std: Tensor
    data_mean: Tensor
    condition_mean: Tensor | None
    condition_std: Tensor | None

    @isolated()
    def __init__(self, network: nn.Module, schedule: Schedule, shape: Sequence[int], predicts: str = "v",
                 data_std: Tensor | float = 1.0, data_mean: Tensor | float = 0.0,
                 log_snr_range: tuple[float, float] = (-12.0, 12.0), linear: LinearGuess | None = None,
                 x_range: tuple[float, float] | None = None, data: DataSpec | None = None,
                 precision: str = "fp32", condition_mean: Tensor | Sequence[float] | None = None,
                 condition_std: Tensor | Sequence[float] | None = None) -> None:
        super().__init__(schedule, shape)
        self.network, self.linear, self.data = network, linear, data
        self.predicts = require("predicts", predicts, PREDICTIONS)
        self.precision = require("precision", precision, get_args(Precision))
        self.log_snr_range = require_interval("log_snr_range", log_snr_range)
        self.x_range = None if x_range is None else require_interval("x_range", x_range)
        options = getattr(network, "options", None)
        self.hints = isinstance(options, dict) and bool(options.get("hints"))
        if self.hints and linear is None:
            raise ValueError("network has hints, but linear is None; a hint is the linear guess")
        self.metrics: dict[str, float | None] = {}
        self.known_conditions = False  # whether classes come from data that were checked when they were read
        for name, value in (("data_std", data_std), ("data_mean", data_mean)):
            value = torch.as_tensor(value, dtype=torch.float32, device=getattr(value, "device", None))
            if value.ndim > len(self.shape) or any(
                    mine not in (1, side) for mine, side in zip(value.shape[::-1], self.shape[::-1], strict=False)):
                raise ValueError(f"{name} has shape {tuple(value.shape)}; it must broadcast against {self.shape}")
            self.register_buffer(name, value)
        if not (self.data_std > 0).all():
            raise ValueError(f"data_std is {float(self.data_std.min())}; it must be positive")
        if not (self.data_std.isfinite().all() and self.data_mean.isfinite().all()):
            raise ValueError("data_std or data_mean holds values that are not finite; all must be finite numbers")
        if linear is not None and self.data_std.numel() != 1:
            raise ValueError(f"data_std has shape {tuple(self.data_std.shape)}; "
                             "with a linear guess it must be a number")
        mean, std = moments(condition_mean, condition_std)
        self.register_buffer("condition_mean", mean)
        self.register_buffer("condition_std", std)
        last = schedule.level(as_time(1.0))
        if not last.noise.to(self.data_std).isfinite():
            raise ValueError(f"schedule ends with noise {float(last.noise):g}, beyond the range of "
                             f"{self.data_std.dtype}; choose one that ends with less")
        scaled = Level(last.signal * self.data_std.double().min(), last.noise)  # what the network's eps is read at
        share = min(float(last.signal / last.radius), float(scaled.signal / scaled.radius))
        if predicts == "eps" and share < LEAST_SIGNAL:
            raise ValueError(f"predicts is 'eps', but {type(schedule).__name__} ends with signal / hypot(signal, "
                             f"noise) = {share:.2g}, below {LEAST_SIGNAL:g}; predict 'v' or 'x'")

    def forward(self, z: Tensor, t: Tensor | float, condition: Condition = None) -> Estimate:
        # One entry a row even for a single time: times data_std it must not be taken for one entry a row.
        narrow = Level(*(entry.reshape(-1, *[1] * (z.ndim - 1)) for entry in self.level(z, t)))
        # In the precision of the weights at least: latents may be coarser, and may be finer.
        wide = z.to(torch.promote_types(z.dtype, self.data_std.dtype))
        level = Level(*(entry.reshape(-1, *[1] * (z.ndim - 1)) for entry in self.level(wide, t)))
        # From float64 too: a logarithm of levels that were cast is coarse. And len(z) would fix the rows of a graph.
        log_snr = self.schedule.log_snr(as_time(t)).clamp(*self.log_snr_range).reshape(-1).expand(z.shape[0])
        if self.known_conditions and isinstance(condition, Tensor) and condition.dtype == torch.int64:
            seen_condition = condition  # to look at them would be to wait for the device
        else:  # elsewhere they are checked: a GPU only dies of a class that is not there
            seen_condition = standardised(self.read_condition(condition, z.shape[0], z.device), self.condition_mean,
                                          self.condition_std, self.data_std)
        return Estimate(z, narrow, self.velocity(wide, level, log_snr, seen_condition).to(z))

    def velocity(self, z: Tensor, level: Level, log_snr: Tensor, condition: Tensor | None) -> Tensor:
        """What `forward` calculates once all is checked: v of z, (B, *shape), whose level broadcasts against it, with
        (B,) log SNR in the range of the training and the condition as the network sees it."""
        centred = z - level.signal * self.data_mean
        scaled = Level(level.signal * self.data_std, level.noise)
        y = centred / scaled.radius
        kind = z.device.type
        with _products(kind, bf16=False):  # the caller's
            guess = None if self.linear is None else self.linear(y, scaled)
        seen = torch.cat([y, guess], 1) if self.hints and guess is not None else y
        with _products(kind, self.precision == "bf16" and has_bf16(kind)):
            answer = self.network(seen.to(self.data_std), log_snr.to(self.data_std), condition).to(z)
        if guess is not None:
            answer = answer + getattr(Estimate(centred, scaled, guess), self.predicts)
        inner = READINGS[self.predicts](answer, centred, scaled)
        x = self.data_mean + self.data_std * inner.x
        if self.x_range is not None and not self.training:
            return Estimate.from_x(x.clamp(*self.x_range), z, level).v
        # The same v in the data's own units: c eps - s x.
        return (level.signal * inner.eps - level.noise * x) / level.radius

    def gaussian(self) -> Gaussian:
        """The Gaussian with the moments of the data, whose variances are those of the linear guess if there is one."""
        mean, std = (value.double().expand(self.shape).flatten() for value in (self.data_mean, self.data_std))
        if self.linear is None:
            return Gaussian(mean, std**2)
        variance, basis = self.linear.moments()
        return Gaussian(mean, std**2 * variance, basis)

    def read_condition(self, condition: Condition, rows: int,
                       device: torch.device | str | None = None) -> Tensor | None:
        """As for any denoiser; a class that no row of the training had is refused too, except in training itself."""
        return self.conditions.read(condition, rows, device, unseen=self.training)

    @property
    def conditions(self) -> Conditions:
        """What it can be told of each sample."""
        return Conditions.of(self.network, self.data, self.condition_mean)


def _products(kind: str, bf16: bool) -> AbstractContextManager[object]:
    """Matrix products of a kind of device in bfloat16 or as they are, whatever the caller has set; a graph that is
    exported has them as they are."""
    return nullcontext() if torch.compiler.is_exporting() else torch.autocast(kind, torch.bfloat16, enabled=bf16)
