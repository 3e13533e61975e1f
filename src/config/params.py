"""Carried out of today's src/config.py."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, model_validator

from src.config.names import (
    ELSEWHERE,
    AugmentName,
    Count,
    Dataset,
    Finite,
    FolderPath,
    FormatName,
    ModelName,
    MonitorMode,
    MonitorName,
    NotNegative,
    OptimizerName,
    Positive,
    PrecisionName,
    ScheduleName,
    Share,
)


class Params(BaseModel, frozen=True, extra="forbid", strict=True):
    """Every hyperparameter of a run.

    The descriptions are the comments in `params.yaml` and the table in the README:
    `make docs` writes both. `None` (`null` in the file) means "off" or "as the model
    has it", where a field allows it.
    """

    dataset: Dataset = Field(
        description="digits, folder, npz, or a TFDS name: mnist, fashion_mnist, "
        "cifar10, emnist/letters"
    )
    data_path: FolderPath = Field(
        description="folder where local data lies: the digits, your images or arrays"
    )
    validation_fraction: Annotated[Finite, Field(gt=0, lt=1)] = Field(
        description="share of the training examples that picks the best epoch, "
        "stratified and seeded; 0 to 1. More where classes are small"
    )
    seed: Annotated[int, Field(ge=0, lt=2**31)] = Field(
        description="of all that is random: the validation cut, the first weights, the "
        "order of examples, dropout, augmentation; a whole number. Change it to see "
        "how much is luck"
    )
    limit_examples: Count | None = Field(
        description="train on this many examples, drawn by seed; empty: on all. For a "
        "quick look"
    )

    model: ModelName = Field(
        description="mlp, cnn (average pooling) or cnn_max (max pooling), sized from "
        "the data"
    )
    hidden: Annotated[int, Field(ge=1, le=65536)] | None = Field(
        description="units of the dense layer; empty: the model's own (mlp 256, cnn "
        "256, cnn_max 128). More where training accuracy stays low"
    )
    precision: PrecisionName = Field(
        description="of what the network computes: float32, bfloat16, or float16 with "
        "a loss scale that adapts; weights and loss are float32. The short ones pay on "
        "GPU and TPU, not on CPU"
    )

    dropout: Share = Field(
        description="share of the dense layer's units dropped in training; 0 (none) to "
        "1. More where validation falls behind training"
    )
    label_smoothing: Share = Field(
        description="share of each label's probability that training spreads over all "
        "classes; 0 (none) to 1. 0.05 to 0.1 where labels are not quite sure"
    )
    ema_decay: Share = Field(
        description="the weights that are validated, saved and exported are a running "
        "average that keeps this share of itself at each step; 0 (the weights "
        "themselves) to 1. 0.99 to 0.9999 where validation jumps"
    )
    augment: Annotated[tuple[AugmentName, ...], Field(strict=False)] = Field(
        description="a list of random changes to training images: shift, flip (left "
        "and right), rotation, cutout, mixup. flip not for digits or letters"
    )
    shift_pixels: Annotated[int, Field(ge=1, le=256)] = Field(
        description="of shift: at most this many pixels in each direction; 1 to 256"
    )
    rotation_degrees: Annotated[Positive, Field(le=180)] = Field(
        description="of rotation: at most this many degrees either way; above 0, 180 "
        "at most"
    )
    cutout_pixels: Count = Field(
        description="of cutout: the side of the square that is blackened, in pixels. "
        "Up to half of the image"
    )
    mixup_alpha: Positive = Field(
        description="of mixup: both parameters of the Beta distribution that two "
        "images' shares are drawn from, the larger is an image's own; above 0. 0.1 to "
        "0.4, more mixes more"
    )

    optimizer: OptimizerName = Field(
        description="sgd, momentum, nesterov, adam, adamw, rmsprop, lion, lamb or "
        "muon. muon wants adamw's lr, lion a third to a tenth of it"
    )
    lr: Positive = Field(
        description="learning rate, the schedule's peak; above 0. The first to touch: "
        "three times more, three times less"
    )
    momentum: Share = Field(
        description="of momentum, nesterov and muon: share of the last step that is "
        "kept; 0 to 1"
    )
    weight_decay: NotNegative = Field(
        description="times lr, the share of each kernel's weights that a step takes "
        "away; 0 or more. Not used by adam; part of what lamb resizes. More where "
        "validation falls behind"
    )
    clip_norm: Positive | None = Field(
        description="largest norm of the whole gradient, beyond which it is scaled "
        "down; above 0, empty: none. Where the loss jumps: 1"
    )
    clip_value: Positive | None = Field(
        description="largest size of each number in the gradient, cut off before "
        "clip_norm; above 0, empty: none"
    )
    schedule: ScheduleName = Field(
        description="constant; cosine, linear, exponential: from lr to lr_end; "
        "warmup_cosine, one_cycle: up first; piecewise: steps down at lr_milestones; "
        "plateau: steps down when monitor stops improving"
    )
    warmup_epochs: NotNegative = Field(
        description="of warmup_cosine (from 0) and one_cycle (from lr / 25): epochs "
        "until lr is reached; 0 to epochs. More where the first epochs are wild"
    )
    lr_end: NotNegative = Field(
        description="learning rate where cosine, warmup_cosine, linear and exponential "
        "end, and that plateau does not go below; 0 to lr, for exponential above 0"
    )
    lr_milestones: Annotated[tuple[Positive, ...], Field(strict=False)] = Field(
        description="of piecewise: a list of the epochs after which lr falls, rising"
    )
    lr_factor: Annotated[Finite, Field(gt=0, lt=1)] = Field(
        description="of piecewise and plateau: what lr is multiplied by; 0 to 1"
    )
    lr_patience: Count = Field(
        description="of plateau: epochs without improvement before lr falls"
    )
    lr_cooldown: Annotated[int, Field(ge=0)] = Field(
        description="of plateau: epochs after a fall in which none is counted; 0 or "
        "more"
    )

    batch_size: Annotated[int, Field(ge=1, le=65536)] = Field(
        description="examples per optimizer step. With twice as many, try 1.4 to 2 "
        "times the lr"
    )
    accumulate: Count = Field(
        description="slices in which a batch is computed, for memory's sake: the step "
        "stays the same; must divide batch_size"
    )
    epochs: Count = Field(description="passes over the training data, at most")
    max_steps: Count | None = Field(
        description="optimizer steps, at most; the schedule still runs over epochs. "
        "empty: no limit. For a quick look"
    )
    overfit_batches: Count | None = Field(
        description="train and validate on the examples of this many batches alone, "
        "without augment; empty: off. A network that cannot learn one batch by heart "
        "is broken"
    )
    log_every: Count = Field(
        description="optimizer steps per row of metrics/plots/steps.csv, counted anew "
        "in each epoch; changes no result"
    )

    save_minutes: Positive = Field(
        description="an interrupted run goes on from where it was saved last: at the "
        "end of each epoch, and within one after so many minutes; above 0. Changes no "
        "result"
    )
    resident_megabytes: Annotated[int, Field(ge=0)] | None = Field(
        description="a split of more megabytes of pixels stays on disk and is read as "
        "training goes on, a smaller one lies on the device; empty: what fits there "
        "does. Changes no result"
    )

    monitor: MonitorName = Field(
        description="what picks the best epoch: validation_ and loss, accuracy, "
        "precision, recall, f1 (macro averages) or top_k; train_loss, train_accuracy"
    )
    monitor_mode: MonitorMode = Field(
        description="min, max, or auto: min for a loss, max for anything else"
    )
    top_k: Count = Field(
        description="of validation_top_k and the test's: right is a label among this "
        "many most likely classes; 1 for all networks where there are no more classes"
    )
    min_delta: NotNegative = Field(
        description="a change of monitor by no more than this is no improvement; 0 or "
        "more"
    )
    patience: Count | None = Field(
        description="epochs in a row without improvement that stop training; empty: "
        "never"
    )
    start_from_epoch: Count = Field(
        description="patience and stop_if_worse_than count from this epoch on"
    )
    stop_at: Finite | None = Field(
        description="a value of monitor that is good enough: training stops; empty: "
        "none is"
    )
    stop_if_worse_than: Finite | None = Field(
        description="a value of monitor beyond which a run is given up; empty: none"
    )
    max_minutes: Positive | None = Field(
        description="wall time of training, after which it stops and validates; looked "
        "at every log_every steps; above 0, empty: no limit. Such a run is not "
        "repeatable to the bit"
    )

    on_nan: Literal["stop", "skip"] = Field(
        description="what a loss or gradient that is not finite does: stop with exit "
        "code 4, or skip its step; five in a row stop all the same"
    )
    debug: bool = Field(
        description="true: print each layer's shape, norms and dead units, and stop "
        "at the first NaN, on_nan: skip or not, with the operation that made it; "
        "false. Slow"
    )
    deterministic: bool = Field(
        description="true: the same run gives the same bits on the same kind of "
        "machine, and XLA_FLAGS that would spoil it are refused; false: a GPU may be "
        "faster. No difference on CPU"
    )
    lr_range_low: Positive = Field(
        description="of the LR range test: the first rate; above 0"
    )
    lr_range_high: Positive = Field(
        description="of the LR range test: the last rate; above lr_range_low"
    )
    lr_range_steps: Annotated[int, Field(ge=10)] = Field(
        description="of the LR range test: optimizer steps; 10 or more. With few, the "
        "curve is noise"
    )

    export_formats: Annotated[
        tuple[FormatName, ...], Field(strict=False, min_length=1)
    ] = Field(
        description="a list of stablehlo (JAX), saved_model (TensorFlow), tflite, "
        "tflite_int8 (8-bit integers), onnx, numpy. All take half a minute"
    )

    @model_validator(mode="after")
    def _lists_are_in_order(self) -> Self:
        for key in ("augment", "export_formats"):
            names = getattr(self, key)
            if len(set(names)) < len(names):
                raise ValueError(f"{key}: expected each name once, got one twice.")
        if list(self.lr_milestones) != sorted(set(self.lr_milestones)):
            raise ValueError(
                "lr_milestones: expected rising epochs, got "
                f"{list(self.lr_milestones)}. Sort them, each once."
            )
        return self

    @model_validator(mode="after")
    def _schedule_fits(self) -> Self:
        warm = self.schedule in ("warmup_cosine", "one_cycle")
        if warm and self.warmup_epochs > self.epochs:
            raise ValueError(
                f"warmup_epochs: expected a number from 0 to epochs ({self.epochs}), "
                f"got {self.warmup_epochs}."
            )
        if self.lr_end > self.lr:
            raise ValueError(
                f"lr_end: expected a number from 0 to lr ({self.lr}), got "
                f"{self.lr_end}."
            )
        if self.schedule == "exponential" and self.lr_end == 0:
            raise ValueError(
                "lr_end: expected a number above 0 for schedule: exponential, got 0. "
                f"Try {self.lr / 100:g}."
            )
        last = max(self.lr_milestones, default=self.epochs)
        if self.schedule == "piecewise" and last >= self.epochs:
            raise ValueError(
                f"lr_milestones: expected epochs above 0 and below epochs "
                f"({self.epochs}) for schedule: piecewise, got "
                f"{list(self.lr_milestones)}. Try [{self.epochs / 2:g}]."
            )
        if self.lr_range_high <= self.lr_range_low:
            raise ValueError(
                f"lr_range_high: expected a number above lr_range_low "
                f"({self.lr_range_low}), got {self.lr_range_high}."
            )
        return self

    @model_validator(mode="after")
    def _batch_divides(self) -> Self:
        if self.batch_size % self.accumulate:
            size, count = self.batch_size, min(self.accumulate, self.batch_size + 1)
            below = next(less for less in range(count - 1, 0, -1) if size % less == 0)
            above = [more for more in range(count + 1, size + 1) if size % more == 0]
            nearest = " or ".join(map(str, [below, *above[:1]]))
            raise ValueError(
                f"accumulate: expected a divisor of batch_size ({self.batch_size}), "
                f"got {self.accumulate}. The nearest: {nearest}."
            )
        return self

    @model_validator(mode="after")
    def _stopping_fits(self) -> Self:
        if self.start_from_epoch > self.epochs:
            raise ValueError(
                f"start_from_epoch: expected an integer from 1 to epochs "
                f"({self.epochs}), got {self.start_from_epoch}."
            )
        return self


TRAINING = [key for key in Params.model_fields if key not in ELSEWHERE]
