"""The scripts that DVC runs; they only connect the rooms of `src`."""

from contextlib import suppress
from importlib.util import cache_from_source
from pathlib import Path


def remove_stale_bytecode(root: Path) -> None:
    """Removes bytecode that is older than its source.

    Python compares the size and the modification time in seconds. After an edit of
    equal size within a second, or a copy that keeps times, it would run the old code,
    and DVC would record the new code. The ctime compared here cannot be set.
    """
    for folder in ("src", "stages"):
        for source in (root / folder).rglob("*.py"):
            compiled = Path(cache_from_source(str(source)))
            with suppress(FileNotFoundError):
                if compiled.stat().st_mtime_ns <= source.stat().st_ctime_ns:
                    compiled.unlink()


# At import, because every module that is imported earlier would run its old bytecode.
# An OSError means that the project is read-only.
with suppress(OSError):
    remove_stale_bytecode(Path(__file__).parents[1])
