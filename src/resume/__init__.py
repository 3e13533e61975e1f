"""Snapshots of an interrupted run."""
