"""Snapshots of an interrupted run, and the lock of the process that works on it."""
