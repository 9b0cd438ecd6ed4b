"""Measured RDMs in training: which region meets which layer, on which stream, by which comparison."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

import brainrdl as rdl
from brainrdl.rdms.similarities import Options, similarities
from small_network import IDS, assert_same, data, loader, network, network_teacher, raises, stimuli, weights

SUBJECTS = ("s1", "s2", "s3")


def regions(metric="correlation", *, missing=(), seed=0, **coords):
    """EVC and IT of three subjects, whose `missing` pairs (positions in the condensed RDM) are NaN."""
    values = np.random.default_rng(seed).uniform(0.1, 2, (6, 28))
    values[:, list(missing)] = np.nan
    names = [f"{subject}/{roi}" for roi in ("EVC", "IT") for subject in SUBJECTS]
    along = {"roi": ["EVC"] * 3 + ["IT"] * 3, "subject": list(SUBJECTS) * 2}
    return rdl.label_rdms(values, IDS, names, metric, along | coords)


def standing_still(parameters):
    return torch.optim.SGD(parameters, lr=0.0)


def first_values(student, terms, task_loader=None, stream=None, **options):
    """The terms' values in the first update, and the features that they were computed from."""
    history = rdl.Trainer(student, terms, optimizer=standing_still, **options).fit(
        task_loader, epochs=1, stimuli=stream
    )
    images, _ = stimuli().batch()
    return history, {k: v.detach() for k, v in rdl.capture(student, ["one", "two"], images)[1].items()}


def reference(features, target, method, weights=None):
    """1 − similarity of the student's RDM and a target, over measured pairs, by the functions that compare RDMs."""
    d = rdl.rdm(features, "correlation")
    target = torch.as_tensor(target, dtype=torch.float64)
    if weights is None:
        return 1 - similarities(d[None], target[None], Options(method)).item()
    counted = ~target.isnan()
    d, t, w = (part[counted].numpy() for part in (d, target, torch.as_tensor(weights)))
    d, t = (v - (w * v).sum() / w.sum() for v in (d, t))
    return 1 - (w * d * t).sum() / np.sqrt((w * d * d).sum() * (w * t * t).sum())


@pytest.mark.parametrize("subjects", ["mean", "s2"])
def test_several_regions_teach_several_layers(subjects):
    rdms = regions(missing=[3, 20])
    teacher = rdl.MeasuredTeacher(rdms, subjects=subjects)
    terms = [
        rdl.RDLTerm(teacher, {"one": "EVC", "two": "IT"}, stream="stimuli"),
        rdl.RDLTerm(teacher, {"two": "EVC"}, stream="stimuli", alpha=0.5),  # a second region on the same layer
    ]
    history, features = first_values(network(dropout=0.0), terms, stream=stimuli())
    answers = teacher(None, IDS)
    values = np.array([rdl.label_rdms(r, IDS, ["x"], "undeclared").values[0] for r in rdms.values[:, None]])
    i, j = np.triu_indices(8, 1)
    condensed = values[:, i, j]
    for roi, rows in (("EVC", slice(0, 3)), ("IT", slice(3, 6))):
        subject = condensed[rows]
        z = (subject - np.nanmean(subject, axis=1, keepdims=True)) / np.nanstd(subject, axis=1, keepdims=True)
        expected = z.mean(axis=0) if subjects == "mean" else subject[1]
        np.testing.assert_allclose(answers[roi].numpy(), expected, rtol=1e-12)
    for column, layer, roi in (("rdl/one", "one", "EVC"), ("rdl/two", "two", "IT"), ("rdl_2/two", "two", "EVC")):
        assert history[column][0] == pytest.approx(reference(features[layer], answers[roi], "corr"), rel=1e-4)
    assert history["alpha/rdl_2/two"][0] == 0.5


def test_the_loss_of_a_drawn_subject_with_weights_and_missing_pairs():
    se = np.random.default_rng(1).uniform(0.5, 2, (6, 28))
    rdms = regions(missing=[0, 5], standard_error=se)
    teacher = rdl.MeasuredTeacher(rdms, subjects="draw", weights="standard_error")
    term = rdl.RDLTerm(teacher, {"two": "IT"}, stream="stimuli")
    history = rdl.Trainer(network(dropout=0.0), [term], optimizer=standing_still).fit(
        None, epochs=12, stimuli=stimuli()
    )
    images, _ = stimuli().batch()
    features = rdl.capture(network(dropout=0.0), ["two"], images)[1]["two"].detach()
    i, j = np.triu_indices(8, 1)
    expected = [reference(features, rdms.values[3 + s, i, j], "corr", se[3 + s] ** -2) for s in range(3)]
    nearest = np.abs(history["rdl/two"].to_numpy()[:, None] - expected)
    assert nearest.min(axis=1).max() < 1e-5
    assert set(nearest.argmin(axis=1)) == {0, 1, 2}


