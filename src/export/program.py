"""Makes `run.py`: one file, so that a user copies one, of several modules."""

import ast
from pathlib import Path

from src.evaluation import decision
from src.export.shipped import latency, picture_inputs, run, runtimes

# Each imports only earlier ones.
MODULES = (runtimes, latency, picture_inputs, decision, run)


def make_program() -> bytes:
    """The content of `run.py`: the imports of all modules, then what they define."""
    sources = [Path(str(module.__file__)).read_text("utf-8") for module in MODULES]
    lines: set[str] = set()
    bodies: list[str] = []
    for source in sources:
        found = [
            node
            for node in ast.parse(source).body
            if isinstance(node, ast.Import | ast.ImportFrom)
        ]
        lines |= {line for node in found for line in import_lines(node)}
        after = found[-1].end_lineno
        bodies.append("\n".join(source.splitlines()[after:]).strip())
    docstring = f'"""{ast.get_docstring(ast.parse(sources[-1]))}\n"""'
    imports = "\n".join(sorted(lines))
    begin = f"{docstring}\n\n{imports}\n\n"
    return (begin + "\n\n\n".join(bodies) + "\n").encode()


def import_lines(node: ast.Import | ast.ImportFrom) -> list[str]:
    """One line for each name that an import binds; none for this project's."""
    if isinstance(node, ast.ImportFrom):
        own = (node.module or "").partition(".")[0] == "src"
        given = [] if own else [(f"from {node.module} ", name) for name in node.names]
    else:
        given = [("", name) for name in node.names]
    return [f"{begin}import {ast.unparse(name)}" for begin, name in given]
