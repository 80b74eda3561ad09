import numpy as np
import pytest
from sklearn.metrics import accuracy_score

from reid_mtda.errors import ShapeError
from reid_mtda.evaluation.accuracy import accuracy, certainty, mutual_information


def test_accuracy_agrees_with_scikit_learn():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(50, 4)).astype(np.float32), rng.integers(0, 4, 50)
    assert accuracy(logits=logits, labels=labels) == pytest.approx(accuracy_score(labels, logits.argmax(1)))


def test_no_pictures_have_no_accuracy_and_lengths_must_agree():
    assert np.isnan(accuracy(logits=np.zeros((0, 3), np.float32), labels=np.zeros(0, np.int64)))
    with pytest.raises(ShapeError, match=r"got 2 rows of logits for 3 labels"):
        accuracy(logits=np.zeros((2, 3), np.float32), labels=np.zeros(3, np.int64))


def test_validators_prefer_sure_and_diverse_beliefs():
    sure = 20 * np.eye(4, dtype=np.float32)
    unsure = np.zeros((4, 4), np.float32)
    collapsed = np.tile(sure[:1], (4, 1))
    assert certainty(sure) > certainty(unsure)
    assert certainty(collapsed) == pytest.approx(certainty(sure), abs=1e-6)  # entropy alone is fooled by collapse
    assert mutual_information(sure) == pytest.approx(np.log(4), abs=1e-3)
    assert mutual_information(collapsed) == pytest.approx(0.0, abs=1e-3)


def test_validators_survive_large_logits():
    assert certainty(np.array([[1000.0, 1000.0]], np.float32)) == pytest.approx(-np.log(2), abs=1e-6)
