"""`Params`: every hyperparameter of a run, checked.

`params.yaml` is the only place where a hyperparameter gets its value. This room imports
neither JAX nor numpy, so a wrong parameter is answered within half a second.
"""

from typing import Any, Self, get_args

from pydantic import model_validator

from src.config.fields import Fields
from src.config.names import NOT_TRAINING


class Params(Fields, frozen=True, extra="forbid", strict=True):
    """Every hyperparameter of a run.

    `None` (an empty value in the file) means "off" or "the default of the model", where
    a field allows it.
    """

    @model_validator(mode="before")
    @classmethod
    def _read_empty_text_as_null(cls, values: dict[str, Any]) -> dict[str, Any]:
        """`dvc exp run -S clip_norm=` writes '' where an edited file has nothing."""
        return {
            key: None if value == "" and key in MAY_BE_EMPTY else value
            for key, value in values.items()
        }

    @model_validator(mode="after")
    def _check_lists(self) -> Self:
        for key in ("augment", "export_formats", "freeze"):
            names = getattr(self, key)
            if len(set(names)) < len(names):
                raise ValueError(
                    f"{key}: expected each name once, got {list(names)}. "
                    "Remove duplicates."
                )
        if {"mixup", "cutmix"} <= set(self.augment):
            raise ValueError(
                "augment: expected mixup or cutmix, got both. Remove one of them."
            )
        if list(self.lr_milestones) != sorted(set(self.lr_milestones)):
            raise ValueError(
                "lr_milestones: expected increasing epochs, got "
                f"{list(self.lr_milestones)}. Sort them, without duplicates."
            )
        return self

    @model_validator(mode="after")
    def _check_schedule(self) -> Self:
        warm = self.schedule in ("warmup_cosine", "one_cycle")
        if warm and self.warmup_epochs > self.epochs:
            raise ValueError(
                f"warmup_epochs: expected a number in [0, epochs = {self.epochs}], "
                f"got {self.warmup_epochs}. Reduce warmup_epochs or raise epochs."
            )
        if self.lr_end > self.lr:
            raise ValueError(
                f"lr_end: expected a number in [0, lr = {self.lr}], got {self.lr_end}. "
                "Reduce lr_end or raise lr."
            )
        if self.schedule == "exponential" and self.lr_end == 0:
            raise ValueError(
                "lr_end: expected a number > 0 for schedule: exponential, got 0. "
                f"Try {self.lr / 100:g}."
            )
        last = max(self.lr_milestones, default=self.epochs)
        if self.schedule == "piecewise" and last >= self.epochs:
            raise ValueError(
                f"lr_milestones: expected numbers in (0, epochs = "
                f"{self.epochs}) for schedule: piecewise, got "
                f"{list(self.lr_milestones)}. Try [{self.epochs / 2:g}]."
            )
        if self.lr_range_high <= self.lr_range_low:
            raise ValueError(
                f"lr_range_high: expected a number > lr_range_low "
                f"({self.lr_range_low}), got {self.lr_range_high}. "
                f"Try {self.lr_range_low * 1000:g}."
            )
        return self

    @model_validator(mode="after")
    def _check_accumulate(self) -> Self:
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
    def _check_stopping(self) -> Self:
        if self.start_from_epoch > self.epochs:
            raise ValueError(
                f"start_from_epoch: expected an integer in [1, epochs = "
                f"{self.epochs}], got {self.start_from_epoch}. "
                "Reduce start_from_epoch or raise epochs."
            )
        return self


MAY_BE_EMPTY = {
    key
    for key, field in Params.model_fields.items()
    if type(None) in get_args(field.annotation)
}
# The parameters that decide what training does; `models/model.json` records them.
TRAINING = [key for key in Params.model_fields if key not in NOT_TRAINING]
