"""Parameters: their types, names, bounds and error messages."""
