"""The differentiable comparisons against the ones that report."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

import brainrdl as rdl
from brainrdl.rdms import differentiable as similarity
from brainrdl.rdms.differentiable import dissimilarity
from brainrdl.rdms.similarities import Options, similarities


def inputs(n=9, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(n, 6, generator=generator, dtype=dtype)
    target = torch.rand(n * (n - 1) // 2, generator=generator, dtype=dtype)
    return features, target


@pytest.mark.parametrize("compare", ["corr_cov", "cosine_cov"])
@pytest.mark.parametrize("missing", [False, True])
def test_a_whitened_loss_is_one_minus_the_similarity(compare, missing):
    features, target = inputs()
    if missing:
        target[[0, 3, 30]] = torch.nan
    distances = rdl.rdm(features)
    expected = 1 - similarities(distances[None], target[None], Options(compare)).item()
    assert rdl.rdl_loss(features, target, compare=compare).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("compare", ["corr_cov", "cosine_cov"])
def test_a_whitened_loss_on_some_pairs_leaves_the_others_out_of_the_covariance(compare):
    features, target = inputs()
    pairs = rdl.sample_pairs(9, 20, torch.Generator().manual_seed(1))
    chosen = torch.zeros(9, 9, dtype=torch.bool)
    chosen[pairs[:, 0], pairs[:, 1]] = True
    i, j = torch.triu_indices(9, 9, 1)
    subset = torch.where(chosen[i, j], target, torch.nan)
    expected = rdl.rdl_loss(features, subset, compare=compare).item()
    assert rdl.rdl_loss(features, target, compare=compare, pairs=pairs).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("compare", ["corr_cov", "cosine_cov", "soft-spearman"])
@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("subset", [False, True])
def test_gradients(compare, missing, subset):
    features, target = inputs(6)
    if missing:
        target[[1, 7]] = torch.nan
    pairs = rdl.sample_pairs(6, 10, torch.Generator().manual_seed(0)) if subset else None
    if compare == "soft-spearman":  # τ follows the distances, without gradient: hold it still
        weights = torch.ones(15, dtype=torch.float64)
        values = torch.rand(15, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda v: similarity._SoftRanks.apply(5 * v, weights), values)
        weights[3:8] = torch.tensor([0.0, 2.0, 0.5, 0.0, 1.5])
        assert torch.autograd.gradcheck(lambda v: similarity._SoftRanks.apply(5 * v, weights), values)
        return
    features.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: rdl.rdl_loss(x, target, compare=compare, pairs=pairs), features)


def test_slices_change_nothing(monkeypatch):
    features, target = inputs()
    results = []
    for at_once in (4_000_000, 100):
        monkeypatch.setattr(similarity, "_NUMBERS_AT_ONCE", at_once)
        x = features.clone().requires_grad_()
        loss = rdl.rdl_loss(x, target, compare="soft-spearman")
        loss.backward()
        results.append((loss.detach(), x.grad))
    torch.testing.assert_close(results[0], results[1], rtol=1e-12, atol=1e-14)


def test_soft_spearman_tends_to_spearman(monkeypatch):
    features, target = inputs()
    target = (4 * target).round()  # ties in the target are ranked as Spearman ranks them
    distances = rdl.rdm(features)
    weights = torch.ones_like(target)
    expected = 1 - spearmanr(distances.numpy(), target.numpy()).statistic
    errors = []
    for temperature in (0.1, 0.01, 1e-6):
        monkeypatch.setattr(similarity, "TEMPERATURE", temperature)
        errors.append(abs(dissimilarity(distances, target, "soft-spearman", weights).item() - expected))
    assert errors[0] < 0.02
    assert errors[2] == pytest.approx(0, abs=1e-12)


def test_soft_spearman_ignores_scale_and_counts_weights_as_repetitions():
    features, target = inputs(5)
    distances = rdl.rdm(features)
    ones = torch.ones(10, dtype=torch.float64)
    plain = dissimilarity(distances, target, "soft-spearman", ones)
    torch.testing.assert_close(dissimilarity(7 * distances + 2, target**3, "soft-spearman", ones), plain)
    weights = ones.clone()
    weights[2], weights[4] = 2, 0
    index = torch.tensor([0, 1, 2, 2, 3, 5, 6, 7, 8, 9])
    repeated = dissimilarity(distances[index], target[index], "soft-spearman", ones)
    torch.testing.assert_close(dissimilarity(distances, target, "soft-spearman", weights), repeated)


@pytest.mark.parametrize("compare", ["corr_cov", "cosine_cov", "soft-spearman"])
def test_a_step_along_the_gradient_makes_the_rdms_more_alike(compare):
    features, target = inputs()
    features.requires_grad_()
    loss = rdl.RDLoss(compare=compare)
    before = loss(features, target)
    (gradient,) = torch.autograd.grad(before, features)
    assert loss(features - 0.1 * gradient / gradient.norm(), target) < before


@pytest.mark.parametrize("compare", ["corr_cov", "soft-spearman"])
def test_equal_distances_compare_with_nothing_and_have_no_gradient(compare):
    features = torch.eye(4, requires_grad=True)
    loss = rdl.rdl_loss(features, torch.arange(6.0), compare=compare)
    loss.backward()
    assert loss.item() == pytest.approx(1.0)
    np.testing.assert_allclose(features.grad.numpy(), 0, atol=1e-7)


def test_whitening_takes_no_weights():
    features, target = inputs()
    with pytest.raises(ValueError) as error:
        rdl.rdl_loss(features, target, compare="corr_cov", weights=torch.ones_like(target))
    assert str(error.value) == (
        "compare='corr_cov' takes no weights: whitening weighs the pairs by their own covariance; leave the weights "
        "out, or use corr or cosine"
    )
