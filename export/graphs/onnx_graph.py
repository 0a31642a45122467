"""Reading and writing of ONNX files, and adapters that give networks this project's inputs and outputs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, compose, external_data_helper, helper, numpy_helper, version_converter

from sdtrt.errors import BundleError

OPSET = 21  # the first opset whose GroupNormalization computes statistics in single precision
MIN_SHARED = 256  # bytes; smaller weights are copied instead of shared
MAX_INLINE = 1 << 30  # bytes; larger weights are stored in a second file, because protobuf is limited to 2^31


@dataclass(frozen=True, slots=True)
class Tensor:
    """A graph's input or output; None in `shape` is a dynamic axis."""

    name: str
    dtype: np.dtype
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        return f"{self.name!r} ({self.dtype}, {' x '.join('any' if n is None else str(n) for n in self.shape)})"


def read(path: Path) -> onnx.ModelProto:
    """Return a model with all its weights, at opset `OPSET` or later; `BundleError` if the file is not valid."""
    require_file(path)
    try:
        if _declares_shapes(onnx.load(path, load_external_data=False)):
            onnx.checker.check_model(path)
        model = onnx.load(path)
    except Exception as error:  # errors of protobuf and the checker have no common base class
        raise BundleError(f"{path} is not an ONNX model that can be read: {error}") from error
    version = next((o.version for o in model.opset_import if o.domain in {"", "ai.onnx"}), OPSET)
    if version >= OPSET:
        return model
    try:
        return version_converter.convert_version(model, OPSET)
    except Exception as error:  # the converter's errors have no common base class
        raise BundleError(
            f"{path} has opset {version} and cannot be converted to opset {OPSET}: {error}; export it with "
            f"opset_version={OPSET}"
        ) from error


def _declares_shapes(model: onnx.ModelProto) -> bool:
    """Return whether all inputs and outputs have shapes, which ONNX requires but ONNX Runtime does not."""
    values = (*model.graph.input, *model.graph.output)
    return all(v.type.tensor_type.HasField("shape") for v in values if v.type.HasField("tensor_type"))


def require_file(path: Path) -> None:
    """Raise `BundleError` if a model's file does not exist; the message lists the ONNX files in the folder."""
    if path.is_file():
        return
    folder = path if path.is_dir() else path.parent
    names = sorted(other.relative_to(folder).as_posix() for other in (*folder.glob("*.onnx"), *folder.glob("*/*.onnx")))
    listing = f"the folder contains: {', '.join(names[:8])}" if names else f"there is no .onnx file in {folder}"
    raise BundleError(f"{path} {'is a folder' if path.is_dir() else 'does not exist'}; name an ONNX file; {listing}")


def write(model: onnx.ModelProto, path: Path) -> None:
    """Strip a model and write it; weights above `MAX_INLINE` bytes go to a second file with the suffix `.data`."""
    strip(model)
    external = nbytes(model) > MAX_INLINE
    path.with_name(f"{path.name}.data").unlink(missing_ok=True)  # `onnx.save` would append to it
    onnx.save(model, path, save_as_external_data=external, location=f"{path.name}.data")
    try:
        onnx.checker.check_model(path, full_check=not external)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise BundleError(f"{path.name} would not be a valid ONNX model: {error}") from error


def require_inline_weights(owner: Path, purpose: str) -> None:
    """Raise `BundleError` if the weights of a network are not in its own file, where others can refer to them.

    Arguments:
        owner: The network's ONNX file.
        purpose: What the weights are needed for, for the message.
    """
    if owner.with_name(f"{owner.name}.data").exists():
        raise BundleError(f"{owner.name} is too large for {purpose}: its weights are in a file of their own")


