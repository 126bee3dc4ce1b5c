"""The processes of a training: what they hold, share and tell one another, by PyTorch's own engine."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ornstein import machine
from ornstein.arguments import require
from ornstein.diffusion.denoiser import NetworkDenoiser

__all__ = ["PARALLEL", "Engine", "begin", "end", "full", "join", "like", "local"]

PARALLEL = ("ddp", "fsdp")
PATIENCE = timedelta(hours=1)  # with a process that lives and does not answer; dead ones are noticed at once


class Engine:
    """One of the processes that train together, or the only one.

    Every process holds `batch / world` rows of each batch. With "ddp" each has all weights; with "fsdp" weights,
    averages and moments are split over groups of `shard` processes, and the groups repeat one another.
    """

    def __init__(self) -> None:
        self.world = dist.get_world_size() if dist.is_initialized() else 1
        self.rank = dist.get_rank() if dist.is_initialized() else 0
        self.parallel, self.shard, self.device = "ddp", self.world, machine.default_device()
        self.crew: int | None = None  # processes of one machine, whose cores are free while the first one draws
        if self.device == "cuda" and self.world > 1:
            self.device = f"cuda:{int(os.environ.get('LOCAL_RANK', '0'))}"
            torch.cuda.set_device(self.device)
        # Where the host's own numbers are shared: on the host if that can be, for no GPU is waited for there.
        self.host = "cpu" if self.world > 1 and "gloo" in dist.get_backend_config() else self.device

    @classmethod
    def alone(cls) -> Engine:
        """One process's engine, inside a process that is one of several."""
        engine = cls()
        engine.world, engine.rank, engine.shard = 1, 0, 1
        return engine

    def choose(self, parallel: str, shard: int | None = None) -> None:
        """Share the work by "ddp", or by "fsdp" in groups of `shard` processes; ValueError unless they divide all."""
        self.parallel, self.shard = require("parallel", parallel, PARALLEL), shard or self.world
        if self.world % self.shard:
            raise ValueError(f"shard is {shard}; it must divide the {self.world} processes")

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.rank == 0

    @property
    def sharded(self) -> bool:
        """Whether weights are split over processes."""
        return self.world > 1 and self.parallel == "fsdp"

    def rows(self, batch: int) -> slice:
        """Which rows of a batch are this process's; ValueError for a batch that the processes do not divide."""
        if batch % self.world:
            raise ValueError(f"batch is {batch}; {self.world} processes need a multiple of {self.world}")
        share = batch // self.world
        return slice(self.rank * share, (self.rank + 1) * share)

    def split(self, model: NetworkDenoiser) -> None:
        """Split a model's weights over the processes, block by block, if that is the way (Zhao et al. 2023)."""
        if not self.sharded:
            return
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh(torch.device(self.device).type, (self.world // self.shard, self.shard),
                                mesh_dim_names=("replicate", "shard"))
        for value in model.network.parameters():
            value.data = value.data.contiguous()  # weights whose channels come last cannot be split
        for stack in model.network.modules():
            if isinstance(stack, nn.ModuleList):
                for block in stack:
                    if not isinstance(block, nn.ModuleList):
                        fully_shard(block, mesh=mesh)
        fully_shard(model.network, mesh=mesh)

    def wrap(self, model: NetworkDenoiser, own: bool = False, compiled: bool = False) -> NetworkDenoiser:
        """The model as it is trained: the same weights, with gradients averaged over the processes, perhaps compiled.

        A network of the user's `own` may leave weights unused.
        """
        twin = copy.copy(model)
        twin._modules = dict(model._modules)
        if compiled:
            twin.network = torch.compile(model.network, dynamic=False)  # pyrefly: ignore[bad-assignment]
        if self.world > 1 and not self.sharded:
            from torch.nn.parallel import DistributedDataParallel

            twin.network = DistributedDataParallel(twin.network, forward_sync_buffers=False,
                                                   find_unused_parameters=own)
        return twin

    def sync(self, wrapped: NetworkDenoiser, last: bool) -> AbstractContextManager:
        """Around the passes over one micro-batch: gradients travel with the last one only."""
        network = wrapped.network
        if self.sharded:
            network.set_requires_gradient_sync(last)  # pyrefly: ignore[not-callable]
        elif self.world > 1 and not last:
            return network.no_sync()  # pyrefly: ignore[not-callable]
        return nullcontext()

    def same(self, tensors: Iterable[Tensor]) -> None:
        """Give every process the first one's values, in place."""
        if self.world > 1:
            for value in tensors:
                dist.broadcast(value, 0)

    def share(self, pieces: range) -> range:
        """This process's part of some pieces of work; all of them where the processes share weights, or there is one.

        `total` brings together what each has left at its own places among zeros.
        """
        return pieces if self.sharded else pieces[self.rank::self.world]

    def total(self, values: list[float]) -> list[float]:
        """Each value of the process that it is a `share` of."""
        return values if self.sharded else self._reduced(values, dist.ReduceOp.SUM)

    def most(self, values: list[float]) -> list[float]:
        """The largest of each value over the processes."""
        return self._reduced(values, dist.ReduceOp.MAX)

    def mean(self, values: list[float]) -> list[float]:
        """The mean of each value over the processes."""
        return [value / self.world for value in self._reduced(values, dist.ReduceOp.SUM)]

    def _reduced(self, values: list[float], how: dist.ReduceOp.RedOpType) -> list[float]:
        if self.world == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64, device=self.host)
        dist.all_reduce(tensor, how)
        return tensor.tolist()

    def text(self, text: str) -> str:
        """The first process's text, in every process."""
        if self.world == 1:
            return text
        content = torch.tensor(list(text.encode()), dtype=torch.uint8, device=self.host)
        length = torch.tensor(len(content), device=self.host)
        dist.broadcast(length, 0)
        if not self.first:
            content = torch.empty(int(length), dtype=torch.uint8, device=self.host)
        dist.broadcast(content, 0)
        return bytes(content.tolist()).decode()

    def once(self, work: Callable[[], None]) -> None:
        """Let the first process do something on disk; if it cannot, the OSError is raised in every process."""
        fault = None
        if self.first:
            try:
                work()
            except OSError as error:
                fault = error
        if self.most([float(fault is not None)])[0]:
            raise fault or OSError("the first process could not write; its message says why")


def begin() -> None:
    """Join the processes that torchrun has started, if it has."""
    if "WORLD_SIZE" in os.environ and not dist.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if machine.default_device() == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=PATIENCE)


def join(place: Path, rank: int, world: int) -> None:
    """Join the processes on this machine that name the same new file."""
    dist.init_process_group("gloo", store=dist.FileStore(str(place), world), rank=rank, world_size=world,
                            timeout=PATIENCE)


def end() -> None:
    """Leave them."""
    if dist.is_initialized():
        dist.destroy_process_group()


def full(value: Tensor) -> Tensor:
    """A tensor put together from its parts on all processes; itself if it has none."""
    return value.full_tensor() if hasattr(value, "full_tensor") else value  # pyrefly: ignore[not-callable]


def local(value: Tensor) -> Tensor:
    """This process's part of a tensor."""
    return value.to_local() if hasattr(value, "to_local") else value  # pyrefly: ignore[not-callable]


def like(value: Tensor, pattern: Tensor) -> Tensor:
    """A whole tensor, split over the processes as another one is."""
    if type(pattern) in (Tensor, nn.Parameter):
        return value
    from torch.distributed.tensor import DTensor, distribute_tensor

    return distribute_tensor(value, pattern.device_mesh, pattern.placements) if isinstance(pattern, DTensor) else value
