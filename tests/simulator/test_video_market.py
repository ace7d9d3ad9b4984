"""The preset `video`: titles say little, features say much."""

from __future__ import annotations

import re

import numpy as np
import pytest

from onesearch.data.session_pairs import category_ids
from onesearch.data.text import item_texts
from onesearch.simulator import SimulatorConfig, simulate


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    config = SimulatorConfig(items=300, sessions=600, preset="video", oracle_requests=0, judged_queries=5)
    return simulate(config, tmp_path_factory.mktemp("video") / "market")


def nearest_share(vectors, labels):
    """Share of items whose nearest other item has their label."""
    distances = ((vectors[:, None] - vectors[None]) ** 2).sum(-1)
    np.fill_diagonal(distances, np.inf)
    return float((labels[distances.argmin(1)] == labels).mean())


def test_most_titles_name_neither_category_nor_attributes(video):
    assert item_texts(video) == video.items["title"][:]
    words = [set(re.findall(r"\w+", title.lower())) for title in video.items["title"]]
    leaves = [path[-1].lower() for path in video.items["categories"]]
    silent = [not (set(leaf.split()) & own) for leaf, own in zip(leaves, words)]
    assert 0.7 < np.mean(silent) < 0.9


def test_the_features_tell_the_category_that_titles_hide(video):
    labels = category_ids(video.items.data.column("categories"))[0]
    features = np.array(video.items["features"][:])
    assert features.shape == (300, 32)
    vocabulary = sorted({word for title in video.items["title"] for word in title.lower().split()})
    counts = np.array(
        [[title.lower().split().count(word) for word in vocabulary] for title in video.items["title"]], dtype=float
    )
    assert nearest_share(features, labels) > 0.6 > 2 * nearest_share(counts, labels)


def test_sessions_are_single_searches_without_carts(video):
    assert not any(video.sessions["carted"]) and set(video.sessions["scene"]) == {"search"}
    assert max(map(len, video.sessions["purchased"])) == 1
