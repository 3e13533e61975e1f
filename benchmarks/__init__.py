"""Fourbeat compared with other libraries: same machine, data and network."""
