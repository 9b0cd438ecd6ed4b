"""The paper's equations, and METHOD's readings of them, against loops written from the formulas."""

from itertools import pairwise
from math import isnan, nan, sqrt

import numpy as np
import pytest
import scipy.stats
import torch
from lightning_fabric import Fabric
from torch import nn

import brainrdl as rdl
from brainrdl.known import METRICS
from brainrdl.rdms.differentiable import COMPARISONS
from brainrdl.rdms.distances import training_rdm
from brainrdl.rdms.whitening import WHITENED

N, K = 7, 5
# stimulus 6 is in no pair, the others are in one to four
PAIRS = [(0, 1), (0, 2), (0, 3), (0, 4), (1, 2), (3, 5)]
ALL_PAIRS = [(i, j) for i in range(N) for j in range(i + 1, N)]


def patterns(seed=0, n=N, units=K):
    return torch.randn(n, units, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def targets(seed=1, n=N):
    return 3 * torch.rand(n * (n - 1) // 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def square(condensed, n=N):
    """A dict {(i, j): value} of both orders, from a condensed tensor."""
    values = iter(condensed.tolist())
    upper = {(i, j): next(values) for i in range(n) for j in range(i + 1, n)}
    return upper | {(j, i): value for (i, j), value in upper.items()}


def unit(a, metric):
    """A pattern (centred for correlation) and its length."""
    mean = sum(a) / len(a) if metric == "correlation" else 0.0
    centred = [x - mean for x in a]
    return centred, sqrt(sum(x * x for x in centred))


def distance(a, b, metric):
    """Eq. 1."""
    if metric in ("correlation", "cosine"):
        (a, a_length), (b, b_length) = unit(a, metric), unit(b, metric)
        return 1 - sum(x * y for x, y in zip(a, b, strict=True)) / (a_length * b_length)
    total = sum((x - y) ** 2 for x, y in zip(a, b, strict=True))
    return {"mse": total / len(a), "sqeuclidean": total, "euclidean": sqrt(total)}[metric]


def slope(a, b, metric):
    """The derivative of the distance of two patterns by the first."""
    if metric in ("correlation", "cosine"):
        (a, a_length), (b, b_length) = unit(a, metric), unit(b, metric)
        r = sum(x * y for x, y in zip(a, b, strict=True)) / (a_length * b_length)
        return [-(y / b_length - r * x / a_length) / a_length for x, y in zip(a, b, strict=True)]
    factor = {"mse": 2 / len(a), "sqeuclidean": 2.0, "euclidean": 1 / max(distance(a, b, "euclidean"), 1e-300)}
    return [factor[metric] * (x - y) for x, y in zip(a, b, strict=True)]


def e_aux(f, t, metric, pairs, w=None):
    """Eq. 2 over `pairs`, with weights; an unmeasured pair leaves before anything is counted."""
    pairs = [p for p in pairs if not isnan(t[p])]
    w = w or dict.fromkeys(pairs, 1.0)
    total = sum(w[i, j] * (distance(f[i], f[j], metric) - t[i, j]) ** 2 for i, j in pairs)
    return total / sum(w[p] for p in pairs)


def eq3(f, t, units=1):
    """Eq. 3 as printed, the factor 8 included; `units` divides by K for the mean."""
    n = len(f)
    gradient = [[0.0] * len(f[0]) for _ in f]
    metric = "sqeuclidean" if units == 1 else "mse"
    for i in range(n):
        for j in range(n):
            if j != i:
                residual = distance(f[i], f[j], metric) - t[i, j]
                for k in range(len(f[0])):
                    gradient[i][k] += 8 / (n * (n - 1)) * residual * (f[i][k] - f[j][k]) / units
    return np.array(gradient)


def eq4(f, t, pairs, units=1):
    """Eq. 4 as printed: 8/(|X_P||P_i|) Σ_{j∈P_i} (D_ij − T_ij)(f_i − f_j)."""
    metric = "sqeuclidean" if units == 1 else "mse"
    occurring = {i for pair in pairs for i in pair}
    gradient = [[0.0] * len(f[0]) for _ in f]
    for i in range(len(f)):
        partners = [b if a == i else a for a, b in pairs if i in (a, b)]
        for j in partners:
            residual = distance(f[i], f[j], metric) - t[i, j]
            for k in range(len(f[0])):
                gradient[i][k] += 8 / (len(occurring) * len(partners)) * residual * (f[i][k] - f[j][k]) / units
    return np.array(gradient)


def general(f, t, metric, pairs, *, w=None, per_stimulus=False):
    """METHOD 3: c_i Σ_{j∈P_i} g_ij ∂d_ij/∂f_i, c_i = 2W/(|X_P| W_i) or 1."""
    pairs = [p for p in pairs if not isnan(t[p])]
    w = w or dict.fromkeys(pairs, 1.0)
    total = sum(w[p] for p in pairs)
    per = [sum(w[p] for p in pairs if i in p) for i in range(len(f))]
    occurring = sum(value > 0 for value in per)
    gradient = [[0.0] * len(f[0]) for _ in f]
    for i in range(len(f)):
        if per[i] == 0:
            continue
        c = 2 * total / (occurring * per[i]) if per_stimulus else 1.0
        for a, b in pairs:
            if i in (a, b):
                j = b if a == i else a
                g = 2 * w[a, b] * (distance(f[i], f[j], metric) - t[i, j]) / total
                for k, value in enumerate(slope(f[i], f[j], metric)):
                    gradient[i][k] += c * g * value
    return np.array(gradient)


def value_and_gradient(features, target, **options):
    features = features.clone().requires_grad_()
    loss = rdl.rdl_loss(features, target, **options)
    loss.backward()
    return loss.item(), features.grad.numpy()


def close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=1e-10, atol=1e-12)


# Eq. 1


@pytest.mark.parametrize("metric", METRICS)
def test_eq1_distances(metric):
    x = patterns()
    expected = [distance(x[i].tolist(), x[j].tolist(), metric) for i, j in ALL_PAIRS]
    close(rdl.rdm(x, metric).numpy(), expected)
    close(rdl.rdm(x.clone().requires_grad_(), metric).detach().numpy(), expected)
    close(training_rdm(x, metric).numpy(), expected)


# Eq. 2


@pytest.mark.parametrize("gradient", ["auto", "mean", "per-stimulus"])
@pytest.mark.parametrize("pairs", [None, PAIRS])
@pytest.mark.parametrize("metric", METRICS)
def test_eq2_is_the_value_whichever_gradient_is_used(metric, pairs, gradient):
    x, t = patterns(), targets()
    chosen = None if pairs is None else torch.tensor(pairs)
    loss, _ = value_and_gradient(x, t, metric=metric, pairs=chosen, gradient=gradient)
    close(loss, e_aux(x.tolist(), square(t), metric, pairs or ALL_PAIRS))


def test_eq2_with_weights_and_unmeasured_pairs():
    x, t, w = patterns(), targets(), targets(2)
    t[[0, 7]] = nan
    for pairs in (None, PAIRS):
        chosen = None if pairs is None else torch.tensor(pairs)
        loss, _ = value_and_gradient(x, t, pairs=chosen, weights=w)
        close(loss, e_aux(x.tolist(), square(t), "mse", pairs or ALL_PAIRS, square(w)))


# Eqs. 3 and 4


@pytest.mark.parametrize("gradient", ["auto", "mean", "per-stimulus"])
@pytest.mark.parametrize(("metric", "units"), [("sqeuclidean", 1), ("mse", K)])
def test_eq3_is_the_gradient_over_all_pairs(metric, units, gradient):
    x, t = patterns(), targets()
    expected = eq3(x.tolist(), square(t), units)
    close(value_and_gradient(x, t, metric=metric, gradient=gradient)[1], expected)
    shuffled = torch.tensor(ALL_PAIRS)[torch.randperm(21, generator=torch.Generator().manual_seed(0))]
    close(value_and_gradient(x, t, metric=metric, gradient=gradient, pairs=shuffled)[1], expected)


@pytest.mark.parametrize("gradient", ["auto", "per-stimulus"])
@pytest.mark.parametrize(("metric", "units"), [("sqeuclidean", 1), ("mse", K)])
def test_eq4_is_the_gradient_over_a_subset(metric, units, gradient):
    x, t = patterns(), targets()
    _, actual = value_and_gradient(x, t, metric=metric, pairs=torch.tensor(PAIRS), gradient=gradient)
    close(actual, eq4(x.tolist(), square(t), PAIRS, units))
    assert (actual[6] == 0).all()
    assert (actual[:6] != 0).all()


def test_the_order_within_a_pair_means_nothing():
    x, t = patterns(), targets()
    turned = torch.tensor(PAIRS).flip(1)
    _, actual = value_and_gradient(x, t, pairs=turned)
    close(actual, eq4(x.tolist(), square(t), PAIRS, K))


@pytest.mark.parametrize("per_stimulus", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("pairs", [None, PAIRS])
@pytest.mark.parametrize("metric", METRICS)
def test_the_general_gradient_of_both_kinds(metric, pairs, weighted, per_stimulus):
    x, t, w = patterns(), targets(), targets(2) if weighted else None
    if weighted:
        w[3] = 0  # the pair (0, 4): stimulus 4 occurs in no other pair of the subset
    _, actual = value_and_gradient(
        x,
        t,
        metric=metric,
        pairs=None if pairs is None else torch.tensor(pairs),
        weights=w,
        gradient="per-stimulus" if per_stimulus else "mean",
    )
    expected = general(
        x.tolist(),
        square(t),
        metric,
        pairs or ALL_PAIRS,
        w=square(w) if weighted else None,
        per_stimulus=per_stimulus,
    )
    close(actual, expected)
    assert (actual[4] == 0).all() == (weighted and pairs is not None)


@pytest.mark.parametrize("gradient", ["per-stimulus", "mean"])
@pytest.mark.parametrize("pairs", [None, PAIRS])
def test_unmeasured_pairs_leave_before_anything_is_counted(pairs, gradient):
    x, t = patterns(), targets()
    t[1] = nan  # (0, 2)
    t[16] = nan  # (3, 5): the only pair of stimulus 5 in the subset
    w = targets(2)
    chosen = None if pairs is None else torch.tensor(pairs)
    for weights in (None, w, w.where(~t.isnan(), torch.inf)):
        _, actual = value_and_gradient(x, t, pairs=chosen, gradient=gradient, weights=weights)
        expected = general(
            x.tolist(),
            square(t),
            "mse",
            pairs or ALL_PAIRS,
            w=None if weights is None else square(w),
            per_stimulus=gradient == "per-stimulus",
        )
        close(actual, expected)
        assert (actual[5] == 0).all() == (pairs is not None)


# `auto`


@pytest.mark.parametrize(
    ("compare", "subset", "weighted", "unmeasured", "chosen"),
    [
        ("mse", True, False, None, "per-stimulus"),
        ("mse", True, False, "outside", "per-stimulus"),
        ("mse", True, False, "inside", "mean"),
        ("mse", True, True, None, "mean"),
        ("mse", False, True, None, "mean"),
        ("mse", False, False, "inside", "mean"),
        ("corr", True, False, None, "mean"),
        ("cosine", True, False, None, "mean"),
        ("corr", False, True, "inside", "mean"),
    ],
)
def test_auto_is_eq4_for_mse_on_a_complete_unweighted_subset(compare, subset, weighted, unmeasured, chosen):
    x, t = patterns(), targets()
    if unmeasured is not None:
        t[{"inside": 1, "outside": 20}[unmeasured]] = nan
    options = {
        "compare": compare,
        "pairs": torch.tensor(PAIRS) if subset else None,
        "weights": targets(2) if weighted else None,
    }
    _, actual = value_and_gradient(x, t, **options)
    _, expected = value_and_gradient(x, t, gradient=chosen, **options)
    np.testing.assert_array_equal(actual, expected)
    if compare == "mse":
        other = {"mean": "per-stimulus", "per-stimulus": "mean"}[chosen]
        assert np.abs(actual - value_and_gradient(x, t, gradient=other, **options)[1]).max() > 0.01


# the derivative of the value


@pytest.mark.parametrize("subset", [False, True])
@pytest.mark.parametrize("compare", COMPARISONS)
@pytest.mark.parametrize("metric", METRICS)
def test_the_mean_gradient_is_the_derivative_of_the_value(metric, compare, subset):
    t, w = targets(n=5), targets(2, n=5)
    t[[1, 9]] = nan
    w[2] = 0
    if compare in WHITENED:  # which weighs by the covariance of the pairs, and takes no weights
        w = None
    pairs = torch.tensor([(0, 1), (0, 2), (0, 3), (0, 4), (1, 3), (2, 4)]) if subset else None

    def loss(x):
        return rdl.rdl_loss(x, t, metric=metric, compare=compare, pairs=pairs, weights=w, gradient="mean")

    assert torch.autograd.gradcheck(loss, patterns(n=5, units=3).requires_grad_(), atol=1e-7)


@pytest.mark.parametrize("metric", METRICS)
def test_over_all_pairs_eq4_is_the_derivative_of_the_value(metric):
    def loss(x, pairs):
        return rdl.rdl_loss(x, targets(n=5), metric=metric, pairs=pairs, gradient="per-stimulus")

    for pairs in (None, torch.combinations(torch.arange(5))):
        assert torch.autograd.gradcheck(loss, (patterns(n=5, units=3).requires_grad_(), pairs), atol=1e-7)


# Both subset gradients are unbiased


def test_over_draws_both_subset_gradients_average_to_the_full_one():
    n, n_pairs, draws, alpha = 6, 4, 1500, 0.001
    x, t = patterns(n=n).requires_grad_(), targets(n=n)
    full = torch.from_numpy(eq3(x.tolist(), square(t, n), K)).flatten()
    # the gradient's own direction, and random others
    generator = torch.Generator().manual_seed(3)
    others = torch.randn(n * K, 5, generator=generator, dtype=torch.float64)
    directions = torch.linalg.qr(torch.cat((full[:, None], others), dim=1)).Q
    samples = {"per-stimulus": [], "mean": []}
    for _ in range(draws):
        pairs = rdl.sample_pairs(n, n_pairs, generator)
        for gradient, sample in samples.items():
            loss = rdl.rdl_loss(x, t, pairs=pairs, gradient=gradient)
            sample.append(torch.autograd.grad(loss, x)[0].flatten() @ directions)
    per_stimulus, mean = torch.stack(samples["per-stimulus"]), torch.stack(samples["mean"])
    expected = (full @ directions).numpy()

    def p_value(eq4_draws, mean_draws):
        """Hotelling's T² of the two means jointly."""
        joint = torch.cat((eq4_draws, mean_draws), dim=1).numpy()
        covariance = np.cov(joint, rowvar=False)
        # without its c_i the one would be the other, and the covariance singular
        assert np.linalg.cond(covariance) < 1e6
        error = joint.mean(axis=0) - np.tile(expected, 2)
        t2, p = draws * error @ np.linalg.solve(covariance, error), joint.shape[1]
        return scipy.stats.f.sf((draws - p) / (p * (draws - 1)) * t2, p, draws - p)

    assert p_value(per_stimulus, mean) > alpha
    # what it can see: 4 for 8, or one part in ten, in either gradient
    for factor in (0.5, 0.9, 1.1):
        assert p_value(factor * per_stimulus, mean) < alpha
        assert p_value(per_stimulus, factor * mean) < alpha
    with pytest.raises(AssertionError):
        p_value(mean, mean)


# Eq. 5


def network(seed, widths):
    torch.manual_seed(seed)
    layers = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.Tanh()]
    return nn.Sequential(*layers[:-1]).double()


@pytest.mark.parametrize("n_pairs", [None, 6])
def test_eq5_is_what_an_update_applies(n_pairs, monkeypatch):
    """Task gradient plus α times Eq. 4, the later layer's passing on to the earlier by backpropagation."""
    n, lr, epochs = 6, 0.3, 2
    student, teacher = network(0, (4, 5, 3, 2)), network(1, (4, 6, 7, 2))
    x, labels = patterns(2, n, 4), torch.tensor([0, 1, 1, 0, 1, 0])
    alphas = {"1": 0.7, "3": 0.2}
    parameters = [p.detach().clone().requires_grad_() for p in student.parameters()]
    drawn = []
    draw = rdl.Batch.pairs
    monkeypatch.setattr(rdl.Batch, "pairs", lambda self, k, n: drawn.append(draw(self, k, n)) or drawn[-1])

    term = rdl.RDLTerm(
        rdl.NetworkTeacher(teacher, ["1", "3"]),
        {"1": "1", "3": "3"},
        n_pairs=n_pairs,
        alpha=rdl.linear_decay(alphas),
    )
    history = rdl.Trainer(
        student,
        [term],
        optimizer=lambda p: torch.optim.SGD(p, lr=lr),
        fabric=Fabric(accelerator="cpu", devices=1),
    ).fit([(x, labels)], epochs=epochs)

    with torch.no_grad():
        teachers = {"1": teacher[:2](x).tolist(), "3": teacher[:4](x).tolist()}
    everything = [(i, j) for i in range(n) for j in range(i + 1, n)]
    for epoch in range(epochs):
        pairs = everything if n_pairs is None else [tuple(pair) for pair in drawn[epoch].tolist()]
        assert len(set(pairs)) == (n_pairs or 15)
        w1, b1, w2, b2, w3, b3 = parameters
        first = torch.tanh(x @ w1.T + b1)
        second = torch.tanh(first @ w2.T + b2)
        task = -torch.log_softmax(second @ w3.T + b3, dim=1)[range(n), labels].mean()
        step = list(torch.autograd.grad(task, parameters, retain_graph=True))
        for layer, features in (("1", first), ("3", second)):
            t = {(i, j): distance(teachers[layer][i], teachers[layer][j], "mse") for i, j in everything}
            t |= {(j, i): value for (i, j), value in t.items()}
            close(history.loc[epoch, f"rdl/{layer}"], e_aux(features.tolist(), t, "mse", pairs))
            aux = torch.from_numpy(eq4(features.tolist(), t, pairs, features.shape[1]))
            passed_on = torch.autograd.grad(
                features, parameters, aux, retain_graph=True, allow_unused=True, materialize_grads=True
            )
            alpha = alphas[layer] * (1 - epoch / epochs)
            step = [a + alpha * b for a, b in zip(step, passed_on, strict=True)]
        parameters = [(p - lr * g).detach().requires_grad_() for p, g in zip(parameters, step, strict=True)]
        close(history.loc[epoch, "task_loss"], task.item())
    assert len(drawn) == (0 if n_pairs is None else epochs)  # one draw serves both layers
    for actual, expected in zip(student.parameters(), parameters, strict=True):
        close(actual.detach().numpy(), expected.detach().numpy())
