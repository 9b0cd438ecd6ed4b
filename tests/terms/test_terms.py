import re
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

import brainrdl as rdl


def raises(error, message):
    return pytest.raises(error, match=f"^{re.escape(message)}$")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(OrderedDict(one=nn.Linear(4, 6), act=nn.Tanh(), two=nn.Linear(6, 3)))


def network_teacher(metric="mse"):
    return rdl.NetworkTeacher(network(1), ["one", "two"], metric)


def measured_teacher(metric="correlation", **options):
    values = np.random.default_rng(0).uniform(0.1, 2, (1, 28))
    return rdl.MeasuredTeacher(rdl.label_rdms(values, list("abcdefgh"), ["IT"], metric), **options)


def batch(n=8, ids=True, seed=2, **fields):
    images = torch.randn(n, 4, generator=generator(seed))
    fields.setdefault("generator", generator())
    return rdl.Batch(images, ids=tuple("abcdefgh"[:n]) if ids else None, **fields)


def student(seed=3, n=8, units=5):
    return torch.randn(n, units, generator=generator(seed), requires_grad=True)


def slow_distances(x, metric):
    x = np.asarray(x, dtype=float)
    measures = {
        "mse": lambda a, b: np.mean((a - b) ** 2),
        "sqeuclidean": lambda a, b: np.sum((a - b) ** 2),
        "euclidean": lambda a, b: np.sqrt(np.sum((a - b) ** 2)),
        "correlation": lambda a, b: 1 - np.corrcoef(a, b)[0, 1],
        "cosine": lambda a, b: 1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b),
    }
    return np.array([measures[metric](x[i], x[j]) for i in range(len(x)) for j in range(i + 1, len(x))])


def slow_loss(d, t, compare):
    if compare == "mse":
        return np.mean((d - t) ** 2)
    if compare == "corr":
        return 1 - np.corrcoef(d, t)[0, 1]
    return 1 - d @ t / np.linalg.norm(d) / np.linalg.norm(t)


# the batch


def test_the_pairs_of_an_update_are_drawn_once():
    one = batch()
    first = one.pairs(5)
    assert first.shape == (5, 2)
    assert one.pairs(5) is first
    assert batch(generator=generator(1)).pairs(5).tolist() != first.tolist()
    assert batch().pairs(5).tolist() == first.tolist()
    again = batch(generator=one.generator)
    assert again.pairs(5).tolist() != first.tolist()


def test_smaller_subsets_are_part_of_larger_ones():
    one = batch()
    few, many, some = one.pairs(3), one.pairs(20), one.pairs(10)
    assert few.tolist() == many[:3].tolist()
    assert some.tolist() == many[:10].tolist()
    assert len({tuple(pair) for pair in many.tolist()}) == 20
    assert all(0 <= i < j < 8 for i, j in many.tolist())


def test_how_many_pairs_are_asked_for_does_not_shift_the_next_update():
    drawn = []
    for wanted in ((3,), (20, 3), (27,)):
        source = generator()
        first = batch(generator=source)
        for n_pairs in wanted:
            first.pairs(n_pairs)
        drawn.append(batch(generator=source).pairs(6).tolist())
    assert drawn[0] == drawn[1] == drawn[2]


def test_all_pairs_are_no_subset():
    one = batch()
    before = one.generator.get_state()
    assert one.pairs(28) is None
    assert one.pairs(500) is None
    assert torch.equal(one.generator.get_state(), before)
    assert one.pairs(27).shape == (27, 2)


def test_a_batch_is_as_long_as_its_images_and_frozen():
    one = batch(n=3)
    assert len(one) == 3
    assert (one.labels, one.output) == (None, None)
    with pytest.raises(AttributeError):
        one.images = None


class Counting(rdl.RDMTeacher):
    names, metric = ("x", "y", "z"), "mse"

    def __init__(self):
        super().__init__()
        self.asked = []

    def observe(self, images, ids, names):
        self.asked.append((images, ids, tuple(names)))
        return {name: torch.zeros(len(images), 2) for name in names}

    def forward(self, images, ids):
        raise AssertionError("a batch observes")


