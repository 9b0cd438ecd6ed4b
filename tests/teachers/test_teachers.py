import re
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

import brainrdl as rdl
from brainrdl.teachers.base import student_metric


def raises(error, message):
    return pytest.raises(error, match=f"^{re.escape(message)}$")


def network(seed=0):
    torch.manual_seed(seed)
    model = nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(1, 3, 3),
            norm=nn.BatchNorm2d(3),
            relu=nn.ReLU(inplace=True),
            drop=nn.Dropout(0.5),
            flat=nn.Flatten(),
            out=nn.Linear(27, 4),
        )
    )
    with torch.no_grad():
        model.norm.running_mean.uniform_(-1, 1)
        model.norm.running_var.uniform_(0.5, 2)
    return model


def images(n=6, seed=1):
    return torch.randn(n, 1, 5, 5, generator=torch.Generator().manual_seed(seed))


def state(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(before, after):
    return before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


class Lengths(rdl.RDMTeacher):
    names, metric = ("length", "half"), "undeclared"

    def forward(self, images, ids):
        lengths = torch.tensor([[float(len(i))] for i in ids], dtype=torch.float64)
        return {"length": rdl.rdm(lengths), "half": rdl.rdm(lengths) / 2}


# the abstract teacher


def test_a_teacher_needs_names_metric_and_forward():
    with pytest.raises(TypeError, match="abstract"):
        rdl.RDMTeacher()


def test_a_users_teacher_gets_defaults():
    teacher = Lengths()
    ids = ["a", "bbb", "ddddd"]
    assert teacher.compare == "corr"
    assert teacher.weights(ids) is None
    assert teacher.draw(torch.Generator()) is None
    observed = teacher.observe(None, ids, ["half"])
    assert list(observed) == ["half"]
    assert teacher.distances(observed["half"]) is observed["half"]
    assert observed["half"].tolist() == [2, 8, 2]


def test_a_teacher_that_does_not_answer_by_a_name():
    with raises(
        ValueError,
        "Lengths returned ['length', 'half'], but 'width' was asked for; forward must return every name in names",
    ):
        Lengths().observe(None, ["a", "b"], ["length", "width"])


@pytest.mark.parametrize(
    ("metric", "compare"),
    [(m, "cosine") for m in ("crossnobis", "mse", "sqeuclidean", "euclidean", "mahalanobis")]
    + [(m, "corr") for m in ("correlation", "cosine", "undeclared")],
)
def test_the_comparison_follows_the_metric(metric, compare):
    rdms = rdl.label_rdms(np.ones((1, 3)), ["a", "b", "c"], ["IT"], metric)
    assert rdl.MeasuredTeacher(rdms).compare == compare


@pytest.mark.parametrize(
    ("metric", "expected"),
    [(m, m) for m in ("mse", "sqeuclidean", "euclidean", "correlation", "cosine")] + [("crossnobis", "mse")],
)
def test_the_students_metric_follows_the_teachers(metric, expected):
    assert student_metric(metric) == expected


@pytest.mark.parametrize("metric", ["mahalanobis", "undeclared"])
def test_a_metric_without_a_counterpart_is_declared(metric):
    with raises(
        ValueError,
        f"no student metric follows from the teacher's metric {metric!r}; declare one: loss=RDLoss(metric=…), one of "
        "mse, sqeuclidean, euclidean, correlation, cosine",
    ):
        student_metric(metric)


# network teachers


@pytest.mark.parametrize("metric", ["mse", "sqeuclidean", "euclidean", "correlation", "cosine"])
def test_a_network_teacher_answers_with_the_rdms_of_its_layers_in_eval_mode(metric):
    model, x = network(), images()
    teacher = rdl.NetworkTeacher(model, ["conv", "out"], metric)
    answer = teacher(x, None)
    assert list(answer) == ["conv", "out"] == list(teacher.names)
    features = rdl.capture(model.eval(), ["conv", "out"], x)[1]
    for name, distances in answer.items():
        expected = rdl.rdm(features[name].detach(), metric)
        torch.testing.assert_close(distances, expected, rtol=1e-4, atol=1e-5, check_dtype=False)
        assert not distances.requires_grad
    assert (teacher.metric, teacher.compare) == (metric, "mse")


def test_a_network_teacher_ignores_ids():
    teacher = rdl.NetworkTeacher(network(), ["out"])
    assert torch.equal(teacher(images(), ["a"] * 6)["out"], teacher(images(), None)["out"])


def test_the_teacher_is_a_copy():
    model = network().train()
    teacher = rdl.NetworkTeacher(model, ["out"])
    before = teacher(images(), None)["out"]
    assert model.training
    assert all(p.requires_grad for p in model.parameters())
    assert sum(len(m._forward_hooks) for m in model.modules()) == 0
    with torch.no_grad():
        model.out.weight.zero_()
    assert torch.equal(teacher(images(), None)["out"], before)


def test_the_output_is_the_networks():
    teacher = rdl.NetworkTeacher(network(), ["conv", "output"])
    features = teacher.features(images(), ["output", "conv", "out"])
    assert torch.equal(features["output"], features["out"])
    assert list(teacher(images(), None)) == ["conv", "output"]


def test_an_output_that_could_mean_two_things():
    model = nn.Sequential(OrderedDict(output=nn.Linear(3, 4), softmax=nn.Softmax(dim=1)))
    message = (
        "'output' is the network's output, and this network has a layer of that name too; name the layer before it, or "
        "give the layer another name"
    )
    with raises(ValueError, message):
        rdl.NetworkTeacher(model, ["output", "softmax"])
    teacher = rdl.NetworkTeacher(model, ["softmax"])
    with raises(ValueError, message):
        rdl.Hint(teacher, {"fc": "output"})
    assert rdl.KD(teacher).teacher is teacher  # there it can mean the network's only
    x = torch.randn(5, 3)
    assert torch.equal(teacher.features(x, ["output"])["output"], model(x))


def test_features_of_layers_that_it_does_not_answer_by():
    model, x = network().eval(), images()
    teacher = rdl.NetworkTeacher(model, ["out"])
    features = teacher.features(x, ["conv", "output"])
    assert torch.equal(features["conv"], model.conv(x))
    assert torch.equal(features["output"], model(x))
    assert teacher.names == ("out",)
    assert list(teacher(x, None)) == ["out"]
    inner = teacher._model
    assert sum(len(m._forward_hooks) for m in inner.modules()) == 3  # out, conv and the end of the pass
    with raises(ValueError, "Sequential has no layer 'cnov'; did you mean 'conv' or 'norm'?"):
        teacher.features(x, ["cnov"])
    assert torch.equal(teacher.features(x, ["conv"])["conv"], features["conv"])


def test_errors_of_a_network_teacher():
    with raises(ValueError, "Sequential has no layer 'ou'; did you mean 'out'?"):
        rdl.NetworkTeacher(network(), ["ou"])
    with raises(ValueError, "layers must be a list of names, got the single string 'out'; write ['out']"):
        rdl.NetworkTeacher(network(), "out")
    with raises(
        ValueError,
        "unknown metric 'pearson'; computed from features are: mse, sqeuclidean, euclidean, correlation, cosine",
    ):
        rdl.NetworkTeacher(network(), ["out"], "pearson")
    with raises(ValueError, "a NetworkTeacher needs images, and this batch has none"):
        rdl.NetworkTeacher(network(), ["out"])(None, ["a", "b"])


class Tap(nn.Module):
    """Passes its input on and remembers it."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __deepcopy__(self, memo):
        return self

    def forward(self, x):
        self.seen.append(x)
        return x


def test_without_preprocessing_the_teacher_gets_the_very_tensor():
    tap, x = Tap(), images()
    teacher = rdl.NetworkTeacher(nn.Sequential(tap, network()), ["1.out"])
    teacher(x, None)
    assert len(tap.seen) == 1
    assert tap.seen[0] is x


def test_preprocessing_is_applied():
    tap, x = Tap(), images()
    teacher = rdl.NetworkTeacher(nn.Sequential(tap, network()), ["1.out"], preprocess=lambda batch: 2 * batch + 1)
    got = teacher(x, None)["1.out"]
    assert torch.equal(tap.seen[0], 2 * x + 1)
    assert torch.equal(got, rdl.NetworkTeacher(network(), ["out"])(2 * x + 1, None)["out"])


def test_no_training_mode_reaches_the_teacher():
    teacher = rdl.NetworkTeacher(network(), ["out"])
    parent = nn.ModuleDict({"teacher": teacher, "student": network()})
    before, answer = state(teacher), teacher(images(), None)["out"]
    for put_to_train in (lambda: teacher.train(), lambda: parent.train(), lambda: parent.train(False).train(True)):
        put_to_train()
        assert parent["student"].training
        assert not any(m.training for m in teacher._model.modules())
        assert torch.equal(teacher(images(), None)["out"], answer)
    assert teacher.train() is teacher
    assert teacher.eval() is teacher
    assert same(before, state(teacher))


def test_no_optimiser_changes_the_teacher():
    teacher = rdl.NetworkTeacher(network(), ["out"])
    before = state(teacher)
    parent = nn.ModuleList([teacher, network()])
    optimizer = torch.optim.SGD(parent.parameters(), lr=1.0, weight_decay=0.1, momentum=0.9)
    for _ in range(2):
        features = rdl.capture(parent[1], ["out"], images())[1]["out"]
        rdl.rdl_loss(features, teacher(images(), None)["out"]).backward()
        optimizer.step()
    assert same(before, state(teacher))
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())


def test_no_gradient_reaches_the_teacher_nor_its_input_through_it():
    teacher = rdl.NetworkTeacher(network(), ["out"])
    x = images().requires_grad_()
    for answer in (teacher(x, None)["out"], teacher.features(x, ["output"])["output"]):
        assert not answer.requires_grad
        assert answer.grad_fn is None


@pytest.mark.parametrize("kind", ["rdl", "hint", "kd", "all"])
def test_a_teacher_with_batch_norm_is_bitwise_the_same_after_training(kind):
    model = network()
    teacher = rdl.NetworkTeacher(model, ["conv", "out"])
    before = state(teacher)
    terms = {
        "rdl": rdl.RDLTerm(teacher, {"conv": "conv", "out": "out"}, n_pairs=8),
        "hint": rdl.Hint(teacher, {"conv": "relu"}),
        "kd": rdl.KD(teacher),
    }
    chosen = list(terms.values()) if kind == "all" else [terms[kind]]
    # an optimiser over all that a term could offer, with weight decay: what it may reach it would change
    optimizer = torch.optim.SGD(
        [torch.zeros(1, requires_grad=True), *(p for term in chosen for p in term.parameters())],
        lr=1.0,
        weight_decay=0.5,
    )
    student = network(3)
    loader = [(images(seed=s), torch.tensor([0, 1, 2, 3, 0, 1])) for s in range(3)]
    rdl.Trainer(student, chosen).fit(loader, epochs=2)
    optimizer.step()
    assert same(before, state(teacher))
    assert same(before, {f"_model.{name}": value for name, value in state(model).items()})
    assert not same(state(network(3)), state(student))
    own = {id(p) for p in teacher.parameters()}
    assert not any(id(p) in own for term in chosen for p in term.parameters())


def test_a_student_that_is_the_teacher_has_no_loss():
    model, x = network(), images()
    layers = ["conv", "norm", "relu", "out"]
    teacher = rdl.NetworkTeacher(model, layers)
    features = rdl.capture(model.eval(), layers, x, flatten=False)[1]
    for pairs in (None, 7):
        term = rdl.RDLTerm(teacher, {name: name for name in layers}, n_pairs=pairs)
        batch = rdl.Batch(x, generator=torch.Generator().manual_seed(0))
        values = term(features, batch, batch.generator)
        assert list(values) == layers
        assert [value.item() for value in values.values()] == [0.0] * 4


# relative alpha


def test_relative_alpha_divides_by_the_squared_mean_distance():
    model, x = network().eval(), images()
    teacher = rdl.NetworkTeacher(model, ["conv", "out"], "sqeuclidean")
    alphas = rdl.relative_alpha(3.0, teacher, x, {"a": "conv", "b": "out", "c": "conv"})
    assert list(alphas) == ["a", "b", "c"]
    for student, layer in {"a": "conv", "b": "out", "c": "conv"}.items():
        f = rdl.capture(model, [layer], x)[1][layer].detach().double().numpy()
        mean = np.mean([((f[i] - f[j]) ** 2).sum() for i in range(6) for j in range(i)])
        assert alphas[student] == pytest.approx(3.0 / mean**2, rel=1e-6)


def test_relative_alpha_is_a_loss_between_rdms_divided_by_the_mean():
    model, x = network().eval(), images()
    teacher = rdl.NetworkTeacher(model, ["out"])
    features = rdl.capture(network(5).eval(), ["out"], x)[1]["out"].detach()
    target = teacher(x, None)["out"]
    alpha = rdl.relative_alpha(2.0, teacher, x, {"out": "out"})["out"]
    mean = target.mean()
    expected = 2.0 * ((rdl.rdm(features) / mean - target / mean) ** 2).mean()
    assert alpha * rdl.rdl_loss(features, target).item() == pytest.approx(expected.item(), rel=1e-4)


def test_relative_alpha_of_a_layer_that_answers_alike():
    teacher = rdl.NetworkTeacher(nn.Sequential(nn.Identity()), ["0"])
    with raises(
        ValueError,
        "the teacher's layer '0' responds identically to all 3 images, so that its mean distance is 0; give other "
        "images, or leave the layer out",
    ):
        rdl.relative_alpha(1.0, teacher, torch.ones(3, 2), {"fc": "0"})


# measured teachers

IDS = ["cat", "dog", "cup", "pen", "car"]


def measured(rdms=1, seed=0, metric="correlation", names=None, **coords):
    values = np.random.default_rng(seed).uniform(0.1, 2, (rdms, 10))
    return rdl.label_rdms(values, IDS, names or [f"r{i}" for i in range(rdms)], metric, coords or None)


def looked_up(rdms, rdm, ids):
    square = rdms.values[rdm]
    rows = [IDS.index(i) for i in ids]
    return [square[rows[i], rows[j]] for i in range(len(rows)) for j in range(i + 1, len(rows))]


def test_a_measured_teacher_finds_its_rows_by_id():
    rdms = measured(2, names=["EVC", "IT"])
    teacher = rdl.MeasuredTeacher(rdms)
    assert teacher.names == ("EVC", "IT")
    assert teacher.metric == "correlation"
    for ids in (IDS, IDS[::-1], ["pen", "cat", "car"], ("dog", "cup"), ["cup", "cat", "cup"]):
        answer = teacher(None, ids)
        assert list(answer) == ["EVC", "IT"]
        for k, name in enumerate(("EVC", "IT")):
            assert answer[name].tolist() == looked_up(rdms, k, ids)


def test_a_measured_teacher_ignores_images():
    teacher = rdl.MeasuredTeacher(measured())
    assert torch.equal(teacher(torch.zeros(2, 3), IDS)["r0"], teacher(None, IDS)["r0"])


def test_a_measured_teacher_keeps_its_own_copy():
    rdms = measured()
    teacher = rdl.MeasuredTeacher(rdms)
    before = teacher(None, IDS)["r0"]
    rdms.values[:] = 7
    assert torch.equal(teacher(None, IDS)["r0"], before)


def test_nothing_of_a_measured_teacher_is_trained_or_saved():
    teacher = rdl.MeasuredTeacher(measured())
    assert list(teacher.parameters()) == []
    assert teacher.state_dict() == {}


def test_it_answers_by_region():
    rdms = measured(2, names=["a", "b"], roi=["EVC", "IT"])
    teacher = rdl.MeasuredTeacher(rdms)
    assert teacher.names == ("EVC", "IT")
    assert teacher(None, IDS)["IT"].tolist() == looked_up(rdms, 1, IDS)


def test_missing_ids():
    teacher = rdl.MeasuredTeacher(measured())
    with raises(
        ValueError,
        "no RDM row for 2 of 3 stimuli, the first 'cap'; leave them out of the stimuli "
        "(StimulusSet.select); did you mean 'cup' or 'cat' or 'car'?",
    ):
        teacher(None, ["cat", "cap", "zebra"])
    with raises(
        ValueError,
        "no RDM row for 1 of 1 stimuli, the first 'zebra'; leave them out of the stimuli (StimulusSet.select)",
    ):
        teacher(None, ["zebra"])


def test_no_ids():
    teacher = rdl.MeasuredTeacher(measured(), weights=None)
    message = (
        "a MeasuredTeacher finds its rows by stimulus id, and this batch has no ids; let the loader yield "
        "(image, label, id), or give the stimuli as a StimulusSet"
    )
    with raises(ValueError, message):
        teacher(images(), None)
    with raises(ValueError, message):
        rdl.MeasuredTeacher(measured(standard_error=np.ones((1, 10))), weights="standard_error").weights(None)


def test_an_unmeasured_pair_is_nan_and_counts_in_no_loss():
    values = np.array([[1.0, np.nan, 3.0]])
    teacher = rdl.MeasuredTeacher(rdl.label_rdms(values, ["a", "b", "c"], ["IT"], "mse"))
    assert teacher(None, ["c", "a", "b"])["IT"].isnan().tolist() == [True, False, False]
    student = torch.tensor([[0.0], [2.0], [5.0]], requires_grad=True)
    term = rdl.RDLTerm(teacher, {"fc": "IT"}, loss=rdl.RDLoss(compare="mse"))
    batch = rdl.Batch(torch.zeros(3, 1), ids=("a", "b", "c"))
    loss = term({"fc": student}, batch, torch.Generator())["fc"]
    assert loss.item() == ((4 - 1) ** 2 + (9 - 3) ** 2) / 2
    loss.backward()
    assert student.grad.isfinite().all()


def test_what_is_no_labelled_rdm_is_refused():
    with raises(ValueError, "the array is named 'distance', expected 'dissimilarity': rdms.rename('dissimilarity')"):
        rdl.MeasuredTeacher(measured().rename("distance"))


# subjects


def group(metric="correlation", sessions=False, seed=0):
    """Two regions of three subjects, each of its own scale."""
    labels = [
        (roi, subject, session)
        for roi in ("EVC", "IT")
        for subject in ("s1", "s2", "s3")
        for session in (("a", "b") if sessions else ("a",))
    ]
    values = np.random.default_rng(seed).uniform(0.1, 0.6, (len(labels), 10))
    values *= np.array([{"s1": 1, "s2": 3, "s3": 0.5}[subject] for _, subject, _ in labels])[:, None]
    coords = {"roi": [roi for roi, *_ in labels], "subject": [subject for _, subject, _ in labels]}
    if sessions:
        coords["session"] = [session for *_, session in labels]
    return rdl.label_rdms(values, IDS, ["/".join(label) for label in labels], metric, coords), values


def normalised(v, metric):
    return (v - v.mean()) / v.std() if metric == "correlation" else v / np.sqrt(np.mean(v**2))


@pytest.mark.parametrize("metric", ["correlation", "crossnobis"])
def test_the_mean_of_subjects_is_over_normalised_rdms(metric):
    rdms, values = group(metric)
    teacher = rdl.MeasuredTeacher(rdms)
    assert teacher.names == ("EVC", "IT")
    for name, rows in {"EVC": range(3), "IT": range(3, 6)}.items():
        expected = np.mean([normalised(values[row], metric) for row in rows], axis=0)
        np.testing.assert_allclose(teacher(None, IDS)[name].numpy(), expected, rtol=1e-12)
    before = teacher(None, IDS)["IT"]
    teacher.draw(torch.Generator())
    assert torch.equal(teacher(None, IDS)["IT"], before)


@pytest.mark.parametrize("metric", ["correlation", "crossnobis"])
def test_sessions_are_averaged_within_a_subject_first(metric):
    rdms, values = group(metric, sessions=True)
    subjects = [np.mean([normalised(values[6 + 2 * s + k], metric) for k in range(2)], axis=0) for s in range(3)]
    mean = np.mean([normalised(v, metric) for v in subjects], axis=0)
    np.testing.assert_allclose(rdl.MeasuredTeacher(rdms)(None, IDS)["IT"].numpy(), mean, rtol=1e-12)
    one = rdl.MeasuredTeacher(rdms, subjects="s2")
    np.testing.assert_allclose(one(None, IDS)["IT"].numpy(), subjects[1], rtol=1e-12)
    assert one.names == ("EVC", "IT")
    drawn = rdl.MeasuredTeacher(rdms, subjects="draw")
    seen = set()
    generator = torch.Generator().manual_seed(0)
    for _ in range(30):
        drawn.draw(generator)
        answer = drawn(None, IDS)["IT"].numpy()
        seen.update(s for s in range(3) if np.allclose(answer, subjects[s], rtol=1e-12))
    assert seen == {0, 1, 2}


def test_one_subject():
    rdms, values = group()
    teacher = rdl.MeasuredTeacher(rdms, subjects="s3")
    assert teacher.names == ("EVC", "IT")
    np.testing.assert_array_equal(teacher(None, IDS)["EVC"].numpy(), values[2])
    np.testing.assert_array_equal(teacher(None, IDS)["IT"].numpy(), values[5])
    teacher.draw(torch.Generator())
    np.testing.assert_array_equal(teacher(None, IDS)["IT"].numpy(), values[5])


def test_a_drawn_subject_is_the_same_for_all_regions_and_comes_from_the_generator_only():
    rdms, values = group()
    # the subjects' order may differ between regions
    teacher = rdl.MeasuredTeacher(rdms.isel(rdm=[1, 0, 2, 3, 5, 4]), subjects="draw")
    generator, mirror = (torch.Generator().manual_seed(4) for _ in range(2))
    torch.manual_seed(0)
    before = torch.get_rng_state()
    drawn = []
    for _ in range(60):
        teacher.draw(generator)
        answer = teacher(None, IDS)
        subject = next(s for s in range(3) if np.array_equal(answer["EVC"].numpy(), values[s]))
        np.testing.assert_array_equal(answer["IT"].numpy(), values[3 + subject])
        np.testing.assert_array_equal(teacher(None, IDS)["EVC"].numpy(), values[subject])
        drawn.append(subject)
    assert torch.equal(torch.get_rng_state(), before)
    assert min(drawn.count(s) for s in range(3)) > 10
    again = []
    for _ in range(60):
        teacher.draw(mirror)
        answer = teacher(None, IDS)["EVC"].numpy()
        again.append(next(s for s in range(3) if np.array_equal(answer, values[s])))
    assert again == drawn


def test_the_trainer_draws_a_subject_once_per_update():
    rdms, _ = group("mse")
    teacher = rdl.MeasuredTeacher(rdms, subjects="draw")
    calls, answers = [], []
    draw, forward = teacher.draw, teacher.forward
    teacher.draw = lambda generator: (calls.append(generator), draw(generator))
    teacher.forward = lambda *args: answers.append(forward(*args)) or answers[-1]
    terms = [
        rdl.RDLTerm(teacher, {"0": roi}, alpha=alpha, stream="stimuli") for roi, alpha in (("EVC", 1.0), ("IT", 0.5))
    ]
    stimuli = rdl.StimulusSet.from_arrays(torch.randn(5, 3), IDS)
    rdl.Trainer(nn.Sequential(nn.Linear(3, 4)), terms).fit(None, epochs=8, stimuli=stimuli)
    assert len(calls) == 8
    assert len(set(map(id, calls))) == 1
    assert len(answers) == 10  # one per update, and one in each term's setup
    assert len({tuple(answer["EVC"].tolist()) for answer in answers}) > 1


def test_a_single_subject_needs_no_draw():
    rdms, values = group()
    one = rdms.isel(rdm=[1, 4])
    for subjects in ("draw", "s2"):
        teacher = rdl.MeasuredTeacher(one, subjects=subjects)
        teacher.draw(torch.Generator())
        np.testing.assert_array_equal(teacher(None, IDS)["IT"].numpy(), values[4])


def test_an_unknown_subject():
    with raises(ValueError, "no subject 's4'; the RDMs have: s1, s2, s3, or take 'mean' or 'draw'"):
        rdl.MeasuredTeacher(group()[0], subjects="s4")


@pytest.mark.parametrize("subjects", ["draw", "s1"])
def test_subjects_without_a_subject_coordinate(subjects):
    with raises(
        ValueError,
        f"subjects={subjects!r} needs a subject coordinate along rdm, and the RDMs have only: rdm, roi, stimulus, "
        "stimulus_",
    ):
        rdl.MeasuredTeacher(measured(2, roi=["EVC", "IT"]), subjects=subjects)


def test_a_subject_is_drawn_for_a_region():
    rdms, _ = group()
    with raises(
        ValueError,
        "subjects='draw' needs a roi coordinate along rdm, under which the subjects' RDMs share a name: "
        "rdms.assign_coords(roi=('rdm', [...]))",
    ):
        rdl.MeasuredTeacher(rdms.drop_vars("roi"), subjects="draw")
    mean = rdl.MeasuredTeacher(rdms.isel(rdm=[3, 4, 5]).drop_vars("roi"))
    np.testing.assert_allclose(mean(None, IDS)["mean"], rdl.MeasuredTeacher(rdms)(None, IDS)["IT"], rtol=1e-12)


def test_several_rdms_under_one_name():
    with raises(
        ValueError,
        "3 RDMs are named 'IT' and no subject coordinate tells them apart; add one, average them (average_rdms) or "
        "select one",
    ):
        rdl.MeasuredTeacher(measured(4, roi=["EVC", "IT", "IT", "IT"]))


def test_a_region_that_some_subjects_lack_cannot_be_drawn():
    rdms, _ = group()
    with raises(
        ValueError,
        "'IT' was not measured exactly once in every subject (s1, s2, s3), so that no subject can be drawn for all "
        "regions; average the sessions and drop incomplete subjects first",
    ):
        rdl.MeasuredTeacher(rdms.isel(rdm=[0, 1, 2, 3, 4]), subjects="draw")


# weights


def errors(rdms=1, seed=5):
    return np.random.default_rng(seed).uniform(0.2, 1.5, (rdms, 10))


def test_weights_are_the_inverse_squared_standard_errors():
    se = errors(2)
    rdms = measured(2, names=["EVC", "IT"], standard_error=se)
    teacher = rdl.MeasuredTeacher(rdms, weights="standard_error")
    ids = ["pen", "dog", "car", "cat"]
    square = rdms["standard_error"].values[1]
    rows = [IDS.index(i) for i in ids]
    expected = [1 / square[rows[i], rows[j]] ** 2 for i in range(4) for j in range(i + 1, 4)]
    np.testing.assert_allclose(teacher.weights(ids)["IT"].numpy(), expected, rtol=1e-12)
    assert list(teacher.weights(ids)) == ["EVC", "IT"]
    assert rdl.MeasuredTeacher(rdms).weights(ids) is None


def test_weights_follow_the_drawn_subject():
    se = errors(2)
    rdms = measured(2, names=["a", "b"], roi="IT", subject=["s1", "s2"], standard_error=se)
    teacher = rdl.MeasuredTeacher(rdms, subjects="draw", weights="standard_error")
    generator, seen = torch.Generator().manual_seed(0), set()
    for _ in range(20):
        teacher.draw(generator)
        k = 0 if teacher(None, IDS)["IT"].tolist() == looked_up(rdms, 0, IDS) else 1
        np.testing.assert_allclose(teacher.weights(IDS)["IT"].numpy(), 1 / se[k] ** 2, rtol=1e-12)
        seen.add(k)
    assert seen == {0, 1}


def test_weights_of_the_mean_are_those_of_its_standard_error():
    se = errors(2)
    rdms = measured(2, names=["a", "b"], metric="crossnobis", subject=["s1", "s2"], standard_error=se)
    scale = [np.sqrt(np.mean(np.array(looked_up(rdms, k, IDS)) ** 2)) for k in range(2)]
    of_mean = np.sqrt((se[0] / scale[0]) ** 2 + (se[1] / scale[1]) ** 2) / 2
    teacher = rdl.MeasuredTeacher(rdms, weights="standard_error")
    np.testing.assert_allclose(teacher.weights(IDS)["mean"].numpy(), of_mean**-2, rtol=1e-12)


def test_weights_enter_the_loss():
    se = errors()
    teacher = rdl.MeasuredTeacher(measured(metric="mse", standard_error=se), weights="standard_error")
    student = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    term = rdl.RDLTerm(teacher, {"fc": "r0"}, loss=rdl.RDLoss(compare="mse"))
    loss = term({"fc": student}, rdl.Batch(torch.zeros(5, 1), ids=tuple(IDS)), torch.Generator())["fc"]
    w, t, d = se[0] ** -2, teacher(None, IDS)["r0"].numpy(), rdl.rdm(student).numpy()
    assert loss.item() == pytest.approx((w * (d - t) ** 2).sum() / w.sum(), rel=1e-5)


def test_labelled_weights():
    rdms = measured(2, names=["EVC", "IT"])
    weights = rdl.label_rdms(errors(2), IDS, ["EVC", "IT"], "undeclared")
    teacher = rdl.MeasuredTeacher(rdms, weights=weights)
    assert teacher.weights(["car", "cat", "cup"])["IT"].tolist() == looked_up(weights, 1, ["car", "cat", "cup"])


@pytest.mark.parametrize("dim", ["rdm", "stimulus", "stimulus_"])
def test_labelled_weights_of_other_labels(dim):
    rdms = measured(2, names=["EVC", "IT"])
    weights = rdl.label_rdms(errors(2), IDS, ["EVC", "IT"], "undeclared")
    with raises(
        ValueError, f"the weights' {dim} labels differ from those of what is taught; label and order them like it"
    ):
        rdl.MeasuredTeacher(rdms, weights=weights.isel({dim: slice(None, None, -1)}))


def test_weights_without_labels():
    weights = rdl.label_rdms(errors(), IDS, ["r0"], "undeclared")
    for other in (weights.drop_vars("rdm"), weights.transpose("stimulus", "rdm", "stimulus_"), weights.isel(rdm=0)):
        with raises(
            ValueError, "the weights' rdm labels differ from those of what is taught; label and order them like it"
        ):
            rdl.MeasuredTeacher(measured(), weights=other)


@pytest.mark.parametrize("wrong", [-1.0, np.inf, np.nan])
def test_weights_that_are_none(wrong):
    weights = rdl.label_rdms(errors(), IDS, ["r0"], "undeclared")
    weights.values[0, 1, 3] = weights.values[0, 3, 1] = wrong
    with raises(ValueError, "weights must be symmetric, finite and 0 or larger for every measured pair"):
        rdl.MeasuredTeacher(measured(), weights=weights)
    rdms = measured()
    rdms.values[0, 1, 3] = rdms.values[0, 3, 1] = np.nan
    teacher = rdl.MeasuredTeacher(rdms, weights=weights)
    assert teacher.weights(["dog", "pen"])["r0"].tolist() == [0.0]
    assert teacher.weights(["dog", "cat"])["r0"].tolist() == [weights.values[0, 0, 1]]


def test_weights_that_are_not_symmetric():
    weights = rdl.label_rdms(errors(), IDS, ["r0"], "undeclared")
    weights.values[0, 1, 3] += 1
    with raises(ValueError, "weights must be symmetric, finite and 0 or larger for every measured pair"):
        rdl.MeasuredTeacher(measured(), weights=weights)


def test_a_weight_of_zero_leaves_a_pair_out():
    weights = rdl.label_rdms(errors(), IDS, ["r0"], "undeclared")
    weights.values[0, 0, 1] = weights.values[0, 1, 0] = 0
    teacher = rdl.MeasuredTeacher(measured(), weights=weights)
    assert teacher.weights(["dog", "cat"])["r0"].tolist() == [0.0]


def test_the_standard_errors_that_weights_need():
    with raises(
        ValueError,
        "weights='standard_error' needs a standard_error coordinate, and the RDMs have none; give it to label_rdms in "
        "coords, or leave weights out",
    ):
        rdl.MeasuredTeacher(measured(), weights="standard_error")
    se = errors()
    se[0, 5] = 0  # dog and pen
    with raises(ValueError, "the standard error of pair ('dog', 'pen') in 'r0' is 0; 1/SE² needs it above 0"):
        rdl.MeasuredTeacher(measured(standard_error=se), weights="standard_error")
    rdms = measured(standard_error=se)
    rdms.values[0, 1, 3] = rdms.values[0, 3, 1] = np.nan
    assert rdl.MeasuredTeacher(rdms, weights="standard_error").weights(["pen", "dog"])["r0"].tolist() == [0.0]


def test_unknown_weights():
    with raises(ValueError, "unknown weights 'se'; give None, 'standard_error' or labelled RDMs of weights"):
        rdl.MeasuredTeacher(measured(), weights="se")


def test_ids_that_are_none():
    teacher = rdl.MeasuredTeacher(rdl.label_rdms([[0.5, 1.0, 1.5]], ["a", "b", "c"], ["IT"], "correlation"))
    with raises(ValueError, "ids is empty; a MeasuredTeacher needs the ids of at least 2 stimuli"):
        teacher(None, [])
    with raises(TypeError, "ids is one string, 'ab'; expected a sequence of strings: ['ab']"):
        teacher(None, "ab")


@pytest.mark.parametrize("weights", [np.ones((1, 3)), torch.ones(3), 2.0])
def test_weights_without_labels_of_any_kind(weights):
    rdms = rdl.label_rdms([[0.5, 1.0, 1.5]], ["a", "b", "c"], ["IT"], "correlation")
    with raises(
        TypeError,
        f"weights is a {type(weights).__name__}; give None, 'standard_error' or labelled RDMs of weights: "
        "label_rdms(weights, stimuli, names, 'undeclared')",
    ):
        rdl.MeasuredTeacher(rdms, weights=weights)


def test_names_where_there_are_subjects_but_no_roi():
    values = np.random.default_rng(0).uniform(0.1, 2, (4, 3))
    labels = ["s1/IT", "s2/IT", "s1/V1", "s2/V1"]
    coords = {"subject": ["s1", "s2", "s1", "s2"], "layer": ["IT", "IT", "V1", "V1"]}
    rdms = rdl.label_rdms(values, ["a", "b", "c"], labels, "correlation", coords)
    assert rdl.MeasuredTeacher(rdms, subjects="s1").names == ("s1/IT", "s1/V1")
    assert rdl.MeasuredTeacher(rdms).names == ("IT", "V1")
    plain = rdl.label_rdms(values[:2], ["a", "b", "c"], ["s1", "s2"], "correlation", {"subject": ["s1", "s2"]})
    assert rdl.MeasuredTeacher(plain).names == ("mean",)


@pytest.mark.parametrize(
    ("metric", "student", "compare"),
    [
        ("mse", "mse", "cosine"),
        ("sqeuclidean", "sqeuclidean", "cosine"),
        ("euclidean", "euclidean", "cosine"),
        ("crossnobis", "mse", "cosine"),
        ("mahalanobis", None, "cosine"),
        ("correlation", "correlation", "corr"),
        ("cosine", "cosine", "corr"),
        ("undeclared", None, "corr"),
    ],
)
def test_the_table_of_metrics_and_comparisons(metric, student, compare):
    teacher = rdl.MeasuredTeacher(rdl.label_rdms([[0.5, 1.0, 1.5]], ["a", "b", "c"], ["IT"], metric))
    assert teacher.compare == compare
    if student is None:
        with pytest.raises(ValueError, match=r"^no student metric follows from the teacher's metric "):
            rdl.RDLTerm(teacher, {"fc": "IT"})
    else:
        assert rdl.RDLTerm(teacher, {"fc": "IT"}).metric == student


@pytest.mark.parametrize("metric", ["correlation", "crossnobis"])
def test_the_same_id_twice_in_an_average(metric):
    """0 is the mean of a z-scored RDM, and no distance."""
    twice = ["cat", "dog", "cat"]
    averaged = rdl.MeasuredTeacher(group(metric)[0])(None, twice)["IT"]
    assert averaged.isnan().tolist() == [False, metric == "correlation", False]
    assert averaged[1].item() == 0 or metric == "correlation"
    assert rdl.MeasuredTeacher(group(metric)[0], subjects="s1")(None, twice)["IT"][1].item() == 0
