"""PatternTeacher against crossnobis distances computed slowly, by the definition."""

import tracemalloc

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

import brainrdl as rdl
from small_network import raises

RNG = np.random.default_rng


def patterns(n=7, n_runs=4, n_voxels=5, *, seed=0, repeats=1, missing=(), dtype=float, name="IT"):
    """Patterns of s0 … in runs run1 …, in shuffled order; `missing` (stimulus, run) cells are left out."""
    rng = RNG(seed)
    truth = rng.normal(size=(n, n_voxels))
    rows = [
        (i, r, 10 * r + truth[i] + rng.normal(size=n_voxels))
        for r in range(n_runs)
        for i in range(n)
        for _ in range(repeats if np.isscalar(repeats) else repeats[i])
        if (i, r) not in missing
    ]
    rng.shuffle(rows)
    stimulus, run, values = zip(*rows, strict=True)
    return xr.DataArray(
        np.array(values, dtype=dtype),
        dims=("observation", "voxel"),
        coords={
            "stimulus": ("observation", [f"s{i}" for i in stimulus]),
            "run": ("observation", [f"run{r}" for r in run]),
        },
        name=name,
    )


def precision(n_voxels=5, seed=1):
    noise = RNG(seed).normal(size=(3 * n_voxels, n_voxels))
    return np.linalg.inv(noise.T @ noise / len(noise))


def slowly(given, ids, omega=None, parts=None):
    """METHOD's sum, pair by pair and run pair by run pair; NaN where there is none."""
    means = {}
    for key in {*zip(given["stimulus"].values.tolist(), given["run"].values.tolist(), strict=True)}:
        of_key = (given["stimulus"].values == key[0]) & (given["run"].values == key[1])
        means[key] = given.values[of_key].astype(float).mean(axis=0)
    runs = sorted({run for _, run in means})
    part = parts or {run: run for run in runs}
    omega = np.eye(given.sizes["voxel"]) if omega is None else omega
    distances = []
    for i in range(len(ids)):
        for j in range(i + 1, len(ids)):
            both = [run for run in runs if (ids[i], run) in means and (ids[j], run) in means]
            delta = {run: means[ids[i], run] - means[ids[j], run] for run in both}
            products = [delta[r] @ omega @ delta[s] for r in both for s in both if part[r] != part[s]]
            distances.append(np.mean(products) / given.sizes["voxel"] if products else np.nan)
    return np.array(distances)


MISSING = {(0, 1), (2, 0), (2, 3), (5, 0), (5, 1)}
IDS = ["s3", "s0", "s6", "s2", "s5"]
CASES = {
    "all runs": {},
    "runs missing": {"missing": MISSING},
    "several observations": {"repeats": 3},
    "unequal observations": {"repeats": [1, 4, 2, 1, 3, 2, 1], "missing": MISSING},
    "two runs": {"n_runs": 2},
}


@pytest.mark.parametrize("whitened", [False, True])
@pytest.mark.parametrize("case", list(CASES))
def test_distances_are_those_of_the_definition(case, whitened):
    given = patterns(**CASES[case])
    omega = precision() if whitened else None
    teacher = rdl.PatternTeacher(given, omega)
    assert (teacher.names, teacher.metric, teacher.compare) == (("IT",), "crossnobis", "cosine")
    for ids in (IDS, IDS[::-1], ["s1", "s3", "s4"], [f"s{i}" for i in range(7)]):
        got = teacher(None, ids)["IT"]
        assert got.dtype == torch.float64
        np.testing.assert_allclose(got.numpy(), slowly(given, ids, omega), rtol=0, atol=1e-10)


def test_the_same_runs_by_both_ways():
    given = patterns()
    teacher = rdl.PatternTeacher(given, precision())
    cells = teacher._cells[[3, 0, 6]]
    np.testing.assert_allclose(teacher._balanced(cells).numpy(), teacher._unbalanced(cells).numpy(), atol=1e-10)


