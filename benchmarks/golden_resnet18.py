"""Writes what torchvision's ResNet-18 answers: tests/golden_resnet18.json.

Run in the benchmarks' environment: `python -m benchmarks.golden_resnet18`.
"""

import json
from pathlib import Path

import numpy as np
import torch

from tests.helpers.torch_resnet18 import (
    CLASSES,
    SIZES,
    STEP_IMAGES,
    draw_direction,
    draw_images,
    draw_labels,
    draw_state,
)

PATH = Path(__file__).parents[1] / "tests/golden_resnet18.json"
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
WHOLE = ("bn1.weight", "layer2.0.downsample.1.bias", "fc.bias")  # whole gradients
STATISTICS = ("bn1.running_mean", "bn1.running_var")


def build_resnet18() -> torch.nn.Module:
    """Torchvision's network with the drawn weights."""
    # pip's torchvision may be built for another torch, without its compiled operators.
    # The network needs none of them, but the import looks for these two.
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            library.define(
                f"{name}(Tensor boxes, Tensor scores, float limit) -> Tensor"
            )
    from torchvision.models import resnet18

    model = resnet18(num_classes=CLASSES)
    state = {name: torch.tensor(array) for name, array in draw_state().items()}
    model.load_state_dict(state)
    return model


def normalized(images: np.ndarray) -> torch.Tensor:
    """Images as torchvision normalizes them: `[batch, 3, rows, columns]`."""
    pixels = torch.tensor(images).permute(0, 3, 1, 2).float() / 255
    mean, deviation = (
        torch.tensor(each).view(1, 3, 1, 1) for each in (MEAN, DEVIATION)
    )
    return (pixels - mean) / deviation


def answers(model: torch.nn.Module) -> dict[str, object]:
    """Logits, and what one training step sees and leaves."""
    model.eval()
    with torch.no_grad():
        logits = {name: model(normalized(draw_images(name))).tolist() for name in SIZES}
    model.train()
    images = normalized(draw_images("small")[:STEP_IMAGES])
    loss = torch.nn.functional.cross_entropy(model(images), torch.tensor(draw_labels()))
    loss.backward()
    grads = {
        name: parameter.grad.double().numpy()
        for name, parameter in model.named_parameters()
    }
    state = model.state_dict()
    return {
        "logits": logits,
        "loss": loss.item(),
        "norms": {name: float(np.linalg.norm(grad)) for name, grad in grads.items()},
        "projections": {
            name: float((grad * draw_direction(name, grad.shape)).sum())
            for name, grad in grads.items()
        },
        "grads": {name: grads[name].tolist() for name in WHOLE},
        "statistics": {
            name: state[name].tolist()
            for name in ("bn1.running_mean", "bn1.running_var")
        },
        "versions": {"torch": torch.__version__},
    }


def rounded(value: object) -> object:
    """The numbers with nine digits: float32 has no more."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return float(f"{value:.9g}") if isinstance(value, float) else value


def main() -> None:
    """Writes the golden file."""
    torch.set_num_threads(2)
    PATH.write_text(json.dumps(rounded(answers(build_resnet18()))) + "\n")


if __name__ == "__main__":
    main()
