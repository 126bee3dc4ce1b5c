"""Several processes of a training on one machine, for tests."""

from __future__ import annotations

import json
import multiprocessing
import tempfile
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist


def together(world: int, work: Callable[..., Any], *args: Any) -> list[Any]:
    """What `work(*args)` returns in each of `world` processes that can speak to one another; JSON values."""
    # Torch is imported once, by the server that the processes are forked from.
    multiprocessing.set_forkserver_preload(["torch", "torch.distributed", "ornstein"])
    with tempfile.TemporaryDirectory() as place:
        torch.multiprocessing.start_processes(_one, (world, place, work, args), nprocs=world,
                                              start_method="forkserver")
        return [json.loads((Path(place) / str(rank)).read_text()) for rank in range(world)]


def _one(rank: int, world: int, place: str, work: Callable[..., Any], args: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if world > 1:
        dist.init_process_group("gloo", store=dist.FileStore(f"{place}/store", world), rank=rank, world_size=world,
                                timeout=timedelta(seconds=60))
    (Path(place) / str(rank)).write_text(json.dumps(work(*args)))
    if world > 1:
        dist.destroy_process_group()