def test_distances_are_unbiased():
    noise = xr.DataArray(
        RNG(0).normal(size=(400 * 3, 30)),
        dims=("observation", "voxel"),
        coords={
            "stimulus": ("observation", [f"s{i}" for i in range(400)] * 3),
            "run": ("observation", np.repeat([1, 2, 3], 400)),
        },
    )
    distances = rdl.PatternTeacher(noise)(None, [f"s{i}" for i in range(400)])["patterns"].numpy()
    assert 0.45 < (distances < 0).mean() < 0.6
    assert abs(distances.mean()) < 5 * np.sqrt(8 / (30 * 3 * 2) / 400)


def test_a_pair_without_two_common_runs_is_unmeasured():
    missing = {(0, 2), (0, 3), (1, 0), (1, 1), (2, 0)}
    given = patterns(missing=missing)
    answer = rdl.PatternTeacher(given)(None, ["s1", "s0", "s2", "s3"])["IT"]
    assert answer.isnan().tolist() == [True, False, False, True, False, False]
    np.testing.assert_allclose(answer.numpy(), slowly(given, ["s1", "s0", "s2", "s3"]), atol=1e-10)


def test_single_precision_stays_single_and_is_computed_in_double():
    given = patterns(dtype=np.float32)
    teacher = rdl.PatternTeacher(given, precision())
    assert teacher._patterns.dtype == torch.float32
    np.testing.assert_allclose(teacher(None, IDS)["IT"].numpy(), slowly(given, IDS, precision()), atol=1e-5)
    counts = rdl.PatternTeacher(patterns().round().astype(int))
    assert counts._patterns.dtype == torch.float64


def test_it_keeps_its_own_copy_and_trains_and_saves_nothing():
    given = patterns()
    in_order = given.isel(observation=np.lexsort((given["stimulus"].values, given["run"].values)))
    for source in (given, in_order):
        before = source.copy(deep=True)
        teacher = rdl.PatternTeacher(source, precision())
        xr.testing.assert_identical(source, before)
        answer = teacher(None, IDS)["IT"]
        source.values[:] = 0
        assert torch.equal(teacher(None, IDS)["IT"], answer)
        assert list(teacher.parameters()) == []
        assert teacher.state_dict() == {}


def test_the_same_stimulus_twice():
    answer = rdl.PatternTeacher(patterns())(None, ["s1", "s4", "s1"])["IT"]
    assert answer[1].item() == pytest.approx(0, abs=1e-12)
    assert answer[0].item() == pytest.approx(answer[2].item(), rel=1e-12)


# weights


@pytest.mark.parametrize("case", list(CASES))
@pytest.mark.parametrize("splits", [None, 2])
def test_weights_follow_from_the_numbers_of_observations(case, splits):
    given = patterns(**CASES[case])
    teacher = rdl.PatternTeacher(given, weights="observations", splits=splits)
    if splits:
        teacher.draw(torch.Generator().manual_seed(1))
    part = dict(zip(teacher._runs, teacher._parts.tolist(), strict=True))
    count = {}
    for key in zip(given["stimulus"].values.tolist(), given["run"].values.tolist(), strict=True):
        count[key] = count.get(key, 0) + 1
    expected = []
    for i in range(len(IDS)):
        for j in range(i + 1, len(IDS)):
            a, b = IDS[i], IDS[j]
            xi = {r: 1 / count[a, r] + 1 / count[b, r] for r in part if (a, r) in count and (b, r) in count}
            products = [xi[r] * xi[s] for r in xi for s in xi if part[r] != part[s]]
            expected.append(len(products) ** 2 / sum(products) if products else 0.0)
    np.testing.assert_allclose(teacher.weights(IDS)["IT"].numpy(), expected, rtol=1e-12)
    assert rdl.PatternTeacher(given).weights(IDS) is None


def test_weights_are_inverse_variances_of_a_zero_distance():
    counts = [1, 1, 4, 4]
    draws = []
    for seed in range(400):
        rng = RNG(seed)
        labels = [f"s{i}" for i, n in enumerate(counts) for _ in range(n)] * 3
        noise = xr.DataArray(
            rng.normal(size=(30, 2)),
            dims=("observation", "voxel"),
            coords={"stimulus": ("observation", labels), "run": ("observation", np.repeat([1, 2, 3], 10))},
        )
        teacher = rdl.PatternTeacher(noise, weights="observations")
        draws.append(teacher(None, ["s0", "s1", "s2", "s3"])["patterns"].numpy())
    products = np.var(draws, axis=0) * teacher.weights(["s0", "s1", "s2", "s3"])["patterns"].numpy()
    np.testing.assert_allclose(products / products.mean(), 1, atol=0.35)


