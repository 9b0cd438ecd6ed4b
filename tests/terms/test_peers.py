import re
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

import brainrdl as rdl


def raises(error, message):
    return pytest.raises(error, match=f"^{re.escape(message)}$")


def convnet(seed=0, width=3):
    torch.manual_seed(seed)
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(1, width, 3),
            act=nn.Tanh(),
            flat=nn.Flatten(),
            fc=nn.Sequential(nn.Linear(9 * width, 2 + width), nn.Tanh()),
            out=nn.Linear(2 + width, 4),
        )
    )


STUDENT = ["conv", "act", "fc.0", "out"]


class Update:
    """One update of a student that a teacher teaches."""

    def __init__(self, term_of, n=6, classes=4, mode="task"):
        self.model, self.teacher_model = convnet(0, 3), convnet(1, 5).eval()
        self.teacher = rdl.NetworkTeacher(self.teacher_model, ["conv", "fc.0"])
        self.term = term_of(self.teacher)
        images = torch.randn(n, 1, 5, 5, generator=torch.Generator().manual_seed(2))
        labels = torch.arange(n) % classes
        output, self.features = rdl.capture(self.model, STUDENT, images, flatten=False)
        self.batch = rdl.Batch(images, labels if mode == "task" else None, None, output, torch.Generator())
        torch.manual_seed(3)
        self.term.setup({k: v.detach() for k, v in self.features.items()}, self.batch, torch.Generator())

    def __call__(self):
        return self.term(self.features, self.batch, torch.Generator())

    def student(self, layer):
        return self.features[layer].detach().double().numpy()

    def teachers(self, layer):
        _, features = rdl.capture(self.teacher_model, [layer], self.batch.images, flatten=False)
        return features[layer].detach().double().numpy()


def flat(x):
    return x.reshape(len(x), -1)


def check_gradients(update, layer, value):
    value.backward()
    parameters = dict(update.model.named_parameters())
    before = [name for name in parameters if name.split(".")[0] == "conv"]
    assert all(parameters[name].grad.isfinite().all() for name in before)
    assert sum(parameters[name].grad.abs().sum() for name in before) > 0
    assert all(p.grad is None for p in update.teacher.parameters())
    assert all(p.grad is None for p in update.teacher_model.parameters())
    heads = list(update.term.parameters())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in heads)
    assert not {id(p) for p in heads} & {id(p) for p in update.teacher.parameters()}
    return heads


def softmax(x):
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


# the formulas


def test_deep_supervision_is_the_cross_entropy_of_linear_classifiers():
    update = Update(lambda _: rdl.DeepSupervision(["conv", "fc.0"], 4))
    values = update()
    assert list(values) == ["conv", "fc.0"]
    heads = dict(zip(["conv", "fc.0"], update.term.heads.values(), strict=True))
    for layer, value in values.items():
        w, b = (p.detach().double().numpy() for p in (heads[layer].weight, heads[layer].bias))
        probability = softmax(flat(update.student(layer)) @ w.T + b)
        expected = -np.mean([np.log(row[label]) for row, label in zip(probability, update.batch.labels, strict=True)])
        assert value.item() == pytest.approx(expected, rel=1e-5)
    assert len(check_gradients(update, "conv", sum(values.values()))) == 4


def test_deep_supervision_fades_by_the_papers_schedule():
    alpha = rdl.DeepSupervision(["conv"], 4).alpha
    assert [round(alpha(epoch, 10), 8) for epoch in range(3)] == [1.0, 0.1, 0.009]
    assert rdl.DeepSupervision(["conv"], 4, alpha=0.5).alpha == 0.5


def test_a_hint_between_layers_with_positions_is_a_1_by_1_convolution():
    update = Update(lambda teacher: rdl.Hint(teacher, {"act": "act"}))
    (head,) = update.term.heads.values()
    assert (type(head), head.kernel_size) == (nn.Conv2d, (1, 1))
    value = update()["act"]
    s, t = update.student("act"), update.teachers("act")
    w, b = head.weight.detach().double().numpy()[:, :, 0, 0], head.bias.detach().double().numpy()
    squared = [(w[k] @ s[i, :, y, x] + b[k] - t[i, k, y, x]) ** 2 for i, k, y, x in np.ndindex(t.shape)]
    assert value.item() == pytest.approx(np.mean(squared), rel=1e-5)
    assert len(check_gradients(update, "act", value)) == 2


def test_a_hint_between_layers_without_positions_is_a_linear_map():
    update = Update(lambda teacher: rdl.Hint(teacher, {"fc.0": "fc.0"}))
    (head,) = update.term.heads.values()
    assert type(head) is nn.Linear
    value = update()["fc.0"]
    w, b = (p.detach().double().numpy() for p in (head.weight, head.bias))
    expected = np.mean((update.student("fc.0") @ w.T + b - update.teachers("fc.0")) ** 2)
    assert value.item() == pytest.approx(expected, rel=1e-5)
    assert len(check_gradients(update, "fc.0", value)) == 2


