"""One module per contestant, written in the style of its library.

Each has three levels. `build(task)` builds the network and returns `prepare`.
`prepare(steps)` prepares the batches and returns `run`. `run()` trains, waits for the
device and returns losses. Only `run()` is timed.
"""

from collections.abc import Callable

Run = Callable[[], list[float]]
Prepare = Callable[[int], Run]
