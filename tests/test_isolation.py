"""What the caller has set of torch, the thread and the process change no result of the library."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ornstein as orn
import public_calls
from ornstein.isolation import evaluation_mode, isolated
from public_calls import CALLS, INPUTS, LARGE, LARGEST, picture, plain, results

SMALL = tuple(name for name in CALLS if name not in (*LARGE, *LARGEST))
# Modules of torch, which a caller may run in bfloat16 on purpose, as `NetworkDenoiser` does at precision "bf16".
NETWORKS = ("UNet", "DiT", "MLP")


@contextmanager
def default_dtype() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def strict() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        with torch.autograd.set_detect_anomaly(True):
            yield
    finally:
        torch.use_deterministic_algorithms(False)


@contextmanager
def all_at_once() -> Iterator[None]:
    with ExitStack() as stack:
        for state in STATES.values():
            stack.enter_context(state())
        yield


STATES: dict[str, Callable[[], Any]] = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "float64 by default": default_dtype,
    "another device by default": lambda: torch.device("meta"),
}
STRICT = "deterministic, anomalies detected"


@pytest.fixture(scope="module", autouse=True)
def _threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def usual() -> dict[str, str]:
    return results((*SMALL, *LARGE))


def differing(found: dict[str, str], wanted: dict[str, str]) -> list[str]:
    return [name for name in found if found[name] != wanted[name]]


def test_everything_public_has_a_call_in_the_table():
    assert {word for names in CALLS for word in names.split()} == {*orn.__all__} - {"__version__"}


@pytest.mark.parametrize("state", [*STATES, pytest.param(STRICT, marks=pytest.mark.slow)])
def test_no_state_of_torch_changes_a_result(usual, state):
    with strict() if state == STRICT else STATES[state]():
        found = results(name for name in SMALL if state != "autocast" or name not in NETWORKS)
    assert not differing(found, usual)


def test_nor_do_all_of_them_together_change_a_training_or_a_tuning(usual):
    with all_at_once():
        found = results(LARGE)
    assert not differing(found, usual)


@pytest.mark.parametrize("kind", ["a thread", "fork"])
def test_nor_does_another_thread_or_process(usual, kind):
    assert not differing(elsewhere(kind, SMALL), usual)


@pytest.mark.slow
def test_nor_an_evaluation_nor_anything_elsewhere():
    wanted = results(CALLS)
    with all_at_once():
        assert not differing(results(LARGEST), wanted)
    for kind in ("a thread", "fork", "spawn"):
        assert not differing(elsewhere(kind, tuple(CALLS)), wanted)


def elsewhere(kind: str, names: tuple[str, ...]) -> dict[str, str]:
    # A forked process has one thread from its start: OpenMP would wait for those of its parent.
    with ThreadPoolExecutor(1) if kind == "a thread" else ProcessPoolExecutor(
            1, multiprocessing.get_context(kind), torch.set_num_threads, (1,)) as pool:
        return pool.submit(results, names).result()


INPUT_KINDS: dict[str, Callable[[Tensor], Tensor]] = {
    "with gradients": lambda value: value.clone().requires_grad_(),
    "not contiguous": lambda value: value.repeat_interleave(2, -1)[..., ::2],
    "made in inference mode": lambda value: torch.inference_mode()(value.clone)(),
}


@pytest.mark.parametrize("kind", INPUT_KINDS)
def test_nor_do_inputs_of_any_kind_which_stay_as_they_are(usual, monkeypatch, kind):
    given = {name: INPUT_KINDS[kind](getattr(public_calls, name)) for name in INPUTS}
    for name, value in given.items():
        monkeypatch.setattr(public_calls, name, value)
    before = {name: value.detach().clone() for name, value in given.items()}
    assert not differing(results(SMALL), usual)
    assert all(torch.equal(value, before[name]) for name, value in given.items())


def test_a_model_made_in_inference_mode_is_one_that_can_be_followed_and_trained():
    """... whether its network is ours or the user's own."""
    for make, x in ((picture, public_calls.P), (plain, public_calls.X)):
        wanted = orn.ode_likelihood(make(), x[:1], t=0.6, tolerance=0.5).log_prob
        with torch.inference_mode():
            model = make()
        assert torch.equal(orn.ode_likelihood(model, x[:1], t=0.6, tolerance=0.5).log_prob, wanted)
    with torch.inference_mode():
        network = public_calls.weights(public_calls.Dropping())
    weights = orn.Trainer(public_calls.X.numpy(), network, images=16, settings=orn.Settings(batch=8)).fit().state_dict()
    assert all(value.isfinite().all() for value in weights.values())


def test_the_callers_state_is_there_between_two_frames_and_after_the_last():
    with torch.autocast("cpu", torch.bfloat16):
        model = plain()
        for number, _ in enumerate(orn.generate(model, 2, nfe=4)):
            assert torch.is_grad_enabled()
            assert torch.is_autocast_enabled("cpu")
            assert model.training
            assert model.network.drop.training
            if number == 2:
                break
        with pytest.raises(ValueError, match="nfe is 0"):
            orn.sample(model, 2, nfe=0)
        assert torch.is_grad_enabled()
        assert torch.is_autocast_enabled("cpu")
        assert model.training


def test_a_generator_that_is_closed_cleans_up_in_the_librarys_state():
    seen = []

    @isolated(gradients=False)
    def walk():
        try:
            yield 1
            yield 2
        finally:
            seen.append(torch.is_grad_enabled())

    for _ in walk():
        break
    assert seen == [False]
    assert torch.is_grad_enabled()


def test_two_threads_that_draw_from_one_model_in_training_mode_leave_it_so():
    """... each part in the mode that it was in, and in evaluation mode until the last of them is done."""
    model = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout(), nn.Dropout().eval()))
    modes = lambda: [part.training for part in model.modules()]  # noqa: E731
    before, inside, leave = modes(), threading.Event(), threading.Event()

    def other() -> None:
        with evaluation_mode(model[1]):
            inside.set()
            leave.wait()

    with evaluation_mode(model):
        thread = threading.Thread(target=other)
        thread.start()
        inside.wait()
        assert not any(modes())
    assert modes() == [True, True, False, False, False]
    leave.set()
    thread.join()
    assert modes() == before == [True, True, True, True, False]
