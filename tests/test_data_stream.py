"""What the endless stream promises: every sample once an epoch, one order for any number of processes, any start."""

import itertools
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ornstein.data import load_data
from ornstein.data.stream import stream

pytest.importorskip("grain")


def numbered(count):
    """A set whose labels are its row numbers."""
    return load_data((np.arange(count, dtype=np.float32)[:, None], np.arange(count)))


def steps(data, count, **options):
    return [labels.tolist() for _, labels in itertools.islice(stream(data, **options), count)]


@settings(max_examples=4)
@given(st.integers(1, 40), st.integers(1, 4), st.sampled_from([2, 3, 4]), st.integers(0, 30),
       st.integers(0, 2**64 - 1))
def test_a_step_has_the_same_rows_for_every_world_and_every_start(count, times, world, start, seed):
    data, batch = numbered(count), 12 * times
    alone = steps(data, start + 2, seed=seed, batch=batch)
    together = [steps(data, 2, seed=seed, batch=batch, start=start, rank=rank, world=world) for rank in range(world)]
    for step in range(2):
        rows = [row for ranks in together for row in ranks[step]]
        assert rows == alone[start + step]


@given(st.integers(1, 50), st.integers(0, 99))
@settings(max_examples=6)
def test_an_epoch_has_every_sample_once_and_the_next_another_order(count, seed):
    epochs = steps(numbered(count), 3, seed=seed, batch=count)
    assert all(sorted(epoch) == list(range(count)) for epoch in epochs)
    if count >= 20:
        assert epochs[0] != epochs[1] != epochs[2]


def test_all_bits_of_the_seed_count():
    orders = {tuple(steps(numbered(60), 1, seed=seed, batch=60)[0]) for seed in (0, 1, 2**32, 2**63, 2**64 - 1)}
    assert len(orders) == 5


def test_the_order_does_not_depend_on_threads_and_samples_keep_their_labels():
    data = numbered(50)
    assert steps(data, 9, seed=1, batch=8, threads=1) == steps(data, 9, seed=1, batch=8, threads=4)
    x, labels = next(stream(data, 1, 8))
    assert torch.equal(x, data.batch(labels)[0])


def test_the_rows_held_out_are_not_streamed():
    train, _ = numbered(40).split()
    seen = set(itertools.chain(*steps(train, 8, seed=0, batch=9)))
    assert seen == set(np.flatnonzero(~numbered(40).held).tolist())


@pytest.mark.parametrize(("change", "message"), [
    ({"batch": 0}, "batch is 0; it must be a whole number from 1"), ({"start": -1}, "start is -1"),
    ({"world": 3}, "batch is 8; it must be a multiple of the 3 processes"), ({"seed": 2**64}, "seed is"),
    ({"rank": 2, "world": 2}, "rank is 2; it must be a whole number from 0 to 1"), ({"start": 1.5}, "start is 1.5"),
])
def test_wrong_numbers_are_refused(change, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        stream(numbered(20), **{"seed": 0, "batch": 8} | change)
