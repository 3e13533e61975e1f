"""Readers of raw data; only prepare imports them."""
