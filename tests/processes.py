"""Processes of their own for tests, forked from one that has imported what all of them need."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

NEEDED = ["torch", "torch._dynamo", "torch.distributed.fsdp", "sklearn.datasets", "matplotlib.figure", "pytest",
          "PIL.Image", "ornstein.cli.train", "ornstein.cli.sample", "ornstein.training.trainer"]


class Apart:
    """A function that runs in a process of its own.

    Args:
        heard: file for all that it prints.
        work: function of a module; its arguments follow.
        environment: variables that it has beside those of this process.
    """

    def __init__(self, heard: Path, work: Callable[..., Any], *args: Any, **environment: str) -> None:
        multiprocessing.set_forkserver_preload(NEEDED)
        context = multiprocessing.get_context("forkserver")
        self.heard = heard
        self.process = context.Process(target=_apart, args=(heard, {**os.environ, **environment}, work, args),
                                       daemon=False)
        self.process.start()
        self.pid = self.process.pid

    def running(self) -> bool:
        """Whether it still runs, after a moment's wait."""
        self.process.join(0.02)
        return self.process.exitcode is None

    def wait(self) -> int:
        """Its exit code, minus the signal if one has killed it."""
        self.process.join()
        return self.process.exitcode

    def said(self) -> str:
        """All that it has printed when it has ended."""
        self.wait()
        return self.heard.read_text()


def _apart(heard: Path, environment: dict[str, str], work: Callable[..., Any], args: tuple[Any, ...]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    torch.set_num_threads(1)
    with open(heard, "ab") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    work(*args)


def ornstein(*words: Any) -> None:
    """The command line."""
    from ornstein import cli

    sys.argv = ["ornstein", *map(str, words)]
    cli.main()


def together(world: int, work: Callable[..., Any], *args: Any) -> list[Any]:
    """What `work(*args)` returns in each of `world` processes that can speak to one another; JSON values."""
    multiprocessing.set_forkserver_preload(NEEDED)
    with tempfile.TemporaryDirectory() as place:
        torch.multiprocessing.start_processes(_one, (world, place, work, args), nprocs=world,
                                              start_method="forkserver")
        return [json.loads((Path(place) / str(rank)).read_text()) for rank in range(world)]


def _one(rank: int, world: int, place: str, work: Callable[..., Any], args: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if world > 1:
        dist.init_process_group("gloo", store=dist.FileStore(f"{place}/store", world), rank=rank, world_size=world,
                                timeout=timedelta(minutes=10))
    (Path(place) / str(rank)).write_text(json.dumps(work(*args)))
    if world > 1:
        dist.destroy_process_group()