def test_a_teacher_is_asked_once_about_a_batch():
    teacher, one = Counting(), batch()
    answer = one.ask(teacher, ["x", "y"])
    assert list(answer) == ["x", "y"]
    assert one.ask(teacher, ["y"])["y"] is answer["y"]
    assert len(teacher.asked) == 1
    images, ids, names = teacher.asked[0]
    assert images is one.images
    assert ids is one.ids
    assert names == ("x", "y")


def test_what_was_asked_once_comes_with_the_first_question_of_the_next_batch():
    teacher, asked = Counting(), {}
    first = batch(asked=asked)
    first.ask(teacher, ["x"])
    first.ask(teacher, ["z"])
    assert [names for *_, names in teacher.asked] == [("x",), ("x", "z")]
    second = batch(asked=asked)
    assert list(second.ask(teacher, ["z"])) == ["z"]
    second.ask(teacher, ["x"])
    assert [names for *_, names in teacher.asked[2:]] == [("x", "z")]


def test_every_teacher_answers_for_itself():
    one, two, seen = Counting(), Counting(), batch()
    seen.ask(one, ["x"])
    seen.ask(two, ["x"])
    assert (len(one.asked), len(two.asked)) == (1, 1)


# any term


class Activity(rdl.Term):
    name = "activity"

    def __call__(self, features, batch, generator):
        return {layer: features[layer].square().mean() for layer in self.layers}


def test_a_term_needs_a_call():
    with pytest.raises(TypeError, match="abstract"):
        rdl.Term(["fc"])


def test_defaults_of_a_users_term():
    term = Activity(["a", "b"], alpha=0.5, stream="stimuli")
    assert (term.layers, term.alpha, term.stream) == (("a", "b"), 0.5, "stimuli")
    assert list(term.parameters()) == []
    assert term.teachers() == ()
    assert term.describe() == {"layers": ["a", "b"], "stream": "stimuli"}
    assert term.setup({}, batch(), generator()) is None


def test_an_unknown_stream():
    with raises(ValueError, "unknown stream 'brain'; known are: task, stimuli"):
        Activity(["fc"], stream="brain")


@pytest.mark.parametrize("alpha", [-1.0, float("nan"), float("inf"), {"a": 1.0, "b": -1.0}])
def test_alpha_is_finite_and_not_negative(alpha):
    value = alpha["b"] if isinstance(alpha, dict) else alpha
    with raises(ValueError, f"alpha must be a finite number of at least 0, got {value!r}"):
        Activity(["a", "b"], alpha=alpha)


def test_layers_that_name_no_teacher_layer():
    message = "layers must map student layers to teacher names, got a list; write {'student layer': 'teacher name'}"
    with raises(TypeError, message):
        rdl.RDLTerm(network_teacher(), ["one"])


def test_alpha_for_other_layers():
    with raises(ValueError, "alpha is given for ['c'], but the term's layers are ['a', 'b']"):
        Activity(["b", "a"], alpha={"c": 1.0})
    assert Activity(["b", "a"], alpha={"a": 1.0, "b": 2.0}).alpha == {"a": 1.0, "b": 2.0}


# RDL


@pytest.mark.parametrize("compare", ["mse", "corr", "cosine"])
@pytest.mark.parametrize("metric", ["mse", "sqeuclidean", "euclidean", "correlation", "cosine"])
@pytest.mark.parametrize("n_pairs", [None, 11])
def test_the_value_is_that_of_a_slow_formula(metric, compare, n_pairs):
    teacher, one, x = network_teacher(metric), batch(), student()
    term = rdl.RDLTerm(teacher, {"fc": "two"}, loss=rdl.RDLoss(compare=compare), n_pairs=n_pairs)
    value = term({"fc": x}, one, one.generator)["fc"]
    d = slow_distances(x.detach().numpy(), metric)
    t = slow_distances(teacher.features(one.images, ["two"])["two"].numpy(), metric)
    if n_pairs:
        order = {pair: k for k, pair in enumerate((i, j) for i in range(8) for j in range(i + 1, 8))}
        chosen = [order[tuple(pair)] for pair in one.pairs(n_pairs).tolist()]
        d, t = d[chosen], t[chosen]
    assert value.item() == pytest.approx(slow_loss(d, t, compare), rel=2e-4, abs=1e-6)


