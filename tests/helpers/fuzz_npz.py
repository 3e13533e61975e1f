"""Coverage-guided fuzzing of the npz reader, with atheris.

`python -m tests.helpers.fuzz_npz -runs=100000` ends with an error at the first input
that is neither refused with a DataError nor read as arrays of numbers.
"""

import io
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

# Atheris instruments modules on import, so nothing here may import zipfile earlier.


def seeds() -> list[bytes]:
    """Valid inputs to mutate: whole files, and the parts that `wrapped` takes."""
    import zipfile

    import numpy as np

    files = []
    for arrays in (
        {"images": np.zeros((2, 3, 3, 1), np.uint8), "labels": np.array([0, 1])},
        {"a/b.c": np.asfortranarray(np.ones((2, 3), np.float32)), "n": np.array(3)},
        {},
    ):
        for save in (np.savez, np.savez_compressed):
            buffer = io.BytesIO()
            save(buffer, **arrays)
            files.append(b"\0" + buffer.getvalue())
        for array in arrays.values():
            buffer = io.BytesIO()
            np.save(buffer, array)
            files += [b"\1" + buffer.getvalue()[6:], b"\2" + buffer.getvalue()[6:]]
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(buffer, "w") as archive,
        archive.open("a.npy", "w", force_zip64=True) as member,
    ):
        np.save(member, np.arange(3))
    return [*files, b"\0" + buffer.getvalue()]


def wrapped(content: bytes) -> bytes:
    """The file for an input: unchanged, or after npy's magic in a valid zip."""
    import zipfile

    way = content[:1]
    if way not in (b"\1", b"\2"):
        return content[1:]
    compression = zipfile.ZIP_DEFLATED if way == b"\2" else zipfile.ZIP_STORED
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr(zipfile.ZipInfo("a.npy"), b"\x93NUMPY" + content[1:])
    return buffer.getvalue()


def try_to_read(content: bytes) -> bool:
    """Whether a file is an npz; raises if the reader misbehaves."""
    from src.storage.npz import unpack_arrays

    arrays = refused_or_read(
        lambda: unpack_arrays(Path("fuzzed.npz"), content, "Recreate it.")
    )
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        located = refused_or_read(lambda: whole_arrays(Path(file.name)))
    # The lazy reader must not accept more than the eager one.
    assert located is None or arrays is not None
    for name, array in (arrays or {}).items():
        assert array.dtype.kind in "biuf"
        assert array.nbytes <= 4_000 * max(len(content), 1)
        if located is not None:
            assert located[name].dtype == array.dtype
            assert located[name].shape == array.shape
            assert located[name].tobytes() == array.tobytes()
    return arrays is not None


def refused_or_read(read: Callable[[], "dict[str, np.ndarray]"]):
    """The arrays; None if the file was refused in one line."""
    from src.errors import DataError

    try:
        return read()
    except DataError as error:
        message = str(error)
    assert len(message) < 500
    assert "\n" not in message
    return None


def whole_arrays(path: Path) -> "dict[str, np.ndarray]":
    """Reads all arrays that `locate_arrays` finds."""
    from src.storage.lazy_npz import LazyArray, locate_arrays

    return {
        name: array.read() if isinstance(array, LazyArray) else array
        for name, array in locate_arrays(path, "Recreate it.").items()
    }


def main() -> None:
    """Runs atheris with `seeds` as its corpus."""
    import atheris

    with atheris.instrument_imports(include=["src", "zipfile", "numpy.lib", "ast"]):
        import src.storage.lazy_npz
        import src.storage.npz  # noqa: F401

    with tempfile.TemporaryDirectory() as corpus:
        for number, content in enumerate(seeds()):
            (Path(corpus) / str(number)).write_bytes(content)
        arguments = [*sys.argv, "-max_len=2000", "-seed=1", corpus]
        atheris.Setup(arguments, lambda content: try_to_read(wrapped(content)))
        atheris.Fuzz()


if __name__ == "__main__":
    main()
