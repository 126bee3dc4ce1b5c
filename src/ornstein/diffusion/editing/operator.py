"""Linear measurement operators: functions, matrices, and operators by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ornstein import noise
from ornstein.arguments import find, require_float, require_int, short_repr

__all__ = ["MAX_ENTRIES", "OPERATORS", "Map", "Operator", "read_operator", "selection"]

MAX_ENTRIES = 2**27  # of a matrix: 1 GiB of float64
ROWS = 64  # unit vectors that are mapped at a time
TOLERANCE = 1e-4  # of linearity, relative to the largest value, since a map may compute in float32

Map = Callable[[Tensor], Tensor]


class Operator:
    """A linear map of samples, y = A x, and its adjoint.

    Args:
        shape: of one sample x.
        into: of one measurement y.
        forward: from (B, *shape) to (B, *into), each row by itself.
        adjoint: from (B, *into) to (B, *shape), with <A x, y> = <x, A' y>; by default by automatic differentiation.
        device: on which `forward` computes, if it has tensors of its own.
    """

    index: Tensor | None = None  # the values of a sample that are measured, for a pure selection

    def __init__(self, shape: Sequence[int], into: Sequence[int], forward: Map, adjoint: Map | None = None,
                 device: torch.device | str = "cpu") -> None:
        self.shape, self.into, self.device = tuple(shape), tuple(into), device
        self._forward, self._adjoint = forward, adjoint

    def __call__(self, x: Tensor) -> Tensor:
        """A x, (B, *into) for x (B, *shape)."""
        return self._forward(x)

    def adjoint(self, y: Tensor) -> Tensor:
        """A' y, (B, *shape) for y (B, *into)."""
        if self._adjoint is not None:
            return self._adjoint(y)
        with torch.enable_grad():
            x = y.new_zeros(len(y), *self.shape, requires_grad=True)
            y_x = self._forward(x)
            if not y_x.requires_grad:
                raise ValueError("operator gives values that cannot be differentiated (computed in NumPy, or "
                                 "detached?); compute them with torch, or give the matrix (M, D) instead")
            adjoint, = torch.autograd.grad(y_x, x, y)
        return adjoint

    def matrix(self) -> Tensor:
        """A as (M, D) float64 on the CPU, with M and D the numbers of values of a measurement and a sample.

        Raises:
            ValueError: more than 2^27 entries.
        """
        size, measured = math.prod(self.shape), math.prod(self.into)
        if size * measured > MAX_ENTRIES:
            raise ValueError(f"operator maps {size:,} values to {measured:,}; its matrix may have at most "
                             f"{MAX_ENTRIES:,} entries, so restore smaller samples, or parts of them")
        columns = torch.empty(size, measured, dtype=torch.float64, device="cpu")
        for first in range(0, size, ROWS):
            rows = min(ROWS, size - first)
            unit = torch.zeros(rows, size, dtype=torch.float64, device=self.device)
            unit[:, first:first + rows].fill_diagonal_(1)
            columns[first:first + rows] = self(unit.reshape(rows, *self.shape)).detach().reshape(rows, measured).cpu()
        return columns.T


def selection(known: Tensor) -> Operator:
    """The operator that selects the (K,) values of a sample where `known`, bool of its shape, is true."""
    index = known.flatten().nonzero()[:, 0].cpu()

    def forward(x: Tensor) -> Tensor:
        return x.flatten(1)[:, index.to(x.device)]

    def adjoint(y: Tensor) -> Tensor:
        x = y.new_zeros(len(y), known.numel())
        x[:, index.to(y.device)] = y
        return x.reshape(len(y), *known.shape)

    operator = Operator(known.shape, (len(index),), forward, adjoint)
    operator.index = index
    return operator


def read_operator(operator: Operator | Tensor | np.ndarray | Map | str, shape: Sequence[int],
                  device: torch.device | str = "cpu") -> Operator:
    """Read an operator on samples from any form in which a caller may give it.

    Args:
        operator: an `Operator`; a matrix (M, D), D the number of values of a sample; a function from (B, *shape) to
            (B, *into); or a name of `OPERATORS` with its number, such as "mask=0.5".
        shape: of one sample.
        device: on which a function is tested.

    Raises:
        TypeError: anything else.
        ValueError: a map that is not linear, shapes that do not fit, an unknown name or an invalid number.
    """
    shape = tuple(shape)
    if isinstance(operator, str):
        return _named(operator, shape)
    if isinstance(operator, Operator):
        if operator.shape != shape:
            raise ValueError(f"operator takes samples of shape {operator.shape}; the model draws {shape}")
        checked = _function(operator, shape, operator.device)
        if checked.into != operator.into:
            raise ValueError(f"operator returns measurements of shape {checked.into}, but its into is {operator.into}; "
                             f"make it with into={checked.into}")
        return checked
    if isinstance(operator, Tensor | np.ndarray):
        return _matrix(operator if isinstance(operator, Tensor) else torch.from_numpy(operator), shape)
    if callable(operator):
        return _function(operator, shape, device)
    raise TypeError(f"operator is of type {type(operator).__name__}; it must be a function, a matrix (M, D), an "
                    "Operator, or a name such as 'mask=0.5'")


