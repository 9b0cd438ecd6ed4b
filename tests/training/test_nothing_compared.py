"""Batches that have nothing to compare: left out of means and counted, refused where there is no other; dead layers."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import brainrdl as rdl
from brainrdl.rdms.differentiable import FEWEST_PAIRS, compared
from brainrdl.teachers import NothingToCompare
from small_network import IDS, assert_same, data, loader, network, network_teacher, raises, weights


def measured(pairs=None, metric="correlation"):
    """A brain of eight stimuli of which only some `pairs` were measured, all by default."""
    square = np.random.default_rng(0).uniform(0.1, 2, (8, 8))
    square = np.triu(square, 1) + np.triu(square, 1).T
    if pairs is not None:
        seen = np.eye(8, dtype=bool)
        for i, j in pairs:
            seen[i, j] = seen[j, i] = True
        square[~seen] = np.nan
    return rdl.MeasuredTeacher(rdl.label_rdms(square[None], IDS, ["IT"], metric))


def term(teacher, compare=None, **options):
    return rdl.RDLTerm(teacher, {"two": "IT"}, loss=rdl.RDLoss(compare=compare), stream="stimuli", **options)


def batches(*places):
    """Stimulus batches of these stimuli."""
    images = torch.randn(8, 4, generator=torch.Generator().manual_seed(5))
    return [(images[list(at)], tuple(IDS[k] for k in at)) for at in places]


def standing_still(parameters):
    return torch.optim.SGD(parameters, lr=0.0)


def fit(one_term, given, student=None, **options):
    student = network(dropout=0.0) if student is None else student
    options = {"epochs": 1, "stimuli": given} | options
    return rdl.Trainer(student, [one_term], optimizer=standing_still).fit(None, **options)


NOTHING = (
    "'IT' has nothing to teach layer 'two' in a batch of {} stimuli: {}; show more stimuli per update, or other ones"
)


def nothing(n, counted, needs):
    return NOTHING.format(n, f"{counted} pairs count, and {needs}")


@pytest.mark.parametrize(
    ("teacher", "compare", "given", "message"),
    [
        (measured([(6, 7)]), "corr", batches(range(6)), nothing(6, "0 of 15", "corr needs 3")),
        (measured([(0, 1)]), "corr", batches(range(6)), nothing(6, "1 of 15", "corr needs 3")),
        (measured([(0, 1)]), "cosine", batches(range(6)), nothing(6, "1 of 15", "cosine needs 2")),
        (
            measured(metric="mse"),
            "corr",
            batches((0, 1), (2, 3)),
            nothing(2, "1 of 1", "corr needs 3"),
        ),
        (
            measured(),
            "soft-spearman",
            batches((0, 1)),
            nothing(2, "1 of 1", "soft-spearman needs 3"),
        ),
        (measured(), "corr_cov", batches((0, 1)), nothing(2, "1 of 1", "corr_cov needs 3")),
        (
            measured(),
            None,
            batches((0,), (1,)),
            "a batch of 1 stimulus has no distances; choose another batch size, or drop the incomplete last batch",
        ),
    ],
)
def test_where_no_batch_has_anything_to_compare_it_is_refused_before_the_first_update(teacher, compare, given, message):
    student = network()
    with raises(NothingToCompare, message):
        fit(term(teacher, compare), given, student)
    assert_same(weights(student), weights(network()))


def test_a_constant_rdm_has_nothing_to_teach_a_correlation():
    flat = rdl.MeasuredTeacher(rdl.label_rdms(np.full((1, 28), 0.7), IDS, ["IT"], "correlation"))
    with raises(NothingToCompare, NOTHING.format(8, "its distances are all alike, which corr cannot compare")):
        fit(term(flat), batches(range(8)))
    fit(term(flat, "mse"), batches(range(8)))  # all stimuli equally far apart can be asked for
    fit(term(flat, "cosine"), batches(range(8)))


def test_a_mean_is_over_the_batches_that_have_something_to_compare():
    teacher = measured([(i, j) for i in range(4) for j in range(i)])
    whole = fit(term(teacher), batches(range(4)))
    assert list(whole.columns) == ["epoch", "rdl/two", "alpha/two", "lr", "seconds"]
    history = fit(term(teacher), batches(range(4, 8), range(4), (4, 5), (0, 4), (0, 1)), epochs=2)
    assert history["rdl/two"].tolist() == [whole["rdl/two"][0]] * 2
    assert history["rdl/pairs"].tolist() == [6, 6]
    assert list(history.columns) == ["epoch", "rdl/two", "rdl/pairs", "alpha/two", "lr", "seconds"]


def test_a_batch_that_a_teacher_refuses_is_left_out_too():
    conditions = dict(zip(IDS, ["a", "a", "a", "a", "b", "b", "c", "d"], strict=True))
    known = rdl.MeasuredTeacher(rdl.label_rdms(np.arange(1, 7)[None] / 3, list("abcd"), ["IT"], "correlation"))
    teacher = rdl.ConditionTeacher(known, conditions)
    with raises(
        NothingToCompare,
        "the 4 stimuli of a batch are all exemplars of condition 'a', which has no distances; show more stimuli per "
        "update",
    ):
        fit(term(teacher), batches(range(4)))
    history = fit(term(teacher), batches(range(4), (3, 4, 6, 7), (0,)))
    assert history["rdl/two"][0] == fit(term(teacher), batches((3, 4, 6, 7)))["rdl/two"][0]
    assert history["rdl/pairs"][0] == 6


def test_an_update_that_every_term_leaves_out_moves_nothing():
    student, moved = network(dropout=0.0), []

    def decaying(parameters):
        return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=0.1)

    class Seen(list):
        def __iter__(self):
            for batch in super().__iter__():
                yield batch
                moved.append(student.two.weight.clone())

    given = Seen(batches(range(8), (0,), (1,)))
    rdl.Trainer(student, [term(measured())], optimizer=decaying).fit(None, epochs=1, stimuli=given)
    assert torch.equal(moved[-1], moved[-2])
    assert not torch.equal(moved[-1], network().two.weight)


def test_a_run_that_is_resumed_within_an_epoch_counts_as_one_that_is_not(tmp_path):
    given = batches(range(4, 8), range(4), (0, 1), (0, 1, 2))
    teacher = measured([(i, j) for i in range(4) for j in range(i)])
    expected = fit(term(teacher), given, epochs=2)
    for k in range(3):
        fit(term(teacher), given, epochs=2, checkpoint=tmp_path / f"{k}")
    again = fit(term(teacher), given, epochs=2, checkpoint=tmp_path / "0")
    assert again.drop(columns="seconds").equals(expected.drop(columns="seconds"))


# the terms of a network teacher


RELATIONS = {"rdl": rdl.RDLTerm, "rkd": rdl.RKD, "sp": rdl.SP, "cka": rdl.CKA}


@pytest.mark.parametrize("kind", RELATIONS)
def test_a_last_batch_of_one_image_is_refused_before_training(kind):
    student = network()
    with raises(
        ValueError,
        "the task loader's last batch holds 1 image, which has no distances; choose another batch size, or leave the "
        "incomplete last batch out (drop_last=True)",
    ):
        rdl.Trainer(student, [RELATIONS[kind](network_teacher(), {"two": "two"})]).fit(loader(25), epochs=1)
    with raises(
        ValueError,
        "a batch of 1 stimulus has no distances; choose another batch size, or drop the incomplete last batch",
    ):
        rdl.Trainer(student, [RELATIONS[kind](network_teacher(), {"two": "two"})]).fit([data(6), data(1)], epochs=1)
    assert_same(weights(student), weights(network()))


class Loader:
    """A loader that does not tell how large its batches are."""

    def __init__(self, *sizes):
        self.sizes = sizes

    def __len__(self):
        return len(self.sizes)

    def __iter__(self):
        return (data(size) for size in self.sizes)


@pytest.mark.parametrize(("kind", "fewest"), [("rdl", 2), ("rkd", 3), ("sp", 2), ("cka", 3)])
def test_batches_that_are_too_small_are_left_out(kind, fewest):
    def history(*sizes):
        one = RELATIONS[kind](network_teacher(), {"two": "two"})
        return rdl.Trainer(network(dropout=0.0), [one], optimizer=standing_still).fit(Loader(*sizes), epochs=1)

    column = f"{kind}/two"
    assert f"{kind}/pairs" not in history(6, fewest)
    found = history(6, *range(1, fewest))
    assert found[column][0] == history(6)[column][0]
    assert found[f"{kind}/pairs"][0] == 15
    with pytest.raises(
        NothingToCompare, match=r"^a batch of 1 stimulus|^\w+ compares relations between . stimuli or more"
    ):
        history(*range(1, fewest))


def test_too_few_stimuli_of_a_relation():
    with raises(
        NothingToCompare,
        "rkd compares relations between 3 stimuli or more, and a batch holds 2; choose another batch size, or leave "
        "the incomplete last batch out (drop_last=True)",
    ):
        rdl.Trainer(network(), [rdl.RKD(network_teacher(), {"two": "two"})]).fit([data(2)], epochs=1)


@pytest.mark.parametrize(("compare", "n_pairs"), [("cosine", 1), ("corr", 2), ("corr", 1), ("soft-spearman", 2)])
def test_too_few_pairs_are_drawn(compare, n_pairs):
    with raises(
        ValueError,
        f"n_pairs={n_pairs} leaves {compare} nothing to compare: it needs {FEWEST_PAIRS[compare]} pairs at least, and "
        "many more to tell stimuli apart; raise n_pairs, or leave it out to compare all",
    ):
        fit(term(measured(), compare, n_pairs=n_pairs), batches(range(8)))


@pytest.mark.parametrize("compare", FEWEST_PAIRS)
def test_how_many_pairs_a_comparison_compares(compare):
    d, t = torch.rand(2, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).unbind()
    ones = torch.ones(6, dtype=torch.float64)
    assert compared(d, t, compare, ones)[1] == 6
    weights = torch.tensor([1.0, 0, 0, 1, 1, 0], dtype=torch.float64)
    assert compared(d, t, compare, weights)[1] == 3
    assert compared(d, t, compare, 0 * ones)[1] == 0
    constant = compared(d, torch.full_like(t, 0.3), compare, ones)[1]
    assert constant == (0 if "cos" not in compare and compare != "mse" else 6)


# the gradient has to reach the student


HEAD_ALONE = (
    "{}/{} reaches no parameter of the student, so that it trains nothing but its own head: no parameter before {!r} "
    "requires a gradient, or the term detached it; unfreeze one, leave the layer out, or watch it with alpha=0"
)


class Detached(rdl.Term):
    """A hint that forgets the student."""

    name = "detached"

    def __init__(self, teacher):
        super().__init__(["two"])
        self.teacher = teacher

    def setup(self, features, batch, generator):
        self.heads["map"] = nn.Linear(5, 5)

    def teachers(self):
        return (self.teacher,)

    def __call__(self, features, batch, generator):
        wanted = batch.ask(self.teacher, ["two"])["two"]
        return {"two": (self.heads["map"](features["two"].detach()) - wanted).square().mean()}


@pytest.mark.parametrize(
    ("made", "name", "layer"),
    [
        (lambda alpha: rdl.Hint(network_teacher(), {"two": "two"}, alpha=alpha), "hint", "two"),
        (lambda alpha: rdl.KD(network_teacher(), head="act", alpha=alpha), "kd", "act"),
    ],
)
@pytest.mark.parametrize("how", ["frozen", "no_grad"])
def test_a_term_that_trains_nothing_but_its_own_head(made, name, layer, how):
    class Behind(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = network(dropout=0.0)

        def forward(self, x):
            with torch.no_grad():
                x = self.net[:4](x)
            return self.net.out(x)

    student = network(dropout=0.0) if how == "frozen" else Behind()
    if how == "frozen":
        student[:4].requires_grad_(False)
    else:
        layer = f"net.{layer}"
        one = made(1.0)
        if name == "hint":
            made = lambda alpha: rdl.Hint(network_teacher(), {layer: "two"}, alpha=alpha)  # noqa: E731
        else:
            made = lambda alpha: rdl.KD(one.teacher, head=layer, alpha=alpha)  # noqa: E731
    before = weights(student)
    with raises(ValueError, HEAD_ALONE.format(name, layer, layer)):
        rdl.Trainer(student, [made(1.0)]).fit(loader(), epochs=1)
    assert_same(weights(student), before)
    history = rdl.Trainer(student, [made(0.0)]).fit(loader(), epochs=1)
    assert np.isfinite(history[f"{name}/{layer}"][0])


def test_a_term_that_detaches_the_student_and_has_a_head():
    with raises(ValueError, HEAD_ALONE.format("detached", "two", "two")):
        rdl.Trainer(network(), [Detached(network_teacher())]).fit(loader(), epochs=1)


# dead layers


def dead(bias=-100.0):
    torch.manual_seed(0)
    student = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
    student[0].bias.data.fill_(bias)
    return student


DEAD = (
    "{} responds identically to all {} stimuli of a batch, {} ({}): it has no geometry, and passes no gradient back "
    "that could give it one; look at its weights and biases, the layers before it and the scale of the images, or "
    "lower the learning rate"
)
COMPARED_NOTHING = (
    "{} compared nothing in epoch 1, and is NaN in the history: in every update too few of its pairs "
    "were measured, or the student's or the teacher's distances were all alike, as a dead layer's are"
)


def said(function):
    with pytest.warns(UserWarning, match=r".") as caught:
        result = function()
    return result, [str(warning.message) for warning in caught]


@pytest.mark.parametrize("kind", ["rdl", "rkd", "cka", "sp"])
def test_a_dead_layer_of_the_student_is_said_and_its_loss_is_no_number(kind):
    teacher = rdl.NetworkTeacher(network(dropout=0.0), ["two"], "correlation")
    one = (
        rdl.RDLTerm(teacher, {"1": "two"}, loss=rdl.RDLoss(compare="corr"))
        if kind == "rdl"
        else RELATIONS[kind](teacher, {"1": "two"})
    )
    history, messages = said(lambda: rdl.Trainer(dead(), [one]).fit(loader(), epochs=3))
    assert messages == [
        DEAD.format("the student's layer '1'", 6, "before the first update", "every output is 0"),
        COMPARED_NOTHING.format(f"{kind}/1"),
    ]
    assert history[f"{kind}/1"].isna().all()
    assert history[f"{kind}/pairs"].tolist() == [0, 0, 0]
    assert history.attrs["warnings"] == messages


class Kills(rdl.Term):
    """Puts a layer out of reach at the second update."""

    name = "kills"

    def __init__(self, student):
        super().__init__([])
        self.student, self.updates = student, 0

    def __call__(self, features, batch, generator):
        self.updates += 1
        if self.updates == 2:
            with torch.no_grad():
                self.student[0].bias.fill_(-100.0)
        return {}


def test_a_layer_that_dies_in_the_first_updates_is_said():
    student = dead(bias=0.0)
    terms = [rdl.RDLTerm(rdl.NetworkTeacher(network(dropout=0.0), ["two"]), {"1": "two"}), Kills(student)]
    history, messages = said(lambda: rdl.Trainer(student, terms).fit(loader(), epochs=3))
    assert messages == [DEAD.format("the student's layer '1'", 6, "in one of the first updates", "every output is 0")]
    assert history.attrs["warnings"] == messages


class KillsLater(Kills):
    """Puts a layer out of reach at update 15, behind those that are watched."""

    def __call__(self, features, batch, generator):
        if self.updates == 14:
            self.updates = 1
            super().__call__(features, batch, generator)
            self.updates = 15
        else:
            self.updates += 1
        return {}


@pytest.mark.parametrize("n", [24, 26])
def test_a_layer_that_dies_later_is_said_at_the_end_of_its_epoch(n):
    student = dead(bias=0.0)
    terms = [
        rdl.RDLTerm(rdl.NetworkTeacher(network(dropout=0.0), ["two"]), {"1": "two"}, alpha=0.001),
        KillsLater(student),
    ]
    history, messages = said(lambda: rdl.Trainer(student, terms).fit(loader(n), epochs=6))
    assert messages == [DEAD.format("the student's layer '1'", 6, "at the end of epoch 4", "every output is 0")]
    assert history.attrs["warnings"] == messages


def test_a_dead_layer_of_the_teacher_is_said():
    teacher = rdl.NetworkTeacher(dead(), ["1"])
    _, messages = said(lambda: rdl.Trainer(network(), [rdl.RDLTerm(teacher, {"two": "1"})]).fit(loader(), epochs=1))
    assert messages == [DEAD.format("the teacher's layer '1'", 6, "in the first batch", "every output is 0")]


def test_images_that_are_all_alike_are_no_fault_of_a_layer():
    x, y = data(6)
    history = rdl.Trainer(network(dropout=0.0), [rdl.RDLTerm(network_teacher(), {"two": "two"})]).fit(
        [(x[:1].expand(6, -1), y)], epochs=1
    )
    assert history.attrs["warnings"] == []


def test_a_loss_of_ones_own_that_is_a_constant_call_after_call_is_said():
    loss, x = rdl.RDLoss(compare="corr"), torch.randn(4, 3)
    constant = torch.ones(6)
    for _ in range(9):
        loss(x, constant)
    loss(x, torch.rand(6))
    for _ in range(9):
        loss(x, constant)
    with pytest.warns(UserWarning, match="compared nothing") as caught:
        loss(x, constant)
    assert str(caught[0].message) == (
        "10 calls in a row of this RDLoss compared nothing, so that it was a constant without a gradient: no pair of a "
        "batch counts (NaN, weight 0), a single one does, or the distances of the target or of the student are all "
        "alike, as a dead layer's are; rdl_loss(…, on_pairs=) is told the number of pairs"
    )
    loss(x, constant)
    seen = []
    rdl.rdl_loss(x, constant, compare="corr", on_pairs=seen.append)
    rdl.rdl_loss(x, torch.rand(6), compare="corr", on_pairs=seen.append)
    assert [number.item() for number in seen] == [0, 6]


# what is given to a training


def test_images_made_in_inference_mode():
    with torch.inference_mode():
        x, y = data(6)
        images = torch.randn(8, 4, generator=torch.Generator().manual_seed(5))
    terms = [rdl.RDLTerm(network_teacher(), {"two": "two"}), rdl.KD(network_teacher()), term(measured())]
    made = rdl.Trainer(network(dropout=0.0), terms).fit([(x, y)], epochs=2, stimuli=[(images, IDS)])
    plain = rdl.Trainer(network(dropout=0.0), terms).fit([data(6)], epochs=2, stimuli=batches(range(8)))
    assert made.drop(columns="seconds").equals(plain.drop(columns="seconds"))


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
def test_gradients_that_are_switched_off(off):
    message = (
        "gradients are switched off here (torch.no_grad or torch.inference_mode), and training needs them; call fit "
        "outside"
    )
    with off(), raises(ValueError, message):
        rdl.Trainer(network()).fit(loader(), epochs=1)


class Endless(IterableDataset):
    def __iter__(self):
        return iter(TensorDataset(*data(12)))


def test_a_data_set_without_a_length():
    unsized = DataLoader(Endless(), batch_size=5)
    with raises(ValueError, "the task loader has no length; repeat(loader, steps) gives it one"):
        rdl.Trainer(network()).fit(unsized, epochs=1)
    with raises(ValueError, "the stimuli has no length; repeat(loader, steps) gives it one"):
        rdl.Trainer(network(), [term(measured())]).fit(None, epochs=1, stimuli=unsized)
    history = rdl.Trainer(network(dropout=0.0), [rdl.RDLTerm(network_teacher(), {"two": "two"})]).fit(
        rdl.repeat(unsized, 4), epochs=1
    )
    assert history.attrs["configuration"]["updates_per_epoch"] == 4


class Inception(nn.Module):
    """A network that answers with a tuple in training."""

    def __init__(self):
        super().__init__()
        self.net = network(dropout=0.0)

    def forward(self, x):
        return torch.return_types.max((self.net(x), x)) if self.training else self.net(x)


def test_a_student_that_answers_with_a_named_tuple_in_training():
    student, before = Inception(), weights(Inception())
    with raises(
        TypeError,
        "KD needs the student's logits, a Tensor (images, classes), and the student returns a max (some networks "
        "do so in training only); let its forward return the logits alone, or name a layer to put a head on: KD(…, "
        "head=layer)",
    ):
        rdl.Trainer(student, [rdl.KD(network_teacher())], task_loss=None).fit(loader(), epochs=1)
    with raises(
        TypeError,
        "the task loss cross_entropy failed on an output that is a max, not a Tensor: cross_entropy_loss(): argument "
        "'input' (position 1) must be Tensor, not torch.return_types.max; give task_loss= a function (output, labels) "
        "that takes the part that is meant, in training and in eval mode (some networks return something else)",
    ):
        rdl.Trainer(student).fit(loader(), epochs=1)
    assert_same(weights(student), before)
    by_head = [rdl.KD(network_teacher(), head="net.act")]
    rdl.Trainer(student, by_head, task_loss=lambda output, y: output[0].square().mean()).fit(loader(), epochs=1)


def test_a_teacher_whose_output_is_no_tensor():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = network(dropout=0.0)

        def forward(self, x):
            return {"logits": self.net(x)}

    message = (
        "the teacher's output is a dict, and distances and logits need a Tensor; name a layer of the network, or let "
        "its forward return the part that is meant"
    )
    for one in (rdl.KD(rdl.NetworkTeacher(Two(), [])), rdl.RKD(rdl.NetworkTeacher(Two(), []), {"two": "output"})):
        with raises(TypeError, message):
            rdl.Trainer(network(), [one]).fit(loader(), epochs=1)
    with raises(
        ValueError,
        "KD needs logits, (images, classes), and the teacher's output has shape (6, 5, 1); let the network end in a "
        "classifier, or take a Hint",
    ):
        teacher = rdl.NetworkTeacher(nn.Sequential(nn.Linear(4, 5), nn.Unflatten(1, (5, 1))), [])
        rdl.Trainer(network(), [rdl.KD(teacher)]).fit(loader(), epochs=1)


# the scale of a teacher's images


def test_images_on_another_scale_than_the_teacher_was_trained_on():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten())
    images = torch.randn(40, 3, 6, 6)
    one = lambda teacher: rdl.Trainer(nn.Sequential(nn.Flatten(), nn.Linear(108, 4)), [rdl.RKD(teacher, {"1": "1"})])  # noqa: E731
    task = lambda x: [(x[:8], torch.zeros(8, dtype=torch.int64))]  # noqa: E731
    one(rdl.NetworkTeacher(model, ["1"])).fit(task(50 * images), epochs=1)  # it has seen nothing yet
    for _ in range(60):
        model(images)
    one(rdl.NetworkTeacher(model, ["1"])).fit(task(images), epochs=1)
    for x in (50 * images, 0.2 * images + 0.5):
        history, messages = said(lambda x=x: one(rdl.NetworkTeacher(model, ["1"])).fit(task(x), epochs=1))
        (message,) = messages
        assert history.attrs["warnings"] == messages
        assert message.startswith("layer '1' of the teacher normalises by statistics of its training, and gets values ")
        assert message.endswith(
            "the teacher seems to see images on another scale than it was trained on; give preprocess= the "
            "normalisation that it was trained with"
        )
    one(rdl.NetworkTeacher(model, ["1"], preprocess=lambda x: (x - 0.5) / 0.2)).fit(task(0.2 * images + 0.5), epochs=1)
