import re

import numpy as np
import pytest
from scipy.spatial import procrustes
from scipy.spatial.distance import pdist, squareform
from sklearn.manifold import smacof

from brainrdl.plots.embedding import classical_mds, mds


def raises(message):
    return pytest.raises(ValueError, match=f"^{re.escape(message)}$")


def points_of(n, dims, seed=0):
    return np.random.default_rng(seed).normal(size=(n, dims))


def distances_of(points):
    return squareform(pdist(points))


class TestClassical:
    def test_recovers_planar_points(self):
        points = points_of(12, 2)
        found = classical_mds(distances_of(points))
        np.testing.assert_allclose(distances_of(found), distances_of(points), atol=1e-12)
        assert procrustes(points, found)[2] < 1e-20

    def test_recovers_as_many_dimensions_as_asked(self):
        points = points_of(9, 3)
        found = classical_mds(distances_of(points), n_components=3)
        np.testing.assert_allclose(distances_of(found), distances_of(points), atol=1e-12)

    def test_is_the_projection_on_principal_components(self):
        points = points_of(10, 5)
        centred = points - points.mean(axis=0)
        scores = centred @ np.linalg.svd(centred)[2][:2].T
        found = classical_mds(distances_of(points))
        np.testing.assert_allclose(np.abs(found), np.abs(scores), atol=1e-10)

    def test_is_centred_ordered_and_signed(self):
        found = classical_mds(distances_of(points_of(8, 4)))
        np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-12)
        assert found[:, 0].var() > found[:, 1].var()
        assert np.all(found.max(axis=0) == np.abs(found).max(axis=0))

    def test_leaves_dimensions_that_are_not_there(self):
        found = classical_mds(distances_of(points_of(5, 1)))
        np.testing.assert_allclose(found[:, 1], 0, atol=1e-6)


class TestMDS:
    @pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
    def test_recovers_planar_points(self, scale):
        wanted = scale * distances_of(points_of(20, 2))
        found, stress = mds(wanted)
        assert stress < 1e-6
        np.testing.assert_allclose(distances_of(found), wanted, atol=1e-6 * scale)

    def test_is_better_than_where_it_starts(self):
        wanted = distances_of(points_of(15, 8))
        found, stress = mds(wanted)
        d, delta = pdist(classical_mds(wanted)), squareform(wanted)
        best = d * (d @ delta) / (d @ d)  # the classical solution at its best scale
        assert stress < np.sqrt(np.sum((delta - best) ** 2) / np.sum(best**2))
        np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-12)

    def test_reports_kruskals_stress_of_the_points_it_returns(self):
        wanted = distances_of(points_of(10, 6))
        found, stress = mds(wanted)
        d, delta = pdist(found), squareform(wanted)
        assert stress == pytest.approx(np.sqrt(np.sum((delta - d) ** 2) / np.sum(d**2)), rel=1e-12)

    def test_is_as_good_as_many_random_starts(self):
        wanted = distances_of(points_of(12, 5))
        _, ours = mds(wanted)
        _, best = smacof(wanted, n_init=30, eps=1e-9, random_state=0, normalized_stress=False)
        raw = np.sum((squareform(wanted) - pdist(mds(wanted)[0])) ** 2)
        assert raw < 1.1 * best
        assert ours > 0

    def test_is_the_same_in_every_run(self):
        wanted = distances_of(points_of(10, 6))
        first, again = mds(wanted), mds(wanted, seed=1)
        np.testing.assert_array_equal(first[0], again[0])
        assert first[1] == again[1]

    def test_the_seed_starts_empty_dimensions_only(self):
        line = np.abs(np.subtract.outer(np.arange(4.0), np.arange(4.0)))
        (first, stress), (again, _), (other, _) = mds(line), mds(line), mds(line, seed=1)
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, other)
        assert stress < 1e-5

    def test_equidistant_points_do_not_collapse(self):
        found, stress = mds(1 - np.eye(4))
        d = np.sort(pdist(found))
        np.testing.assert_allclose(d[[0, 1, 2, 3, 4]] / d[5], [0.5**0.5] * 4 + [1], atol=1e-5)  # a square
        assert stress == pytest.approx(3 - 8**0.5, abs=1e-9)

    def test_points_that_are_all_one(self):
        found, stress = mds(np.zeros((3, 3)))
        np.testing.assert_array_equal(found, np.zeros((3, 2)))
        assert stress == 0

    def test_takes_rounding_for_rounding(self):
        wanted = distances_of(points_of(6, 2))
        rough = wanted + 1e-9 * np.random.default_rng(0).normal(size=wanted.shape)
        np.testing.assert_allclose(mds(rough)[0], mds(wanted)[0], atol=1e-6)


@pytest.mark.parametrize("scale", [classical_mds, mds])
class TestRefuses:
    def test_what_is_not_square(self, scale):
        with raises("distances must be square, (points, points), but their shape is (3,)"):
            scale([1.0, 2.0, 3.0])

    def test_gaps(self, scale):
        with raises(
            "distances must be finite, but that of points 0 and 1 is nan; leave out the points that were not compared"
        ):
            scale([[0, np.nan, 1], [np.nan, 0, 1], [1, 1, 0]])

    def test_asymmetry(self, scale):
        with raises("distances must be symmetric, but [0, 2] is 3 and [2, 0] is 1"):
            scale([[0, 1, 3], [1, 0, 1], [1, 1, 0]])

    def test_similarities(self, scale):
        with raises("the distance of a point to itself must be 0, but [0, 0] is 1; of a similarity r, pass 1 - r"):
            scale([[1, 0.5], [0.5, 1]])

    def test_negative_distances(self, scale):
        with raises("distances must not be negative, but [0, 1] is -0.1"):
            scale([[0, -0.1], [-0.1, 0]])

    def test_more_dimensions_than_points(self, scale):
        with raises("n_components must lie between 1 and the number of points, 3, but is 4"):
            scale(1 - np.eye(3), n_components=4)
