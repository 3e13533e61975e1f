"""One module per contestant, written the way its own community writes it.

Each has `build(task) -> Callable[[int], list[float]]`: a function that trains a number
of steps and returns when they are done, with the losses that it has at hand.
"""
