"""The training loop: data, step, optimizer, validation."""
