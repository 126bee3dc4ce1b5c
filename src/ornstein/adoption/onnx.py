"""ONNX graphs as networks, run by onnxruntime."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ornstein.arguments import require, short_repr

__all__ = ["ROLES", "OnnxNetwork"]

ROLES = ("x", "time", "condition")
FLOATS = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16}
DTYPES = {**FLOATS, "tensor(int64)": np.int64, "tensor(int32)": np.int32}


class OnnxNetwork(nn.Module):
    """A graph that answers as network(x, time) or network(x, time, condition).

    Args:
        model: the bytes of the file, uint8.
        inputs: the graph's name for each of "x", "time" and, with classes, "condition"; missing ones are found by
            their position: x is first, time second.
        output: the name of the answer; by default the first output.

    Raises:
        ModuleNotFoundError: onnxruntime is not installed.
        ValueError: bytes of which no such graph can be run.
    """

    model: Tensor

    def __init__(self, model: Tensor, inputs: Mapping[str, str] | None = None, output: str | None = None) -> None:
        super().__init__()
        self.register_buffer("model", model)
        self._session: tuple[int, Any] | None = None
        session = self.session()
        graph_inputs = {node.name: node for node in session.get_inputs()}
        self.summary = ", ".join(f"{node.name} {node.type.removeprefix('tensor(').rstrip(')')}{list(node.shape)}"
                                 for node in [*session.get_inputs(), *session.get_outputs()])
        self.inputs = dict(inputs or {})
        for role, name in self.inputs.items():
            require("input", role, ROLES)
            require(f"input {role}", name, graph_inputs)
        count = len(graph_inputs)
        for role in ROLES[:count]:
            unused = [name for name in graph_inputs if name not in self.inputs.values()]
            if role not in self.inputs and unused:
                self.inputs[role] = unused[0]
        if count != len(self.inputs) or len(set(self.inputs.values())) != count or count < 2:
            raise ValueError(f"the graph has the inputs {', '.join(graph_inputs)}; each must be one of "
                             f"{', '.join(ROLES)}: name them, as in "
                             "inputs={'x': 'sample', 'time': 'timestep'}")
        names = [node.name for node in session.get_outputs()]
        self.output = names[0] if output is None else require("output", output, names)
        self._dtype_and_rank = {}
        for role, name in self.inputs.items():
            node = graph_inputs[name]
            if node.type not in DTYPES or (role == "x" and node.type not in FLOATS):
                raise ValueError(f"input {name} is {node.type}; it must hold numbers")
            self._dtype_and_rank[role] = DTYPES[node.type], len(node.shape)

    @property
    def shape(self) -> list[Any]:
        """The shape of the graph's x without the batch: integers, or names of free dimensions."""
        return next(list(node.shape[1:]) for node in self.session().get_inputs() if node.name == self.inputs["x"])

    def session(self) -> Any:
        """The single-threaded onnxruntime session of this process, as forked workers cannot share one."""
        if self._session is None or self._session[0] != os.getpid():
            try:
                import onnxruntime
            except ModuleNotFoundError as error:
                raise ModuleNotFoundError('ONNX models need onnxruntime: pip install "ornstein[onnx]"') from error
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = options.inter_op_num_threads = 1
            options.log_severity_level = 4  # errors are raised instead
            try:
                session = onnxruntime.InferenceSession(self.model.cpu().numpy().tobytes(), options,
                                                       providers=["CPUExecutionProvider"])
            except Exception as error:  # onnxruntime has a dozen classes of errors
                raise ValueError(f"onnxruntime cannot run the graph: {short_repr(str(error))}") from None
            self._session = os.getpid(), session
        return self._session[1]

    def __getstate__(self) -> dict[str, Any]:
        """All state but the session, which a copy recreates."""
        return {**self.__dict__, "_session": None}

    def forward(self, x: Tensor, time: Tensor, condition: Tensor | None = None) -> Tensor:
        return _ExternalCall.apply(x, self, time, condition)

    def run(self, x: Tensor, time: Tensor, condition: Tensor | None) -> Tensor:
        """Run the graph, without derivatives."""
        feed = {}
        for role, value in (("x", x), ("time", time), ("condition", condition)):
            if role not in self.inputs:
                continue
            if value is None:
                raise ValueError(f"input {self.inputs[role]} is the condition, and none is given; give the model's "
                                 "number of classes as classes=")
            dtype, rank = self._dtype_and_rank[role]
            array = value.detach().cpu().numpy()
            if np.issubdtype(dtype, np.integer) and array.dtype.kind == "f":
                array = np.rint(array)
            if rank == 0:
                if len(array) and (array != array[0]).any():
                    return torch.cat([self.run(x[[row]], time[[row]], None if condition is None else condition[[row]])
                                      for row in range(len(x))])
                array = array[0]
            elif role != "x":
                array = array.reshape(-1, *[1] * (rank - 1))
            feed[self.inputs[role]] = np.asarray(array, dtype)
        try:
            answer = self.session().run([self.output], feed)[0]
        except Exception as error:
            raise ValueError(f"onnxruntime cannot run the graph on {len(x)} samples of shape {tuple(x.shape[1:])}: "
                             f"{short_repr(str(error))}") from None
        return torch.from_numpy(np.ascontiguousarray(answer)).to(x)


class _ExternalCall(torch.autograd.Function):
    """A computation outside of PyTorch, whose derivative is refused rather than taken as 0."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, network: OnnxNetwork, time: Tensor,  # noqa: ARG004
                condition: Tensor | None) -> Tensor:
        return network.run(x, time, condition)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:  # noqa: ARG004
        raise RuntimeError("an ONNX model has no derivatives, which this needs; use sample, edit, elbo or tune, or "
                           "adopt the module that the graph was exported from")
