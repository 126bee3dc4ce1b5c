"""The processes of a training run and their communication, through `torch.distributed`."""

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

__all__ = ["PARALLEL", "Engine", "join_group", "join_torchrun", "leave_group", "shard_like", "to_full", "to_local"]

PARALLEL = ("ddp", "fsdp")
TIMEOUT = timedelta(hours=1)  # for a process that is alive but does not answer; dead ones are noticed at once


class Engine:
    """One of the processes that train together, or the only one.

    Every process takes `batch / world` rows of each batch. With "ddp" each has all weights; with "fsdp" weights,
    averages and moments are sharded over groups of `shard` processes, and each group holds a full copy.
    """

    def __init__(self) -> None:
        self.world = dist.get_world_size() if dist.is_initialized() else 1
        self.rank = dist.get_rank() if dist.is_initialized() else 0
        self.parallel, self.shard, self.device = "ddp", self.world, machine.default_device()
        self.local_processes: int | None = None  # on this machine, whose cores are free while the first one samples
        if self.device == "cuda" and self.world > 1:
            self.device = f"cuda:{int(os.environ.get('LOCAL_RANK', '0'))}"
            torch.cuda.set_device(self.device)
        # Host values are reduced on the host where the backend allows it, so that no GPU has to be waited for.
        self.host_device = "cpu" if self.world > 1 and "gloo" in dist.get_backend_config() else self.device

    @classmethod
    def single(cls) -> Engine:
        """An engine of a single process, inside a process that is one of several."""
        engine = cls()
        engine.world, engine.rank, engine.shard = 1, 0, 1
        return engine

    def configure(self, parallel: str, shard: int | None = None) -> None:
        """Choose "ddp", or "fsdp" in groups of `shard` processes; ValueError if that does not divide the world."""
        self.parallel, self.shard = require("parallel", parallel, PARALLEL), shard or self.world
        if self.world % self.shard:
            raise ValueError(f"shard is {shard}; it must divide the {self.world} processes")

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.rank == 0

    @property
    def is_sharded(self) -> bool:
        """Whether weights are sharded over processes."""
        return self.world > 1 and self.parallel == "fsdp"

    def rows(self, batch: int) -> slice:
        """The rows of a batch that this process takes; ValueError if the batch does not divide evenly."""
        if batch % self.world:
            raise ValueError(f"batch is {batch}; {self.world} processes need a multiple of {self.world}")
        count = batch // self.world
        return slice(self.rank * count, (self.rank + 1) * count)

    def shard_model(self, model: NetworkDenoiser) -> None:
        """Shard a model's weights over the processes, block by block, under "fsdp" (Zhao et al. 2023)."""
        if not self.is_sharded:
            return
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh(torch.device(self.device).type, (self.world // self.shard, self.shard),
                                mesh_dim_names=("replicate", "shard"))
        for value in model.network.parameters():
            value.data = value.data.contiguous()  # channels-last weights cannot be sharded
        for stack in model.network.modules():
            if isinstance(stack, nn.ModuleList):
                for block in stack:
                    if not isinstance(block, nn.ModuleList):
                        fully_shard(block, mesh=mesh)
        fully_shard(model.network, mesh=mesh)

    def wrap(self, model: NetworkDenoiser, custom: bool = False, compiled: bool = False) -> NetworkDenoiser:
        """The model as it is trained: the same weights, gradients averaged over the processes, compiled if asked.

        A `custom` network, of the user's own class, may leave weights unused.
        """
        wrapped = copy.copy(model)
        wrapped._modules = dict(model._modules)
        if compiled:
            wrapped.network = torch.compile(model.network, dynamic=False)  # pyrefly: ignore[bad-assignment]
        if self.world > 1 and not self.is_sharded:
            from torch.nn.parallel import DistributedDataParallel

            wrapped.network = DistributedDataParallel(wrapped.network, forward_sync_buffers=False,
                                                      find_unused_parameters=custom)
        return wrapped

    def sync(self, wrapped: NetworkDenoiser, last: bool) -> AbstractContextManager:
        """A context for the passes over one micro-batch, in which only the last one synchronises gradients."""
        network = wrapped.network
        if self.is_sharded:
            network.set_requires_gradient_sync(last)  # pyrefly: ignore[not-callable]
        elif self.world > 1 and not last:
            return network.no_sync()  # pyrefly: ignore[not-callable]
        return nullcontext()

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Give every process the first one's values, in place."""
        if self.world > 1:
            for value in tensors:
                dist.broadcast(value, 0)

    def assigned(self, items: range) -> range:
        """The work items of this process; all of them where weights are sharded, since every process must take part.

        `combine` merges the results, in which each process leaves zeros for the items of the others.
        """
        return items if self.is_sharded else items[self.rank::self.world]

    def combine(self, values: list[float]) -> list[float]:
        """Every value as computed by the process that its item was `assigned` to."""
        return values if self.is_sharded else self._reduce(values, dist.ReduceOp.SUM)

    def maximum(self, values: list[float]) -> list[float]:
        """The largest of each value over the processes."""
        return self._reduce(values, dist.ReduceOp.MAX)

    def mean(self, values: list[float]) -> list[float]:
        """The mean of each value over the processes."""
        return [value / self.world for value in self._reduce(values, dist.ReduceOp.SUM)]

    def _reduce(self, values: list[float], operation: dist.ReduceOp.RedOpType) -> list[float]:
        if self.world == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64, device=self.host_device)
        dist.all_reduce(tensor, operation)
        return tensor.tolist()

    def broadcast_text(self, text: str) -> str:
        """Return the first process's text in every process."""
        if self.world == 1:
            return text
        content = torch.tensor(list(text.encode()), dtype=torch.uint8, device=self.host_device)
        length = torch.tensor(len(content), device=self.host_device)
        dist.broadcast(length, 0)
        if not self.is_first:
            content = torch.empty(int(length), dtype=torch.uint8, device=self.host_device)
        dist.broadcast(content, 0)
        return bytes(content.tolist()).decode()

    def run_on_first(self, work: Callable[[], None]) -> None:
        """Write to disk in the first process only; if that fails, every process raises OSError."""
        failure = None
        if self.is_first:
            try:
                work()
            except OSError as error:
                failure = error
        if self.maximum([float(failure is not None)])[0]:
            raise failure or OSError("the first process could not write; its message says why")


