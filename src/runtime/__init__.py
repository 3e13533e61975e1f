"""How a stage runs: exit codes, processes, cores, determinism."""
