"""What DVC runs: wiring only."""

from contextlib import suppress
from importlib.util import cache_from_source
from pathlib import Path


def remove_stale_bytecode(root: Path) -> None:
    """Removes compiled sources that are older than the last change of their source.

    Python itself compares size and time of modification, in whole seconds: after an
    edit of equal size within a second, or a copy that keeps times, it would run the old
    code, and DVC record the new one as the cause. The time of change cannot be set.
    """
    for folder in ("src", "stages"):
        for source in (root / folder).rglob("*.py"):
            compiled = Path(cache_from_source(str(source)))
            with suppress(FileNotFoundError):
                if compiled.stat().st_mtime_ns <= source.stat().st_ctime_ns:
                    compiled.unlink()


with suppress(OSError):  # a folder of somebody else's
    remove_stale_bytecode(Path(__file__).parents[1])
