"""The benchmark of the score of unlike pictures."""

import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks.unlike import auroc, other_pictures


def test_auroc_matches_scikit_learn_with_ties():
    rng = np.random.default_rng(0)
    known, others = rng.integers(0, 9, 40), rng.integers(3, 12, 30)
    truth = np.arange(70) >= 40
    expected = roc_auc_score(truth, np.concatenate([known, others]))
    assert np.isclose(auroc(known, others), expected, rtol=1e-12)


def test_auroc_counts_pairs():
    assert auroc(np.array([1, 2]), np.array([3, 0, 2])) == (2 + 0 + 1.5) / 6


def test_other_pictures_are_images_of_fashion_mnists_shape():
    test = np.zeros((5, 28, 28, 1), np.uint8)
    found = other_pictures(test)
    assert {images.shape[1:] for images in found.values()} == {(28, 28, 1)}
    assert {images.dtype for images in found.values()} == {np.dtype(np.uint8)}
    assert len(found["digits, enlarged: nearest"]) == 1442
