"""The fields of `params.yaml`: type, bounds and description of each parameter.

No field has a default, so a missing, misspelt or ill-typed key stops the run before any
data is read. The descriptions are the comments in `params.yaml` and the reference table
in the docs; `make docs` writes both.
"""

from typing import Annotated, Literal

from pydantic import Field

from src.config.augment_fields import AugmentFields
from src.config.names import (
    Count,
    Finite,
    FormatName,
    Fraction,
    MonitorMode,
    MonitorName,
    NotNegative,
    OptimizerName,
    Positive,
    ScheduleName,
    ThresholdRule,
)


class Fields(AugmentFields, frozen=True, extra="forbid", strict=True):
    """All parameters, each checked on its own; `Params` checks them together."""

    optimizer: OptimizerName = Field(
        description="sgd, momentum, nesterov, adam, adamw, rmsprop, lion, lamb or "
        "muon. muon takes adamw's lr, lion a third to a tenth of it"
    )
    lr: Positive = Field(
        description="peak learning rate; > 0. Tune it first, in factors of three"
    )
    momentum: Fraction = Field(
        description="momentum of momentum, nesterov and muon; in [0, 1)"
    )
    weight_decay: NotNegative = Field(
        description="decoupled weight decay of the kernels, multiplied by lr; >= 0. "
        "adam ignores it. Increase it if validation lags behind training"
    )
    clip_norm: Positive | None = Field(
        description="clip the gradient to this global norm; > 0, empty = off. Try 1 if "
        "the loss has spikes"
    )
    clip_value: Positive | None = Field(
        description="clip each gradient element to [-clip_value, clip_value], before "
        "clip_norm; > 0, empty = off"
    )
    schedule: ScheduleName = Field(
        description="learning rate schedule: constant; cosine, linear or exponential "
        "decay to lr_end; warmup_cosine or one_cycle, with warm-up; piecewise, at "
        "lr_milestones; plateau, when monitor stops improving"
    )
    warmup_epochs: NotNegative = Field(
        description="warmup_cosine (from 0) and one_cycle (from lr / 25): epochs of "
        "warm-up; in [0, epochs]. Increase it if the first epochs are unstable"
    )
    lr_end: NotNegative = Field(
        description="final learning rate of cosine, warmup_cosine, linear and "
        "exponential, minimum for plateau; in [0, lr], > 0 for exponential"
    )
    lr_milestones: Annotated[tuple[Positive, ...], Field(strict=False)] = Field(
        description="piecewise: list of epochs after which lr falls; increasing, in "
        "(0, epochs)"
    )
    lr_factor: Annotated[Finite, Field(gt=0, lt=1)] = Field(
        description="piecewise and plateau: factor by which lr falls; in (0, 1)"
    )
    lr_patience: Count = Field(
        description="plateau: epochs without improvement before lr falls; integer >= 1"
    )
    lr_cooldown: Annotated[int, Field(ge=0)] = Field(
        description="plateau: epochs to wait after lr fell before lr_patience counts "
        "again; integer >= 0"
    )

    batch_size: Annotated[int, Field(ge=1, le=65536)] = Field(
        description="examples per optimizer step; integer in [1, 65536]. If you double "
        "it, try 1.4 to 2 times the lr"
    )
    accumulate: Count = Field(
        description="microbatches per step, to save memory; the gradient is that of "
        "the whole batch. A divisor of batch_size"
    )
    cpu_devices: Annotated[int, Field(ge=1, le=64)] | None = Field(
        description="equal parts of a batch that the cores of a CPU compute side by "
        "side; integer in [1, 64], empty = 2 for cnn, cnn_max, resnet and "
        "resnet18 if they divide the batch and it has 8192 pixels or more, else 1; 1 "
        "with debug and in each of several processes. Another number changes results "
        "by rounding"
    )
    epochs: Count = Field(description="maximum number of epochs; integer >= 1")
    max_steps: Count | None = Field(
        description="maximum number of optimizer steps, for a quick look; the schedule "
        "still spans all epochs; integer >= 1, empty = no limit"
    )
    overfit_batches: Count | None = Field(
        description="train and validate on this many batches only, without augment; "
        "integer >= 1, empty = off. A network that cannot overfit one batch has a bug"
    )
    log_every: Count = Field(
        description="optimizer steps per row of metrics/plots/steps.csv, restarting at "
        "each epoch; integer >= 1. Does not affect results"
    )

    save_minutes: Positive = Field(
        description="minutes between snapshots within an epoch; > 0. Training also "
        "saves after epochs, at most once a second. Does not affect results"
    )
    resident_megabytes: Annotated[int, Field(ge=0)] | None = Field(
        description="largest split kept on the device, in megabytes of pixels; larger "
        "ones are streamed from disk; integer >= 0, empty = decided from device "
        "memory. Does not affect results"
    )

    monitor: MonitorName = Field(
        description="metric that selects the best epoch: validation_loss, "
        "validation_accuracy, validation_balanced_accuracy, validation_precision, "
        "validation_recall, validation_f1 (macro averages), validation_top_k, "
        "train_loss or train_accuracy"
    )
    monitor_mode: MonitorMode = Field(
        description="min, max, or auto: min if the name of monitor ends in loss, max "
        "otherwise"
    )
    top_k: Count = Field(
        description="k of top-k accuracy, in validation_top_k and in the test metrics; "
        "integer >= 1. The accuracy is 1 if there are at most k classes"
    )
    min_delta: NotNegative = Field(
        description="minimum change of monitor that counts as an improvement; >= 0. "
        "The change must be larger"
    )
    patience: Count | None = Field(
        description="early stopping: epochs in a row without improvement; integer >= "
        "1, empty = off"
    )
    start_from_epoch: Count = Field(
        description="first epoch that patience and stop_if_worse_than count; integer "
        "in [1, epochs]"
    )
    stop_at: Finite | None = Field(
        description="stop when monitor reaches this value; empty = off"
    )
    stop_if_worse_than: Finite | None = Field(
        description="stop when monitor is worse than this value; empty = off"
    )
    max_minutes: Positive | None = Field(
        description="maximum training time in minutes, checked every log_every steps; "
        "the last epoch is still validated; > 0, empty = no limit. Such a run is not "
        "bit-reproducible"
    )

    calibrate: bool = Field(
        description="true or false: divide the logits by one temperature, fitted on "
        "validation and folded into the output layer, so that probabilities agree with "
        "frequencies. Predictions stay the same. It needs some validation images that "
        "are wrong"
    )
    reject_below: Annotated[Finite, Field(gt=0, lt=1)] | None = Field(
        description="answers of less confidence are unsure: in predictions.csv, "
        "run.py, predict and the demo page; in (0, 1), empty = off. A change does not "
        "train again"
    )
    threshold: ThresholdRule | None = Field(
        description="two classes: the second one, in the order of the class names, is "
        "predicted from this probability on. f1 (best F1 on validation), recall:0.95 "
        "(at least this recall on validation), or a number in (0, 1); empty or 0.5 = "
        "the more likely class. A change does not train again"
    )

    on_nan: Literal["stop", "skip"] = Field(
        description="if a loss or gradient is not finite: stop (exit code 4), or skip "
        "the step; five skips in a row stop too"
    )
    debug: bool = Field(
        description="true or false: print shapes, norms and dead units of each layer, "
        "and stop at the first NaN with the operation that caused it, even with "
        "on_nan: skip. Slow"
    )
    deterministic: bool = Field(
        description="true or false: bit-identical results on the same kind of machine; "
        "conflicting XLA_FLAGS are errors. false may be faster on GPU; no difference "
        "on CPU"
    )
    lr_range_low: Positive = Field(
        description="LR range test: first learning rate; > 0"
    )
    lr_range_high: Positive = Field(
        description="LR range test: last learning rate; > lr_range_low"
    )
    lr_range_steps: Annotated[int, Field(ge=10)] = Field(
        description="LR range test: number of optimizer steps; integer >= 10. Few "
        "steps give a noisy curve"
    )

    export_formats: Annotated[
        tuple[FormatName, ...], Field(strict=False, min_length=1)
    ] = Field(
        description="non-empty list of stablehlo (JAX), saved_model (TensorFlow), "
        "tflite, tflite_int8 (8-bit integers), onnx, numpy. All six take ten seconds"
    )
