"""Required keys in the files of a run; other keys are ignored.

`metrics/NAME.json` holds the headlines that `dvc metrics diff` shows. All other numbers
of the stage are in `metrics/details/NAME.json`.
"""

from typing import Annotated

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)

from src.data.examples import SplitName
from src.data.prepared import Manifest
from src.evaluation.metrics import wilson_interval

EQUAL_RATIO = 1.5  # up to here, balanced accuracy is close to accuracy
Fraction = Annotated[FiniteFloat, Field(ge=0, le=1)]


class FrozenModel(BaseModel):
    """Base of the models below: immutable."""

    model_config = ConfigDict(frozen=True)


class CountedManifest(Manifest, frozen=True):
    """`data/prepared/manifest.json` with the number of examples per class."""

    counts: dict[SplitName, dict[str, NonNegativeInt]]


class SplitSize(FrozenModel):
    """The number of examples in a split."""

    examples: PositiveInt


class PrepareMetrics(FrozenModel):
    """`metrics/prepare.json`."""

    train: SplitSize
    validation: SplitSize
    test: SplitSize


class PrepareDetails(FrozenModel):
    """`metrics/details/prepare.json`."""

    in_both: dict[str, NonNegativeInt]  # images that two splits share, as "train_test"


class BestEpoch(FrozenModel):
    """`metrics/train.json`."""

    best_epoch: PositiveInt


class CalibrationScores(FrozenModel):
    """Validation before and after `calibrate`."""

    temperature: PositiveFloat
    calibration_error_before: Fraction
    calibration_error_after: Fraction


class TrainDetails(FrozenModel):
    """`metrics/details/train.json`."""

    calibration: CalibrationScores | None = None

    epochs: PositiveInt
    steps: NonNegativeInt
    skipped: NonNegativeInt


class ClassScores(FrozenModel):
    """Scores of one class in `metrics/details/test.json`."""

    precision: Fraction
    recall: Fraction
    f1: Fraction
    examples: NonNegativeInt
    # One versus the rest; None for a class without test images, or the only one.
    roc_auc: Fraction | None = None
    average_precision: Fraction | None = None

    def recall_interval(self) -> tuple[float, float]:
        """The 95 % interval of the recall; (0, 1) for a class without examples."""
        if not self.examples:
            return 0.0, 1.0
        return wilson_interval(round(self.recall * self.examples), self.examples)


class Scores(FrozenModel):
    """The headline scores; precision, recall and F1 are macro averages."""

    loss: FiniteFloat
    accuracy: Fraction
    precision: Fraction
    recall: Fraction
    f1: Fraction
    calibration_error: Fraction


class EvaluateMetrics(FrozenModel):
    """`metrics/test.json`."""

    test: Scores


class ScoreDetails(FrozenModel):
    """All other scores of the test split."""

    accuracy_low: Fraction
    accuracy_high: Fraction
    balanced_accuracy: Fraction
    top_k: Fraction
    correct: NonNegativeInt
    examples: PositiveInt
    classes: dict[str, ClassScores]
    aurc: Fraction | None = None  # area under the risk-coverage curve
    roc_auc: Fraction | None = None  # macro averages
    average_precision: Fraction | None = None
    threshold: Fraction | None = None  # of the second of two classes
    reject_below: Fraction | None = None
    coverage: Fraction | None = None  # with `reject_below`: share of answered images
    answered_accuracy: Fraction | None = None  # None if none is answered

    def has_unequal_classes(self) -> bool:
        """Whether the largest class has over `EQUAL_RATIO` times the smallest's images.

        Balanced accuracy leaves out a class without images; so does this.
        """
        sizes = [each.examples for each in self.classes.values() if each.examples]
        return max(sizes) > EQUAL_RATIO * min(sizes)


class EvaluateDetails(FrozenModel):
    """`metrics/details/test.json`."""

    test: ScoreDetails


class ExportDetails(FrozenModel):
    """`metrics/details/export.json`: measurements by format."""

    export: dict[str, dict[str, int | FiniteFloat]]


class ArchitectureEntry(FrozenModel):
    """The architecture in `models/model.json`."""

    model: str


class TrainedRecord(FrozenModel):
    """`models/model.json`."""

    architecture: ArchitectureEntry
    class_names: list[str]
    data_sha256: dict[SplitName, str]
    epoch: PositiveInt
    stopped: str
    versions: dict[str, str]
    sha256: str


class FileDigest(FrozenModel):
    """A file in `models/export`."""

    file: str
    sha256: str


class WeightsDigest(FrozenModel):
    """The weights that the files were made from."""

    sha256: str


class ExportDigests(FrozenModel):
    """`models/export/manifest.json`."""

    formats: dict[str, FileDigest]
    model: WeightsDigest