def test_weights_enter_the_loss_and_missing_pairs_do_not():
    given = patterns(missing={(0, 2), (0, 3), (1, 0), (1, 1)})
    teacher = rdl.PatternTeacher(given, weights="observations")
    student = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    ids = ("s0", "s1", "s2", "s3")
    term = rdl.RDLTerm(teacher, {"fc": "IT"}, stream="stimuli")
    loss = term({"fc": student}, rdl.Batch(torch.zeros(4, 1), ids=ids), torch.Generator())["fc"]
    d, t, w = rdl.rdm(student.detach()).numpy(), slowly(given, ids), teacher.weights(ids)["IT"].numpy()
    assert np.isnan(t[0])
    assert w[0] == 0
    d, t, w = d[1:], t[1:], w[1:]
    expected = 1 - (w * d * t).sum() / np.sqrt((w * d * d).sum() * (w * t * t).sum())
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    loss.backward()
    assert student.grad.isfinite().all()


# splits


@pytest.mark.parametrize("case", ["all runs", "runs missing", "unequal observations"])
@pytest.mark.parametrize("splits", [2, 3])
def test_runs_are_split_anew(case, splits):
    given = patterns(n_runs=5, **CASES[case])
    teacher = rdl.PatternTeacher(given, precision(), splits=splits)
    np.testing.assert_allclose(teacher(None, IDS)["IT"].numpy(), slowly(given, IDS, precision()), atol=1e-10)
    generator, seen = torch.Generator().manual_seed(0), set()
    torch.manual_seed(0)
    before = torch.get_rng_state()
    for _ in range(6):
        teacher.draw(generator)
        parts = dict(zip(teacher._runs, teacher._parts.tolist(), strict=True))
        sizes = np.bincount(list(parts.values()))
        assert len(sizes) == splits
        assert sizes.max() - sizes.min() <= 1
        np.testing.assert_allclose(teacher(None, IDS)["IT"].numpy(), slowly(given, IDS, precision(), parts), atol=1e-10)
        seen.add(tuple(parts.values()))
    assert len(seen) > 2
    assert torch.equal(torch.get_rng_state(), before)


def test_runs_are_not_split_unless_asked():
    teacher = rdl.PatternTeacher(patterns())
    before = teacher(None, IDS)["IT"]
    generator = torch.Generator().manual_seed(0)
    state = generator.get_state()
    teacher.draw(generator)
    assert torch.equal(teacher(None, IDS)["IT"], before)
    assert torch.equal(generator.get_state(), state)


def test_a_split_that_puts_a_pairs_runs_together_leaves_it_unmeasured():
    given = patterns(missing={(0, 2), (0, 3), (3, 2), (3, 3)})
    teacher = rdl.PatternTeacher(given, splits=2, weights="observations")
    seen = set()
    for seed in range(12):
        teacher.draw(torch.Generator().manual_seed(seed))
        answer, weight = teacher(None, ["s0", "s3"])["IT"], teacher.weights(["s0", "s3"])["IT"]
        together = teacher._parts[teacher._runs.index("run0")] == teacher._parts[teacher._runs.index("run1")]
        assert answer.isnan().tolist() == [together]
        assert (weight == 0).tolist() == [together]
        seen.add(bool(together))
    assert seen == {True, False}


# many stimuli, training


