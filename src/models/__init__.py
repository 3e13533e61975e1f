"""Networks, their layers, and their checkpoints."""