@pytest.mark.parametrize("missing", [[], [0, 5, 11, 27]])
@pytest.mark.parametrize("compare", ["cosine", "corr", "cosine_cov", "corr_cov"])
def test_comparisons_on_the_stimulus_stream(compare, missing):
    teacher = rdl.MeasuredTeacher(regions(missing=missing), subjects="s1")
    term = rdl.RDLTerm(teacher, {"two": "IT"}, loss=rdl.RDLoss(compare=compare), stream="stimuli")
    history, features = first_values(network(dropout=0.0), [term], stream=stimuli())
    expected = reference(features["two"], teacher(None, IDS)["IT"], compare)
    assert history["rdl/two"][0] == pytest.approx(expected, rel=1e-4)
    student = network(dropout=0.0)
    trained = rdl.Trainer(student, [term]).fit(None, epochs=25, stimuli=stimuli())["rdl/two"]
    assert trained.iloc[-1] < 0.8 * trained[0]
    assert all(value.isfinite().all() for value in weights(student).values())


@pytest.mark.parametrize("missing", [[], [0, 5, 11, 27]])
def test_soft_spearman_on_the_stimulus_stream(missing):
    target = rdl.MeasuredTeacher(regions(missing=missing), subjects="s1")
    term = rdl.RDLTerm(target, {"two": "IT"}, loss=rdl.RDLoss(compare="soft-spearman"), stream="stimuli")
    history, features = first_values(network(dropout=0.0), [term], stream=stimuli())
    d = rdl.rdm(features["two"], "correlation").numpy()
    t = target(None, IDS)["IT"].numpy()
    d, t = d[~np.isnan(t)], t[~np.isnan(t)]
    soft = 0.5 + (1 / (1 + np.exp(-(d[:, None] - d) / (0.1 * d.std())))).sum(axis=1)
    expected = 1 - np.corrcoef(soft, t.argsort().argsort())[0, 1]
    assert history["rdl/two"][0] == pytest.approx(expected, rel=1e-4)
    trained = rdl.Trainer(network(dropout=0.0), [term]).fit(None, epochs=25, stimuli=stimuli())["rdl/two"]
    assert trained.iloc[-1] < 0.8 * trained[0]


@pytest.mark.parametrize("compare", ["cosine_cov", "corr_cov", "soft-spearman"])
def test_a_subset_of_pairs_with_missing_ones(compare):
    missing = [0, 5, 11, 27]
    teacher = rdl.MeasuredTeacher(regions(missing=missing), subjects="s1")
    loss = rdl.RDLoss(compare=compare)
    term = rdl.RDLTerm(teacher, {"two": "IT"}, loss=loss, n_pairs=15, stream="stimuli")
    batch = rdl.Batch(torch.zeros(8, 1), ids=IDS, generator=torch.Generator().manual_seed(0))
    features = torch.randn(8, 5, generator=torch.Generator().manual_seed(2))
    got = term({"two": features}, batch, torch.Generator())["two"]
    drawn = batch.pairs(15)
    target = torch.full((8, 8), torch.nan, dtype=torch.float64)
    whole = rdl.to_square(teacher(None, IDS)["IT"])
    for i, j in drawn.tolist():
        target[i, j] = whole[i, j]
    i, j = torch.triu_indices(8, 8, 1)
    assert 1 < (~target[i, j].isnan()).sum() <= 15
    expected = rdl.rdl_loss(features, target[i, j], metric="correlation", compare=compare)
    assert got.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("compare", ["cosine_cov", "corr_cov"])
def test_whitening_takes_no_weights(compare):
    rdms = regions(standard_error=np.ones((6, 28)))
    term = rdl.RDLTerm(
        rdl.MeasuredTeacher(rdms, subjects="s1", weights="standard_error"),
        {"two": "IT"},
        loss=rdl.RDLoss(compare=compare),
        stream="stimuli",
    )
    student = network()
    before = weights(student)
    with raises(
        ValueError,
        f"compare={compare!r} takes no weights: whitening weighs the pairs by their own covariance; leave the weights "
        "out, or use corr or cosine",
    ):
        rdl.Trainer(student, [term]).fit(loader(), epochs=1, stimuli=stimuli())
    assert all(torch.equal(value, before[name]) for name, value in weights(student).items())


# the streams


def test_a_brain_alone():
    student = network(dropout=0.0)
    term = rdl.RDLTerm(rdl.MeasuredTeacher(regions()), {"one": "EVC", "two": "IT"}, stream="stimuli")
    history = rdl.Trainer(student, [term]).fit(None, epochs=30, stimuli=stimuli())
    assert list(history.columns) == ["epoch", "rdl/one", "rdl/two", "alpha/one", "alpha/two", "lr", "seconds"]
    assert history["rdl/two"].iloc[-1] < 0.8 * history["rdl/two"][0]
    assert torch.equal(student.out.weight, network().out.weight)


