import re
from contextlib import contextmanager
from decimal import Decimal, localcontext

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp
from rsatoolbox.data import Dataset
from rsatoolbox.rdm import calc_rdm
from scipy.spatial.distance import pdist, squareform
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import brainrdl as rdl
from brainrdl.known import METRICS
from brainrdl.rdms import distances, float64 as _exact
from brainrdl.rdms.condensed import condensed_index
from brainrdl.rdms.differentiable import COMPARISONS
from brainrdl.rdms.distances import full_precision, training_rdm
from brainrdl.rdms.float64 import undefined
from brainrdl.rdms.triangles import stimuli_of

ANGULAR = ("correlation", "cosine")


def raises(error, message):
    return pytest.raises(error, match=f"^{re.escape(message)}$")


def data(kind, dtype=torch.float64, seed=0):
    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    generator = torch.Generator().manual_seed(seed)
    if kind == "random":
        x = draw(20, 40)
    elif kind == "rectified":
        x = draw(20, 40).relu()
    elif kind == "offset":
        x = 100 + 0.01 * draw(20, 40)
    elif kind in ("two clusters", "two dots"):
        spread = {"two clusters": 1e-4, "two dots": 1e-9}[kind]
        x = 100 * draw(2, 1, 40).expand(2, 10, 40).reshape(20, 40) + spread * draw(20, 40)
    else:
        x = torch.softmax(10 * draw(40, 10), dim=1)
    return x.to(dtype)


def exact(x, metric):
    """Distances from the definition, in 60 decimal digits.

    SciPy is no oracle for tiny angles: it computes 1 − cos, which is rounded at 1e-16, whereas patterns of one cluster
    or of saturated softmax outputs are 1e-12 and less apart. (Nor is longdouble everywhere wider than a double.)
    """
    with localcontext(prec=60):
        rows = [[Decimal(value) for value in row] for row in x.double().tolist()]
        units = len(rows[0])
        if metric == "correlation":
            rows = [[value - sum(row) / units for value in row] for row in rows]
        if metric in ANGULAR:
            rows = [[value / sum(v * v for v in row).sqrt() for value in row] for row in rows]
        out = []
        for i in range(len(rows)):
            for j in range(i + 1, len(rows)):
                if metric in ANGULAR:
                    value = 1 - sum(a * b for a, b in zip(rows[i], rows[j], strict=True))
                else:
                    total = sum((a - b) ** 2 for a, b in zip(rows[i], rows[j], strict=True))
                    value = {"mse": total / units, "sqeuclidean": total, "euclidean": total.sqrt()}[metric]
                out.append(float(value))
    return np.array(out)


def gradient_of(x, metric, pull=None):
    """Gradient of Σ pull · distances (of their sum if absent) on the training path."""
    x = x.detach().clone().requires_grad_()
    d = training_rdm(x, metric)
    d.backward(torch.ones_like(d) if pull is None else pull.to(d.dtype))
    return x.grad


