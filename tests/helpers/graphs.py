"""Graphs of one operator: as ONNX for onnxruntime, and as the export's players take them."""

from typing import Any, NamedTuple

import numpy as np
import onnxruntime
from onnx import TensorProto, ValueInfoProto, helper, numpy_helper

OPSET = 17
# Attributes of a player's node that ONNX takes as inputs, in ONNX's order.
AS_INPUTS = {
    "Clip": ("min", "max"),
    "Pad": ("pads", "value"),
    "ReduceSum": ("axes",),
    "Reshape": ("shape",),
    "Slice": ("starts", "ends", "axes", "steps"),
}
FLOATS = ("min", "max", "value")
LOGICAL = ("And", "Or", "Not", "Where")  # their first input, or all, is boolean
COMPARING = ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")


class Case(NamedTuple):
    """One operator with its operands."""

    op: str
    inputs: list[np.ndarray]  # the first is the graph's input, the others constants
    attributes: dict[str, Any] = {}

    @property
    def record(self) -> dict[str, Any]:
        """The graph as in manifest.json."""
        names = [f"x{index}" for index in range(len(self.inputs))]
        node = {"op": self.op, "inputs": names, "output": "y"}
        node["attributes"] = self.attributes
        return {"input": "x0", "output": "y", "nodes": [node]}

    @property
    def constants(self) -> dict[str, np.ndarray]:
        """The operands after the first, by name."""
        return {f"x{index}": array for index, array in enumerate(self.inputs) if index}


def expected_output(case: Case) -> np.ndarray:
    """What onnxruntime makes of a case, as float32."""
    inputs = [as_onnx(case, index) for index in range(len(case.inputs))]
    attributes, constants = dict(case.attributes), {}
    for name in AS_INPUTS.get(case.op, ()):
        value = attributes.pop(name)
        dtype = np.float32 if name in FLOATS else np.int64
        if value is not None:
            constants[name] = np.array(value, dtype)
    if case.op == "Cast":
        attributes["to"] = TensorProto.FLOAT
    names = [f"x{index}" for index in range(len(inputs))]
    given = [n if attributes_given(case, n) else "" for n in AS_INPUTS.get(case.op, ())]
    node = helper.make_node(case.op, names + given, ["y"], **attributes)
    model = helper.make_model(
        helper.make_graph(
            [node],
            "case",
            [
                helper.make_tensor_value_info(
                    name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
                )
                for name, array in zip(names, inputs, strict=True)
            ],
            [ValueInfoProto(name="y")],
            [numpy_helper.from_array(array, n) for n, array in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=8,
    )
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (output,) = session.run(None, dict(zip(names, inputs, strict=True)))
    return output.astype(np.float32)


def attributes_given(case: Case, name: str) -> bool:
    """Whether an attribute has a value."""
    return case.attributes[name] is not None


def as_onnx(case: Case, index: int) -> np.ndarray:
    """An operand with the type that ONNX demands."""
    boolean = case.op in LOGICAL and (case.op != "Where" or index == 0)
    return np.asarray(case.inputs[index], bool if boolean else np.float32)