def write_sharing_weights(model: onnx.ModelProto, path: Path, owner: Path) -> None:
    """Write a network whose large weights refer to another network's file in the same folder.

    They are ONNX external data, at the offsets where that file stores the same bytes.

    Arguments:
        model: The network; its weights are changed to references.
        path: The new file.
        owner: The ONNX file that holds the weights.
    """
    data = owner.read_bytes()
    for tensor in model.graph.initializer:
        if len(tensor.raw_data) < MIN_SHARED or (offset := data.find(tensor.raw_data)) < 0:
            continue
        external_data_helper.set_external_data(tensor, owner.name, offset, len(tensor.raw_data))
        tensor.ClearField("raw_data")
    path.write_bytes(model.SerializeToString())


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """Return the values of a node's attributes by name."""
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def replace_nodes(graph: onnx.GraphProto, nodes: Sequence[onnx.NodeProto]) -> None:
    """Replace the nodes of a graph, and remove the weights that no node reads."""
    used = {name for node in nodes for name in node.input} | {value.name for value in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    for field, values in ((graph.node, nodes), (graph.initializer, kept)):
        del field[:]
        field.extend(values)


def nbytes(model: onnx.ModelProto) -> int:
    """Return the size of a model's weights."""
    return sum(len(tensor.raw_data) for tensor in model.graph.initializer)


def strip(model: onnx.ModelProto) -> onnx.ModelProto:
    """Remove the exporter's metadata (stack traces with local paths, and inferred shapes), and return the model."""
    graph = model.graph
    del graph.value_info[:]
    for part in (model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        del part.metadata_props[:]
        part.doc_string = ""
    return model


def inputs(model: onnx.ModelProto) -> list[Tensor]:
    """Return a model's inputs, without the weights that old exporters list as inputs."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return [_tensor(value) for value in model.graph.input if value.name not in weights]


def outputs(model: onnx.ModelProto) -> list[Tensor]:
    return [_tensor(value) for value in model.graph.output]


def _tensor(value: onnx.ValueInfoProto) -> Tensor:
    if not value.type.HasField("tensor_type"):
        raise BundleError(f"{value.name!r} is not a tensor; expected tensors (N, C, H, W) as inputs and outputs")
    kind = value.type.tensor_type
    shape = tuple(d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim)
    return Tensor(value.name, helper.tensor_dtype_to_np_dtype(kind.elem_type), shape)


def fingerprint(model: onnx.ModelProto) -> list[np.ndarray]:
    """Return arrays that identify a model independently of names: its operators in order, and its float constants."""
    constants = [
        a.t for node in model.graph.node if node.op_type == "Constant" for a in node.attribute if a.HasField("t")
    ]
    arrays = [numpy_helper.to_array(tensor) for tensor in (*model.graph.initializer, *constants)]
    operations = np.frombuffer(" ".join(node.op_type for node in model.graph.node).encode(), np.uint8)
    return [operations, *(array for array in arrays if array.dtype.kind == "f")]


def adapted(
    model: onnx.ModelProto,
    source: str,
    target: str,
    outputs_and_scales: Sequence[tuple[str, int]],
    *,
    channels: tuple[int, int],
    first: int | None = None,
    before: tuple[float, float] = (1.0, 0.0),
    after: tuple[float, float] = (1.0, 0.0),
) -> onnx.ModelProto:
    """Return a model with one input and one output, which contains `model` and adapters around it.

    The input of `model` is source * before[0] + before[1]. Its outputs are enlarged bilinearly and summed to y. The
    output `target` is y * after[0] + after[1]. Input and output are float32 (N, C, H, W) with dynamic N, H and W.

    Arguments:
        model: A model with one input.
        source: Name of the new input.
        target: Name of the new output.
        outputs_and_scales: The outputs of `model` to sum, each with its integer enlargement factor.
        channels: Numbers of channels of `source` and `target`.
        first: Number of the first channels of y that are kept; None for all.
        before: Scale and shift of the input.
        after: Scale and shift of the output.
    """
    old_input = inputs(model)[0].name
    inner = compose.add_prefix(model, "inner.", rename_functions=False)
    nodes, constants = _affine(source, f"inner.{old_input}", before, "before")
    nodes += inner.graph.node
    total = ""
    for name, factor in outputs_and_scales:
        plane = f"inner.{name}"
        if factor > 1:
            constants.append(_constant([1, 1, factor, factor], f"{name}.factors"))
            nodes.append(helper.make_node("Resize", [plane, "", f"{name}.factors"], [f"{name}.large"], mode="linear"))
            plane = f"{name}.large"
        if total:
            nodes.append(helper.make_node("Add", [total, plane], [f"{name}.sum"]))
        total = f"{name}.sum" if total else plane
    if first is not None:
        bounds = {"starts": [0], "ends": [first], "axes": [1]}
        constants += [numpy_helper.from_array(np.array(n, np.int64), f"first.{name}") for name, n in bounds.items()]
        nodes.append(helper.make_node("Slice", [total, *(f"first.{name}" for name in bounds)], ["first.channels"]))
        total = "first.channels"
    last_nodes, last_constants = _affine(total, target, after, "after")
    graph = helper.make_graph(
        [*nodes, *last_nodes],
        f"{source} to {target}",
        [helper.make_tensor_value_info(source, TensorProto.FLOAT, ["batch", channels[0], "height", "width"])],
        [helper.make_tensor_value_info(target, TensorProto.FLOAT, ["batch", channels[1], "out_height", "out_width"])],
        [*inner.graph.initializer, *constants, *last_constants],
    )
    return helper.make_model(
        graph, opset_imports=inner.opset_import, functions=inner.functions, ir_version=max(10, model.ir_version)
    )


def _affine(
    source: str, target: str, scale_and_shift: tuple[float, float], name: str
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Return the nodes and constants of target = source * scale + shift."""
    scale, shift = scale_and_shift
    if (scale, shift) == (1, 0):
        return [helper.make_node("Identity", [source], [target])], []
    constants = [_constant(scale, f"{name}.scale"), _constant(shift, f"{name}.shift")]
    return [
        helper.make_node("Mul", [source, f"{name}.scale"], [f"{name}.scaled"]),
        helper.make_node("Add", [f"{name}.scaled", f"{name}.shift"], [target]),
    ], constants


def _constant(value: object, name: str) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(value, np.float32), name)
