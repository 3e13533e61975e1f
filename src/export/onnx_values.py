"""What is known of an ONNX model while its nodes are brought into `graph`."""

from typing import Any, NamedTuple

import numpy as np

from src.export.graph import Node, UnsupportedError
from src.export.jax_to_onnx import OPSET, Proto

BATCH = -1  # the size of an axis that grows with the batch


class Values:
    """The values of an ONNX model, and the nodes of the graph so far."""

    def __init__(self, model: Proto) -> None:
        from onnx import numpy_helper, shape_inference

        inferred = shape_inference.infer_shapes(model, data_prop=True).graph
        values = [*inferred.input, *inferred.value_info, *inferred.output]
        self.types = {each.name: each.type.tensor_type for each in values}
        stored = model.graph.initializer
        self.constants = {each.name: numpy_helper.to_array(each) for each in stored}
        self.thin: set[str] = set()  # constants of which ONNX has one for each image
        self.alias: dict[str, str] = {}  # from ONNX's name to the graph's
        self.nodes: list[Node] = []

    def sources(self, names: list[str]) -> list[str]:
        """The names under which the graph has these values."""
        return [self.alias.get(name, name) for name in names]

    def kind(self, name: str) -> int:
        """ONNX's number for the type of a value; 0 if it is unknown."""
        return self.types[name].elem_type if name in self.types else 0

    def shape(self, name: str) -> list[int]:
        """The shape of a value; axes that grow with the batch have `BATCH`."""
        if name in self.constants:
            return list(self.constants[name].shape)
        if name not in self.types or not self.types[name].HasField("shape"):
            raise UnsupportedError("a shape that ONNX does not infer")
        sizes = self.types[name].shape.dim
        return [
            size.dim_value if size.HasField("dim_value") else BATCH for size in sizes
        ]

    def emit(
        self,
        op: str,
        *inputs: str | np.ndarray | float,
        output: str = "",
        **attributes: Any,  # noqa: ANN401 - those of the operator
    ) -> str:
        """Appends a node; arrays and numbers become constants. Returns its output."""
        output = output or f"{op} {len(self.nodes)}"  # ONNX's names have no spaces
        names: list[str] = []
        for each in inputs:
            name = each if isinstance(each, str) else f"constant {len(self.constants)}"
            if not isinstance(each, str):
                self.constants[name] = np.asarray(each)
            names.append(name)
        self.nodes.append(Node(op, tuple(names), output, attributes))
        return output

    def compute(self, node: Proto) -> None:
        """Adds the results of a node of constants to them."""
        from onnx.reference import ReferenceEvaluator

        names = self.sources(node.input)
        arrays = [self.constants[name] for name in names]
        evaluator = ReferenceEvaluator(node, opsets={"": OPSET})
        results = evaluator.run(None, dict(zip(node.input, arrays, strict=True)))
        outputs = zip(node.output, map(np.asarray, results), strict=True)
        self.constants |= dict(outputs)
        if self.thin & set(names):
            self.thin |= set(node.output)


class Call(NamedTuple):
    """A node of ONNX, for the function that emits its form."""

    values: Values
    node: Proto
    inputs: list[str]  # as the graph names them; "": none
    given: dict[str, Any]  # attributes, with ONNX's defaults
    shape: list[int]  # of the first input
    result: list[int]  # the shape of the output

    def emit(self, op: str, *inputs: Any, **attributes: Any) -> None:  # noqa: ANN401
        """Appends the node that gives this call's output."""
        self.values.emit(op, *inputs, output=self.node.output[0], **attributes)

    def same(self, name: str) -> None:
        """Makes the output another name of a value."""
        self.values.alias[self.node.output[0]] = name

    def require(self, condition: bool, what: str) -> None:
        """Raises UnsupportedError, unless the condition is true."""
        if not condition:
            raise UnsupportedError(f"{self.node.op_type} {what}")

    def fixed(self, index: int, default: Any = None) -> Any:  # noqa: ANN401
        """An input that must be a constant."""
        if index >= len(self.inputs) or not self.inputs[index]:
            return default
        name = self.inputs[index]
        self.require(name in self.values.constants, "with a computed parameter")
        return self.values.constants[name]


def call_of(values: Values, node: Proto, inputs: list[str]) -> Call:
    """The call of a node, with the defaults of ONNX for missing attributes."""
    from onnx import defs, helper

    schema = defs.get_schema(node.op_type, OPSET, "")
    defaults = [each.default_value for each in schema.attributes.values()]
    attributes = [*(each for each in defaults if each.name), *node.attribute]
    given = {each.name: helper.get_attribute_value(each) for each in attributes}
    shapes = values.shape(node.input[0]), values.shape(node.output[0])
    return Call(values, node, inputs, given, *shapes)