def test_rkd_is_the_huber_error_of_mean_normalised_distances():
    update = Update(lambda teacher: rdl.RKD(teacher, {"conv": "fc.0"}))

    def relative(x):
        pairs = [(i, j) for i in range(6) for j in range(i + 1, 6)]
        distances = np.array([np.linalg.norm(flat(x)[i] - flat(x)[j]) for i, j in pairs])
        return distances / distances.mean()

    value = update()["conv"]
    error = np.abs(relative(update.student("conv")) - relative(update.teachers("fc.0")))
    assert value.item() == pytest.approx(np.where(error <= 1, error**2 / 2, error - 0.5).mean(), rel=1e-5)
    check_gradients(update, "conv", value)


def test_rkd_is_linear_where_the_error_is_large():
    # distances of one far stimulus among five: relative ones of 0 and 3 against equal ones
    far = torch.tensor([[0.0], [0.0], [0.0], [9.0]], requires_grad=True)
    term = rdl.RKD(rdl.NetworkTeacher(nn.Sequential(nn.Identity()), ["0"]), {"x": "0"})
    batch = rdl.Batch(torch.tensor([[0.0, 0], [1.0, 0], [0.0, 0], [0.0, 0]]))
    value = term({"x": far}, batch, torch.Generator())["x"].item()
    # pairs 01 02 03 12 13 23: student 0 0 2 0 2 2, teacher 2 0 0 2 2 0
    assert value == pytest.approx(np.mean([1.5, 0, 1.5, 1.5, 0, 1.5]), rel=1e-6)


def test_sp_is_the_squared_difference_of_row_normalised_gram_matrices():
    update = Update(lambda teacher: rdl.SP(teacher, {"conv": "conv"}))

    def gram(x):
        g = flat(x) @ flat(x).T
        return g / np.linalg.norm(g, axis=1, keepdims=True)

    value = update()["conv"]
    expected = np.linalg.norm(gram(update.student("conv")) - gram(update.teachers("conv")), "fro") ** 2 / 36
    assert value.item() == pytest.approx(expected, rel=1e-4)
    check_gradients(update, "conv", value)


def test_cka_is_linear_centred_kernel_alignment():
    update = Update(lambda teacher: rdl.CKA(teacher, {"conv": "fc.0"}))
    value = update()["conv"]
    x, y = (flat(f) - flat(f).mean(axis=0) for f in (update.student("conv"), update.teachers("fc.0")))
    # Kornblith et al., Eq. 4 by features
    cka = np.linalg.norm(y.T @ x) ** 2 / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))
    assert value.item() == pytest.approx(1 - cka, rel=1e-4)
    check_gradients(update, "conv", value)


@pytest.mark.parametrize("term", [rdl.CKA, rdl.RKD])
def test_cka_and_rkd_ignore_scale_and_offset(term):
    update = Update(lambda teacher: term(teacher, {"conv": "fc.0"}))
    value = update()["conv"].item()
    update.features["conv"] = 3 * update.features["conv"] + 5
    assert update()["conv"].item() == pytest.approx(value, rel=1e-3)


@pytest.mark.parametrize("term", [rdl.CKA, rdl.SP])
@pytest.mark.parametrize(
    ("dtype", "scale"),
    [
        (torch.float32, 1e-30),
        (torch.float32, 1e-7),
        (torch.float32, 1e30),
        (torch.float64, 1e-100),
        (torch.float64, 1e99),
    ],
)
def test_no_scale_is_too_small_or_too_large(term, dtype, scale):
    """Norms of Gram matrices hold fourth powers of features."""
    teacher = rdl.NetworkTeacher(nn.Sequential(nn.Identity()), ["0"])
    images = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    features = torch.randn(6, 4, generator=torch.Generator().manual_seed(1), dtype=dtype)
    found = []
    for factor in (1.0, scale):
        x = (factor * features).requires_grad_()
        value = term(teacher, {"x": "0"})({"x": x}, rdl.Batch(images), torch.Generator())["x"]
        value.backward()
        found.append((value.item(), factor * x.grad))
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-5)
    torch.testing.assert_close(found[1][1], found[0][1], rtol=1e-4, atol=1e-7)


