"""Writes the results of the run as one self-contained HTML page.

Run by `dvc repro report`. It only reads files and imports no JAX: half a second.
"""

import sys

from src import paths
from src.config.params import Params
from src.runtime.stage import StageContext, run_stage


def main(params: Params, context: StageContext) -> str:
    """Writes metrics/report.html."""
    from src.reporting.page import build_page
    from src.results.read import load_results

    results = load_results()
    page = build_page(results, params, paths.PARAMS.read_text(encoding="utf-8"))
    with context.outputs() as outputs:
        outputs.write(paths.REPORT, page)
    metrics = results.metrics
    examples, correct = metrics.details.examples, metrics.details.correct
    return (
        f"{results.manifest.dataset}, {results.trained.architecture.model}: accuracy "
        f"{metrics.scores.accuracy:.4f}, {examples - correct} of {examples} images "
        f"wrong, {len(page):,} bytes -> {paths.REPORT}"
    )


if __name__ == "__main__":
    run_stage("report", main, sys.argv[1:])
