"""Walks that share network calls: each is the same as alone, and what happens to one happens to no other."""

from __future__ import annotations

import threading
import time

import pytest
import torch
from torch import nn

import ornstein as orn
from ornstein.studio.batching import Batcher, Stopped, Walk


class Told(nn.Module):
    """A network whose float32 results depend on the number of rows of a batch, and that fails at class 3 if it is to.
    """

    conditions = 4

    def __init__(self, fails: bool = False):
        super().__init__()
        generator, self.fails, self.rows = torch.Generator().manual_seed(0), fails, []
        self.convolution = nn.Conv2d(1, 8, 3, padding=1)
        self.inside, self.out = nn.Linear(128 + 2, 64), nn.Linear(64, 16)
        self.gate = threading.Event()
        self.gate.set()
        with torch.no_grad():
            for value in self.parameters():
                value.copy_(0.3 * torch.randn(value.shape, generator=generator))

    def forward(self, y, log_snr, condition):
        self.gate.wait(10)
        self.rows.append(len(y))
        if self.fails and (condition == 3).any():
            raise RuntimeError("class 3 is poison")
        inner = self.convolution(y).flatten(1)
        told = torch.zeros(len(y)) if condition is None else condition.float()
        seen = torch.cat([inner, log_snr[:, None], told[:, None]], 1)
        return self.out(torch.tanh(self.inside(seen))).reshape(y.shape)


def model(fails: bool = False) -> orn.NetworkDenoiser:
    return orn.NetworkDenoiser(Told(fails), orn.Cosine(), (1, 4, 4), data_std=0.5).eval()


def together(batcher, works):
    """What each of the works gives or raises, all at once in a thread each."""
    given = [None] * len(works)

    def run(number):
        try:
            with batcher.walking(Walk()):
                given[number] = works[number]()
        except Exception as error:
            given[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return given


@pytest.fixture
def batcher():
    made = Batcher(2)
    yield made
    made.close()


def asked():
    """Drawings and edits of many kinds, sizes and lengths."""
    works = []
    for number, sampler in enumerate(orn.samplers()):
        works.append({"count": (1, 4, 16, 70)[number % 4], "sampler": sampler, "nfe": 4 + number % 5, "seed": number,
                      "condition": number % 4, "guidance": (None, 2.0, None, 1.5)[number % 4]})
    return works


def test_every_walk_among_others_is_bit_for_bit_the_walk_alone(batcher):
    """All samplers, counts below and above a call's rows, guidance, and every edit; calls hold the rows of several."""
    denoiser = model()
    x = orn.sample(denoiser, 2, nfe=4, condition=0)
    mask = torch.ones(4, 4, dtype=torch.bool).tril()
    works = [lambda words=words: orn.sample(denoiser, **words) for words in asked()]
    works += [lambda: orn.inpaint(denoiser, x, mask, 5, nfe=6, condition=1),
              lambda: orn.restore(denoiser, x[:, :, ::2, ::2], lambda x: x[:, :, ::2, ::2], 0.1, 3, nfe=6),
              lambda: orn.vary(denoiser, x, 0.5, 3, nfe=8, seed=2), lambda: orn.invert(denoiser, x, nfe=5),
              lambda: orn.interpolate(denoiser, x[:1], x[1:], 4, nfe=5)]
    alone = [work() for work in works]
    for one, other in zip(alone, together(batcher, works), strict=True):
        assert torch.equal(one, other)
    assert set(denoiser.network.rows) <= {64, 128}
    assert batcher.filled > 12 * batcher.calls  # one by one they fill 10


def test_one_whose_call_fails_does_not_harm_the_others(batcher):
    sound, poisoned = model(), model(fails=True)
    words = [{"count": 5, "nfe": 6, "seed": seed, "condition": seed % 4} for seed in range(8)]
    given = together(batcher, [lambda one=one: orn.sample(poisoned, **one) for one in words])
    for one, drawn in zip(words, given, strict=True):
        if one["condition"] == 3:
            assert isinstance(drawn, RuntimeError)
        else:
            assert torch.equal(drawn, orn.sample(sound, **one))


def test_a_model_whose_calls_all_fail_leaves_its_thread_to_the_next(batcher):
    for _ in range(3):  # more often than there are threads; 150 rows are three calls, of which the first fails
        failed = together(batcher, [lambda: list(orn.generate(model(fails=True), 150, nfe=2, condition=3))])[0]
        assert isinstance(failed, RuntimeError)
    drawn = together(batcher, [lambda: orn.sample(model(), 3, nfe=2)])[0]
    assert torch.equal(drawn, orn.sample(model(), 3, nfe=2))
    assert not batcher._queues


def test_a_walk_that_is_stopped_ends_before_its_next_call_and_others_go_on(batcher):
    denoiser = model()
    network, stopped, given = denoiser.network, Walk(), []
    network.gate.clear()

    def run():
        try:
            with batcher.walking(stopped):
                orn.sample(denoiser, 3, nfe=900)
        except Stopped as stop:
            given.append(str(stop))

    thread = threading.Thread(target=run)
    thread.start()
    while stopped.pending is None:
        time.sleep(0.001)
    batcher.stop(stopped, "enough")
    thread.join(10)
    assert given == ["enough"]
    network.gate.set()
    drawn = together(batcher, [lambda: orn.sample(denoiser, 3, nfe=5)])[0]
    assert torch.equal(drawn, orn.sample(denoiser, 3, nfe=5))
    assert len(network.rows) <= 2 + 5 + 5
