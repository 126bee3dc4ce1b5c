"""Worker processes do what one process does, and neither their number nor their death shows in the result."""

from __future__ import annotations

import os
import signal
import threading

import pytest
import torch

import ornstein as orn
from ornstein import noise, workers


@pytest.fixture(autouse=True)
def eager(monkeypatch):
    """Workers start whatever the work; three of them, on any machine."""
    monkeypatch.setattr(workers, "MIN_SECONDS", -1.0)
    monkeypatch.setattr(workers, "worker_count", lambda: 3)


def results(count: int, work=lambda number: number**2) -> list[int]:
    values = workers.shared_tensor((count,), torch.empty(0, dtype=torch.int64))

    def piece(number: int) -> None:
        values[number] = work(number)

    reached = list(workers.run_pieces(piece, count))
    assert reached == sorted(set(reached))
    assert reached[-1:] == [count][:count]
    return values.tolist()


@pytest.mark.parametrize("count", [1, 2, 40])
@pytest.mark.parametrize("processes", [1, 2, 4])
def test_every_piece_is_done_once_by_any_number_of_workers(monkeypatch, count, processes):
    monkeypatch.setattr(workers, "worker_count", lambda: processes)
    assert results(count) == [number**2 for number in range(count)]


def test_what_a_killed_worker_leaves_is_done_by_the_first_process():
    first = os.getpid()

    def work(number: int) -> int:
        if os.getpid() != first:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    assert results(20, work) == list(range(20))


def test_a_failing_piece_fails_in_the_first_process_whoever_had_it():
    def work(number: int) -> int:
        if number == 7:
            raise ZeroDivisionError("piece 7")
        return number

    with pytest.raises(ZeroDivisionError, match="piece 7"):
        results(20, work)


def test_workers_have_one_thread_and_leave_the_caller_his():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert results(6, lambda _: torch.get_num_threads()) == [1] * 6
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_no_worker_outlives_its_work():
    seen = workers.shared_tensor((30,), torch.empty(0, dtype=torch.int64))

    def work(number: int) -> None:
        seen[number] = os.getpid()

    for _ in workers.run_pieces(work, 30):
        pass
    for process in {*seen.tolist()} - {os.getpid()}:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


def test_a_thread_of_the_callers_does_not_fork(monkeypatch):
    monkeypatch.undo()
    counted: list[int] = []
    thread = threading.Thread(target=lambda: counted.append(workers.worker_count()))
    thread.start()
    thread.join()
    assert counted == [1]


@pytest.mark.parametrize("options", [{"sampler": "auto", "nfe": 6}, {"sampler": "ancestral", "steps": 5},
                                     {"sampler": "sa", "nfe": 5}, {"tolerance": 0.05}])
def test_samples_do_not_depend_on_the_number_of_workers_bit_for_bit(monkeypatch, options):
    weight, mean, variance = [0.3, 0.7], [[-1.0, 0.5], [1.0, 0.0]], [0.1, 0.2]
    model = orn.ExactMixture(*map(torch.tensor, (weight, mean, variance)), orn.Cosine())
    together = orn.sample(model, 50, batch=8, condition=torch.arange(50) % 2, seed=3, **options)
    monkeypatch.setattr(workers, "worker_count", lambda: 1)
    alone = orn.sample(model, 50, batch=8, condition=torch.arange(50) % 2, seed=3, **options)
    assert torch.equal(together, alone)
    few = orn.sample(model, 11, batch=8, condition=torch.arange(11) % 2, seed=3, **options)
    assert torch.equal(few, alone[:11])


def test_others_begin_while_the_first_piece_is_under_way():
    """Two pieces take as long as one: the second is begun before the first has ended."""
    seen = workers.shared_tensor((2,), torch.empty(0, dtype=torch.int64))

    def work(number: int):
        while number == 0 and not seen[1]:  # waits for the other one; a suite has a timeout
            yield
        seen[number] = os.getpid()

    assert list(workers.run_pieces(work, 2))[-1] == 2
    assert len({*seen.tolist()}) == 2


def test_batches_are_prepared_by_one_thread_that_leaves_the_others_theirs(monkeypatch):
    """More OpenMP threads than cores sleep between operations, which made a step of two threads 1.6 times as long."""
    counts, per_sample = {}, noise.per_sample

    def counted(*args):
        counts.setdefault(threading.current_thread() is threading.main_thread(), set()).add(torch.get_num_threads())
        return per_sample(*args)

    monkeypatch.setattr(noise, "per_sample", counted)
    settings = orn.Settings(threads=3, processes=1, batch=16)
    orn.Trainer("digits", images=64, settings=settings).fit(progress=False)
    assert counts[False] == {1}
    assert 3 in counts[True]
