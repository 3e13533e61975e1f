"""Commands outside the pipeline: LR range test, seeds, search, sweeps."""
