"""The metrics and records of a finished run: their schema, and how to read them."""
