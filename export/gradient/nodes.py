"""A builder of ONNX nodes and constants."""

from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper


class Nodes:
    """Nodes and constants to be added to a graph; names of their tensors begin with `back`."""

    def __init__(self) -> None:
        self.nodes, self.constants = list[NodeProto](), list[TensorProto]()

    def add(self, operator: str, *inputs: str, to: str = "", **attributes: Any) -> str:
        """Add a node and return the name of its output."""
        name = to or f"back_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    def constant(self, values: np.ndarray | np.generic) -> str:
        """Add a constant and return its name."""
        name = f"back_constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name
