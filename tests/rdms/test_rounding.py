"""Distances tied by mathematics stay tied; those close by chance stay apart; what is tied throughout is constant."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from rsatoolbox.rdm import RDMs, compare
from scipy.stats import kendalltau, rankdata, spearmanr

import brainrdl as rdl
from brainrdl.rdms.ranks import concordance, midranks, ranking, ranks_of
from brainrdl.rdms.rounding import is_constant, parted

RANKED = ["spearman", "rho-a", "tau-a", "tau-b"]


def labelled(values, name="rdm"):
    values = np.atleast_2d(np.asarray(values, dtype=np.float64))
    n = round((1 + np.sqrt(1 + 8 * values.shape[1])) / 2)
    names = [f"{name}{k}" for k in range(len(values))]
    return rdl.label_rdms(values, [f"s{i:03}" for i in range(n)], names, "undeclared")


def categories(n, units, seed=0):
    """Patterns of 0s and 1s: their distances are known as whole numbers, and tied in many ways."""
    rng = np.random.default_rng(seed)
    return np.stack([rng.permutation(np.repeat([0.0, 1.0], [units - 5, 5])) for _ in range(n)])


def distances(patterns, dtype, how):
    """Distances of patterns in single or double precision, computed as users do."""
    x = torch.from_numpy(patterns).to(dtype)
    i, j = torch.triu_indices(len(x), len(x), 1)
    return {
        "training": lambda: rdl.rdm(x.clone().requires_grad_(), "mse").detach(),
        "exported": lambda: rdl.rdm(x, "mse"),
        "cdist": lambda: torch.cdist(x, x, compute_mode="use_mm_for_euclid_dist")[i, j].square(),
        "corrcoef": lambda: (1 - torch.corrcoef(x))[i, j],
        "normalised": lambda: (1 - (u := x / x.norm(dim=1, keepdim=True)) @ u.T)[i, j],
    }[how]().double()


# ties


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("how", ["training", "exported", "cdist", "corrcoef", "normalised"])
@pytest.mark.parametrize("scale", [1.0, 0.1, 1e-3])
def test_distances_tied_by_mathematics_share_their_rank(scale, how, dtype):
    patterns = categories(14, 300)
    exact = np.square(patterns[:, None] - patterns).sum(-1)[np.triu_indices(14, 1)]
    found = distances(scale * patterns, dtype, how).numpy()
    np.testing.assert_array_equal(ranks_of(found), rankdata(exact))
    other = labelled(np.random.default_rng(1).random(91), "other")
    for method in RANKED:
        expected = compare(RDMs(exact[None]), RDMs(rdl.rdms.condense(other)), method).item()
        assert rdl.compare_rdms(labelled(found), other, method).item() == pytest.approx(expected, abs=1e-12), method


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("how", ["training", "exported", "cdist", "corrcoef"])
def test_one_hot_patterns_have_a_constant_rdm(how, dtype):
    found = distances(0.1 * np.eye(30), dtype, how).numpy()
    assert is_constant(found)
    with pytest.raises(ValueError, match=r"which is constant \(every distance is "):
        rdl.compare_rdms(labelled(found), labelled(np.random.default_rng(0).random(435), "other"))


@pytest.mark.parametrize("method", RANKED)
def test_sums_in_another_order_are_tied(method):
    tied = np.array([0.1 + 0.2, 0.3, 0.7 + 0.1, 0.8, 0.1, 1.1])
    other = np.array([1.0, 2.0, 5.0, 3.0, 4.0, 6.0])
    expected = compare(RDMs(np.round(tied, 9)[None]), RDMs(other[None]), method).item()
    assert rdl.compare_rdms(labelled(tied), labelled(other), method).item() == pytest.approx(expected, abs=1e-14)
    assert compare(RDMs(tied[None]), RDMs(other[None]), method).item() != pytest.approx(expected, abs=1e-3)


def test_copies_of_a_stimulus_are_tied_at_zero_though_one_less_their_similarity_is_not():
    x = np.random.default_rng(0).normal(size=(5, 400)).astype(np.float32)
    patterns = torch.from_numpy(np.concatenate((x, x, x)))
    unit = patterns / patterns.norm(dim=1, keepdim=True)
    found = (1 - unit @ unit.T)[*np.triu_indices(15, 1)].double().numpy()
    copies = np.equal.outer(np.tile(range(5), 3), np.tile(range(5), 3))[np.triu_indices(15, 1)]
    assert len(set(found[copies].tolist())) > 1
    assert set(ranks_of(found)[copies].tolist()) == {8.0}  # 15 pairs of copies


def test_small_distances_keep_their_order():
    tiny = np.logspace(-30, 0, 45).astype(np.float32).astype(np.float64)
    np.testing.assert_array_equal(ranks_of(tiny), rankdata(tiny))
    signed = np.concatenate((-tiny, tiny))
    np.testing.assert_array_equal(ranks_of(signed), rankdata(signed))


def test_whole_numbers_are_exact():
    counts = 16_000_000.0 + np.arange(6)
    np.testing.assert_array_equal(ranks_of(counts), np.arange(1.0, 7))
    assert not is_constant(counts)


@pytest.mark.parametrize("n", [10, 60, 300, 1500])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_distances_that_are_close_by_chance_stay_apart(dtype, n):
    values = np.random.default_rng(0).gamma(2.0, 1.0, n * (n - 1) // 2).astype(dtype).astype(np.float64)
    np.testing.assert_array_equal(ranks_of(values), rankdata(values))


def test_ties_are_found_among_distances_of_a_continuum():
    rng = np.random.default_rng(0)
    tied = np.repeat(0.5, 2000)
    noise = (tied * (1 + 1e-7 * rng.integers(-3, 4, 2000))).astype(np.float32)
    values = np.concatenate((noise, rng.random(2186).astype(np.float32))).astype(np.float64)
    ranks = ranks_of(values)
    assert np.ptp(ranks[:2000]) == 0
    np.testing.assert_allclose(ranks[2000:], rankdata(np.concatenate((tied, values[2000:])))[2000:], atol=1)


whole = arrays(np.int64, st.integers(2, 60), elements=st.integers(0, 12))


@settings(deadline=None, max_examples=200)
@given(whole, st.floats(1e-3, 1e3), st.sampled_from([np.float32, np.float64]), st.integers(0, 2**32 - 1))
def test_rounding_never_changes_a_rank(codes, scale, dtype, seed):
    exact = codes + 1.0
    eps = np.finfo(dtype).eps
    rounded = exact * scale * (1 + eps * np.random.default_rng(seed).integers(-2, 3, len(codes)))
    values = rounded.astype(dtype).astype(np.float64)
    np.testing.assert_array_equal(ranks_of(values), rankdata(exact))
    np.testing.assert_array_equal(ranks_of(-values), len(values) + 1 - rankdata(exact))
    np.testing.assert_array_equal(midranks(torch.from_numpy(values[None]))[0].numpy(), rankdata(exact))
    other = np.random.default_rng(seed).random(len(codes))
    counts, theirs = concordance(ranking(values), ranking(other)), kendalltau(exact, other).statistic
    assert counts.tau_b == pytest.approx(theirs, abs=1e-12, nan_ok=True)
    assert is_constant(values) == (len(set(codes.tolist())) == 1)


finite = st.floats(-1e6, 1e6, allow_subnormal=False).map(lambda x: round(x, 3))


@settings(deadline=None, max_examples=200)
@given(arrays(np.float64, st.tuples(st.just(2), st.sampled_from([3, 6, 10, 28])), elements=finite))
def test_what_has_no_near_ties_is_ranked_as_scipy_does(values):
    assert (parted(np.sort(values[0])) == (np.diff(np.sort(values[0])) > 0)).all()
    np.testing.assert_array_equal(ranks_of(values[0]), rankdata(values[0]))
    if any(np.ptp(row) == 0 for row in values):
        with pytest.raises(ValueError, match=r"^nothing to compare by 'spearman': "):
            rdl.compare_rdms(labelled(values[:1]), labelled(values[1:]), "spearman")
        return
    for method, theirs in (("spearman", spearmanr(*values).statistic), ("tau-b", kendalltau(*values).statistic)):
        ours = rdl.compare_rdms(labelled(values[:1]), labelled(values[1:]), method).item()
        assert ours == pytest.approx(theirs, abs=1e-12)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_gpu_ties_what_the_cpu_ties():
    rows = torch.stack([distances(categories(14, 300, seed), torch.float32, "training") for seed in range(3)])
    assert torch.equal(midranks(rows.cuda()).cpu(), midranks(rows))


# constants


@pytest.mark.parametrize(
    ("values", "constant"),
    [
        ([0.1, 0.1, 0.1], True),
        ([0.1, np.nan, 0.1 + 2e-17], True),
        ([0.0, 0.0, 0.0], True),
        ([np.nan, np.nan, np.nan], True),
        ([1.0, 1.0, 2.0], False),
        ([0.1, 0.1, 0.1 + 1e-11], False),
        (np.float32([0.1, 0.1, np.nextafter(np.float32(0.1), np.float32(1))]).astype(np.float64), True),
        (np.float32([0.1, 0.1, 0.1001]).astype(np.float64), False),
        ([1e-300, 2e-300, 1e-300], False),
        ([-1e300, 1e300, 0.5], False),
    ],
)
def test_constant_is_what_does_not_vary_but_for_rounding(values, constant):
    assert is_constant(np.asarray(values, dtype=np.float64)) == constant
