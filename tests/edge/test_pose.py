from __future__ import annotations

import numpy as np
import pytest

from fcr_edge import imaging, pose
from fcr_edge.pose import LANDMARKS, STANDARD, Similarity, fit_similarity

EXACT = 1e-9


def test_a_known_move_is_found_again() -> None:
    move = Similarity(1.3, -20.0, (40.0, -7.0))
    source = STANDARD["frontal"]

    found = fit_similarity(source, pose.apply(move.matrix, source), np.ones(len(source)))

    assert found.scale == pytest.approx(move.scale)
    assert found.degrees == pytest.approx(move.degrees)
    assert found.shift == pytest.approx(move.shift)


def test_a_landmark_without_weight_does_not_count() -> None:
    source = STANDARD["lateral"]
    target, weights = source.copy(), np.ones(len(source))
    target[3] += 500
    weights[3] = 0

    found = fit_similarity(source, target, weights)

    np.testing.assert_allclose(found.matrix, np.eye(3), atol=EXACT)


def test_a_scale_that_is_given_is_kept_and_the_rest_fits_best() -> None:
    source = STANDARD["frontal"]
    target = pose.apply(Similarity(2.0, 10.0, (5.0, 6.0)).matrix, source)

    found = fit_similarity(source, target, np.ones(len(source)), scale=1.5)

    assert found.scale == 1.5
    assert found.degrees == pytest.approx(10.0)
    moved = pose.apply(found.matrix, source).mean(axis=0)
    np.testing.assert_allclose(moved, target.mean(axis=0), atol=EXACT)


def test_no_neighbouring_move_fits_better() -> None:
    rng = np.random.default_rng(1)
    source, weights = STANDARD["lateral"], rng.uniform(0.1, 1, len(LANDMARKS))
    target = source + rng.normal(0, 5, source.shape)

    def misfit(move: Similarity) -> float:
        off = pose.apply(move.matrix, source) - target
        return float((weights[:, None] * off**2).sum())

    best = fit_similarity(source, target, weights)
    for scale, degrees, column, row in rng.normal(0, (0.01, 0.5, 1, 1), (20, 4)):
        other = Similarity(
            best.scale + scale,
            best.degrees + degrees,
            (best.shift[0] + column, best.shift[1] + row),
        )
        assert misfit(best) < misfit(other)


def test_joined_moves_do_one_after_the_other() -> None:
    first, second = Similarity(1.2, 170.0, (3.0, 4.0)), Similarity(0.5, 30.0, (-1.0, 2.0))

    joined = pose.join(first, second)

    np.testing.assert_allclose(joined.matrix, second.matrix @ first.matrix, atol=EXACT)
    assert joined.degrees == pytest.approx(-160.0)


@pytest.mark.parametrize("number", range(4))
def test_quarter_turns_move_places_as_numpy_turns_pictures(number: int) -> None:
    picture = np.zeros((8, 8))
    picture[2, 5] = 1

    row, column = np.argwhere(np.rot90(picture, number))[0]

    moved = pose.apply(pose.quarter_turns(number, 8), np.array([[5.5, 2.5]]))
    np.testing.assert_allclose(moved, [[column + 0.5, row + 0.5]], atol=EXACT)


def test_resampling_without_a_move_gives_the_picture_back() -> None:
    picture = np.random.default_rng(1).integers(0, 65535, (20, 30)).astype(np.uint16)

    np.testing.assert_array_equal(imaging.resample(picture, np.eye(3), (20, 30)), picture)


def test_resampling_to_a_third_averages_blocks() -> None:
    picture = np.random.default_rng(1).integers(0, 255, (30, 30)).astype(np.uint8)
    smooth = imaging.blur(picture.astype(np.float32), 4).astype(np.uint8)

    drawn = imaging.resample(smooth, pose.zoom(3, 3), (10, 10))

    means = smooth.reshape(10, 3, 10, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(drawn, means, atol=1.0)


def test_what_lies_outside_the_source_is_black() -> None:
    drawn = imaging.resample(np.full((10, 10), 255, np.uint8), pose.shift(-10, 0), (10, 20))

    assert drawn[:, :9].max() == 0
    assert drawn[:, 11:].min() == 255
