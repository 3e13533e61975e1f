"""The sources of data sets, read by prepare alone."""
