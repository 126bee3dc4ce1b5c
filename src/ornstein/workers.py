"""Worker processes of one thread each: they are forked from this one, share its memory as it was, and end with it.

Threads inside an operation gain little on small tensors, and wait for one another by spinning, which beside another
program costs many times what it gains. A worker a core is faster alone and keeps its share of a busy machine.
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
from torch import Tensor

__all__ = ["cores", "each", "forked", "shared", "threads"]

PAYS = 0.2  # seconds of work that are worth the start of workers


def cores() -> int:
    """Workers that fill this machine: torch's number of threads; 1 where this process cannot be forked safely.

    `torch.set_num_threads` and OMP_NUM_THREADS limit it as they limit torch.
    """
    # A thread of the caller's may hold a lock that nobody would release in the fork; a GPU's context does not survive.
    forkable = (sys.platform == "linux" and threading.current_thread() is threading.main_thread()
                and not torch.cuda.is_initialized() and not multiprocessing.current_process().daemon)
    return torch.get_num_threads() if forkable else 1


@contextmanager
def threads(count: int | None) -> Generator[None, None, None]:
    """So many threads inside an operation, and as many as before after it; None leaves them as they are."""
    before = torch.get_num_threads()
    if count and count != before:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)


@contextmanager
def forked(work: Callable[[int], None], count: int) -> Generator[list[multiprocessing.process.BaseProcess], None, None]:
    """Run work(0) .. work(count - 1) in a process each, which are ended when the block is left."""
    fork = multiprocessing.get_context("fork")
    parent = os.getpid()
    processes = [fork.Process(target=_begin, args=(work, number, parent), daemon=True) for number in range(count)]
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


def _begin(work: Callable[[int], None], number: int, parent: int) -> None:
    for wish in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(wish, signal.SIG_IGN)  # the first process hears it, and ends the others
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(1)
    gc.freeze()  # what the parent left to be freed may wait for threads that a fork does not have
    torch.set_num_threads(1)  # nor has it those of operations
    work(number)


def shared(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """A new tensor of a shape, of the kind of `like`, on a CPU in memory that forked processes write into for all."""
    if like.device.type != "cpu" or 0 in shape or cores() == 1:
        return like.new_empty(shape)
    return _mapped(shape, like.dtype)


def _mapped(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.frombuffer(mmap.mmap(-1, math.prod(shape) * dtype.itemsize), dtype=dtype).reshape(shape)


def _finish(piece: Iterable[object] | None) -> None:
    """Do what is left of a piece that is a generator; any other is done already."""
    deque(piece or (), maxlen=0)


def each(work: Callable[[int], Iterable[object] | None], count: int,
         device: torch.device | str = "cpu") -> Iterator[int]:
    """Do work(0) .. work(count - 1), by a worker a core where that pays, and on a CPU alone; yields how many are done.

    A piece leaves its result in `shared` memory, the same whichever process does it. One that takes long is a
    generator, whose steps are looked at: in the middle of the first piece the workers can begin with the others.
    """
    workers = min(cores(), count) if torch.device(device).type == "cpu" else 1
    began = time.monotonic()
    with threads(1 if torch.device(device).type == "cpu" else None):
        first = iter(work(0) or ())
        long = workers > 1 and any(time.monotonic() - began > PAYS for _ in first)
        if workers == 1 or (not long and (count - 1) * (time.monotonic() - began) < PAYS):
            for number in range(count):
                _finish(work(number) if number else first)
                yield number + 1
            return
        following, done = multiprocessing.Value("q", 1), _mapped((count,), torch.bool)

        def take() -> int:
            with following.get_lock():
                following.value += 1
                return following.value - 1

        def share(_: int) -> None:
            # A piece that fails here is done again by the first process, where its exception is seen.
            with suppress(Exception):
                while (number := take()) < count:
                    _finish(work(number))
                    done[number] = True

        with forked(share, workers - 1) as others:
            number = 0
            while number < count:
                _finish(work(number) if number else first)
                done[number] = True
                if (reached := int(done.sum())) < count:
                    yield reached
                number = take()
            for process in others:
                process.join()
        for number in (~done).nonzero().flatten().tolist():
            _finish(work(number))
        if count > 1:
            yield count
