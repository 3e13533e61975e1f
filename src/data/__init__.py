"""Examples, the prepared splits, and pictures as pixels."""
