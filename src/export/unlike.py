"""How unlike the training pictures a picture is, by its coarse pixels alone.

A picture is compared with a few hundred typical ones: the centres that k-means finds
among the training pictures. The score is the difference from the nearest centre. The
network is not asked, so every export format has the same score. Which scores are unlike
is decided on the validation split, never on test.

A centre is the mean of several pictures, so that no picture is in the export.

Source: Sun et al. 2022, arXiv:2204.06507, use the distance to the k-th neighbour. Other
scores, and why this one: benchmarks/unlike.py.
"""

import warnings
from pathlib import Path

import numpy as np

from src.data.lazy_images import Images, pieces
from src.errors import DataError
from src.storage.npz import read_arrays

UNLIKE_FILE = "unlike.npz"
GRID = 8  # cells along the longer side, at most
FITTED = 5_000  # pictures of a split, at most
CENTRES = 300  # at most, and at most one for `PICTURES_EACH`
PICTURES_EACH = 10
FEWEST = 3  # pictures of a centre
ROUNDS = 10  # of k-means
QUANTILE = 0.99  # of the validation pictures, which are not warned of


def coarse_pixels(images: np.ndarray) -> np.ndarray:
    """The mean and the deviation of the pixels in each cell of a grid.

    Args:
        images: uint8 `[n, height, width, channels]`.

    Returns:
        Float32 `[n, numbers]`, in [0, 1]; of cells of one pixel only the means.
    """
    count, height, width, _ = images.shape
    pixels = images.astype(np.float32) / np.float32(255)
    side = -(-max(height, width) // GRID)  # of a cell; the last ones may be smaller
    if side == 1:
        return pixels.reshape(count, -1)
    means = cell_means(pixels, side)
    variances = cell_means(pixels * pixels, side) - means * means
    deviations = np.sqrt(np.maximum(variances, 0))
    both = means.reshape(count, -1), deviations.reshape(count, -1)
    return np.concatenate(both, axis=1)


def cell_means(pixels: np.ndarray, side: int) -> np.ndarray:
    """Means of square cells, `[n, rows, columns, channels]`."""
    for axis in (1, 2):
        starts = np.arange(0, pixels.shape[axis], side)
        sizes = np.diff(np.append(starts, pixels.shape[axis])).astype(np.float32)
        shape = [-1 if each == axis else 1 for each in range(4)]
        pixels = np.add.reduceat(pixels, starts, axis) / sizes.reshape(shape)
    return pixels


def unlike_scores(centres: np.ndarray, images: np.ndarray) -> np.ndarray:
    """The difference of each image from the nearest centre.

    Args:
        centres: float32 `[k, numbers]`, of `typical_pictures`.
        images: uint8 `[n, height, width, channels]`.

    Returns:
        Float64 `[n]`, in steps of a pixel: the root of the mean square of differences.
    """
    numbers, kept = coarse_pixels(images).astype(np.float64), centres.astype(np.float64)
    squares = (numbers**2).sum(1)[:, None] + (kept**2).sum(1)[None]
    squares = np.maximum(squares - 2 * numbers @ kept.T, 0)
    return 255 * np.sqrt(squares.min(1) / numbers.shape[1])


def typical_pictures(images: Images) -> np.ndarray:
    """The centres of evenly spaced training images, float32 `[k, numbers]`."""
    # Takes 0.3 s; `predict` does not need it.
    from scipy.cluster.vq import kmeans2

    numbers = np.concatenate([coarse_pixels(each) for each in pieces(spread(images))])
    count = max(min(CENTRES, len(numbers) // PICTURES_EACH), 1)
    with warnings.catch_warnings():
        # Of empty clusters, which equal pictures cause.
        warnings.simplefilter("ignore", UserWarning)
        centres, nearest = kmeans2(numbers, count, ROUNDS, minit="points", rng=0)
    sizes = np.bincount(nearest, minlength=count)
    return centres[sizes >= min(FEWEST, sizes.max())].astype(np.float32)


def unlike_threshold(centres: np.ndarray, images: Images) -> float:
    """The score that `QUANTILE` of the validation images do not exceed."""
    split = pieces(spread(images))
    scores = np.concatenate([unlike_scores(centres, each) for each in split])
    return float(np.quantile(scores, QUANTILE, method="higher"))


def spread(images: Images) -> Images:
    """At most `FITTED` of the images, evenly spaced; they stay on disk."""
    count = min(len(images), FITTED)
    rows = np.linspace(0, len(images) - 1, count).astype(int)
    return images[rows] if isinstance(images, np.ndarray) else images.select(rows)


def read_centres(
    path: Path, sha256: str, shape: tuple[int, ...], repair: str
) -> np.ndarray:
    """Reads the centres, float32 `[k, numbers]`.

    Args:
        path: the file.
        sha256: its recorded digest.
        shape: height, width and channels of the images.
        repair: advice for the error message, a sentence.

    Raises:
        DataError: the file is missing, damaged, or of other images.
    """
    centres = read_arrays(path, repair, sha256).get("centres", np.empty(0))
    numbers = coarse_pixels(np.zeros((1, *shape), np.uint8)).shape[1]
    usable = centres.ndim == 2 and centres.shape[1] == numbers and len(centres)
    if not usable or centres.dtype != np.float32 or not np.isfinite(centres).all():
        raise DataError(
            f"{path}: expected centres, float32 [k, {numbers}], found "
            f"{centres.dtype} {list(centres.shape)}. {repair}"
        )
    return centres
