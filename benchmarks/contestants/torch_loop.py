"""A PyTorch loop: channels-last, fused AdamW, data in memory as tensors.

FOURBEAT_TORCH_COMPILE=1 compiles the network with `torch.compile`.
"""

import os

import torch
from torch import nn

from benchmarks.contestants import Prepare, Run
from benchmarks.task import (
    FILTERS,
    HIDDEN,
    LEARNING_RATE,
    RESIDUAL_LAYERS,
    WEIGHT_DECAY,
    Task,
    patch_side,
)


class ConvNorm(nn.Sequential):
    """Convolution without bias, then batch normalization."""

    def __init__(self, channels: int, filters: int, size: int) -> None:
        super().__init__(
            nn.Conv2d(channels, filters, size, padding=size // 2, bias=False),
            nn.BatchNorm2d(filters),
        )


class Block(nn.Module):
    """A residual block; if it widens, max pooling halves its input first."""

    def __init__(self, channels: int, filters: int) -> None:
        super().__init__()
        self.first = ConvNorm(channels, filters, 3)
        self.second = ConvNorm(filters, filters, 3)
        widens = channels != filters
        self.shortcut = ConvNorm(channels, filters, 1) if widens else nn.Identity()
        self.pool = nn.MaxPool2d(2) if widens else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images `[batch, channels, height, width]` to such images."""
        x = self.pool(x)
        return torch.relu(self.shortcut(x) + self.second(torch.relu(self.first(x))))


class PixelUnshuffle(nn.Module):
    """Channels of a square of pixels in the order of `space_to_depth`."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images `[batch, channels, height, width]`, `side` times smaller."""
        batch, channels, height, width = x.shape
        s = self.side
        squares = x.reshape(batch, channels, height // s, s, width // s, s)
        merged = squares.permute(0, 2, 4, 3, 5, 1)
        pixels = merged.reshape(batch, height // s, width // s, -1)
        return pixels.permute(0, 3, 1, 2)


def residual_network(side: int) -> nn.Sequential:
    """`model: resnet` for images of `side` pixels, with three channels."""
    patch = patch_side(side)
    conv, norm = ConvNorm(3 * patch**2, FILTERS, 3)
    widths = [FILTERS << stage for stage in range(3)]
    return nn.Sequential(
        PixelUnshuffle(patch) if patch > 1 else nn.Identity(),
        *(conv, nn.MaxPool2d(2), norm, nn.ReLU()),
        *(Block(*pair) for pair in zip([FILTERS, *widths[:-1]], widths, strict=True)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], 10)),
    )


def network(model: str, side: int) -> nn.Sequential:
    """Builds the same layers in PyTorch."""
    if model == "resnet":
        return residual_network(side)
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
    kinds = nn.Conv2d | nn.Linear
    layers = [layer for layer in model.modules() if isinstance(layer, kinds)]
    names = ["conv1", "conv2", "dense", "output"][-len(layers) :]
    if task.model == "resnet":  # normalizations start as in Flax
        names = RESIDUAL_LAYERS
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
            if layer.bias is not None:
                layer.bias.copy_(weights[f"{name}.bias"])


def build(task: Task) -> Prepare:
    """Trains batch by batch and keeps running sums of loss and accuracy."""
    model = network(task.model, task.side)
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
