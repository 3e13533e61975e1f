"""Progress bars on a terminal, for work that takes longer than a second."""

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

DELAY = 1  # seconds before a bar appears
Item = TypeVar("Item")


def with_progress(
    items: Iterable[Item], count: int, what: str, unit: str
) -> Iterator[Item]:
    """Yields the items; on a terminal a bar shows them if they take over a second.

    Elsewhere, such as in a pipe, nothing is printed.

    Args:
        items: passed on in their order.
        count: how many there are.
        what: is done with them, in front of the bar.
        unit: what an item is.
    """
    yield from tqdm(
        items,
        what,
        count,
        leave=False,
        unit=unit,
        delay=DELAY,
        disable=not sys.stderr.isatty(),
    )
