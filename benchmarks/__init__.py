"""Fourbeat beside what a user would pick: same machine, data and network."""
