"""How well pictures of other kinds are told from those of Fashion-MNIST.

    make bench-data
    python -m benchmarks.unlike --data benchmarks/.data

Trains `cnn` for three epochs and exports it. Each score is measured by
its AUROC: the probability that a picture of another kind gets a higher score than a
test image of Fashion-MNIST. The first score is the one that `stages.predict` prints.
The others need the network: minus the largest probability (Hendrycks and Gimpel 2017,
arXiv:1610.02136); of the inputs of the last layer, the smallest distance of Mahalanobis
to a class (Lee et al. 2018, arXiv:1807.03888), and the distance to the 50th neighbour,
where all have length 1 (Sun et al. 2022, arXiv:2204.06507). Both know 5,000 training
images, as the first does. Writes unlike.json and the table in README.md.
"""

import argparse
import contextlib
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.stats import rankdata

from benchmarks.data import tile
from benchmarks.project import FASHION, ROOT, finish, make_project, start
from benchmarks.sections import replace_section, table
from benchmarks.task import SIDE, load_array
from src.data.prepared import load_manifest, load_split
from src.evaluation.predict import predict
from src.export.load import load_exported
from src.export.unlike import unlike_scores
from src.models.checkpoint import load_trained
from src.models.cnn import CNN
from src.sources.digits import load_digits

RESULTS = Path(__file__).parent / "unlike.json"
RECIPE = {
    **FASHION,
    "dataset": "npz",
    "epochs": 3,
    "batch_size": 64,
    "export_formats": "[numpy]",
}
COUNT = 2_000  # images of each kind of noise
NEIGHBOUR, FITTED = 50, 5_000
BATCH = 500  # images whose features are computed at a time
PIXELS, WARNED = "`predict`", "`predict` warns"

Score = Callable[[np.ndarray], np.ndarray]  # higher is more unlike
Table = dict[str, dict[str, float]]


def other_pictures(test: np.ndarray) -> dict[str, np.ndarray]:
    """Pictures of other kinds, uint8 `[n, 28, 28, 1]`, by name.

    Args:
        test: test images, which are turned and inverted.
    """
    digits = load_digits(ROOT / "data/raw").train.images[..., 0]
    uniform = np.random.default_rng(0).random((COUNT, SIDE, SIDE))
    found = {
        f"digits, enlarged: {how.name.lower()}": np.stack(
            [Image.fromarray(each).resize((SIDE, SIDE), how) for each in digits]
        )
        for how in (Image.Resampling.NEAREST, Image.Resampling.BILINEAR)
    }
    found["noise"] = (256 * uniform).astype(np.uint8)
    for sigma in (1, 2, 4):
        blurred = gaussian_filter(uniform, (0, sigma, sigma))
        low, high = (f(blurred, (1, 2), keepdims=True) for f in (np.min, np.max))
        name = f"noise, blurred with sigma {sigma}"
        found[name] = (256 * blurred).astype(np.uint8)
        stretched = 255 * (blurred - low) / (high - low)
        found[f"{name}, from black to white"] = stretched.astype(np.uint8)
    found = {name: images[..., None] for name, images in found.items()}
    return found | {
        "test images, inverted": 255 - test[:COUNT],
        "test images, upside down": test[:COUNT, ::-1],
        "test images, turned left": test[:COUNT].swapaxes(1, 2)[:, ::-1],
    }


@nnx.jit
def last_inputs(model: CNN, images: jax.Array) -> jax.Array:
    """The inputs of a network's last layer, `[batch, units]`."""
    features = model.pool(model.feature_map(images))
    return nnx.relu(model.dense(features.reshape(len(images), -1)))


def features(model: CNN, images: np.ndarray) -> np.ndarray:
    """`last_inputs` of all images, float64."""
    starts = range(0, len(images), BATCH)
    parts = [jnp.asarray(images[start : start + BATCH]) for start in starts]
    return np.concatenate([np.asarray(last_inputs(model, part)) for part in parts])