def test_what_rounding_leaves_of_a_constant_layer_is_not_scaled_up():
    x = (0.1 + 1e-9 * torch.randn(50, 8, generator=torch.Generator().manual_seed(0))).requires_grad_()
    teacher = rdl.NetworkTeacher(nn.Sequential(nn.Identity()), ["0"])
    value = rdl.CKA(teacher, {"x": "0"})({"x": x}, rdl.Batch(torch.randn(50, 2)), torch.Generator())["x"]
    value.backward()
    assert value.item() == pytest.approx(1.0, abs=1e-3)
    assert x.grad.abs().max() < 10  # 2e4 where it is


@pytest.mark.parametrize("term", [rdl.CKA, rdl.SP])
def test_a_dead_student_has_a_loss_and_no_gradient(term):
    x = torch.zeros(6, 3, requires_grad=True)
    teacher = rdl.NetworkTeacher(nn.Sequential(nn.Identity()), ["0"])
    value = term(teacher, {"x": "0"})({"x": x}, rdl.Batch(torch.randn(6, 2)), torch.Generator())["x"]
    value.backward()
    assert value.isfinite()
    assert (x.grad == 0).all()


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_kd_is_the_divergence_of_softened_outputs_times_t_squared(temperature):
    update = Update(lambda teacher: rdl.KD(teacher, temperature=temperature))
    value = update()["output"]
    p = softmax(update.teachers("out") / temperature)
    q = softmax(update.batch.output.detach().double().numpy() / temperature)
    assert value.item() == pytest.approx(temperature**2 * np.mean(np.sum(p * np.log(p / q), axis=1)), rel=1e-4)
    assert check_gradients(update, "output", value) == []


def test_kd_from_a_head():
    update = Update(lambda teacher: rdl.KD(teacher, head="act"))
    (head,) = update.term.heads.values()
    assert (head.in_features, head.out_features) == (27, 4)
    value = update()["act"]
    w, b = (p.detach().double().numpy() for p in (head.weight, head.bias))
    p, q = softmax(update.teachers("out") / 4), softmax((flat(update.student("act")) @ w.T + b) / 4)
    assert value.item() == pytest.approx(16 * np.mean(np.sum(p * np.log(p / q), axis=1)), rel=1e-4)
    assert len(check_gradients(update, "act", value)) == 2


@pytest.mark.parametrize("term", [rdl.RKD, rdl.SP, rdl.CKA])
def test_a_student_that_is_the_teacher_has_no_relational_loss(term):
    model = convnet().eval()
    teacher = rdl.NetworkTeacher(model, [])
    images = torch.randn(6, 1, 5, 5)
    features = rdl.capture(model, ["conv", "fc"], images, flatten=False)[1]
    values = term(teacher, {"conv": "conv", "fc": "fc"})(features, rdl.Batch(images), torch.Generator())
    assert [value.item() for value in values.values()] == pytest.approx([0.0, 0.0], abs=1e-6)


def test_duplicate_stimuli_have_finite_gradients():
    for term in (rdl.RKD, rdl.SP, rdl.CKA):
        x = torch.randn(4, 3).repeat(2, 1).requires_grad_()
        teacher = rdl.NetworkTeacher(nn.Sequential(nn.Identity()), ["0"])
        value = term(teacher, {"x": "0"})({"x": x}, rdl.Batch(torch.randn(8, 2)), torch.Generator())["x"]
        value.backward()
        assert x.grad.isfinite().all()


def test_features_in_half_precision():
    for term in (rdl.RKD, rdl.SP, rdl.CKA):
        teacher = rdl.NetworkTeacher(nn.Sequential(nn.Identity()), ["0"])
        x = torch.randn(8, 3, generator=torch.Generator().manual_seed(0)).bfloat16()
        images = torch.randn(8, 2, generator=torch.Generator().manual_seed(1))
        values = [
            term(teacher, {"x": "0"})({"x": features}, rdl.Batch(images), torch.Generator())["x"]
            for features in (x, x.float())
        ]
        assert values[0].dtype == torch.float32
        assert values[0].item() == values[1].item()


# one pass of the teacher


def test_one_forward_pass_of_the_teacher_per_update_however_many_terms_ask():
    model = convnet()
    teacher = rdl.NetworkTeacher(convnet(1, 5), ["conv", "fc.0"])
    passes = []
    teacher._model.register_forward_pre_hook(lambda module, args: passes.append(args[0]))
    terms = [
        rdl.Hint(teacher, {"act": "act"}),
        rdl.RDLTerm(teacher, {"conv": "conv", "fc.0": "fc.0"}, n_pairs=5),
        rdl.KD(teacher),
        rdl.CKA(teacher, {"fc": "fc"}),
        rdl.SP(teacher, {"flat": "flat"}),
    ]
    loader = [(torch.randn(6, 1, 5, 5), torch.tensor([0, 1, 2, 3, 0, 1])) for _ in range(3)]
    optimizer_made = []

    def optimizer(parameters):
        optimizer_made.append(len(passes))
        return torch.optim.SGD(parameters, lr=0.01)

    rdl.Trainer(model, terms, optimizer=optimizer).fit(loader, epochs=2)
    assert len(passes) - optimizer_made[0] == 6
    assert all(seen is images for seen, (images, _) in zip(passes[-3:], loader, strict=True))


