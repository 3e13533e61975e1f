"""The files that stages write for each other, and how they are read."""
