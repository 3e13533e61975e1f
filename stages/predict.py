"""Classifies pictures with an exported network.

python -m stages.predict PICTURE... [--model FILE] [--json] [--explain FOLDER]
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from src.runtime.stage import run_command

if TYPE_CHECKING:
    from pathlib import Path

    from src.export.classify import Answered
    from src.models.architecture import Model


def main() -> None:
    """Prints each picture's top classes; notes and errors go to stderr.

    Raises:
        DataError: a picture cannot be read; the others have their answers.
    """
    import json
    import sys

    from src.errors import counted
    from src.export.classify import (
        answer_line,
        classify_pictures,
        find_pictures,
        parse_arguments,
        refuse_pictures,
        unlike_warning,
    )
    from src.export.load import load_exported
    from src.runtime.stage import print_error, print_warning

    arguments = parse_arguments(sys.argv[1:])
    exported = load_exported(arguments.model)
    if arguments.explain:
        from src.export.explain import check_outside, load_explained

        check_outside(arguments.explain, arguments.pictures)
        network = load_explained(exported.manifest.model.sha256)
    found = find_pictures(arguments.pictures)
    if found.passed_over:
        reason = "passed over, because hidden, links or no pictures by name"
        print_error("predict", f"files {reason}: {found.passed_over}")
    answers, wrong = [], list(found.wrong)
    heat_maps: set[Path] = set()
    for part in classify_pictures(exported, found.pictures):
        wrong += part.wrong
        if arguments.explain:
            names = exported.manifest.class_names
            write_heat_maps(part, network, names, arguments.explain, heat_maps)
        for answer in part.answers:
            if warning := unlike_warning(answer, exported.manifest.unlike):
                print_warning("predict", warning)
            if answer["changes"]:
                changes = "; ".join(answer["changes"])
                print_error("predict", f"{answer['picture']}: {changes}")
            if arguments.json:
                answers.append(answer)
            else:
                print(answer_line(answer))  # noqa: T201
    if arguments.json:
        print(json.dumps(answers, indent=2))  # noqa: T201
    if heat_maps:
        maps = counted(len(heat_maps), "heat map")
        print_error("predict", f"{maps} -> {arguments.explain}")
    refuse_pictures(wrong)


def write_heat_maps(
    part: Answered,
    network: Model,
    class_names: list[str],
    folder: Path,
    written: set[Path],
) -> None:
    """Writes a heat map for each answer, which gets its file; adds it to `written`."""
    import numpy as np

    from src.evaluation.heat_maps import heat_maps
    from src.export.explain import heat_map_file
    from src.reporting.fonts import fonts_for
    from src.reporting.heat_map_plots import Explained, draw_explanation
    from src.storage.atomic import replace_file

    best = [answer["classes"][0] for answer in part.answers]
    indices = [class_names.index(each["class"]) for each in best]
    maps = heat_maps(network, part.images, np.array(indices, np.int32))
    for answer, first, image, heat in zip(
        part.answers, best, part.images, maps, strict=True
    ):
        file = heat_map_file(folder, answer["picture"], written)
        explained = Explained(image, heat, first["class"], first["probability"])
        with fonts_for([first["class"]]):
            replace_file(file, draw_explanation(explained))
        answer["heat_map"] = str(file)
        written.add(file)


if __name__ == "__main__":
    run_command("predict", main)
