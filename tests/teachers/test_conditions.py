"""Conditions that are shown by several exemplars: distances between their means, and between exemplars."""

import numpy as np
import pytest
import torch

import brainrdl as rdl
from brainrdl.rdms.distances import group_means
from small_network import raises

CONDITIONS = {"ann": "face", "barn": "house", "bob": "face", "cup": "thing", "cot": "house", "cam": "face"}
VALUES = {"face/house": 1.5, "face/thing": 0.5, "house/thing": np.nan, "body/face": 1.9, "body/house": 1.9}


def distance(a, b):
    return VALUES.get("/".join(sorted((a, b))), 1.8)


def brain(metric="correlation", **options):
    ids = ["thing", "body", "house", "face"]
    condensed = [[distance(ids[i], ids[j]) for i in range(4) for j in range(i + 1, 4)]]
    coords = {"standard_error": [[0.5, 1.0, 2.0, 0.25, 3.0, 4.0]]}
    return rdl.MeasuredTeacher(rdl.label_rdms(condensed, ids, ["IT"], metric, coords), **options)


def batch(ids):
    images = torch.randn(len(ids), 4, generator=torch.Generator().manual_seed(len(ids)))
    return rdl.Batch(images, ids=tuple(ids), generator=torch.Generator().manual_seed(0))


IDS = ("bob", "cup", "barn", "ann", "cot")


def features(n=5):
    return torch.randn(n, 2, 3, generator=torch.Generator().manual_seed(1), requires_grad=True)


def test_distances_between_condition_means():
    teacher = rdl.ConditionTeacher(brain(), CONDITIONS)
    assert (teacher.names, teacher.metric, teacher.compare) == (("IT",), "correlation", "corr")
    # in order of first occurrence: face, thing, house
    np.testing.assert_equal(teacher(None, IDS)["IT"].tolist(), [0.5, 1.5, np.nan])
    assert teacher.groups(IDS).tolist() == [0, 1, 2, 0, 2]
    assert teacher.weights(IDS) is None

    student = features()
    term = rdl.RDLTerm(teacher, {"fc": "IT"}, stream="stimuli")
    loss = term({"fc": student}, batch(IDS), torch.Generator())["fc"]
    by_hand = student.detach().clone().requires_grad_()
    flat = by_hand.flatten(1)
    means = torch.stack([(flat[0] + flat[3]) / 2, flat[1], (flat[2] + flat[4]) / 2])
    expected = rdl.rdl_loss(means, teacher(None, IDS)["IT"], metric="correlation", compare="corr")
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(student.grad, by_hand.grad)


def test_distances_between_exemplars():
    teacher = rdl.ConditionTeacher(brain(), CONDITIONS, between="exemplars")
    expected = [
        np.nan if CONDITIONS[a] == CONDITIONS[b] else distance(CONDITIONS[a], CONDITIONS[b])
        for i, a in enumerate(IDS)
        for b in IDS[i + 1 :]
    ]
    np.testing.assert_equal(teacher(None, IDS)["IT"].tolist(), expected)
    assert teacher.groups(IDS) is None
    student = features()
    term = rdl.RDLTerm(teacher, {"fc": "IT"}, stream="stimuli")
    loss = term({"fc": student}, batch(IDS), torch.Generator())["fc"]
    target = torch.tensor(expected)
    assert loss.item() == rdl.rdl_loss(student, target, metric="correlation", compare="corr").item()
    counted = ~np.isnan(expected)
    d = rdl.rdm(student.detach(), "correlation").numpy()[counted]
    assert loss.item() == pytest.approx(1 - np.corrcoef(d, np.array(expected)[counted])[0, 1], rel=1e-5)


