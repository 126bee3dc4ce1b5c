"""Single-threaded worker processes, forked from this one to share its memory; they end with it.

Threads inside an operation gain little on small tensors, and wait for one another by spinning, which beside another
program costs many times what it gains. One worker a core is faster alone and keeps its share of a busy machine.
"""

from __future__ import annotations

import ctypes
import gc
import math
import mmap
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

__all__ = ["forked_workers", "run_pieces", "shared_tensor", "torch_threads", "use_one_thread", "worker_count"]

MIN_SECONDS = 0.2  # of work that is worth starting workers for


def worker_count() -> int:
    """The number of workers that fills this machine: torch's number of threads, or 1 where forking is not safe.

    `torch.set_num_threads` and OMP_NUM_THREADS limit it as they limit torch.
    """
    # Another thread may hold a lock that nobody would release in the fork; a CUDA context does not survive one.
    can_fork = (sys.platform == "linux" and threading.current_thread() is threading.main_thread()
                and not torch.cuda.is_initialized() and not multiprocessing.current_process().daemon)
    return torch.get_num_threads() if can_fork else 1


@contextmanager
def torch_threads(count: int | None) -> Generator[None, None, None]:
    """Set torch's number of threads inside the block; None leaves it unchanged."""
    before = torch.get_num_threads()
    if count and count != before:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)


def use_one_thread() -> None:
    """Let torch compute on one core in the calling thread, whatever it does in others.

    OpenMP's threads wait by sleeping once there are more of them than cores, which halves the speed of small operations
    in every thread.
    """
    torch.get_num_threads()  # sets this thread's number, on its first call
    threadpool_limits(1, user_api="openmp")  # torch.set_num_threads would count for other threads too


@contextmanager
def forked_workers(work: Callable[[int], None],
                   count: int) -> Generator[list[multiprocessing.process.BaseProcess], None, None]:
    """Run work(0) .. work(count - 1) in a process each; they are killed when the block ends."""
    fork = multiprocessing.get_context("fork")
    parent = os.getpid()
    processes = [fork.Process(target=_run_worker, args=(work, number, parent), daemon=True) for number in range(count)]
    try:
        for process in processes:
            process.start()
        yield list(processes)
    finally:
        for process in processes:
            if process.pid is not None:
                process.kill()
                process.join()
                process.close()


def _run_worker(work: Callable[[int], None], number: int, parent: int) -> None:
    for signal_number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signal_number, signal.SIG_IGN)  # the parent receives it too, and ends the workers
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(1)
    gc.freeze()  # finalisers of the parent's garbage may wait for threads that a fork does not have
    torch.set_num_threads(1)  # nor does it have those of torch
    work(number)


def shared_tensor(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """A new tensor of a shape, with the dtype and device of `like`; on a CPU, forked processes share its memory."""
    if like.device.type != "cpu" or 0 in shape or worker_count() == 1:
        return like.new_empty(shape)
    return _mapped_tensor(shape, like.dtype)


def _mapped_tensor(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.frombuffer(mmap.mmap(-1, math.prod(shape) * dtype.itemsize), dtype=dtype).reshape(shape)


def _finish(piece: Iterable[object] | None) -> None:
    """Run the rest of a piece that is a generator; any other is already done."""
    deque(piece or (), maxlen=0)


def run_pieces(work: Callable[[int], Iterable[object] | None], count: int,
               device: torch.device | str = "cpu") -> Iterator[int]:
    """Run work(0) .. work(count - 1), on one worker a core where that pays; yields the number of pieces done.

    Workers run on a CPU only. A piece writes its result into a `shared_tensor`, the same whichever process runs it. A
    long one should be a generator, whose steps are timed: the workers can start during the first piece.
    """
    workers = min(worker_count(), count) if torch.device(device).type == "cpu" else 1
    start = time.monotonic()
    with torch_threads(1 if torch.device(device).type == "cpu" else None):
        first = iter(work(0) or ())
        is_long = workers > 1 and any(time.monotonic() - start > MIN_SECONDS for _ in first)
        if workers == 1 or (not is_long and (count - 1) * (time.monotonic() - start) < MIN_SECONDS):
            for number in range(count):
                _finish(work(number) if number else first)
                yield number + 1
            return
        next_number, done = multiprocessing.Value("q", 1), _mapped_tensor((count,), torch.bool)

        def take_number() -> int:
            with next_number.get_lock():
                next_number.value += 1
                return next_number.value - 1

        def work_on(_: int) -> None:
            # The parent repeats a piece that fails here, and so raises its exception.
            with suppress(Exception):
                while (number := take_number()) < count:
                    _finish(work(number))
                    done[number] = True

        with forked_workers(work_on, workers - 1) as processes:
            number = 0
            while number < count:
                _finish(work(number) if number else first)
                done[number] = True
                if (done_count := int(done.sum())) < count:
                    yield done_count
                number = take_number()
            for process in processes:
                process.join()
        for number in (~done).nonzero().flatten().tolist():
            _finish(work(number))
        if count > 1:
            yield count
