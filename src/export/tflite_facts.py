"""What the build of a microcontroller must know of a TensorFlow Lite file."""

from collections import Counter
from typing import Any


def tflite_facts(content: bytes) -> dict[str, Any]:
    """Operators with their versions, and type and quantization of input and output.

    A quantized value is `(number - zero_point) * scale`. Float tensors have null.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(content, 0)
    network = model.Subgraphs(0)
    names = {number: name for name, number in vars(schema.BuiltinOperator).items()}
    types = {number: name for name, number in vars(schema.TensorType).items()}
    codes = [model.OperatorCodes(index) for index in range(model.OperatorCodesLength())]
    used = Counter(
        network.Operators(index).OpcodeIndex()
        for index in range(network.OperatorsLength())
    )
    operators = [
        {
            # Old files have the operator's number in the other field.
            "name": names[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())],
            "version": code.Version(),
            "count": used[index],
        }
        for index, code in enumerate(codes)
    ]

    def tensor(index: int) -> dict[str, Any]:
        found = network.Tensors(index)
        numbers = found.Quantization()
        scaled = numbers is not None and numbers.ScaleLength() == 1
        return {
            "name": found.Name().decode(),
            "shape": found.ShapeAsNumpy().tolist(),
            "type": types[found.Type()].lower(),
            "scale": float(numbers.Scale(0)) if scaled else None,
            "zero_point": int(numbers.ZeroPoint(0)) if scaled else None,
        }

    return {
        "operators": sorted(operators, key=lambda each: each["name"]),
        "input": tensor(network.Inputs(0)),
        "output": tensor(network.Outputs(0)),
    }
