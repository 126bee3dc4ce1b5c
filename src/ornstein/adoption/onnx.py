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
KINDS = {**FLOATS, "tensor(int64)": np.int64, "tensor(int32)": np.int32}


class OnnxNetwork(nn.Module):
    """A graph that answers as network(x, time) or network(x, time, condition).

    Args:
        model: the bytes of the file, uint8.
        inputs: the graph's name for each of "x", "time" and, with classes, "condition"; those that are left out are
            found by their place: the first is x, the second the time.
        output: the name of the answer; the first unless given.

    Raises:
        ModuleNotFoundError: onnxruntime is not installed.
        ValueError: bytes that are no graph that can be run, or whose inputs and outputs are not such.
    """

    model: Tensor

    def __init__(self, model: Tensor, inputs: Mapping[str, str] | None = None, output: str | None = None) -> None:
        super().__init__()
        self.register_buffer("model", model)
        self._session: tuple[int, Any] | None = None
        session = self.session()
        there = {one.name: one for one in session.get_inputs()}
        self.about = ", ".join(f"{one.name} {one.type.removeprefix('tensor(').rstrip(')')}{list(one.shape)}"
                               for one in [*session.get_inputs(), *session.get_outputs()])
        self.inputs = dict(inputs or {})
        for role, name in self.inputs.items():
            require("input", role, ROLES)
            require(f"input {role}", name, there)
        for role in ROLES[:len(there)]:
            left = [name for name in there if name not in self.inputs.values()]
            if role not in self.inputs and left:
                self.inputs[role] = left[0]
        if len(there) != len(self.inputs) or len(set(self.inputs.values())) != len(there) or len(there) < 2:
            raise ValueError(f"the graph has the inputs {', '.join(there)}; each must be one of {', '.join(ROLES)}: "
                             "name them, as in inputs={'x': 'sample', 'time': 'timestep'}")
        names = [one.name for one in session.get_outputs()]
        self.output = names[0] if output is None else require("output", output, names)
        self._kinds = {}
        for role, name in self.inputs.items():
            if there[name].type not in KINDS or (role == "x" and there[name].type not in FLOATS):
                raise ValueError(f"input {name} is {there[name].type}; it must hold numbers")
            self._kinds[role] = KINDS[there[name].type], len(there[name].shape)

    @property
    def shape(self) -> list[Any]:
        """Sides of the graph's x, without the batch: whole numbers, or names where any will do."""
        return next(list(one.shape[1:]) for one in self.session().get_inputs() if one.name == self.inputs["x"])

    def session(self) -> Any:
        """onnxruntime's session of this process, of one thread, as forked workers need it."""
        if self._session is None or self._session[0] != os.getpid():
            try:
                import onnxruntime
            except ModuleNotFoundError as error:
                raise ModuleNotFoundError('ONNX models need onnxruntime: pip install "ornstein[onnx]"') from error
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = options.inter_op_num_threads = 1
            options.log_severity_level = 4  # its errors are raised
            try:
                made = onnxruntime.InferenceSession(self.model.cpu().numpy().tobytes(), options,
                                                    providers=["CPUExecutionProvider"])
            except Exception as error:  # a class of its own for each of a dozen faults
                raise ValueError(f"onnxruntime cannot run the graph: {short_repr(str(error))}") from None
            self._session = os.getpid(), made
        return self._session[1]

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the session, which a copy makes anew."""
        return {**self.__dict__, "_session": None}

    def forward(self, x: Tensor, time: Tensor, condition: Tensor | None = None) -> Tensor:
        return _Outside.apply(x, self, time, condition)

    def run(self, x: Tensor, time: Tensor, condition: Tensor | None) -> Tensor:
        """The answer, without derivatives."""
        fed = {}
        for role, value in (("x", x), ("time", time), ("condition", condition)):
            if role not in self.inputs:
                continue
            if value is None:
                raise ValueError(f"input {self.inputs[role]} is the condition, and there is none; say how many classes "
                                 "the model has with classes=")
            kind, rank = self._kinds[role]
            array = value.detach().cpu().numpy()
            if np.issubdtype(kind, np.integer) and array.dtype.kind == "f":
                array = np.rint(array)
            if rank == 0:
                if len(array) and (array != array[0]).any():
                    return torch.cat([self.run(x[[row]], time[[row]], None if condition is None else condition[[row]])
                                      for row in range(len(x))])
                array = array[0]
            elif role != "x":
                array = array.reshape(-1, *[1] * (rank - 1))
            fed[self.inputs[role]] = np.asarray(array, kind)
        try:
            answer = self.session().run([self.output], fed)[0]
        except Exception as error:  # as above
            raise ValueError(f"onnxruntime cannot run the graph on {len(x)} samples of shape {tuple(x.shape[1:])}: "
                             f"{short_repr(str(error))}") from None
        return torch.from_numpy(np.ascontiguousarray(answer)).to(x)


class _Outside(torch.autograd.Function):
    """An answer that is found outside of PyTorch, whose derivative is refused rather than taken for 0."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, network: OnnxNetwork, time: Tensor,  # noqa: ARG004
                condition: Tensor | None) -> Tensor:
        return network.run(x, time, condition)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:  # noqa: ARG004
        raise RuntimeError("an ONNX model has no derivatives, which this needs; sample, edit, elbo and tune do "
                           "without: take those, or adopt the module that the graph was made of")