def test_epochs_of_a_brain_alone_are_as_long_as_is_said_and_passes_go_on_over_their_ends():
    term = rdl.RDLTerm(rdl.MeasuredTeacher(regions()), {"one": "EVC"}, stream="stimuli")
    left = []
    for steps, epochs in ((5, 3), (15, 1)):
        student = network(dropout=0.0)
        history = rdl.Trainer(student, [term]).fit(
            None, epochs=epochs, stimuli=rdl.StimulusStream(stimuli(), batch_size=3, steps=steps)
        )
        assert history.attrs["configuration"]["updates_per_epoch"] == steps
        left.append(weights(student))
    assert_same(*left)
    stream = rdl.StimulusStream(stimuli(), steps=2)
    with pytest.raises(ValueError, match=r"^steps=2 of the stimuli is the length of an epoch without a task, and the"):
        rdl.Trainer(network(), [term]).fit(loader(), epochs=1, stimuli=stream)


def test_measured_stimuli_that_carry_labels():
    """One stream: the loader yields ids, in an order of its own, and the term sits on the task stream."""
    images, _ = stimuli().batch()
    labels = torch.arange(8) % 3
    order = [5, 0, 7, 2, 1, 6]
    batch = (images[order], labels[order], [IDS[k] for k in order])
    teacher = rdl.MeasuredTeacher(regions(missing=[4]), subjects="s1")
    history, features = first_values(network(dropout=0.0), [rdl.RDLTerm(teacher, {"two": "IT"})], [batch])
    square = regions(missing=[4]).values[3]
    i, j = np.triu_indices(6, 1)
    target = square[np.ix_(order, order)][i, j]
    assert history["rdl/two"][0] == pytest.approx(reference(features["two"][order], target, "corr"), rel=1e-4)
    output = network(dropout=0.0).eval()(images[order])
    assert history["task_loss"][0] == pytest.approx(cross_entropy(output, labels[order]).item(), rel=1e-5)

    student = network(dropout=0.0)
    task = torch.utils.data.DataLoader(
        list(zip(images, labels, IDS, strict=True)), batch_size=8, shuffle=True, drop_last=True
    )
    history = rdl.Trainer(student, [rdl.RDLTerm(teacher, {"two": "IT"})]).fit(task, epochs=25)
    assert history["rdl/two"].iloc[-1] < history["rdl/two"][0]
    assert history["task_loss"].iloc[-1] < history["task_loss"][0]


def test_a_network_on_the_task_stream_beside_a_brain_on_the_stimuli():
    student, x, y = network(dropout=0.0), *data(6)
    of_network, of_brain = network_teacher(), rdl.MeasuredTeacher(regions())
    terms = [
        rdl.RDLTerm(of_network, {"one": "one", "two": "two"}, alpha=0.7),
        rdl.RDLTerm(of_brain, {"two": "IT"}, alpha=0.3, stream="stimuli"),
    ]
    history = rdl.Trainer(student, terms).fit([(x, y)], epochs=1, stimuli=rdl.StimulusStream(stimuli(), batch_size=8))

    expected = network(dropout=0.0)
    images, ids = stimuli().batch()
    output, on_task = rdl.capture(expected, ["one", "two"], x)
    on_stimuli = rdl.capture(expected, ["two"], images)[1]["two"]
    parts = [
        cross_entropy(output, y),
        *(rdl.rdl_loss(on_task[layer], of_network(x)[layer]) for layer in ("one", "two")),
        rdl.rdl_loss(on_stimuli, of_brain(None, ids)["IT"], metric="correlation", compare="corr"),
    ]
    sum(alpha * part for alpha, part in zip((1, 0.7, 0.7, 0.3), parts, strict=True)).backward()
    columns = ["task_loss", "rdl/one", "rdl/two", "rdl_2/two"]
    np.testing.assert_allclose(history[columns].to_numpy()[0], [part.item() for part in parts], rtol=1e-5)
    for (name, got), parameter in zip(student.named_parameters(), expected.parameters(), strict=True):
        step = parameter.detach() - 0.05 * parameter.grad
        torch.testing.assert_close(got.detach(), step, rtol=1e-4, atol=1e-6, msg=lambda m, name=name: f"{name}: {m}")


def test_rdms_without_stimuli_are_left_out_and_stimuli_without_rdms_are_named():
    teacher = rdl.MeasuredTeacher(regions())
    term = rdl.RDLTerm(teacher, {"two": "IT"}, stream="stimuli")
    some = stimuli().select(["g", "a", "c"])
    history = rdl.Trainer(network(), [term]).fit(None, epochs=1, stimuli=some)
    assert history["rdl/two"].notna().all()
    more = rdl.StimulusSet.from_arrays(torch.randn(9, 4), [*IDS, "z"])
    with raises(
        ValueError, "no RDM row for 1 of 9 stimuli, the first 'z'; leave them out of the stimuli (StimulusSet.select)"
    ):
        rdl.Trainer(network(), [term]).fit(None, epochs=1, stimuli=more)
