"""Which of the project's modules import which: read from the source, nothing is run."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]


def module_path(name: str) -> Path | None:
    base = ROOT / name.replace(".", "/")
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


def imported_modules(path: Path) -> set[Path]:
    """The project's files that `path` imports itself, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    # Importing a module runs the __init__ of every package above it.
    names |= {
        ".".join(parts[:end])
        for parts in (name.split(".") for name in names)
        for end in range(1, len(parts))
    }
    own = {name for name in names if name.split(".")[0] in ("src", "stages")}
    return {path for name in own if (path := module_path(name))}


def import_closure(path: Path) -> set[Path]:
    closure, waiting = set(), {path, path.parent / "__init__.py"}
    while waiting:
        closure |= waiting
        waiting = {found for file in waiting for found in imported_modules(file)}
        waiting -= closure
    return closure