def network_scores(
    model: CNN, images: np.ndarray, labels: np.ndarray
) -> dict[str, Score]:
    """Scores that need the network, from its training images and labels."""
    train = features(model, images).astype(np.float64)
    means = np.stack([train[labels == label].mean(0) for label in range(10)])
    offsets = train - means[labels]
    inverse = np.linalg.pinv(offsets.T @ offsets / len(offsets), rcond=1e-6)
    kept = unit_length(train)

    def mahalanobis(images: np.ndarray) -> np.ndarray:
        apart = features(model, images)[:, None] - means
        return np.einsum("ncu,uv,ncv->nc", apart, inverse, apart, optimize=True).min(1)

    def neighbour(images: np.ndarray) -> np.ndarray:
        alike = unit_length(features(model, images)) @ kept.T
        return -np.partition(alike, -NEIGHBOUR, axis=1)[:, -NEIGHBOUR]

    return {
        "probability": lambda images: -np.exp(predict(model, images)).max(1),
        "Mahalanobis": mahalanobis,
        "50th neighbour": neighbour,
    }


def unit_length(rows: np.ndarray) -> np.ndarray:
    """The rows, divided by their lengths."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def auroc(known: np.ndarray, others: np.ndarray) -> float:
    """The probability that one of the others has a higher score; a tie counts half."""
    ranks = rankdata(np.concatenate([known, others]))[len(known) :]
    pairs = len(known) * len(others)
    return float((ranks.sum() - len(others) * (len(others) + 1) / 2) / pairs)


def train(data: Path, folder: Path) -> Path:
    """Trains and exports the network; returns the folder of its project."""
    source, project = folder / "source", folder / "project"
    tile(data, source, len(load_array(data, "train", "labels")))
    make_project(project, None, {**RECIPE, "data_path": source})
    for stage in ("prepare", "train", "evaluate", "export"):
        finish(start(project, f"stages.{stage}"))
    return project


def measure(project: Path) -> Table:
    """The AUROC of each score, by kind of picture; and how many `predict` warns of."""
    with contextlib.chdir(project):
        manifest = load_manifest()
        trained, exported = load_trained(manifest), load_exported(None)
        train, test = (load_split(name, manifest) for name in ("train", "test"))
    centres, entry = exported.centres, exported.manifest.unlike
    if centres is None or entry is None:
        raise SystemExit("unlike: expected an export with centres, found none.")
    scores: dict[str, Score] = {
        PIXELS: lambda images: unlike_scores(centres, images),
        **network_scores(trained.model, train.images[:FITTED], train.labels[:FITTED]),  # type: ignore[arg-type]
    }
    known = {name: score(test.images) for name, score in scores.items()}
    warned = float((known[PIXELS] > entry.threshold).mean())
    found: Table = {"test images": {WARNED: round(warned, 4)}}
    for kind, images in other_pictures(test.images).items():
        given = {name: score(images) for name, score in scores.items()}
        row = {name: round(auroc(known[name], given[name]), 4) for name in scores}
        warned = float((given[PIXELS] > entry.threshold).mean())
        found[kind] = {**row, WARNED: round(warned, 4)}
    return found


def render(results: Table) -> str:
    """A row for each kind of picture."""
    names = list(max(results.values(), key=len))
    rows = [
        [kind, *(f"{row[name]:.3f}" if name in row else "" for name in names)]
        for kind, row in results.items()
    ]
    return table(["pictures", *names], rows)


def main() -> None:
    """Measures the scores and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", type=Path, required=True)
    data = parser.parse_args().data.resolve()
    with tempfile.TemporaryDirectory() as folder:
        results = measure(train(data, Path(folder)))
    record(results)


def record(results: Table) -> None:
    """Writes the results and their table."""
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    text = render(results)
    print(text)
    replace_section("unlike", text)


if __name__ == "__main__":
    main()
