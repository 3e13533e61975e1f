"""What must stand in the files of a run for its report; more may."""

from typing import Annotated

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    NonNegativeInt,
    PositiveInt,
)

from src.data.prepared import SplitName
from src.evaluation.metrics import wilson_interval

Share = Annotated[FiniteFloat, Field(ge=0, le=1)]


class Of(BaseModel):
    """What a file must hold; it never changes."""

    model_config = ConfigDict(frozen=True)


class Size(Of):
    """How many examples a split has."""

    examples: PositiveInt


class PrepareMetrics(Of):
    """`metrics/prepare.json`."""

    train: Size
    validation: Size
    test: Size
    in_both: dict[str, NonNegativeInt]  # images, by the two splits they stand in


class TrainMetrics(Of):
    """`metrics/train.json`."""

    best_epoch: PositiveInt
    epochs: PositiveInt
    steps: NonNegativeInt
    skipped: NonNegativeInt
    validation: dict[str, FiniteFloat]


class ClassScores(Of):
    """The scores of a class in `metrics/test.json`."""

    precision: Share
    recall: Share
    f1: Share
    examples: NonNegativeInt

    def recall_interval(self) -> tuple[float, float]:
        """Recall's 95 % interval; of no examples nothing is known: 0 to 1."""
        if not self.examples:
            return 0.0, 1.0
        return wilson_interval(round(self.recall * self.examples), self.examples)


class Scores(ClassScores):
    """The scores of all classes; precision, recall and F1 are means over them."""

    loss: FiniteFloat
    accuracy: Share
    accuracy_low: Share
    accuracy_high: Share
    calibration_error: Share
    top_k: Share
    correct: NonNegativeInt
    examples: PositiveInt
    classes: dict[str, ClassScores]


class EvaluateMetrics(Of):
    """`metrics/test.json`."""

    test: Scores


class ExportMetrics(Of):
    """`metrics/export.json`: what was measured of each format, by its name."""

    export: dict[str, dict[str, int | FiniteFloat]]


class Network(Of):
    """The architecture in `model.json`."""

    model: str


class Trained(Of):
    """What `model.json` says of the weights."""

    architecture: Network
    class_names: list[str]
    data_sha256: dict[SplitName, str]
    epoch: PositiveInt
    stopped: str
    versions: dict[str, str]
    sha256: str
    history_sha256: str


class ExportedFile(Of):
    """A file in `models/export`."""

    file: str
    sha256: str


class ExportManifest(Of):
    """`models/export/manifest.json`."""

    formats: dict[str, ExportedFile]
    weights: ExportedFile
