"""Examples, the prepared splits, and image files as pixels."""
