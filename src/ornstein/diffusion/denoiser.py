"""Denoisers: the interface of a model for samplers, losses and likelihoods."""

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
from ornstein.diffusion.condition import Condition, Conditions, check_moments, standardised
from ornstein.diffusion.estimate import MIN_SIGNAL, PREDICTIONS, READINGS, Estimate
from ornstein.diffusion.level import Level, as_time, attached_level
from ornstein.diffusion.linear import Gaussian, LinearGuess
from ornstein.diffusion.schedule import Schedule
from ornstein.isolation import isolated
from ornstein.machine import has_bf16
from ornstein.workers import run_pieces, shared_tensor

__all__ = ["Batched", "Denoiser", "DenoiserWrapper", "NetworkDenoiser", "call_override", "pure_noise",
           "reference_tensor"]


class Denoiser(nn.Module):
    """A map from a latent and its time to an `Estimate` of the clean data.

    Everything in Ornstein that uses a model works for any subclass that sets the two attributes and `forward`.

    Args:
        schedule: the path that the latents lie on.
        shape: of one sample, without the batch.
    """

    schedule: Schedule
    shape: tuple[int, ...]
    tuned: dict[Any, Any]  # choices of `ornstein.tune` by network calls, or by calls and guidance
    _conditions = Conditions()  # that it accepts, as far as they are known

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
            condition: conditions of the samples, as for `read_condition`.

        Returns:
            `Estimate`, shaped like z.

        Raises:
            ValueError: a time outside [0, 1], or a shape that does not fit.
        """
        raise NotImplementedError(f"{type(self).__name__} has no forward(z, t, condition=None) that returns an "
                                  "Estimate")

    def read_condition(self, condition: Condition, rows: int,
                       device: torch.device | str | None = None) -> Tensor | None:
        """A condition as one entry per row, in the form that this denoiser takes.

        Args:
            condition: a class or (rows,) classes, as whole numbers or, if the denoiser knows the data, as names; a
                vector (K,) or (rows, K) vectors of floats; or None.
            rows: number of rows.
            device: of the result; by default that of the condition.

        Returns:
            (rows,) int64 with -1 for none, (rows, K) floats with a row of NaN for none, or None.

        Raises:
            ValueError: a condition of another shape or kind, or an unknown class.
        """
        return self._conditions.read(condition, rows, device)

    def gaussian(self) -> Gaussian | None:
        """The Gaussian with the moments of the data, as far as the denoiser knows them; None if it does not."""
        return None

    def level(self, z: Tensor, t: Tensor | float) -> Level:
        """The level at t for the rows of z, after checking that z holds samples of this denoiser's shape."""
        if z.shape[1:] != self.shape:
            raise ValueError(f"z has shape {tuple(z.shape)}; it must be (B, {', '.join(map(str, self.shape))})")
        attached = attached_level(self.schedule, t)
        fitted = attached.fitted if attached else None
        if fitted is not None and fitted.signal.dtype is z.dtype and fitted.signal.device == z.device:
            return fitted
        return self.schedule.level(as_time(t)).fit(z)


class DenoiserWrapper(Denoiser):
    """A denoiser around another one, with the same data and conditions."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__(denoiser.schedule, denoiser.shape)
        self.denoiser = denoiser

    def read_condition(self, condition: Condition, rows: int,
                       device: torch.device | str | None = None) -> Tensor | None:
        """As for the wrapped denoiser."""
        return self.denoiser.read_condition(condition, rows, device)

    def gaussian(self) -> Gaussian | None:
        """As for the wrapped denoiser."""
        return self.denoiser.gaussian()


class Batched:
    """Calls a denoiser on blocks of `rows` rows, each row with its condition; the last block is padded."""

    def __init__(self, denoiser: Denoiser, conditions: Tensor | None, rows: int) -> None:
        self.denoiser, self.conditions, self.rows = denoiser, conditions, rows

    def __call__(self, z: Tensor, t: Tensor) -> Estimate:
        """The estimate for all rows of z, (B, *shape), at the times t, () or (B,)."""
        if (override := call_override.get()) is not None:
            return Estimate.from_v(override(self, z, t), z, self.denoiser.schedule.level(t))
        if len(z) == self.rows:
            return self.denoiser(z, t, None if self.conditions is None else self.conditions.to(z.device))
        v = shared_tensor(z.shape, z)

        def evaluate(block: int) -> None:
            first = block * self.rows
            rows = torch.arange(first, first + self.rows, device="cpu").clamp(max=len(z) - 1)
            conditions = None if self.conditions is None else self.conditions[rows].to(z.device)
            times = t[rows] if t.ndim and len(t) > 1 else t
            v[first:first + self.rows] = self.denoiser(z[rows.to(z.device)], times, conditions).v[:len(z) - first]

        for _ in run_pieces(evaluate, -(-len(z) // self.rows), v.device):
            pass
        return Estimate.from_v(v, z, self.denoiser.schedule.level(t))


# Replaces the denoiser in the calls of this thread's walks: a service batches the calls of several walks into one.
call_override: ContextVar[Callable[[Batched, Tensor, Tensor], Tensor] | None] = ContextVar("call_override",
                                                                                           default=None)


def pure_noise(denoiser: Denoiser, seed: int, stream: str, indices: range, like: Tensor) -> Tensor:
    """Latents at t = 1 that hold no data, N(0, (signal^2 + noise^2) I), one for each index of the stream."""
    eps = noise.per_sample(seed, stream, indices, 0, like.new_empty(len(indices), *denoiser.shape))
    return eps * denoiser.schedule.level(as_time(1.0)).radius.to(like)


def reference_tensor(denoiser: Denoiser) -> Tensor:
    """A tensor with the dtype and device of a denoiser's computations."""
    state = [*denoiser.parameters(), *denoiser.buffers()]
    return next((value for value in state if value.is_floating_point()),
                torch.empty(0, dtype=torch.float32, device="cpu"))


