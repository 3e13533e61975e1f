"""A graph as an ONNX model."""

from typing import Any

import numpy as np

from src.export.graph import INPUT, OUTPUT, Graph, Node

OPSET = 17  # of 2022: runtimes on devices are often old


def onnx_model(graph: Graph, image_shape: tuple[int, int, int], classes: int) -> Any:  # noqa: ANN401 - onnx has no types
    """The model, checked by ONNX's own checker.

    Args:
        graph: the network.
        image_shape: height, width, channels.
        classes: their number.
    """
    from onnx import TensorProto, checker, helper, numpy_helper

    constants = dict(graph.constants)
    nodes = [onnx_node(node, constants) for node in graph.nodes]
    given = helper.make_tensor_value_info(
        INPUT, TensorProto.UINT8, ["batch", *image_shape]
    )
    answer = helper.make_tensor_value_info(
        OUTPUT, TensorProto.FLOAT, ["batch", classes]
    )
    stored = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    body = helper.make_graph(nodes, "classifier", [given], [answer], stored)
    opset = helper.make_opsetid("", OPSET)
    # Runtimes refuse a newer IR version than they know, so take the oldest possible.
    version = helper.find_min_ir_version_for([opset])
    model = helper.make_model(body, opset_imports=[opset], ir_version=version)
    checker.check_model(model, full_check=True)
    return model


def onnx_node(node: Node, constants: dict[str, np.ndarray]) -> Any:  # noqa: ANN401 - onnx has no types
    """One node; adds the constants that ONNX wants in place of attributes."""
    from onnx import TensorProto, helper

    attributes, inputs = dict(node.attributes), list(node.inputs)

    def move(*names: str, dtype: type = np.int64) -> None:
        for name in names:
            constants[f"{node.output}_{name}"] = np.array(attributes.pop(name), dtype)
            inputs.append(f"{node.output}_{name}")

    match node.op:
        case "Cast":
            attributes["to"] = TensorProto.FLOAT
        case "Conv" if node.inputs[1] in constants:
            # Optional in ONNX, but OpenCV before 4.14 asks for it.
            attributes["kernel_shape"] = constants[node.inputs[1]].shape[2:]
        case "Reshape":
            move("shape")
        case "ReduceSum":
            move("axes")
        case "Pad":
            move("pads")
            move("value", dtype=np.float32)
        case "Clip":
            move("min", "max", dtype=np.float32)
        case "Slice":
            move("starts", "ends", "axes", "steps")
    return helper.make_node(node.op, inputs, [node.output], node.output, **attributes)
