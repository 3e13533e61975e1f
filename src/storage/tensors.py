"""Arrays as safetensors: the trained weights and the snapshots of training.

The format holds no code and is checked by its own library. Its `__metadata__` stays
empty, because the order of its keys is random: the same arrays give the same bytes.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from src.errors import DataError, one_line
from src.storage.reading import check_digest, open_regular


def pack_tensors(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The content of a safetensors file with these arrays."""
    # C order: the library copies memory and ignores strides.
    return save({name: np.asarray(arrays[name], order="C") for name in arrays})


def unpack_tensors(path: Path, content: bytes, repair: str) -> dict[str, np.ndarray]:
    """The arrays in the content of a safetensors file.

    Args:
        path: where the content is from, for the message.
        content: the whole file.
        repair: what to do if it is damaged, a sentence.

    Raises:
        DataError: the content is not a safetensors file, or numpy lacks a dtype of it.
    """
    try:
        return load(content)
    except KeyError as error:
        found = f"dtype {error.args[0]}"
    except (SafetensorError, ValueError) as error:
        found = one_line(error)
    raise DataError(f"{path}: expected safetensors, found {found}. {repair}")


def read_tensors(path: Path, repair: str, sha256: str) -> dict[str, np.ndarray]:
    """Reads a safetensors file whose SHA-256 was recorded.

    Args:
        path: the file.
        repair: what to do if it is missing or damaged, a sentence.
        sha256: the recorded digest; compared before anything is parsed.

    Raises:
        DataError: the file is missing, was changed, or is not a safetensors file.
    """
    with open_regular(path, repair) as file:
        content = file.read()
    check_digest(path, content, repair, sha256)
    return unpack_tensors(path, content, repair)