def test_ten_thousand_stimuli_without_their_rdm():
    n, n_runs, n_voxels = 10_000, 3, 20
    rng = RNG(0)
    truth = rng.normal(size=(n, n_voxels))
    ids = [f"image-{k:05}" for k in range(n)]
    given = xr.DataArray(
        np.concatenate([truth + rng.normal(size=truth.shape) for _ in range(n_runs)]),
        dims=("observation", "voxel"),
        coords={"stimulus": ("observation", ids * n_runs), "run": ("observation", np.repeat(range(n_runs), n))},
        name="IT",
    )
    tracemalloc.start()
    teacher = rdl.PatternTeacher(given, precision(n_voxels))
    held, _ = tracemalloc.get_traced_memory()
    batch = [ids[k] for k in rng.choice(n, 60, replace=False)]
    tracemalloc.reset_peak()
    answer = teacher(None, batch)["IT"]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    bytes_of_patterns = given.values.nbytes
    assert sum(buffer.nbytes for buffer in teacher.buffers()) == bytes_of_patterns
    assert held < 2 * bytes_of_patterns  # patterns, ids and tables; an RDM would be 80 times the patterns
    assert peak - held < bytes_of_patterns / 10
    selected = given.isel(observation=np.isin(given["stimulus"].values, batch))
    np.testing.assert_allclose(answer.numpy(), slowly(selected, batch, precision(n_voxels)), atol=1e-10)

    images = torch.from_numpy(truth).float()
    student = nn.Sequential(nn.Linear(n_voxels, 12))
    stream = rdl.StimulusStream(rdl.StimulusSet.from_arrays(images, ids), batch_size=250)
    term = rdl.RDLTerm(teacher, {"0": "IT"}, stream="stimuli", n_pairs=2000)
    history = rdl.Trainer(student, [term], optimizer=lambda p: torch.optim.Adam(p, 0.01)).fit(
        None, epochs=2, stimuli=stream
    )
    assert history["rdl/0"][1] < 0.8 * history["rdl/0"][0]


class InterruptionError(Exception):
    pass


def test_a_run_with_splits_goes_on_where_it_was_interrupted(tmp_path):
    def run(checkpoint=None, stop_at=None):
        torch.manual_seed(0)
        student, calls = nn.Sequential(nn.Linear(5, 4)), []

        def count(module, args):
            calls.append(module)
            if len(calls) == stop_at:
                raise InterruptionError

        student.register_forward_pre_hook(count)
        images = torch.randn(7, 5, generator=torch.Generator().manual_seed(1))
        stimuli = rdl.StimulusSet.from_arrays(images, [f"s{i}" for i in range(7)])
        term = rdl.RDLTerm(rdl.PatternTeacher(patterns(), splits=2), {"0": "IT"}, stream="stimuli", alpha=0.5)
        history = rdl.Trainer(student, [term]).fit(None, epochs=6, stimuli=stimuli, checkpoint=checkpoint)
        return history["rdl/0"].tolist(), student[0].weight.tolist(), len(calls)

    losses, weight, calls = run()
    assert calls == 7  # the set-up's and six updates'
    with pytest.raises(InterruptionError):
        run(tmp_path / "run", stop_at=5)
    assert run(tmp_path / "run") == (losses, weight, 4)


def test_what_describes_it():
    described = rdl.PatternTeacher(patterns()).describe()
    assert list(described) == [
        "name",
        "metric",
        "names",
        "weights",
        "splits",
        "runs",
        "stimuli",
        "observations",
        "patterns",
    ]
    others = {
        "patterns": rdl.PatternTeacher(patterns(seed=1)),
        "splits": rdl.PatternTeacher(patterns(), splits=2),
        "weights": rdl.PatternTeacher(patterns(), weights="observations"),
        "names": rdl.PatternTeacher(patterns(name=None)),
        "stimuli": rdl.PatternTeacher(patterns().assign_coords(stimulus=patterns()["stimulus"].str.upper())),
    }
    for field, other in others.items():
        assert other.describe()[field] != described[field]
    precise = rdl.PatternTeacher(patterns(), precision()).describe()
    assert [field for field in described if precise[field] != described[field]] == ["patterns"]


# errors


def test_a_precision_per_run_is_refused_with_the_reason():
    with raises(
        ValueError,
        "a precision per run is refused: two runs would be whitened by the inverse of their mean covariance, another "
        "one for every pair of runs, so that no whitened patterns could be kept; give one precision pooled over the "
        "runs, or a stored crossnobis RDM to MeasuredTeacher",
    ):
        rdl.PatternTeacher(patterns(), {f"run{r}": precision() for r in range(4)})


def with_nan():
    given = patterns()
    given.values[given["stimulus"].values == "s2", 3] = np.nan
    return given.isel(observation=np.argsort(given["run"].values, kind="stable"))