class NetworkDenoiser(Denoiser):
    """A denoiser around any network, with inputs and targets of unit variance (Karras et al. 2022, table 1).

    The data are centred and scaled, x' = (x - data_mean) / data_std, so that z' = signal data_std x' + noise eps.
    With r' = hypot(signal data_std, noise) the network sees y = z' / r' and the log SNR of the schedule, clamped to
    `log_snr_range`; it never sees t, so the schedule may be replaced after training. Its output means v', x' or eps'
    and is added to the same reading of `linear`, if there is one.

    Args:
        network: called as network(y, log_snr, condition), with y (B, *shape), log_snr (B,) and condition (B,) int64,
            (B, K) floats or None; returns a tensor like y. A network whose `options` set hints gets y and the linear
            guess of v', concatenated along the channels.
        schedule: the path of the latents z.
        shape: of one sample.
        predicts: what the network's output means: "v" (c' eps - s' x'), "x" (x') or "eps".
        data_std: standard deviation of the data, > 0: a number, or a tensor that broadcasts against `shape`.
        data_mean: mean of the data, likewise.
        log_snr_range: (minimum, maximum) log SNR that the network was trained on.
        linear: the best linear guess of v' for the data; needs a data_std that is one number.
        x_range: (minimum, maximum) of the data's values, or None. Outside training x-hat is clamped to it: E[x | z]
            lies in any interval that contains the data, so this can only reduce the error.
        data: the description of the data in a checkpoint, or None.
        precision: of the network's matrix products, "fp32" or, where the device has it in hardware, "bf16".
        condition_mean: (K,) mean of the data's vector conditions, which the network also sees centred and scaled; None
            without vector conditions.
        condition_std: (K,) their standard deviations, > 0.

    Raises:
        ValueError: an unknown prediction, a range whose ends do not increase, a mean or deviation that is not finite, a
            data_std or condition_std that is not positive, a prediction of eps on a schedule that ends with signal /
            hypot(signal, noise) < 1e-3, for the data or for x', a network with hints but no linear guess, or a
            schedule that ends with more noise than the dtype holds.
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
        self.known_conditions = False  # whether classes were checked when the data were read
        for name, value in (("data_std", data_std), ("data_mean", data_mean)):
            value = torch.as_tensor(value, dtype=torch.float32, device=getattr(value, "device", None))
            if value.ndim > len(self.shape) or any(
                    size not in (1, side) for size, side in zip(value.shape[::-1], self.shape[::-1], strict=False)):
                raise ValueError(f"{name} has shape {tuple(value.shape)}; it must broadcast against {self.shape}")
            self.register_buffer(name, value)
        if not (self.data_std > 0).all():
            raise ValueError(f"data_std is {float(self.data_std.min())}; it must be positive")
        if not (self.data_std.isfinite().all() and self.data_mean.isfinite().all()):
            raise ValueError("data_std or data_mean holds values that are not finite; all must be finite numbers")
        if linear is not None and self.data_std.numel() != 1:
            raise ValueError(f"data_std has shape {tuple(self.data_std.shape)}; "
                             "with a linear guess it must be a number")
        mean, std = check_moments(condition_mean, condition_std)
        self.register_buffer("condition_mean", mean)
        self.register_buffer("condition_std", std)
        last = schedule.level(as_time(1.0))
        if not last.noise.to(self.data_std).isfinite():
            raise ValueError(f"schedule ends with noise {float(last.noise):g}, beyond the range of "
                             f"{self.data_std.dtype}; choose one that ends with less")
        scaled = Level(last.signal * self.data_std.double().min(), last.noise)  # the level of x'
        share = min(float(last.signal / last.radius), float(scaled.signal / scaled.radius))
        if predicts == "eps" and share < MIN_SIGNAL:
            raise ValueError(f"predicts is 'eps', but {type(schedule).__name__} ends with signal / hypot(signal, "
                             f"noise) = {share:.2g}, below {MIN_SIGNAL:g}; predict 'v' or 'x'")

    def forward(self, z: Tensor, t: Tensor | float, condition: Condition = None) -> Estimate:
        # Reshaped even for a single time: times data_std it must not be taken for one entry per row.
        level_z = Level(*(entry.reshape(-1, *[1] * (z.ndim - 1)) for entry in self.level(z, t)))
        # In at least the precision of the weights: latents may have a lower or a higher one.
        wide = z.to(torch.promote_types(z.dtype, self.data_std.dtype))
        level = Level(*(entry.reshape(-1, *[1] * (z.ndim - 1)) for entry in self.level(wide, t)))
        # From float64: the logarithm of a cast level is inaccurate. len(z) would fix the rows of an exported graph.
        log_snr = self.schedule.log_snr(as_time(t)).clamp(*self.log_snr_range).reshape(-1).expand(z.shape[0])
        if self.known_conditions and isinstance(condition, Tensor) and condition.dtype == torch.int64:
            network_condition = condition  # a check would wait for the device
        else:  # checked, since an unknown class would crash the GPU
            network_condition = standardised(self.read_condition(condition, z.shape[0], z.device), self.condition_mean,
                                             self.condition_std, self.data_std)
        return Estimate(z, level_z, self.velocity(wide, level, log_snr, network_condition).to(z))

    def velocity(self, z: Tensor, level: Level, log_snr: Tensor, condition: Tensor | None) -> Tensor:
        """The unchecked computation of `forward`: v at z, (B, *shape), for a level that broadcasts against it, (B,) log
        SNR in `log_snr_range` and the condition as the network sees it."""
        centred = z - level.signal * self.data_mean
        scaled = Level(level.signal * self.data_std, level.noise)
        y = centred / scaled.radius
        device = z.device.type
        with _matmul_precision(device, bf16=False):
            guess = None if self.linear is None else self.linear(y, scaled)
        network_input = torch.cat([y, guess], 1) if self.hints and guess is not None else y
        with _matmul_precision(device, self.precision == "bf16" and has_bf16(device)):
            output = self.network(network_input.to(self.data_std), log_snr.to(self.data_std), condition).to(z)
        if guess is not None:
            output = output + getattr(Estimate(centred, scaled, guess), self.predicts)
        inner = READINGS[self.predicts](output, centred, scaled)
        x = self.data_mean + self.data_std * inner.x
        if self.x_range is not None and not self.training:
            return Estimate.from_x(x.clamp(*self.x_range), z, level).v
        # v in the data's own units: c eps - s x.
        return (level.signal * inner.eps - level.noise * x) / level.radius

    def gaussian(self) -> Gaussian:
        """The Gaussian with the moments of the data, with the variances of the linear guess if there is one."""
        mean, std = (value.double().expand(self.shape).flatten() for value in (self.data_mean, self.data_std))
        if self.linear is None:
            return Gaussian(mean, std**2)
        variance, basis = self.linear.moments()
        return Gaussian(mean, std**2 * variance, basis)

    def read_condition(self, condition: Condition, rows: int,
                       device: torch.device | str | None = None) -> Tensor | None:
        """As for any denoiser; outside training a class without training rows is refused too."""
        return self.conditions.read(condition, rows, device, allow_empty=self.training)

    @property
    def conditions(self) -> Conditions:
        """The conditions that the network accepts."""
        return Conditions.from_network(self.network, self.data, self.condition_mean)


def _matmul_precision(device: str, bf16: bool) -> AbstractContextManager[object]:
    """Matrix products in bfloat16 or in the tensors' dtype, whatever autocast the caller has set; an exported graph
    keeps the tensors' dtype."""
    return nullcontext() if torch.compiler.is_exporting() else torch.autocast(device, torch.bfloat16, enabled=bf16)
