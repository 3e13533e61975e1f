"""A PyTorch loop: channels-last, fused AdamW, data in memory as tensors.

FOURBEAT_TORCH_COMPILE=1 compiles the network with `torch.compile`.
"""

import os

import torch
from torch import nn

from benchmarks.contestants import Prepare, Run
from benchmarks.task import HIDDEN, LEARNING_RATE, WEIGHT_DECAY, Task


def network(model: str) -> nn.Sequential:
    """Builds the same layers in PyTorch."""
    hidden = HIDDEN[model]
    if model == "mlp":
        return nn.Sequential(
            nn.Flatten(), nn.Linear(784, hidden), nn.ReLU(), nn.Linear(hidden, 10)
        )
    pool = nn.AvgPool2d if model == "cnn" else nn.MaxPool2d
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.ReLU(),
        pool(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        pool(2),
        nn.Flatten(),
        nn.Linear(3136, hidden),
        nn.ReLU(),
        nn.Linear(hidden, 10),
    )


def set_weights(model: nn.Sequential, task: Task) -> None:
    """Sets the shared initial weights, in PyTorch's axis order."""
    weights = {name: torch.tensor(array) for name, array in task.weights().items()}
    layers = [layer for layer in model if hasattr(layer, "weight")]
    names = ["conv1", "conv2", "dense", "output"][-len(layers) :]
    with torch.no_grad():
        for name, layer in zip(names, layers, strict=True):
            kernel = weights[f"{name}.kernel"]
            if kernel.ndim == 4:
                kernel = kernel.permute(3, 2, 0, 1)
            elif name == "dense" and task.model != "mlp":
                # Flax flattens to (height, width, channel); PyTorch channel first.
                kernel = kernel.reshape(7, 7, 64, -1).permute(3, 2, 0, 1).flatten(1)
            else:
                kernel = kernel.T
            layer.weight.copy_(kernel)
            layer.bias.copy_(weights[f"{name}.bias"])


def build(task: Task) -> Prepare:
    """Trains batch by batch and keeps running sums of loss and accuracy."""
    model = network(task.model)
    set_weights(model, task)
    model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(
        model.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True
    )
    loss_fn = nn.CrossEntropyLoss()
    forward = (
        torch.compile(model) if os.environ.get("FOURBEAT_TORCH_COMPILE") else model
    )
    images, labels = (torch.from_numpy(array) for array in task.split())
    images = images.permute(0, 3, 1, 2).float().div(255)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = labels.long()

    def prepare(steps: int) -> Run:
        order = torch.from_numpy(task.rows(steps))

        def run() -> list[float]:
            total, correct = torch.zeros(()), torch.zeros((), dtype=torch.long)
            losses = []
            for rows in order:
                target = labels[rows]
                logits = forward(images[rows])
                loss = loss_fn(logits, target)
                loss.backward()
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                total += loss.detach()
                correct += (logits.argmax(1) == target).sum()
                losses.append(loss.detach())
            return [float(loss) for loss in losses]

        return run

    return prepare