@pytest.mark.parametrize(
    ("given", "options", "error", "message"),
    [
        (
            lambda: np.zeros((2, 2)),
            {},
            TypeError,
            "patterns is a ndarray; expected a DataArray (observation, voxel); fmri.make_patterns makes one",
        ),
        (
            lambda: xr.Dataset({"patterns": patterns()}),
            {},
            TypeError,
            "patterns is a Dataset; expected a DataArray (observation, voxel); take its variable 'patterns'",
        ),
        (
            lambda: patterns().T,
            {},
            ValueError,
            "the patterns' dimensions are ('voxel', 'observation'), expected ('observation', 'voxel')",
        ),
        (
            lambda: patterns().drop_vars("run"),
            {},
            ValueError,
            "the patterns have no coordinate 'run' along 'observation': patterns.assign_coords(run=('observation', "
            "[...]))",
        ),
        (lambda: patterns().astype(str), {}, TypeError, "the patterns are of type <U32; expected real numbers"),
        (
            lambda: patterns().isel(voxel=slice(0)),
            {},
            ValueError,
            "the patterns have no voxel; expected at least one",
        ),
        (
            with_nan,
            {},
            ValueError,
            "the pattern of 's2' in run 'run0' is nan in voxel 3; drop such voxels in all runs",
        ),
        (
            lambda: patterns().assign_coords(run=("observation", [None, *patterns()["run"].values[1:]])),
            {},
            ValueError,
            f"observation 0 ({patterns()['stimulus'].values[0].item()!r}) has no run (nan); runs are the folds of "
            "cross-validation, so name the run of each observation, or leave such observations out",
        ),
        (lambda: patterns(n=1), {}, ValueError, "an RDM needs at least 2 stimuli, and the patterns have 's0'"),
        (
            lambda: patterns(missing={(3, 0), (3, 1), (3, 2)}),
            {},
            ValueError,
            "1 of 7 stimuli are in one run only, so that none of their distances can be cross-validated: 's3'; leave "
            "them out of the patterns",
        ),
        (
            patterns,
            {"precision": np.eye(4)},
            ValueError,
            "the precision has shape (4, 4), expected (5, 5) as the patterns' voxels",
        ),
        (
            patterns,
            {"precision": np.diag([1, 1, 1, 1, np.inf])},
            ValueError,
            "the precision holds values that are not finite; drop voxels without variance first",
        ),
        (
            patterns,
            {"precision": np.triu(np.ones((5, 5)))},
            ValueError,
            "the precision is not symmetric; expected an inverse covariance",
        ),
        (
            patterns,
            {"precision": np.ones((5, 5)) - 2 * np.eye(5)},
            ValueError,
            "the precision is not positive definite, so that distances may be negative without noise; expected the "
            "inverse of a covariance, shrunk toward its diagonal where there are more voxels than degrees of freedom",
        ),
        (patterns, {"weights": "runs"}, ValueError, "unknown weights 'runs'; give None or 'observations'"),
        (patterns, {"splits": 5}, ValueError, "splits must lie in 2 … 4 (the number of runs), got 5"),
        (patterns, {"splits": 1}, ValueError, "splits must lie in 2 … 4 (the number of runs), got 1"),
    ],
)
def test_what_cannot_teach(given, options, error, message):
    with raises(error, message):
        rdl.PatternTeacher(given(), **options)


def test_batches_that_cannot_be_answered():
    missing = {(0, 2), (0, 3), (1, 0), (1, 1)}
    teacher = rdl.PatternTeacher(patterns(missing=missing))
    with raises(
        ValueError,
        "no two of the 2 stimuli of a batch share two runs, so that none of their distances can be cross-validated; "
        "show more stimuli per update, or let the run coordinate be something that holds more of them, such as the "
        "session or the repetition",
    ):
        teacher(None, ["s0", "s1"])
    with raises(
        ValueError,
        "no pattern for 1 of 2 stimuli, the first 's9'; leave them out of the stimuli (StimulusSet.select); did you "
        "mean 's6' or 's5' or 's4'?",
    ):
        teacher(None, ["s1", "s9"])
    with raises(
        ValueError,
        "a PatternTeacher finds its rows by stimulus id, and this batch has no ids; let the loader yield "
        "(image, label, id), or give the stimuli as a StimulusSet",
    ):
        teacher(torch.zeros(2, 3), None)