# requests that cannot be met


@pytest.mark.parametrize("term", [rdl.Hint, rdl.RKD, rdl.SP, rdl.CKA])
def test_terms_that_read_features_need_a_network(term):
    rdms = rdl.label_rdms(np.ones((1, 3)), ["a", "b", "c"], ["IT"], "mse")
    with raises(TypeError, f"{term.__name__} needs a NetworkTeacher, whose features it reads; got MeasuredTeacher"):
        term(rdl.MeasuredTeacher(rdms), {"fc": "IT"})


def test_kd_needs_a_network():
    rdms = rdl.label_rdms(np.ones((1, 3)), ["a", "b", "c"], ["IT"], "mse")
    with raises(TypeError, "KD needs a NetworkTeacher, whose features it reads; got MeasuredTeacher"):
        rdl.KD(rdl.MeasuredTeacher(rdms))


@pytest.mark.parametrize("temperature", [0, -1.0, float("nan"), float("inf")])
def test_a_temperature_is_above_zero(temperature):
    with raises(ValueError, f"temperature must be a finite number above 0, got {temperature}"):
        rdl.KD(rdl.NetworkTeacher(convnet(), []), temperature=temperature)


def test_kd_between_other_classes():
    with raises(
        ValueError,
        "the student returns (4,) values per image, the teacher with (6,); for other classes name a student layer "
        "to put a head on: KD(…, head=layer)",
    ):
        Update(lambda _: rdl.KD(rdl.NetworkTeacher(nn.Sequential(nn.Flatten(), nn.Linear(25, 6)), [])))


@pytest.mark.parametrize(
    ("layer", "name", "shapes"),
    [
        ("conv", "fc.0", ("(3, 3, 3)", "(7,)")),
        ("fc.0", "conv", ("(5,)", "(5, 3, 3)")),
        ("conv", "0", ("(3, 3, 3)", "(1, 5, 5)")),
    ],
)
def test_a_hint_between_layers_of_other_positions(layer, name, shapes):
    def term(teacher):
        return rdl.Hint(teacher if name != "0" else rdl.NetworkTeacher(nn.Sequential(nn.Identity()), []), {layer: name})

    with raises(
        ValueError,
        f"a hint maps channels position by position: student layer {layer!r} has shape {shapes[0]}, teacher layer "
        f"{name!r} {shapes[1]}; choose layers with the same positions, or two without any",
    ):
        Update(term)


def test_a_hint_between_layers_of_tokens():
    teacher = rdl.NetworkTeacher(nn.Sequential(nn.Identity()), [])
    tokens = torch.randn(4, 6, 3)
    with raises(
        ValueError,
        "a hint maps channels position by position: student layer 'x' has shape (6, 3), teacher layer '0' (6, 3); "
        "choose layers with the same positions, or two without any",
    ):
        rdl.Hint(teacher, {"x": "0"}).setup({"x": tokens}, rdl.Batch(tokens), torch.Generator())


def test_deep_supervision_needs_labels():
    with raises(ValueError, "deep supervision needs labels, and this stream has none"):
        Update(lambda _: rdl.DeepSupervision(["fc.0"], 4), mode="stimuli")()


@pytest.mark.parametrize("layer", ["values", "type", "keys", "a.b"])
def test_heads_of_layers_with_any_name(layer):
    term = rdl.DeepSupervision([layer], 2)
    features = {layer: torch.randn(4, 3)}
    batch = rdl.Batch(torch.zeros(4, 1), torch.tensor([0, 1, 0, 1]))
    term.setup(features, batch, torch.Generator())
    assert list(term(features, batch, torch.Generator())) == [layer]


def test_manifests():
    teacher = rdl.NetworkTeacher(convnet(), [])
    assert rdl.DeepSupervision(["a"], 4).describe() == {"layers": ["a"], "stream": "task", "n_classes": 4}
    for term in (rdl.Hint, rdl.RKD, rdl.SP, rdl.CKA):
        assert term(teacher, {"a": "b"}).describe() == {"layers": ["a"], "stream": "task", "targets": {"a": "b"}}
        assert term(teacher, {"a": "b"}).teachers() == (teacher,)
    assert rdl.KD(teacher, head="a", stream="stimuli").describe() == {
        "layers": ["a"],
        "stream": "stimuli",
        "temperature": 4.0,
        "head": "a",
    }
    assert rdl.KD(teacher).teachers() == (teacher,)