def _matrix(matrix: Tensor, shape: tuple[int, ...]) -> Operator:
    size = math.prod(shape)
    if matrix.ndim != 2 or matrix.shape[1] != size or not len(matrix) or matrix.is_complex():
        raise ValueError(f"operator is {matrix.dtype} of shape {tuple(matrix.shape)}; a matrix must be (M, {size}) "
                         f"real numbers, with a column for each of the {size} values of a sample")
    if lost := int((~matrix.isfinite()).sum()):
        raise ValueError(f"operator holds {lost} values that are not finite; every value must be a finite number")
    _refuse_zero(matrix)
    matrix = matrix.detach().double()
    return Operator(shape, (len(matrix),), lambda x: x.flatten(1) @ matrix.T.to(x),
                    lambda y: (y @ matrix.to(y)).reshape(len(y), *shape))


def _function(function: Map, shape: tuple[int, ...], device: torch.device | str) -> Operator:
    """An operator from a user's function, after a test on random numbers."""
    dtype = torch.float64
    result = _try(function, shape, dtype, device)
    if isinstance(result, Exception):  # a function with weights may support float32 only
        dtype = torch.float32
        result = _try(function, shape, dtype, device)
    if isinstance(result, Exception):
        raise ValueError(f"operator fails for samples (B, {', '.join(map(str, shape))}): "
                         f"{' '.join(str(result).split())}") from result
    x, y = result
    if not isinstance(y, Tensor) or not y.is_floating_point() or len(y) != len(x):
        kind = f"{y.dtype} of shape {tuple(y.shape)}" if isinstance(y, Tensor) else f"a {type(y).__name__}"
        raise ValueError(f"operator returns {kind} for x of shape {tuple(x.shape)}; it must return a floating-point "
                         f"tensor ({len(x)}, ...), a measurement for each row")
    zero, first, second, mixed = y
    _refuse_zero(y)
    largest = float(y.abs().max())
    errors = {"a row alone differs from the same row among others by up to": first - function(x[1:2])[0],
              "A(0) has values up to": zero,
              "A(a x + b y) differs from a A(x) + b A(y) by up to": mixed - (2 * first - 3 * second)}
    for description, error in errors.items():
        if not float(error.abs().max()) <= TOLERANCE * largest:
            remedy = "; subtract that constant from the operator and from the observation" if error is zero else ""
            raise ValueError(f"operator is not linear: {description} {float(error.abs().max()):.3g}, where values are "
                             f"up to {largest:.3g}{remedy}")

    def forward(x: Tensor) -> Tensor:
        return function(x.to(dtype)).to(x) if dtype is torch.float32 else function(x)

    return Operator(shape, y.shape[1:], forward, device=device)


def _refuse_zero(values: Tensor) -> None:
    if not values.any():
        raise ValueError("operator maps every sample to 0 and measures nothing; without a measurement, draw samples "
                         "with ornstein.sample")


def _try(function: Map, shape: tuple[int, ...], dtype: torch.dtype,
         device: torch.device | str) -> tuple[Tensor, Any] | Exception:
    """The rows 0, x, y and 2 x - 3 y and a function's result for them, or its exception."""
    normal = torch.from_numpy(noise.generator(0, "edit").standard_normal((2, *shape))).to(device, dtype)
    x = torch.stack([torch.zeros_like(normal[0]), normal[0], normal[1], 2 * normal[0] - 3 * normal[1]])
    try:
        return x, function(x)
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        return error


def _named(spec: str, shape: tuple[int, ...]) -> Operator:
    name, equals, value = spec.partition("=")
    example, make = find("operator", name, OPERATORS)
    if example is None:
        if equals:
            raise ValueError(f"operator is {short_repr(spec)}; {name} takes no number, so write {name} alone")
        return make(shape)
    if not equals:
        raise ValueError(f"operator is {short_repr(spec)}; it needs a number, such as {name}={example}")
    try:
        number: Any = type(example)(value)
    except ValueError:
        raise ValueError(f"operator is {short_repr(spec)}; {name} takes a {'whole ' * isinstance(example, int)}number, "
                         f"such as {name}={example}") from None
    return make(shape, number)