def pull_of(n, seed=5):
    return torch.randn(n * (n - 1) // 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# against other libraries, and against the definition


@pytest.mark.parametrize(
    ("metric", "kind"),
    [(metric, kind) for metric in METRICS[1:] for kind in ("random", "rectified", "offset")]
    # SciPy's 1 − cos is not exact to 1e-6 in these, see exact()
    + [(metric, kind) for metric in METRICS[1:3] for kind in ("two clusters", "two dots", "softmax")],
)
def test_rdm_agrees_with_scipy(metric, kind):
    x = data(kind)
    np.testing.assert_allclose(rdl.rdm(x, metric).numpy(), pdist(x.numpy(), metric), rtol=1e-6, atol=0)


@pytest.mark.parametrize("kind", ["random", "offset"])
@pytest.mark.parametrize(("metric", "theirs"), [("mse", "euclidean"), ("correlation", "correlation")])
def test_rdm_agrees_with_rsatoolbox(metric, theirs, kind):
    x = data(kind)
    expected = calc_rdm(Dataset(x.numpy()), method=theirs).dissimilarities[0]
    np.testing.assert_allclose(rdl.rdm(x, metric).numpy(), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("kind", ["random", "offset", "two clusters", "softmax"])
@pytest.mark.parametrize("metric", METRICS)
def test_rdm_agrees_with_the_definition(metric, kind, dtype):
    x = data(kind, dtype)
    actual = rdl.rdm(x, metric)
    assert actual.dtype == torch.float64
    np.testing.assert_allclose(actual.numpy(), exact(x, metric), rtol=1e-6, atol=0)


@pytest.mark.parametrize("kind", ["random", "offset"])
@pytest.mark.parametrize("metric", METRICS)
def test_the_training_path_in_float32(metric, kind):
    x = data(kind, torch.float32)
    expected = exact(x, metric)
    for actual in (training_rdm(x, metric), rdl.rdm(x.clone().requires_grad_(), metric).detach()):
        assert actual.dtype == torch.float32
        np.testing.assert_allclose(actual.numpy(), expected, rtol=1e-5, atol=0)
    pull = pull_of(len(x))
    reference = gradient_of(x.double(), metric, pull)
    assert (gradient_of(x, metric, pull) - reference).abs().max() < 1e-5 * reference.abs().max()


def test_many_dimensions_are_flattened_and_integers_welcome():
    x = torch.arange(24).reshape(3, 2, 2, 2) ** 2
    torch.testing.assert_close(rdl.rdm(x), rdl.rdm(x.flatten(1).double()), rtol=0, atol=0)
    assert training_rdm(x).dtype == torch.float32


def test_rdm_takes_the_training_path_only_where_a_gradient_is_wanted():
    x = data("two clusters", torch.float32).requires_grad_()
    assert rdl.rdm(x).requires_grad
    with torch.no_grad():
        plain = rdl.rdm(x)
    assert plain.dtype == torch.float64
    assert not plain.requires_grad
    torch.testing.assert_close(plain, rdl.rdm(x.detach()), rtol=0, atol=0)


@pytest.mark.parametrize("metric", METRICS)
def test_row_scale_multiplies_the_gradient_of_a_stimulus_and_not_the_value(metric):
    x = data("random")
    scale = torch.linspace(0, 3, len(x), dtype=torch.float64)
    scaled = x.clone().requires_grad_()
    d = training_rdm(scaled, metric, scale)
    d.sum().backward()
    torch.testing.assert_close(d.detach(), training_rdm(x, metric), rtol=0, atol=0)
    torch.testing.assert_close(scaled.grad, scale[:, None] * gradient_of(x, metric))


@pytest.mark.parametrize("metric", METRICS)
def test_the_training_path_of_chosen_pairs(metric):
    x = data("random")
    pairs = torch.tensor([(3, 7), (19, 0), (7, 3), (4, 5)])
    pull = torch.tensor([0.3, -2.0, 1.1, 0.7], dtype=torch.float64)
    index = condensed_index(len(x), pairs)
    chosen, whole = x.clone().requires_grad_(), x.clone().requires_grad_()
    d = training_rdm(chosen, metric, pairs=pairs)
    torch.testing.assert_close(d, training_rdm(whole, metric)[index], rtol=0, atol=0)
    d.backward(pull)
    training_rdm(whole, metric)[index].backward(pull)
    torch.testing.assert_close(chosen.grad, whole.grad)


# properties


features = st.tuples(st.integers(2, 7), st.integers(1, 6)).flatmap(
    lambda shape: hnp.arrays(float, shape, elements=st.floats(-1e3, 1e3).map(lambda v: round(v, 3)))
)


def assert_same(actual, expected, whole, metric):
    """To 1e-12 of the largest distance; angles have a scale of their own, 1."""
    largest = 1.0 if metric in ANGULAR else whole.max().item()
    assert (actual - expected).abs().max().item() <= 1e-12 * largest


@settings(deadline=None, max_examples=60)
@given(features, st.sampled_from(METRICS), st.sampled_from([rdl.rdm, training_rdm]), st.data())
def test_permuting_stimuli_permutes_the_rdm(x, metric, function, choice):
    x = torch.from_numpy(x)
    order = torch.tensor(choice.draw(st.permutations(range(len(x)))))
    whole = function(x, metric)
    expected = rdl.to_condensed(rdl.to_square(whole)[order][:, order])
    if function is training_rdm and metric == "euclidean":
        # the root of a rounded square: without the exact path a distance of 0 is 0 to 1e-8 only
        assert (function(x[order], metric) - expected).abs().max() <= 1e-7 * whole.max()
    else:
        assert_same(function(x[order], metric), expected, whole, metric)


@settings(deadline=None, max_examples=60)
@given(features, st.sampled_from(METRICS), st.data())
def test_restricting_a_batch_restricts_its_rdm(x, metric, choice):
    x = torch.from_numpy(x)
    chosen = choice.draw(st.sets(st.integers(0, len(x) - 1), min_size=2).map(sorted))
    whole = rdl.rdm(x, metric)
    expected = rdl.to_condensed(rdl.to_square(whole)[chosen][:, chosen])
    assert_same(rdl.rdm(x[chosen], metric), expected, whole, metric)


@settings(deadline=None)
@given(st.integers(2, 12), st.integers(0, 2**32 - 1))
def test_condensed_and_square_are_each_others_inverse(n, seed):
    generator = torch.Generator().manual_seed(seed)
    condensed = torch.randn(2, n * (n - 1) // 2, generator=generator, dtype=torch.float64)
    condensed[0, 0] = torch.nan
    square = rdl.to_square(condensed)
    assert square.shape == (2, n, n)
    assert stimuli_of(condensed.shape[1]) == n
    np.testing.assert_array_equal(square[1].numpy(), squareform(condensed[1].numpy()))
    torch.testing.assert_close(rdl.to_condensed(square), condensed, rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(rdl.to_square(rdl.to_condensed(square)), square, rtol=0, atol=0, equal_nan=True)
    pairs = torch.combinations(torch.arange(n))
    torch.testing.assert_close(condensed_index(n, pairs), torch.arange(len(pairs)))
    torch.testing.assert_close(condensed_index(n, pairs.flip(1).int()).long(), torch.arange(len(pairs)))


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(METRICS), st.sampled_from(COMPARISONS), st.data())
def test_a_permuted_target_with_permuted_ids_gives_the_same_loss(metric, compare, choice):
    n = 5
    target = 2 * torch.rand(10, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x = torch.randn(n, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    stored = choice.draw(st.permutations(range(n)))
    shown = choice.draw(st.permutations(range(n)))

    def loss(rows, batch):
        ids = [f"stimulus-{row}" for row in rows]
        values = rdl.to_condensed(rdl.to_square(target)[rows][:, rows]).numpy()[None]
        teacher = rdl.MeasuredTeacher(rdl.label_rdms(values, ids, ["IT"], "crossnobis"))
        answer = teacher(None, [f"stimulus-{row}" for row in batch])["IT"]
        return rdl.rdl_loss(x[batch], answer, metric=metric, compare=compare).item()

    same = list(range(n))
    assert loss(stored, shown) == pytest.approx(loss(same, same), rel=1e-12)


# degenerate stimuli


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("compare", COMPARISONS)
@pytest.mark.parametrize("metric", METRICS)
def test_duplicate_stimuli_give_finite_values_and_gradients(metric, compare, dtype):
    for x in (
        data("random", dtype)[[0, 1, 0, 2, 0, 1]],
        data("offset", dtype)[[0, 0, 0, 0, 0, 1]],
        data("random", dtype)[[3, 3, 3, 3, 3, 3]],
        torch.zeros(6, 4, dtype=dtype),
    ):
        x = x.clone().requires_grad_()
        loss = rdl.rdl_loss(x, 1 + pull_of(6).square(), metric=metric, compare=compare)
        loss.backward()
        assert loss.isfinite()
        assert x.grad.isfinite().all()
        assert rdl.rdm(x.detach(), metric).isfinite().all()


@pytest.mark.parametrize("metric", ["mse", "sqeuclidean", "euclidean"])
def test_duplicates_are_exactly_0_apart(metric):
    d = rdl.to_square(rdl.rdm(data("offset", torch.float32)[[0, 1, 0, 2, 1, 0]], metric))
    for i, j in ((0, 2), (0, 5), (2, 5), (1, 4)):
        assert d[i, j] == 0
    assert (d > 0).sum() == 36 - 6 - 8


def test_the_euclidean_gradient_is_0_where_two_patterns_coincide():
    x = data("random")[[0, 0]]
    assert training_rdm(x, "euclidean").item() == 0
    assert (gradient_of(x, "euclidean") == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("metric", "value"), [("correlation", 0.1), ("correlation", 0.0), ("cosine", 0.0)])
def test_a_pattern_without_direction_is_1_apart_and_has_no_gradient(metric, value, dtype):
    x = data("random", dtype)[:6]
    x[[1, 4]] = value
    others = [0, 2, 3, 5]
    assert undefined(x, metric).tolist() == [False, True, False, False, True, False]
    for condensed in (rdl.rdm(x, metric), training_rdm(x, metric)):
        square = rdl.to_square(condensed)
        for i in (1, 4):
            assert square[i].tolist() == [float(j != i) for j in range(6)]
    pull = pull_of(6)
    gradient = gradient_of(x, metric, pull)
    assert (gradient[[1, 4]] == 0).all()
    rest = rdl.to_condensed(rdl.to_square(pull)[others][:, others])
    torch.testing.assert_close(gradient[others], gradient_of(x[others], metric, rest))


def test_only_angles_have_undefined_patterns():
    x = torch.tensor([[0.0, 0.0], [0.1, 0.1], [1.0, 2.0], [0.0, 1.0]])
    assert undefined(x, "correlation").tolist() == [True, True, False, False]
    assert undefined(x, "cosine").tolist() == [True, False, False, False]
    for metric in ("mse", "sqeuclidean", "euclidean"):
        assert undefined(x, metric).tolist() == [False] * 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("metric", METRICS)
def test_rounding_makes_no_distance_negative(metric, dtype):
    """Nor an angular one larger than 2, which parallel and opposite patterns would."""
    x = torch.randn(30, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)
    steps = torch.logspace(-9, -3, 29, dtype=dtype)[:, None]
    for y in (torch.cat((x, 7.3 * x, -0.3 * x)), torch.cat((x, x[:1] + steps * x[1:]))):
        for d in (rdl.rdm(y, metric), training_rdm(y, metric)):
            assert (d >= 0).all()
            assert metric not in ANGULAR or (d <= 2).all()
        assert gradient_of(y, metric).isfinite().all()


# precision


@contextmanager
def lower_precision(how):
    """Ask for the fast and inexact matrix products; afterwards everything is as before."""
    before = torch.get_float32_matmul_precision()
    try:
        if how == "autocast":
            with torch.autocast("cpu", dtype=torch.bfloat16):
                yield
        else:
            if how == "medium":
                torch.set_float32_matmul_precision("medium")
            elif how == "mkldnn":
                torch.backends.mkldnn.matmul.fp32_precision = "bf16"
            else:
                torch.backends.fp32_precision = "bf16"
            yield
    finally:
        torch.backends.fp32_precision = "none"
        torch.backends.mkldnn.matmul.fp32_precision = "none"
        torch.backends.cuda.matmul.fp32_precision = "ieee"  # as torch starts
        torch.set_float32_matmul_precision(before)
        torch.backends.mkldnn.matmul.fp32_precision = "none"


def settings_now():
    backends = (torch.backends, torch.backends.mkldnn.matmul, torch.backends.cuda.matmul)
    return [backend.fp32_precision for backend in backends] + [torch.is_autocast_enabled("cpu")]


class Products(TorchDispatchMode):
    """Note what every matrix product is computed in."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if "mm" in func.name() or "matmul" in func.name():
            precision = torch.backends.mkldnn.matmul.fp32_precision
            self.seen.append((args[0].dtype, precision, torch.is_autocast_enabled("cpu")))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("how", ["autocast", "medium", "mkldnn", "all backends"])
@pytest.mark.parametrize("metric", METRICS)
def test_no_setting_lowers_the_precision(metric, how):
    x = torch.randn(32, 700, generator=torch.Generator().manual_seed(0))
    pull = pull_of(32)

    def compute():
        return rdl.rdm(x, metric), training_rdm(x, metric), gradient_of(x, metric, pull)

    expected = compute()
    with lower_precision(how):
        before = settings_now()
        assert "bf16" in before or torch.is_autocast_enabled("cpu")
        with Products() as products:
            actual = compute()
        assert settings_now() == before
    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    # of the training path, its forward pass again and its backward pass; the plain path's is not torch's to lower
    training = torch.float64 if metric in ANGULAR else torch.float32
    assert products.seen == 3 * [(training, "ieee", False)]


def test_a_precision_that_was_inherited_goes_on_being_so():
    matmul = torch.backends.mkldnn.matmul
    with lower_precision("all backends"):
        rdl.rdm(torch.eye(3))
        assert matmul.fp32_precision == "bf16"
        torch.backends.fp32_precision = "ieee"
        assert matmul.fp32_precision == "ieee"


def test_the_settings_come_back_after_an_error():
    with lower_precision("mkldnn"), torch.autocast("cpu", dtype=torch.bfloat16):
        before = settings_now()
        with pytest.raises(KeyError), full_precision(torch.device("cpu")):
            assert settings_now() != before
            raise KeyError
        assert settings_now() == before


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("metric", METRICS)
def test_half_precision_features_are_widened_first(metric, dtype):
    x = data("random", dtype)
    pull = pull_of(len(x))
    torch.testing.assert_close(rdl.rdm(x, metric), rdl.rdm(x.double(), metric), rtol=0, atol=0)
    torch.testing.assert_close(training_rdm(x, metric), training_rdm(x.float(), metric), rtol=0, atol=0)
    narrow = gradient_of(x, metric, pull)
    assert narrow.dtype == dtype
    torch.testing.assert_close(narrow, gradient_of(x.float(), metric, pull).to(dtype), rtol=0, atol=0)


# memory


def small_blocks(monkeypatch, elements):
    monkeypatch.setattr(distances, "_BLOCK_ELEMENTS", elements)
    monkeypatch.setattr(_exact, "_BLOCK_ELEMENTS", elements)
    monkeypatch.setattr(_exact, "_LEAST_WIDTH", 1)
    monkeypatch.setattr(_exact, "_CHUNK_ELEMENTS", elements)


@pytest.mark.parametrize("elements", [1, 47, 100, 399])
@pytest.mark.parametrize("kind", ["random", "offset", "two clusters"])
@pytest.mark.parametrize("metric", METRICS)
def test_the_result_does_not_depend_on_the_blocks(metric, kind, elements, monkeypatch):
    x, pull = data(kind), pull_of(20)
    plain, training, gradient = rdl.rdm(x, metric), training_rdm(x, metric), gradient_of(x, metric, pull)
    small_blocks(monkeypatch, elements)
    torch.testing.assert_close(rdl.rdm(x, metric), plain, rtol=1e-9, atol=0)
    if kind == "two clusters":
        return  # of the training path's distances within a cluster only some digits are good
    rounding = 1e-14 if metric in ANGULAR else 0  # of the cosine in 1 − cosine
    torch.testing.assert_close(training_rdm(x, metric), training, rtol=1e-9, atol=rounding)
    torch.testing.assert_close(gradient_of(x, metric, pull), gradient, rtol=0, atol=1e-9 * gradient.abs().max().item())


class Made(TorchDispatchMode):
    """Note the type and the number of elements of every tensor that an operation makes."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.sizes += [(leaf.dtype, leaf.numel()) for leaf in tree_leaves(out) if torch.is_tensor(leaf)]
        return out

    def largest(self, *dtypes):
        return max(size for dtype, size in self.sizes if dtype in dtypes or not dtypes)


@pytest.mark.parametrize(("n", "units", "block"), [(12, 3000, 150), (50, 4, 2), (30, 100, 10)])
@pytest.mark.parametrize("metric", METRICS)
def test_no_pair_of_patterns_is_laid_side_by_side(metric, n, units, block, monkeypatch):
    small_blocks(monkeypatch, n * block)
    bound = max(n * n, n * block, n * units)
    assert bound < n * (n - 1) // 2 * units
    generator = torch.Generator().manual_seed(0)
    x = 100 + 1e-6 * torch.randn(n, units, generator=generator)  # close: the exact path takes differences
    target = torch.rand(n * (n - 1) // 2, generator=generator)
    for pairs in (None, rdl.sample_pairs(n, n * (n - 1) // 3, generator)):
        features = x.clone().requires_grad_()
        with Made() as made:
            rdl.rdl_loss(features, target, metric=metric, pairs=pairs).backward()
        assert n * n <= made.largest() <= bound
        if metric in ANGULAR:  # in float64 are blocks only
            assert made.largest(torch.float64) <= max(n * n, n * block)
    with Made() as made:
        rdl.rdm(x, metric)
    assert n * n <= made.largest() <= bound
    assert made.largest(torch.float64) <= max(n * n, n * block)


def test_channels_last_features_are_not_copied():
    x = torch.randn(6, 4, 3, 3).to(memory_format=torch.channels_last)
    for features in (x, x.contiguous()):
        assert distances._flat(features).data_ptr() == features.data_ptr()
    torch.testing.assert_close(rdl.rdm(x), rdl.rdm(x.contiguous()))


# pairs


def test_pairs_are_distinct_and_ordered():
    for n, n_pairs in ((2, 1), (7, 20), (7, 21), (100, 500)):
        pairs = rdl.sample_pairs(n, n_pairs)
        assert pairs.shape == (n_pairs, 2)
        assert pairs.dtype == torch.int64
        assert (pairs[:, 0] < pairs[:, 1]).all()
        assert (pairs >= 0).all()
        assert (pairs < n).all()
        assert len(set(map(tuple, pairs.tolist()))) == n_pairs


def test_a_generator_decides_the_pairs():
    def draw(seed):
        return rdl.sample_pairs(30, 50, torch.Generator().manual_seed(seed)).tolist()

    assert draw(0) == draw(0)
    assert draw(0) != draw(1)
    state = torch.get_rng_state()
    draw(0)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(3)
    first = rdl.sample_pairs(30, 50).tolist()
    assert rdl.sample_pairs(30, 50).tolist() != first
    torch.manual_seed(3)
    assert rdl.sample_pairs(30, 50).tolist() == first


def test_pairs_are_uniform():
    n, n_pairs, draws, alpha = 7, 6, 4000, 0.001
    total = n * (n - 1) // 2
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([condensed_index(n, rdl.sample_pairs(n, n_pairs, generator)) for _ in range(draws)])
    # any part of a draw too: smaller subsets are taken from the front of larger ones
    for first in (1, 3, n_pairs):
        counts = np.bincount(drawn[:, :first].flatten().numpy(), minlength=total)
        p = first / total
        # drawn without replacement: the counts have covariance −p(1−p)/(total−1)
        statistic = ((counts - draws * p) ** 2).sum() / (draws * p * (1 - p)) * (total - 1) / total
        assert scipy.stats.chi2.sf(statistic, total - 1) > alpha


# errors


UNKNOWN = "unknown metric 'manhattan'; computed from features are: mse, sqeuclidean, euclidean, correlation, cosine"


@pytest.mark.parametrize("function", [rdl.rdm, training_rdm])
def test_an_unknown_metric_is_refused(function):
    with raises(ValueError, UNKNOWN):
        function(torch.eye(3), "manhattan")


@pytest.mark.parametrize("function", [rdl.rdm, training_rdm])
@pytest.mark.parametrize("shape", [(), (3,), (0, 4), (1, 4), (3, 0), (3, 2, 0)])
def test_features_need_two_stimuli_and_a_unit(shape, function):
    message = f"features must have shape (stimuli, units, …) with at least 2 stimuli and 1 unit, got {shape}"
    with raises(ValueError, message):
        function(torch.zeros(shape))


@pytest.mark.parametrize("function", [rdl.rdm, training_rdm])
def test_complex_features_are_refused(function):
    message = "features must be real, got torch.complex64; take the magnitude or stack both parts"
    with raises(ValueError, message):
        function(torch.zeros(3, 2, dtype=torch.complex64))


@pytest.mark.parametrize(
    ("rows", "named"), [([2], "2"), ([0, 1, 3, 5, 6], "0, 1, 3, 5, 6"), (range(7), "0, 1, 2, 3, 4 and 2 more")]
)
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_values_that_are_not_finite_are_refused_without_gradient(rows, named, value):
    x = torch.ones(8, 2, 2)
    x[list(rows), 1, 0] = value
    message = (
        f"features of stimulus {named} (row, counted from 0) hold NaN or infinite values; distances need finite "
        "patterns: drop these stimuli, or find the layer or the image that made them"
    )
    with raises(ValueError, message):
        rdl.rdm(x)
    assert not rdl.rdm(x.requires_grad_()).isfinite().all()


@pytest.mark.parametrize("condensed", [torch.tensor(1.0), torch.zeros(0), torch.zeros(2), torch.zeros(3, 5)])
def test_only_triangular_numbers_are_condensed(condensed):
    length = condensed.shape[-1] if condensed.ndim else 0
    message = (
        f"{length} is not the length of a condensed RDM, which is n(n-1)/2 (1, 3, 6, 10, …); give the upper triangle "
        "without the diagonal"
    )
    with raises(ValueError, message):
        rdl.to_square(condensed)
    with raises(ValueError, message):
        stimuli_of(length)


def test_stimuli_of():
    assert [stimuli_of(k) for k in (1, 3, 6, 10, 4950)] == [2, 3, 4, 5, 100]


@pytest.mark.parametrize("shape", [(), (3,), (1, 1), (0, 0), (2, 3), (2, 3, 2)])
def test_to_condensed_needs_a_square(shape):
    message = f"expected a square RDM of at least 2 × 2, got shape {shape}; a condensed RDM is laid out by to_square"
    with raises(ValueError, message):
        rdl.to_condensed(torch.zeros(shape))


@pytest.mark.parametrize(
    ("upper", "lower", "largest"),
    [
        (1.0, 1.25, "0.25"),
        (1.0, 1.0 + 2**-20, "9.54e-07"),
        (torch.nan, 1.0, "inf"),
        (torch.inf, 1.0, "inf"),
        (torch.inf, -torch.inf, "inf"),
    ],
)
def test_to_condensed_needs_symmetry(upper, lower, largest):
    square = torch.zeros(2, 3, 3)
    square[0, 0, 1] = square[0, 1, 0] = torch.nan  # these two are alike
    square[1, 0, 1] = square[1, 1, 0] = torch.inf
    square[1, 0, 2], square[1, 2, 0] = upper, lower
    message = (
        f"the RDM is not symmetric (largest difference {largest}); average it with its transpose, or find out why the "
        "two directions differ"
    )
    with raises(ValueError, message):
        rdl.to_condensed(square)


def test_to_condensed_of_integers():
    assert rdl.to_condensed(torch.tensor([[0, 1, 2], [1, 0, 3], [2, 3, 0]])).tolist() == [1, 2, 3]
    message = (
        "the RDM is not symmetric (largest difference 4); average it with its transpose, or find out why the two "
        "directions differ"
    )
    with raises(ValueError, message):
        rdl.to_condensed(torch.tensor([[0, 1], [5, 0]]))


@pytest.mark.parametrize(("value", "largest"), [(1.0, "1"), (-0.25, "0.25"), (torch.nan, "nan")])
def test_to_condensed_needs_a_zero_diagonal(value, largest):
    square = torch.zeros(3, 3)
    square[1, 1] = value
    message = (
        f"the RDM's diagonal must be 0, the largest entry found is {largest}; a similarity matrix has to be turned "
        "into distances first"
    )
    with raises(ValueError, message):
        rdl.to_condensed(square)


@pytest.mark.parametrize(("n", "n_pairs", "total"), [(4, 0, 6), (4, 7, 6), (4, -1, 6), (1, 1, 0), (0, 1, 0)])
def test_only_as_many_pairs_as_there_are_can_be_drawn(n, n_pairs, total):
    message = (
        f"cannot draw {n_pairs} distinct pairs from {n} stimuli, which have {total}; ask for at least 1 and at most "
        "that many"
    )
    with raises(ValueError, message):
        rdl.sample_pairs(n, n_pairs)


@pytest.mark.parametrize(
    ("pairs", "got"),
    [
        (torch.zeros(2, dtype=torch.int64), "torch.int64 of shape (2,)"),
        (torch.zeros(2, 3, dtype=torch.int32), "torch.int32 of shape (2, 3)"),
        (torch.zeros(4, 2), "torch.float32 of shape (4, 2)"),
        (torch.zeros(4, 2, dtype=torch.bool), "torch.bool of shape (4, 2)"),
    ],
)
def test_pairs_are_two_columns_of_integers(pairs, got):
    message = f"pairs must be an integer tensor of shape (P, 2), got {got}; sample_pairs makes one"
    with raises(ValueError, message):
        condensed_index(4, pairs)


@pytest.mark.parametrize("wrong", [(2, 2), (-1, 2), (0, 4), (4, 0)])
def test_members_of_a_pair_lie_within_the_batch_and_differ(wrong):
    message = f"pair 1 is {wrong}; both members must lie in 0 … 3 and differ"
    with raises(ValueError, message):
        condensed_index(4, torch.tensor([(0, 1), wrong, (1, 1)]))


@pytest.mark.parametrize("metric", METRICS)
def test_features_too_large_to_be_squared_are_refused(metric):
    message = "features reach 1e+200, whose square is beyond the range of float64; scale all of them down"
    with raises(ValueError, message):
        rdl.rdm(torch.tensor([[1e200, 0.0, 1.0], [0.0, 1e200, 1.0], [1.0, 2.0, 3.0]], dtype=torch.float64), metric)
