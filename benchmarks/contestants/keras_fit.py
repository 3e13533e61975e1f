"""Keras 3 `fit`, on the backend set by KERAS_BACKEND.

Batches are slices of float32 numpy arrays in the given order. Each call of the compiled
function takes several steps, as Keras' guides advise for small networks.
"""

import keras
import numpy as np

from benchmarks.contestants import Prepare, Run
from benchmarks.task import HIDDEN, LEARNING_RATE, WEIGHT_DECAY, Task

STEPS_PER_EXECUTION = 32


def network(model: str) -> keras.Model:
    """Builds the same layers in Keras."""
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
    model = network(task.model)
    weights = task.weights()
    for layer in model.layers:
        if f"{layer.name}.kernel" in weights:
            layer.set_weights(
                [weights[f"{layer.name}.kernel"], weights[f"{layer.name}.bias"]]
            )
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
