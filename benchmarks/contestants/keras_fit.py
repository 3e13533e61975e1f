"""Keras 3 `fit`, on the backend set by KERAS_BACKEND.

Batches are slices of float32 numpy arrays in the given order. Each call of the compiled
function takes several steps, as Keras' guides advise for small networks.
"""

import keras
import numpy as np

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

STEPS_PER_EXECUTION = 32


def normalized(
    x: keras.KerasTensor, filters: int, size: int, name: str
) -> keras.KerasTensor:
    """Convolution without bias, then batch normalization."""
    layer = keras.layers.Conv2D(
        filters, size, padding="same", use_bias=False, name=name
    )
    return keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(layer(x))


def residual_network(side: int) -> keras.Model:
    """`model: resnet` for images of `side` pixels, with three channels."""
    layers = keras.layers
    names = (name.replace(".", "_") for name in RESIDUAL_LAYERS)
    x = images = keras.Input((side, side, 3))
    if patch_side(side) == 2:
        # Squares of 2x2 pixels become pixels, in the order of Flax's kernel.
        half = side // 2
        x = layers.Reshape((half, 2, half, 2, 3))(x)
        x = layers.Permute((1, 3, 2, 4, 5))(x)
        x = layers.Reshape((half, half, 12))(x)
    x = layers.Conv2D(FILTERS, 3, padding="same", use_bias=False, name=next(names))(x)
    x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(layers.MaxPooling2D(2)(x))
    x = layers.ReLU()(x)
    for stage in range(3):
        filters = FILTERS << stage
        if stage:
            x = layers.MaxPooling2D(2)(x)
        first, second = next(names), next(names)
        hidden = layers.ReLU()(normalized(x, filters, 3, first))
        hidden = normalized(hidden, filters, 3, second)
        if stage:
            x = normalized(x, filters, 1, next(names))
        x = layers.ReLU()(layers.Add()([x, hidden]))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(images, layers.Dense(10, name=next(names))(x))


def network(model: str, side: int) -> keras.Model:
    """Builds the same layers in Keras."""
    if model == "resnet":
        return residual_network(side)
    layers = keras.layers
    dense = layers.Dense(HIDDEN[model], activation="relu", name="dense")
    output = layers.Dense(10, name="output")
    if model == "mlp":
        return keras.Sequential(
            [keras.Input((28, 28, 1)), layers.Flatten(), dense, output]
        )
    pool = layers.AveragePooling2D if model == "cnn" else layers.MaxPooling2D
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(32, 3, padding="same", activation="relu", name="conv1"),
            pool(2),
            layers.Conv2D(64, 3, padding="same", activation="relu", name="conv2"),
            pool(2),
            layers.Flatten(),
            dense,
            output,
        ]
    )


def compile_network(model: keras.Model, steps_per_execution: int) -> None:
    """Sets the optimizer, loss and metric."""
    model.compile(
        optimizer=keras.optimizers.AdamW(
            LEARNING_RATE, weight_decay=WEIGHT_DECAY, epsilon=1e-8
        ),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        steps_per_execution=steps_per_execution,
    )


def build(task: Task) -> Prepare:
    """Trains with one epoch of `fit` over the examples of all steps."""
    model = network(task.model, task.side)
    weights = {name.replace(".", "_"): array for name, array in task.weights().items()}
    for layer in model.layers:
        names = f"{layer.name}_kernel", f"{layer.name}_bias"
        if found := [weights[name] for name in names if name in weights]:
            layer.set_weights(found)
    compile_network(model, STEPS_PER_EXECUTION)
    images, labels = task.split()
    floats = images.astype(np.float32) / 255

    def prepare(steps: int) -> Run:
        order = task.rows(steps).ravel()
        x, y = floats[order], labels[order]

        def run() -> list[float]:
            history = model.fit(x, y, batch_size=task.batch, shuffle=False, verbose=0)
            return history.history["loss"]

        return run

    return prepare
