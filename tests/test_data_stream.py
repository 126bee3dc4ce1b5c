"""What the endless stream promises: every sample once an epoch, one order for any number of processes, any start."""

import itertools
import pickle
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data_corpus import fill, pack
from ornstein.data import cache, load_data
from ornstein.data.stream import stream

pytest.importorskip("grain")


def numbered(count):
    """A set whose labels are its row numbers."""
    return load_data((np.arange(count, dtype=np.float32)[:, None], np.arange(count)))


def steps(data, count, **options):
    return [labels.tolist() for _, labels in itertools.islice(stream(data, **options), count)]


@settings(max_examples=3)
@given(st.integers(1, 40), st.integers(1, 4), st.sampled_from([2, 3, 4]), st.integers(0, 12),
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


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """A folder, a shard and a table of the same twelve pictures, and an array that stays on the disk."""
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(cache, "MIN_CACHED_BYTES", 1)
    fill(tmp_path / "folder", 12, "{:02d}.png")
    paths = sorted((tmp_path / "folder").iterdir())
    pack(tmp_path / "a.tar", [(path.name, path.read_bytes()) for path in paths])
    pq.write_table(pa.table({"image": [path.read_bytes() for path in paths]}), tmp_path / "a.parquet", row_group_size=5)
    np.save(tmp_path / "a.npy", np.arange(1200.0).reshape(12, 100))
    return tmp_path


@pytest.mark.parametrize("name", ["folder", "a.tar", "a.parquet", "a.npy"])
def test_a_set_can_be_sent_to_another_process(sources, name):
    data = load_data(sources / name, reader="auto" if name == "a.npy" else "stream")
    expected = data.batch([7, 0, 11])[0]
    assert torch.equal(pickle.loads(pickle.dumps(data)).batch([7, 0, 11])[0], expected)  # noqa: S301


@pytest.mark.parametrize("name", ["folder", "a.tar", "a.parquet", "a.npy"])
def test_a_set_is_read_in_forked_workers(sources, name):
    """The threads of the parent are not there, and its locks may be held for ever."""
    data = load_data(sources / name, reader="auto" if name == "a.npy" else "stream")
    expected = data.batch(range(12))[0]
    loaded = torch.utils.data.DataLoader(range(12), batch_size=4, num_workers=2, collate_fn=data.batch,
                                         multiprocessing_context="fork", timeout=600)
    assert torch.equal(torch.cat([x for x, _ in loaded]), expected)


@pytest.mark.slow
def test_a_set_is_read_in_spawned_workers(sources):
    data = load_data(sources / "a.tar", reader="stream")
    loaded = torch.utils.data.DataLoader(range(12), batch_size=4, num_workers=1, collate_fn=data.batch,
                                         multiprocessing_context="spawn", timeout=600)
    assert torch.equal(torch.cat([x for x, _ in loaded]), data.batch(range(12))[0])
