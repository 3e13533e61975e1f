"""Writes all that is known of the run as one page, to be read and sent around.

Run by `dvc repro report`; nothing is computed anew, so it takes less than a second.
"""

from src import paths
from src.config.params import Params
from src.runtime.stage import StageContext, run_stage


def main(params: Params, context: StageContext) -> str:
    """Writes metrics/report.html."""
    from src.reporting.commit import find_commit
    from src.reporting.page import build_page
    from src.results.read import load_results

    results = load_results()
    text = paths.PARAMS.read_text(encoding="utf-8")
    page = build_page(results, params, text, find_commit())
    with context.outputs() as outputs:
        outputs.write(paths.REPORT, page)
    scores = results.scores
    return (
        f"{results.manifest.dataset}, {results.trained.architecture.model}: accuracy "
        f"{scores.accuracy:.4f}, {scores.examples - scores.correct} of "
        f"{scores.examples} images wrong, {len(page):,} bytes -> {paths.REPORT}"
    )


if __name__ == "__main__":
    run_stage("report", main)
