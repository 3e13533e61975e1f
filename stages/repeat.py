"""Repeats the run with other seeds: mean, standard deviation, confidence interval.

`python -m stages.repeat --seeds 5` trains in temporary folders and writes only
metrics/repeat.json. The files of the current run do not change.
"""

import argparse
import os
from contextlib import chdir, redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

from src import paths
from src.config.params import Params
from src.errors import ParameterError
from src.runtime.launch import check_alone
from src.runtime.stage import StageContext, run_stage
from stages import evaluate, prepare, train


def main(params: Params, context: StageContext) -> str:
    """Prepares, trains and evaluates for `seed`, `seed + 1` and so on."""
    check_alone()
    from src.experiments.seeds import REPORTED, summarize
    from src.storage.json_files import metrics_bytes, read_json

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    count = parser.parse_args().seeds
    if count < 2:
        raise ParameterError(
            f"--seeds: expected an integer >= 2, found {count}. Use --seeds 5."
        )
    seeds = range(params.seed, params.seed + count)
    os.environ.setdefault("FOURBEAT_MANUAL_DIR", str(paths.MANUAL.resolve()))
    data_path = str(Path(params.data_path).resolve())
    found = []
    for seed in seeds:
        run = params.model_copy(update={"seed": seed, "data_path": data_path})
        with TemporaryDirectory() as folder, chdir(folder):
            with redirect_stdout(StringIO()):
                for stage in (prepare, train, evaluate):
                    message = stage.main(run, context)
            files = paths.METRICS / "test.json", paths.DETAILS / "test.json"
            headlines, details = (read_json(path, "")["test"] for path in files)
            found.append(headlines | details)
        print(f"seed {seed}: {message.rpartition(' -> ')[0]}", flush=True)  # noqa: T201
    over = {name: summarize([run[name] for run in found]) for name in REPORTED}
    table = {name: summary._asdict() for name, summary in over.items()}
    path = paths.METRICS / "repeat.json"
    metrics = metrics_bytes({"repeat": {"seeds": len(seeds), **table}})
    with context.outputs() as outputs:
        outputs.write(path, metrics)
    score = over["accuracy"]
    return (
        f"{len(seeds)} seeds: test accuracy {score.mean:.4f} ± "
        f"{score.standard_deviation:.4f} (95 % interval of the mean {score.low:.4f} to "
        f"{score.high:.4f}) -> {path}"
    )


if __name__ == "__main__":
    run_stage("repeat", main)
