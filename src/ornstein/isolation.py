"""What a caller may have set of torch, kept out of the library's results and left as it was."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor, nn

__all__ = ["evaluation", "isolated", "isolation", "normal"]

P = ParamSpec("P")
R = TypeVar("R")

KINDS = ("cpu", "cuda", "mps", "xpu")  # of devices that have an autocast

# Modules that were in training mode and are in evaluation mode now, by how many callers need them so.
_lock = threading.Lock()
_evaluating: dict[nn.Module, int] = {}


@contextmanager
def isolation(gradients: bool | None = None, evaluating: Iterable[nn.Module] = ()) -> Iterator[None]:
    """No autocast, no inference mode, modules in evaluation mode; gradients as the caller has them where None."""
    with ExitStack() as stack:
        for kind in KINDS:
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
            gradients = bool(gradients)  # leaving the mode switches them on
        if gradients is not None:
            stack.enter_context(torch.enable_grad() if gradients else torch.no_grad())
        for module in evaluating:
            stack.enter_context(evaluation(module))
        yield


@contextmanager
def evaluation(module: nn.Module) -> Iterator[None]:
    """A module and all inside it in evaluation mode; several threads may ask for one module at the same time."""
    parts = []
    with _lock:
        for part in module.modules():
            if part.training or part in _evaluating:
                _evaluating[part] = _evaluating.get(part, 0) + 1
                part.training = False
                parts.append(part)
    try:
        yield
    finally:
        with _lock:
            for part in parts:
                _evaluating[part] -= 1
                if not _evaluating[part]:
                    del _evaluating[part]
                    part.training = True


def isolated(*, gradients: bool | None = None, evaluating: bool = False) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Run a public function in `isolation`, with `evaluating` the modules among its arguments in evaluation mode.

    A generator's steps run so too, and its consumer in the consumer's own state.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def run(*args: Any, **options: Any) -> Any:
            # A module whose own __init__ this is has no parts yet.
            modules = [value for value in (*args, *options.values())
                       if isinstance(value, nn.Module) and "_modules" in vars(value)]
            state = functools.partial(isolation, gradients, modules if evaluating else ())
            with state():
                if gradients is not False:
                    for module in modules:
                        normal(module)
                usable: Any = function  # a ParamSpec does not know of arguments that are replaced by others like them
                result = usable(*map(_usable, args), **{name: _usable(value) for name, value in options.items()})
            return _stepwise(result, state) if isinstance(result, Generator) else result

        return run

    return decorate


def normal(module: nn.Module) -> nn.Module:
    """The module itself, whose weights and buffers can be differentiated also if it was made in inference mode."""
    made: dict[int, Any] = {}
    for part in module.modules():
        for entries in (part._parameters, part._buffers):
            for name, value in entries.items():
                if value is None or not value.is_inference():
                    continue
                if id(value) not in made:
                    copy = value.clone()
                    made[id(value)] = nn.Parameter(copy, value.requires_grad) if entries is part._parameters else copy
                entries[name] = made[id(value)]
    return module


def _usable(value: Any) -> Any:
    """A tensor that was made in inference mode as one that can be part of a gradient; anything else as it is."""
    return value.clone() if isinstance(value, Tensor) and value.is_inference() else value


def _stepwise(walk: Generator[Any, None, Any], state: Callable[[], Any]) -> Iterator[Any]:
    """A generator that is in a state while it works, and in none while its consumer does."""
    try:
        while True:
            with state():
                try:
                    item = next(walk)
                except StopIteration:
                    return
            yield item
    finally:
        with state():
            walk.close()