@pytest.mark.parametrize("compare", ["mse", "corr", "cosine"])
@pytest.mark.parametrize("metric", ["mse", "sqeuclidean", "euclidean", "correlation", "cosine"])
def test_gradients_reach_the_student_only(metric, compare):
    teacher, one, x = network_teacher(metric), batch(), student()
    term = rdl.RDLTerm(teacher, {"fc": "one"}, loss=rdl.RDLoss(compare=compare), n_pairs=20)
    term({"fc": x}, one, one.generator)["fc"].backward()
    assert x.grad.isfinite().all()
    assert x.grad.abs().sum() > 0
    assert all(p.grad is None for p in teacher.parameters())
    assert one.images.grad is None


def test_a_subset_of_pairs_has_the_gradient_of_equation_4():
    teacher, one, x = network_teacher("sqeuclidean"), batch(), student()
    rdl.RDLTerm(teacher, {"fc": "one"}, n_pairs=9)({"fc": x}, one, one.generator)["fc"].backward()
    pairs = one.pairs(9).tolist()
    d = rdl.to_square(rdl.rdm(x.detach().double()))  # mean over units: the sum is 5 times as large
    t = rdl.to_square(teacher(one.images, None)["one"].double())
    f, expected = x.detach().double(), torch.zeros(8, 5, dtype=torch.float64)
    occurring = len({i for pair in pairs for i in pair})
    for i in range(8):
        partners = [a + b - i for a, b in pairs if i in (a, b)]
        for j in partners:
            expected[i] += 8 / (occurring * len(partners)) * (5 * d[i, j] - t[i, j]) * (f[i] - f[j])
    torch.testing.assert_close(x.grad.double(), expected, rtol=1e-4, atol=1e-4)


def test_the_gradient_can_be_that_of_the_subsets_mean():
    teacher, gradients = network_teacher(), {}
    for gradient in ("auto", "per-stimulus", "mean"):
        x, one = student(), batch()
        loss = rdl.RDLoss(gradient=gradient, n_pairs=9)
        rdl.RDLTerm(teacher, {"fc": "one"}, loss=loss)({"fc": x}, one, one.generator)["fc"].backward()
        gradients[gradient] = x.grad
    assert torch.equal(gradients["auto"], gradients["per-stimulus"])
    assert not torch.allclose(gradients["auto"], gradients["mean"])


def test_all_layers_of_an_update_share_the_pairs_and_one_pass_of_the_teacher():
    teacher = network_teacher()
    calls = []
    teacher._model.register_forward_hook(lambda *_: calls.append(1))
    term = rdl.RDLTerm(teacher, {"fc": "one", "out": "two"}, n_pairs=5)
    one = batch()
    features = {"fc": student(), "out": student(4)}
    values = term(features, one, one.generator)
    assert list(values) == ["fc", "out"]
    assert len(calls) == 1
    for layer, name in (("fc", "one"), ("out", "two")):
        target = teacher(one.images, None)[name]
        expected = rdl.rdl_loss(features[layer], target, pairs=one.pairs(5))
        assert values[layer].item() == expected.item()


def test_more_pairs_than_the_batch_has_are_all_of_them():
    teacher, x = network_teacher(), student()
    values = [
        rdl.RDLTerm(teacher, {"fc": "one"}, n_pairs=n)({"fc": x}, batch(), generator())["fc"].item()
        for n in (None, 28, 500)
    ]
    assert values[0] == values[1] == values[2]