def _sides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The spatial or temporal sides: all but the channels, or the length of a vector."""
    return shape[1:] or shape


def _check_share(name: str, value: float) -> float:
    if not 0 < require_float(name, value) <= 1:
        raise ValueError(f"{name} is {value:g}; it must be a share above 0 and at most 1")
    return value


def _mask(shape: tuple[int, ...], share: float) -> Operator:
    sides = _sides(shape)
    count = max(1, round(_check_share("mask", share) * math.prod(sides)))
    order = torch.from_numpy(noise.generator(0, "edit", 1).permutation(math.prod(sides)))
    known = torch.zeros(math.prod(sides), dtype=torch.bool, device="cpu")
    known[order[:count]] = True
    return selection(known.reshape(sides).expand(shape))


def _blur(shape: tuple[int, ...], width: float) -> Operator:
    if not 0 < require_float("blur", width) < math.inf:
        raise ValueError(f"blur is {width:g}; it must be a width in pixels above 0")
    transfers = []
    for axis, side in enumerate(_sides(shape)):
        position = torch.arange(side, dtype=torch.float64, device="cpu")
        kernel = torch.exp(-0.5 * (torch.minimum(position, side - position) / width) ** 2)
        # The transform of a kernel that is even around 0 is real, so the map is its own adjoint.
        transfer = torch.fft.fft(kernel / kernel.sum()).real
        transfers.append((axis - len(_sides(shape)), transfer))

    def forward(x: Tensor) -> Tensor:
        for axis, transfer in transfers:
            factor = transfer.to(x).reshape(-1, *[1] * (-axis - 1))
            x = torch.fft.ifft(torch.fft.fft(x, dim=axis) * factor, dim=axis).real
        return x

    return Operator(shape, shape, forward, forward)


def _blocks(name: str, shape: tuple[int, ...], factor: int, total: bool) -> Operator:
    sides = _sides(shape)
    require_int(name, factor, 1, max(sides))
    if any(side % factor for side in sides):
        raise ValueError(f"{name} is {factor}, which does not divide {' x '.join(map(str, sides))}; it must divide "
                         "every side")
    lead = shape[:len(shape) - len(sides)]
    split = [size for side in sides for size in (side // factor, factor)]
    inner = tuple(range(-2 * len(sides) + 1, 0, 2))
    into, weight = (*lead, *(side // factor for side in sides)), 1.0 if total else factor ** -len(sides)

    def forward(x: Tensor) -> Tensor:
        return x.reshape(len(x), *lead, *split).sum(inner) * weight

    def adjoint(y: Tensor) -> Tensor:
        for axis in range(-len(sides), 0):
            y = y.repeat_interleave(factor, axis)
        return y * weight

    return Operator(shape, into, forward, adjoint)


def _average(name: str, axis: int, shape: tuple[int, ...]) -> Operator:
    """The mean along an axis of a sample."""
    if len(shape) < 2:
        raise ValueError(f"operator is '{name}', but samples are vectors of {shape[0]} values; it is for pictures, "
                         "traces and volumes")
    axis %= len(shape)
    into = (*shape[:axis], *shape[axis + 1:])
    return Operator(shape, into, lambda x: x.mean(axis + 1),
                    lambda y: y.unsqueeze(axis + 1).expand(len(y), *shape) / shape[axis])


def _fourier(shape: tuple[int, ...], share: float) -> Operator:
    sides = _sides(shape)
    axes = tuple(range(-len(sides), 0))
    half = torch.fft.rfftn(torch.zeros(sides, dtype=torch.float64, device="cpu")).shape
    count = max(1, round(_check_share("fourier", share) * math.prod(half)))
    others = 1 + torch.from_numpy(noise.generator(0, "edit", 2).permutation(math.prod(half) - 1))
    indices = torch.cat([torch.zeros(1, dtype=torch.int64, device="cpu"), others])[:count]  # with the mean
    lead = shape[:len(shape) - len(sides)]

    def forward(x: Tensor) -> Tensor:
        waves = torch.fft.rfftn(x, dim=axes, norm="ortho").flatten(-len(sides))
        return torch.view_as_real(waves[..., indices.to(x.device)])

    return Operator(shape, (*lead, count, 2), forward)


# By name: an example of its number, which gives the type, or None without one; and its factory.
OPERATORS: dict[str, tuple[float | None, Callable[..., Operator]]] = {
    "blur": (1.5, _blur),
    "down": (4, lambda shape, factor: _blocks("down", shape, factor, total=False)),
    "fourier": (0.25, _fourier),
    "grey": (None, lambda shape: _average("grey", 0, shape)),
    "mask": (0.5, _mask),
    "mean": (None, lambda shape: _average("mean", -1, shape)),
    "sums": (4, lambda shape, factor: _blocks("sums", shape, factor, total=True)),
}
