"""Atomic writes, checked reads, npz files and lineage."""