def test_what_the_loss_leaves_open_follows_from_the_teacher():
    def chosen(term):
        return term.metric, term.compare

    assert chosen(rdl.RDLTerm(network_teacher(), {"fc": "one"})) == ("mse", "mse")
    assert chosen(rdl.RDLTerm(network_teacher("euclidean"), {"fc": "one"})) == ("euclidean", "mse")
    assert chosen(rdl.RDLTerm(measured_teacher("correlation"), {"fc": "IT"})) == ("correlation", "corr")
    assert chosen(rdl.RDLTerm(measured_teacher("crossnobis"), {"fc": "IT"})) == ("mse", "cosine")
    assert chosen(rdl.RDLTerm(measured_teacher("euclidean"), {"fc": "IT"})) == ("euclidean", "cosine")
    declared = rdl.RDLoss(metric="cosine", compare="corr")
    assert chosen(rdl.RDLTerm(network_teacher(), {"fc": "one"}, loss=declared)) == ("cosine", "corr")
    assert chosen(rdl.RDLTerm(measured_teacher("undeclared"), {"fc": "IT"}, loss=rdl.RDLoss("mse"))) == (
        "mse",
        "corr",
    )


@pytest.mark.parametrize("metric", ["undeclared", "mahalanobis"])
def test_a_teachers_metric_without_a_counterpart(metric):
    with raises(
        ValueError,
        f"no student metric follows from the teacher's metric {metric!r}; declare one: loss=RDLoss(metric=…), one of "
        "mse, sqeuclidean, euclidean, correlation, cosine",
    ):
        rdl.RDLTerm(measured_teacher(metric), {"fc": "IT"})


@pytest.mark.parametrize(
    ("teacher", "name", "loss", "here"),
    [
        (network_teacher("mse"), "one", rdl.RDLoss(metric="sqeuclidean"), "sqeuclidean"),
        (measured_teacher("crossnobis"), "IT", rdl.RDLoss(compare="mse"), "mse"),
        (measured_teacher("undeclared"), "IT", rdl.RDLoss("cosine", "mse"), "cosine"),
    ],
    ids=["network", "crossnobis", "undeclared"],
)
def test_raw_mse_between_differing_metrics_is_refused(teacher, name, loss, here):
    with raises(
        ValueError,
        f"raw mse between RDMs of different metrics ({here!r} here, {teacher.metric!r} from the teacher) fits units, "
        "not geometry; use one metric, or loss=RDLoss(compare='cosine') or 'corr'",
    ):
        rdl.RDLTerm(teacher, {"fc": name}, loss=loss)


def test_raw_mse_with_measured_rdms_of_the_same_metric():
    term = rdl.RDLTerm(measured_teacher("mse"), {"fc": "IT"}, loss=rdl.RDLoss(compare="mse"))
    assert (term.metric, term.compare) == ("mse", "mse")


def test_an_unknown_teacher_name():
    with raises(ValueError, "the teacher has no 'ome', its names are: one, two; did you mean 'one'?"):
        rdl.RDLTerm(network_teacher(), {"fc": "one", "out": "ome"})
    with raises(ValueError, "the teacher has no 'fusiform', its names are: IT"):
        rdl.RDLTerm(measured_teacher(), {"fc": "fusiform"})


def test_the_number_of_pairs():
    teacher = network_teacher()
    assert rdl.RDLTerm(teacher, {"fc": "one"}, loss=rdl.RDLoss(n_pairs=7)).n_pairs == 7
    assert rdl.RDLTerm(teacher, {"fc": "one"}, loss=rdl.RDLoss(n_pairs=7), n_pairs=7).n_pairs == 7
    with raises(ValueError, "n_pairs is 5 here and 7 in the loss; give it once"):
        rdl.RDLTerm(teacher, {"fc": "one"}, loss=rdl.RDLoss(n_pairs=7), n_pairs=5)
    with raises(ValueError, "n_pairs must be at least 1, got 0"):
        rdl.RDLTerm(teacher, {"fc": "one"}, n_pairs=0)


def test_equation_4_is_for_raw_mse_only():
    with raises(ValueError, "gradient='per-stimulus' is Eq. 4 and exists for compare='mse' only, not 'corr'"):
        rdl.RDLTerm(measured_teacher(), {"fc": "IT"}, loss=rdl.RDLoss(gradient="per-stimulus"))


