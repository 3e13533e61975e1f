"""The report page and the PNG plots."""
