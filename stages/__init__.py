"""What DVC runs: each stage is wiring over `src`, run as `python -m stages.NAME`."""
