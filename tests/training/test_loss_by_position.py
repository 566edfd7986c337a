"""Held-out loss by position in the context."""

import numpy as np
import pytest

from data.corpora.bigram import table
from training.loss_by_position import bins, by_position


@pytest.mark.parametrize("length", [1, 2, 3, 8, 9, 128])
def test_bins_cover_every_position_once_and_double(length):
    found = bins(length)
    assert [place for first, last in found for place in range(first, last + 1)] == list(range(1, length + 1))
    assert [first for first, _ in found] == [1, 2, 3, 5, 9, 17, 33, 65][: len(found)]


def test_means_are_over_what_counts_and_join_to_the_whole():
    generator = np.random.default_rng(0)
    nats_ST, weights_ST = generator.gamma(2.0, size=(50, 12)), (generator.random((50, 12)) < 0.8).astype(float)
    rows = by_position(nats_ST, weights_ST)
    whole = (nats_ST * weights_ST).sum() / weights_ST.sum()
    assert sum(row["value"] * row["n"] for row in rows) / sum(row["n"] for row in rows) == pytest.approx(whole)
    first = nats_ST[:, 0][weights_ST[:, 0] > 0]
    assert rows[0]["value"] == pytest.approx(first.mean())
    assert rows[0]["stderr"] == pytest.approx(first.std(ddof=1) / np.sqrt(len(first)))


def test_the_control_text_is_of_order_one():
    chances = table(16)
    np.testing.assert_allclose(chances.sum(axis=1), 1)
    assert (chances > 0).all()