def test_a_batch_of_one_stimulus():
    term = rdl.RDLTerm(network_teacher(), {"fc": "one"})
    with raises(
        ValueError,
        "a batch of 1 stimulus has no distances; choose another batch size, or drop the incomplete last batch",
    ):
        term({"fc": student(n=1)}, batch(1), generator())


def test_what_a_manifest_says_about_it():
    term = rdl.RDLTerm(measured_teacher("crossnobis"), {"fc": "IT"}, n_pairs=5, stream="stimuli")
    assert term.describe() == {
        "layers": ["fc"],
        "stream": "stimuli",
        "targets": {"fc": "IT"},
        "n_pairs": 5,
        "metric": "mse",
        "compare": "cosine",
        "gradient": "auto",
        "teacher_metric": "crossnobis",
    }
    assert term.teachers() == (term.teacher,)
    assert list(term.parameters()) == []


# what users write, in the trainer


class Pixels(rdl.RDMTeacher):
    """Answers with the geometry of the images themselves."""

    names, metric = ("pixels",), "sqeuclidean"
    compare = "mse"

    def forward(self, images, ids):
        return {"pixels": rdl.rdm(images, "sqeuclidean")}


class Sparse(rdl.Term):
    """A learned readout of a layer should be small; its head draws random numbers in every update."""

    name = "sparse"

    def setup(self, features, batch, generator):
        self.heads["readout"] = nn.Sequential(nn.Linear(features[self.layers[0]].shape[1], 50), nn.Dropout(0.1))

    def __call__(self, features, batch, generator):
        answer = self.heads["readout"](features[self.layers[0]])
        return {self.layers[0]: answer.square().mean() + 0.01 * torch.rand((), generator=generator)}


@pytest.mark.parametrize(
    ("term", "column"),
    [
        (lambda: Activity(["act"]), "activity/act"),
        (lambda: Sparse(["one"], alpha=rdl.linear_decay(1.0)), "sparse/one"),
        (lambda: rdl.RDLTerm(Pixels(), {"two": "pixels"}, alpha=0.01), "rdl/two"),
    ],
)
def test_users_terms_and_teachers_are_trained_with(term, column):
    x = torch.randn(8, 4, generator=generator())
    loader = [(x, torch.tensor([0, 1, 2, 0, 1, 2, 0, 1]))]
    history = rdl.Trainer(network(), [term()], task_loss=None).fit(loader, epochs=10)
    assert history[column].iloc[-1] < 0.8 * history[column].iloc[0]
    beside = rdl.Trainer(network(), [term()]).fit(loader, epochs=1)
    assert beside[column][0] == history[column][0]


def test_a_users_teacher_is_in_the_configuration():
    loader = [(torch.randn(8, 4), torch.zeros(8, dtype=torch.long))]
    term = rdl.RDLTerm(Pixels(), {"two": "pixels"}, n_pairs=10, alpha=0.01)
    history = rdl.Trainer(network(), [Activity(["act"]), term]).fit(loader, epochs=2)
    assert history.attrs["configuration"]["terms"] == [
        {"name": "activity", "layers": ["act"], "stream": "task", "alpha": [{"act": 1.0}, {"act": 1.0}]},
        {
            "name": "rdl",
            "layers": ["two"],
            "stream": "task",
            "targets": {"two": "pixels"},
            "n_pairs": 10,
            "metric": "sqeuclidean",
            "compare": "mse",
            "gradient": "auto",
            "teacher_metric": "sqeuclidean",
            "alpha": [{"two": 0.01}, {"two": 0.01}],
        },
    ]


def test_a_users_teacher_gives_weights():
    class Half(Pixels):
        def weights(self, ids):
            return {"pixels": torch.tensor([1.0, 0, 0])}

    one, x = batch(3), student(n=3)
    loss = rdl.RDLTerm(Half(), {"fc": "pixels"})({"fc": x}, one, generator())["fc"]
    d, t = rdl.rdm(x.detach(), "sqeuclidean"), rdl.rdm(one.images, "sqeuclidean")
    assert loss.item() == pytest.approx((d[0] - t[0]).square().item(), rel=1e-5)
