"""Files that run a trained network without this project.

Each format NAME has a module `to_NAME` with the attributes of `formats.Format`. A new
format is such a module, its name in `src/config/names.py`, and a case in
`shipped/runtimes.py`.
"""