def join_torchrun() -> None:
    """Join the process group of torchrun, if torchrun started this process."""
    if "WORLD_SIZE" in os.environ and not dist.is_initialized():
        dist.init_process_group("cpu:gloo,cuda:nccl" if machine.default_device() == "cuda" else "gloo", timeout=TIMEOUT)


def join_group(file: Path, rank: int, world: int) -> None:
    """Join the processes on this machine that meet through the same new file."""
    dist.init_process_group("gloo", store=dist.FileStore(str(file), world), rank=rank, world_size=world,
                            timeout=TIMEOUT)


def leave_group() -> None:
    """Leave the process group, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def to_full(value: Tensor) -> Tensor:
    """The full tensor, gathered from all processes if it is sharded."""
    return value.full_tensor() if hasattr(value, "full_tensor") else value  # pyrefly: ignore[not-callable]


def to_local(value: Tensor) -> Tensor:
    """This process's shard of a tensor; the tensor itself if it is not sharded."""
    return value.to_local() if hasattr(value, "to_local") else value  # pyrefly: ignore[not-callable]


def shard_like(value: Tensor, pattern: Tensor) -> Tensor:
    """A full tensor, sharded over the processes as `pattern` is."""
    if type(pattern) in (Tensor, nn.Parameter):
        return value
    from torch.distributed.tensor import DTensor, distribute_tensor

    return distribute_tensor(value, pattern.device_mesh, pattern.placements) if isinstance(pattern, DTensor) else value
