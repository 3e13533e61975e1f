"""Files that run a trained network without this project, a module for each format.

A format is a module here with `FILE`, its file's name, and two functions: `write` makes
the file from a network, `load` reads it back as a function from uint8 images to
probabilities. `formats.format_module` finds it by its name in `export_formats`.
"""
