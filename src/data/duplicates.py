"""Equal and nearly equal pictures in two splits or two classes."""

from collections.abc import Iterator, Mapping
from itertools import combinations

import numpy as np

from src.data.examples import Examples, SplitName, image_hashes
from src.data.lazy_images import Images, piece_length, pieces

ROWS, COLUMNS = 8, 9  # of the grid of a difference hash, which has 8 x 8 bits
MAX_DISTANCE = 2  # bits in which the hashes of nearly equal pictures differ
BANDS = (0, 21), (21, 21), (42, 22)  # one is equal if at most two bits differ
MIN_BITS = 8  # a picture with fewer set or unset bits has too little structure
MAX_CANDIDATES = 64  # pictures of equal bands that are compared, which bounds the time
MAX_PAIRS = 20_000  # whose pixels are compared, which bounds the time too
MAX_DIFFERENCE = 8  # of 255: the mean difference of the pixels of nearly equal pictures
CHUNK = 1 << 14  # pictures that are compared at a time


def count_duplicates(splits: Mapping[SplitName, Examples]) -> dict[str, int]:
    """The number of distinct images that two splits share, as `train_test`."""
    hashes = {name: image_hashes(split.images) for name, split in splits.items()}
    return {
        f"{one}_{other}": len(np.intersect1d(hashes[one], hashes[other]))
        for one, other in combinations(hashes, 2)
    }


def equal_pairs(hashes: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """Pairs of equal pictures of two kinds, int64 `[m, 2]`, sorted.

    Of three or more equal pictures not every pair is listed.

    Args:
        hashes: of `image_hashes`, `[n]`.
        kinds: the class or the split of each picture, integers `[n]`.
    """
    order = np.lexsort((kinds, hashes))
    equal = hashes[order[1:]] == hashes[order[:-1]]
    pair = equal & (kinds[order[1:]] != kinds[order[:-1]])
    return np.unique(np.stack([order[:-1][pair], order[1:][pair]], axis=1), axis=0)


def difference_hashes(images: Images) -> np.ndarray:
    """Perceptual hashes, uint64 `[n]`: where the brightness rises from left to right.

    A picture that was resized or saved again has nearly the same hash. The sums
    are integers, so the hashes are the same on every machine.

    Source: N. Krawetz, "Kind of Like That", 2013, the hash dHash.
    """
    found = []
    for piece in pieces(images):
        rows = cell_sums(piece, ROWS, 1).sum(-1, dtype=np.int32)
        widths = np.maximum(np.diff(cell_starts(piece.shape[2], COLUMNS)), 1)
        means = cell_sums(rows, COLUMNS, 2) / widths  # times a row's height
        rises = (np.diff(means, axis=2) > 0).reshape(len(piece), -1)
        found.append(np.packbits(rises, axis=1).view(np.uint64)[:, 0])
    return np.concatenate(found)


def cell_sums(values: np.ndarray, cells: int, axis: int) -> np.ndarray:
    """Sums over `cells` parts of an axis; a short axis repeats its values."""
    starts = cell_starts(values.shape[axis], cells)[:-1]
    return np.add.reduceat(values, starts, axis=axis, dtype=np.int32)


def cell_starts(size: int, cells: int) -> np.ndarray:
    """Where each of `cells` nearly equal parts of an axis starts, then `size`."""
    return np.arange(cells + 1) * size // cells


def near_pairs(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Pairs of nearly equal pictures of two splits, int64 `[m, 2]`, sorted.

    Args:
        one: hashes of `difference_hashes`, `[n]`.
        other: of another split, `[k]`.
    """
    pairs = [np.empty((0, 2), np.int64)]
    for shift, width in BANDS:
        mask = np.uint64((1 << width) - 1)
        keys, others = ((hashes >> np.uint64(shift)) & mask for hashes in (one, other))
        for first, second in candidates(keys, others):
            distance = np.bitwise_count(one[first] ^ other[second])
            near = (distance <= MAX_DISTANCE) & has_structure(one[first])
            pairs.append(np.stack([first[near], second[near]], axis=1))
    return np.unique(np.concatenate(pairs), axis=0)


def close_pairs(one: Images, other: Images, pairs: np.ndarray) -> np.ndarray:
    """The pairs whose pixels are nearly equal too, among the first `MAX_PAIRS`.

    Different drawings of a digit or an icon often have nearly the same hash.

    Args:
        one: uint8 `[n, height, width, channels]`.
        other: images of the same shape, of another split.
        pairs: int64 `[m, 2]`, rows of `one` and `other`.
    """
    pairs = pairs[:MAX_PAIRS]
    size = piece_length(one.shape)
    differences = [np.empty(0)]
    for start in range(0, len(pairs), size):
        first, second = pairs[start : start + size].T
        larger, smaller = (
            function(one[first], other[second]) for function in (np.maximum, np.minimum)
        )
        differences.append((larger - smaller).mean((1, 2, 3), dtype=np.float64))
    return pairs[np.concatenate(differences) <= MAX_DIFFERENCE]


def has_structure(hashes: np.ndarray) -> np.ndarray:
    """Whether a hash tells pictures apart: that of a plain picture does not."""
    bits = np.bitwise_count(hashes)
    return (bits >= MIN_BITS) & (bits <= 64 - MIN_BITS)


def candidates(
    keys: np.ndarray, others: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields indices into `keys` and `others` of equal values, in chunks.

    At most `MAX_CANDIDATES` indices into `keys` for each of `others`.
    """
    order = np.argsort(keys, kind="stable")
    ranked = keys[order]
    for start in range(0, len(others), CHUNK):
        wanted = others[start : start + CHUNK]
        begins = np.searchsorted(ranked, wanted)
        counts = np.searchsorted(ranked, wanted, side="right") - begins
        counts = np.minimum(counts, MAX_CANDIDATES)
        second = np.repeat(np.arange(len(wanted)), counts)
        within = np.arange(len(second)) - np.repeat(np.cumsum(counts) - counts, counts)
        yield order[begins[second] + within], start + second
