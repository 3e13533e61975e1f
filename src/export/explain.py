"""The trained network and the file names for `python -m stages.predict --explain`.

An exported file has no gradients. So heat maps are made by the network that it was made
from.
"""

from collections.abc import Iterable
from pathlib import Path

from src import paths
from src.errors import DataError, ParameterError
from src.models.architecture import Model
from src.models.checkpoint import ModelRecord, load_network
from src.storage.json_files import read_record

NEEDED = (
    "--explain needs the trained network that was exported: run dvc repro export, or "
    "leave --explain out."
)
NAME_LETTERS = 50  # of a picture's file name: a file name has at most 255 bytes


def load_explained(sha256: str) -> Model:
    """Loads the network that an export was made from.

    Args:
        sha256: of its weights, as in the manifest of the export.

    Raises:
        DataError: its files are missing or damaged, or another network was trained
            since.
    """
    record = read_record(paths.MODEL, ModelRecord, NEEDED)
    if record.sha256 != sha256:
        raise DataError(
            f"{paths.MODEL}: expected the network that was exported, with weights of "
            f"SHA-256 {sha256[:12]}..., found {record.sha256[:12]}.... {NEEDED}"
        )
    return load_network(record).model


def check_outside(folder: Path, names: Iterable[str]) -> None:
    """Raises ParameterError if heat maps would be written among pictures to classify.

    The next run would classify them too.
    """
    for name in names:
        if Path(name).is_dir() and folder.resolve().is_relative_to(
            Path(name).resolve()
        ):
            raise ParameterError(
                f"--explain {folder}: expected a folder outside of {name}, whose "
                "pictures are classified, found one inside. Name another."
            )


def heat_map_file(folder: Path, picture: str, taken: set[Path]) -> Path:
    """The file for the heat map of a picture: its name, numbered if it is taken.

    Names that differ in case only are one name: on some disks they are.
    """
    name = Path(picture).name[-NAME_LETTERS:]
    file, number = folder / f"{name}.heat.png", 1
    names = {str(each).casefold() for each in taken}
    while str(file).casefold() in names:
        number += 1
        file = folder / f"{name}-{number}.heat.png"
    return file
