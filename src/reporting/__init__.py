"""The report page and the plots."""
