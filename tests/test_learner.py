"""A step asks nothing of the device that the host would have to wait for."""

from __future__ import annotations

import contextlib

import pytest
from torch.utils._python_dispatch import TorchDispatchMode

from ornstein.data import load_data
from ornstein.training.engine import Engine
from ornstein.training.events import TrainingFailed
from ornstein.training.journal import Journal
from ornstein.training.learner import Learner
from ornstein.training.plan import resolve
from test_training import SMALL


class Reads(TorchDispatchMode):
    """Counts what the host reads of tensors: each read waits for a GPU."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += any(word in str(function) for word in ("local_scalar_dense", "is_nonzero", "nonzero", "equal"))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("options", [{}, {"micro_batch": 16}, {"mirror": True, "weighting": "eps"}])
def test_the_host_reads_nothing_of_a_step(options):
    """But at the times of a line of progress, which tells of losses and of steps that were skipped."""
    digits = load_data("digits")
    settings = resolve(SMALL.replace(images=6400, **options), digits, "cpu")
    learner = Learner(settings, digits, Engine())
    journal = Journal(None, {"loss": None, "held_out": None, "gap": None})
    with contextlib.closing(learner.loader):
        learner.step(1e-3)
        with Reads() as reads:
            for _ in range(3):
                journal.record_step(learner.step(1e-3), 1e-3)
        assert reads.count == 0
        with Reads() as reads:
            learner.check_gradients()
            assert journal.loss(learner.engine) is not None
            assert learner.skipped == 0
        assert reads.count == 3


def test_a_resumed_training_forgets_a_bad_stretch_that_has_ended():
    """States were written in the middle of it; a step of finite gradient ends it."""
    digits = load_data("digits")
    learner = Learner(resolve(SMALL.replace(images=6400), digits, "cpu"), digits, Engine())
    with contextlib.closing(learner.loader):
        learner.restore({**learner.state()[1], "skipped": 30, "skips_in_a_row": 12})
        learner.check_gradients()
        learner.step(1e-3)
        learner.check_gradients()
        assert learner.skips.tolist() == [30, 0, 0]
        learner.restore({**learner.state()[1], "skips_in_a_row": 12})
        learner.weights[0].register_hook(lambda gradient: gradient * float("nan"))
        learner.step(1e-3)
        with pytest.raises(TrainingFailed, match="not finite in 10 steps in a row"):
            learner.check_gradients()
