"""Keep the caller's torch state (autocast, inference mode, training mode) out of the library's results."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor, nn

__all__ = ["evaluation_mode", "isolated", "isolation", "leave_inference_mode"]

P = ParamSpec("P")
R = TypeVar("R")

DEVICE_TYPES = ("cpu", "cuda", "mps", "xpu")  # that have an autocast

# Modules taken out of training mode, with the number of callers that need them so.
_lock = threading.Lock()
_evaluating: dict[nn.Module, int] = {}


@contextmanager
def isolation(gradients: bool | None = None, evaluating: Iterable[nn.Module] = ()) -> Iterator[None]:
    """Switch off autocast and inference mode, and put modules in evaluation mode; None leaves gradients as they are."""
    with ExitStack() as stack:
        for device_type in DEVICE_TYPES:
            if torch.is_autocast_enabled(device_type):
                stack.enter_context(torch.autocast(device_type, enabled=False))
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
            gradients = bool(gradients)  # leaving the mode switches them on
        if gradients is not None:
            stack.enter_context(torch.enable_grad() if gradients else torch.no_grad())
        for module in evaluating:
            stack.enter_context(evaluation_mode(module))
        yield


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Put a module and its submodules in evaluation mode; several threads may do so for one module at the same time."""
    switched = []
    with _lock:
        for submodule in module.modules():
            if submodule.training or submodule in _evaluating:
                _evaluating[submodule] = _evaluating.get(submodule, 0) + 1
                submodule.training = False
                switched.append(submodule)
    try:
        yield
    finally:
        with _lock:
            for submodule in switched:
                _evaluating[submodule] -= 1
                if not _evaluating[submodule]:
                    del _evaluating[submodule]
                    submodule.training = True


def isolated(*, gradients: bool | None = None, evaluating: bool = False) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Run a public function in `isolation`; with `evaluating`, modules among its arguments are in evaluation mode.

    The steps of a generator are isolated too, and its consumer keeps its own state between them.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def run(*args: Any, **options: Any) -> Any:
            # A module whose own __init__ this is has no _modules yet.
            modules = [value for value in (*args, *options.values())
                       if isinstance(value, nn.Module) and "_modules" in vars(value)]
            state = functools.partial(isolation, gradients, modules if evaluating else ())
            with state():
                if gradients is not False:
                    for module in modules:
                        leave_inference_mode(module)
                untyped: Any = function  # a ParamSpec does not allow arguments to be replaced by others of their type
                result = untyped(*map(_differentiable, args),
                                 **{name: _differentiable(value) for name, value in options.items()})
            return _stepwise(result, state) if isinstance(result, Generator) else result

        return run

    return decorate


def leave_inference_mode(module: nn.Module) -> nn.Module:
    """Replace weights and buffers created in inference mode by ones that autograd accepts; return the module itself."""
    clones: dict[int, Any] = {}
    for submodule in module.modules():
        for entries in (submodule._parameters, submodule._buffers):
            for name, value in entries.items():
                if value is None or not value.is_inference():
                    continue
                if id(value) not in clones:
                    clone = value.clone()
                    clones[id(value)] = (nn.Parameter(clone, value.requires_grad)
                                         if entries is submodule._parameters else clone)
                entries[name] = clones[id(value)]
    return module


def _differentiable(value: Any) -> Any:
    """A tensor created in inference mode as one that autograd accepts; anything else unchanged."""
    return value.clone() if isinstance(value, Tensor) and value.is_inference() else value


def _stepwise(generator: Generator[Any, None, Any], state: Callable[[], Any]) -> Iterator[Any]:
    """Run the steps of a generator in a state, which is left while its consumer runs."""
    try:
        while True:
            with state():
                try:
                    item = next(generator)
                except StopIteration:
                    return
            yield item
    finally:
        with state():
            generator.close()
