"""One module per contestant, written the way its own community writes it.

Each has `build(task)`, which gives a function that lays out the batches of so many
steps, which gives a function that trains them and returns, when all is done, the losses
that it has at hand. Only the last one is timed.
"""

from collections.abc import Callable

Run = Callable[[], list[float]]
Prepare = Callable[[int], Run]