def test_one_exemplar_each_is_the_teacher_itself():
    ids = ("cam", "cup", "barn")
    plain = brain()(None, ["face", "thing", "house"])["IT"].tolist()
    for between in ("means", "exemplars"):
        np.testing.assert_equal(
            rdl.ConditionTeacher(brain(), CONDITIONS, between=between)(None, ids)["IT"].tolist(), plain
        )
    student = features(3)
    target = rdl.ConditionTeacher(brain(), CONDITIONS)
    losses = [
        rdl.RDLTerm(teacher, {"fc": "IT"})({"fc": student}, batch(of), torch.Generator())["fc"].item()
        for teacher, of in ((target, ids), (brain(), ("face", "thing", "house")))
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_weights_of_conditions():
    inner = brain(weights="standard_error")
    of_conditions = inner.weights(["face", "thing", "house"])["IT"].tolist()
    assert rdl.ConditionTeacher(inner, CONDITIONS).weights(IDS)["IT"].tolist() == of_conditions
    between = rdl.ConditionTeacher(inner, CONDITIONS, between="exemplars").weights(IDS)["IT"].tolist()
    ft, fh, ht = of_conditions
    np.testing.assert_equal(between, [ft, fh, np.nan, fh, ht, ft, ht, fh, np.nan, fh])
    for kind in ("means", "exemplars"):
        term = rdl.RDLTerm(rdl.ConditionTeacher(inner, CONDITIONS, between=kind), {"fc": "IT"})
        assert term({"fc": features()}, batch(IDS), torch.Generator())["fc"].isfinite()


def test_pairs_are_drawn_over_what_is_compared():
    seen = batch(IDS)
    assert seen.pairs(2, 3).max() <= 2
    assert seen.pairs(2, 3) is seen.pairs(2, 3)
    assert seen.pairs(3, 3) is None
    assert seen.pairs(9).shape == (9, 2)
    assert seen.pairs(3).tolist() == seen.pairs(9)[:3].tolist()
    means = rdl.RDLTerm(rdl.ConditionTeacher(brain(), CONDITIONS), {"fc": "IT"}, n_pairs=2)
    target = means.teacher(None, IDS)["IT"]
    expected = rdl.rdl_loss(
        group_means(features(), means.teacher.groups(IDS)),
        target,
        metric="correlation",
        compare="corr",
        pairs=seen.pairs(2, 3),
    )
    assert means({"fc": features()}, seen, torch.Generator())["fc"].item() == expected.item()


def test_a_drawn_subject_and_patterns_of_conditions():
    values = np.random.default_rng(0).uniform(0.1, 2, (2, 3))
    coords = {"roi": "IT", "subject": ["s1", "s2"]}
    rdms = rdl.label_rdms(values, ["face", "house", "thing"], ["a", "b"], "correlation", coords)
    teacher = rdl.ConditionTeacher(rdl.MeasuredTeacher(rdms, subjects="draw"), CONDITIONS)
    generator, seen = torch.Generator().manual_seed(0), set()
    for _ in range(20):
        teacher.draw(generator)
        seen.add(tuple(teacher(None, ("ann", "cot", "cup"))["IT"].tolist()))
    assert seen == {tuple(row) for row in values.tolist()}


@pytest.mark.parametrize("between", ["means", "exemplars"])
def test_training_on_exemplars_in_subsets(between):
    names = ["face", "house", "thing", "body"]
    conditions = {f"{name}-{k}": name for k in range(3) for name in names}
    values = np.random.default_rng(0).uniform(0.1, 2, (1, 6))
    measured = rdl.MeasuredTeacher(rdl.label_rdms(values, names, ["IT"], "correlation"))
    teacher = rdl.ConditionTeacher(measured, conditions, between=between)
    images = torch.randn(12, 8, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    student = torch.nn.Sequential(torch.nn.Linear(8, 5))
    stream = rdl.StimulusStream(rdl.StimulusSet.from_arrays(images, conditions), batch_size=10)
    history = rdl.Trainer(student, [rdl.RDLTerm(teacher, {"0": "IT"}, stream="stimuli")]).fit(
        None, epochs=100, stimuli=stream
    )
    assert history["rdl/0"].iloc[-10:].mean() < 0.6 * history["rdl/0"].iloc[:10].mean()
    (described,) = history.attrs["configuration"]["teachers"]
    assert list(described) == ["name", "between", "conditions", "teacher"]
    assert described["teacher"] == measured.describe()
    other = rdl.ConditionTeacher(measured, conditions | {"face-0": "house"}, between=between).describe()
    assert [field for field in other if other[field] != described[field]] == ["conditions"]


def test_means_of_groups():
    x = torch.arange(12.0).reshape(4, 3)
    means = group_means(x, torch.tensor([1, 0, 1, 1]))
    torch.testing.assert_close(means, torch.stack((x[1], (x[0] + x[2] + x[3]) / 3)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(group_means(x, torch.tensor([1, 0, 1, 1])), means)
    assert group_means(x.bfloat16(), torch.tensor([0, 0, 1, 1])).dtype == torch.float32
    assert group_means(x.double(), torch.tensor([0, 0, 1, 1])).dtype == torch.float64


def test_batches_that_cannot_be_answered():
    for between in ("means", "exemplars"):
        teacher = rdl.ConditionTeacher(brain(), CONDITIONS, between=between)
        with raises(
            ValueError,
            "the 3 stimuli of a batch are all exemplars of condition 'face', which has no distances; show more stimuli "
            "per update",
        ):
            teacher(None, ["ann", "bob", "cam"])
        with raises(
            ValueError,
            "no condition for 1 of 2 stimuli, the first 'rob'; leave them out of the stimuli (StimulusSet.select); did "
            "you mean 'bob'?",
        ):
            teacher(None, ["ann", "rob"])
        with raises(
            ValueError,
            "a ConditionTeacher finds its rows by stimulus id, and this batch has no ids; let the loader yield "
            "(image, label, id), or give the stimuli as a StimulusSet",
        ):
            teacher(None, None)
    with raises(
        ValueError,
        "no RDM row for 1 of 2 stimuli, the first 'tool'; leave them out of the stimuli (StimulusSet.select)",
    ):
        rdl.ConditionTeacher(brain(), {"ann": "face", "saw": "tool"})(None, ["saw", "ann"])


def test_what_makes_no_condition_teacher():
    with raises(TypeError, "conditions is a list; expected a mapping: {'exemplar id': 'condition id'}"):
        rdl.ConditionTeacher(brain(), ["face"])
    with raises(TypeError, "conditions maps 'ann' to 3; expected a string to a string"):
        rdl.ConditionTeacher(brain(), {"ann": 3})
    with raises(ValueError, "conditions is empty; expected {'exemplar id': 'condition id'}"):
        rdl.ConditionTeacher(brain(), {})
    with raises(ValueError, "unknown between 'images'; known are: means, exemplars"):
        rdl.ConditionTeacher(brain(), CONDITIONS, between="images")
    network = rdl.NetworkTeacher(torch.nn.Sequential(torch.nn.Linear(4, 3)), ["0"])
    with raises(
        TypeError,
        "a NetworkTeacher answers images and knows no conditions; let the term ask it directly, which compares "
        "exemplar by exemplar",
    ):
        rdl.ConditionTeacher(network, CONDITIONS)
