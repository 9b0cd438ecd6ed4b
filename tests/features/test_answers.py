"""A layer's answers are patterns of stimuli: one for each, the same whatever else is in the batch, on every road."""

import copy
import re
import threading
import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional

import brainrdl as rdl
from brainrdl.features.answers import alike, check_answers, difference
from brainrdl.features.networks import copy_of, train_as_set
from small_network import brain, data, loader, network, raises, stimuli, weights

DEPENDS = (
    "it depends on the other stimuli or on chance, as BatchNorm without running statistics does, or dropout that is on "
    "in eval mode; distances need responses that do not"
)


class Odd(nn.Module):
    """A network whose layer `odd` does what it is told."""

    def __init__(self, do):
        super().__init__()
        torch.manual_seed(0)
        self.one, self.odd, self.out = nn.Linear(4, 6), nn.Identity(), nn.Linear(6, 3)
        self.do = do

    def forward(self, x):
        h = self.one(x)
        self.odd(self.do(h))
        return self.out(h)


ODD = {
    "chance": lambda h: functional.dropout(h, 0.5),
    "the batch's mean": lambda h: h - h.mean(dim=0),
    "the first stimulus": lambda h: h - h[:1],
    "its neighbour": lambda h: h + h.roll(1, dims=0),
    "its place": lambda h: h + torch.arange(len(h))[:, None],
    "no running statistics": nn.BatchNorm1d(6, track_running_stats=False),
}
ON_TOKENS = {
    "tokens first": lambda h: h.expand(10, -1, -1),
    "as many tokens as stimuli": lambda h: h.expand(6, -1, -1),
    "the mean of the batch": lambda h: h.mean(dim=0, keepdim=True),
}


def asked_twice(teacher):
    return [teacher(data(6)[0]) for _ in range(2)]


ROADS = {
    "teacher": lambda model: asked_twice(rdl.NetworkTeacher(model, ["odd"])),
    "capture": lambda model: rdl.capture(model.eval(), ["odd"], data(6)[0]),
    **{
        kind.name: lambda model, kind=kind: rdl.Trainer(
            network(), [kind(rdl.NetworkTeacher(model, ["odd"]), {"two": "odd"})]
        ).fit(loader(), epochs=1)
        for kind in (rdl.RDLTerm, rdl.RKD, rdl.SP, rdl.CKA, rdl.Hint)
    },
    "student": lambda model: rdl.Trainer(
        model, [rdl.RDLTerm(brain(), {"odd": "IT"}, stream="stimuli")], task_loss=None
    ).fit(None, epochs=1, stimuli=rdl.StimulusStream(stimuli(), batch_size=6)),
    "student of RKD": lambda model: rdl.Trainer(
        model, [rdl.RKD(rdl.NetworkTeacher(network(), ["two"]), {"odd": "two"})]
    ).fit(loader(), epochs=1),
    "deep supervision": lambda model: rdl.Trainer(model, [rdl.DeepSupervision(["odd"], 3)]).fit(loader(), epochs=1),
}


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("odd", ODD)
def test_a_layer_that_depends_on_the_batch_or_on_chance_is_refused(odd, road):
    with pytest.raises(ValueError) as error:
        ROADS[road](Odd(copy.deepcopy(ODD[odd])))
    who = {"capture": "", "teacher": "the teacher's "}.get(
        road, "the student's " if "student" in road or road == "deep supervision" else "the teacher's "
    )
    assert re.sub(r"by [\d.e+-]+ of", "by … of", str(error.value)) == (
        f"{who}layer 'odd' responds to the same image differently in another batch, by … of its largest response: "
        f"{DEPENDS}"
    )


@pytest.mark.parametrize("road", ["teacher", "rdl", "rkd", "sp", "cka", "student", "student of RKD"])
@pytest.mark.parametrize("odd", ON_TOKENS)
def test_a_layer_whose_first_dimension_is_not_the_stimuli_is_refused(odd, road):
    with pytest.raises(ValueError) as error:
        ROADS[road](Odd(ON_TOKENS[odd]))
    assert re.fullmatch(
        r"the (teacher|student)'s layer 'odd' responds to (6|3) stimuli with shape \(.+\); its first dimension must "
        "be the stimuli: name a layer whose output has them first, or put a layer behind it that moves them there",
        str(error.value),
    )


class Steps(nn.Module):
    """A network that keeps count in a buffer and in an attribute."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.two, self.norm = nn.Linear(4, 5), nn.BatchNorm1d(5)
        self.register_buffer("steps", torch.zeros(()))
        self.kept = []

    def forward(self, x):
        self.steps += 1
        self.kept.append(len(x))
        return self.norm(self.two(x))


def test_the_check_leaves_the_student_as_it_is():
    student = Steps()
    state, before = torch.get_rng_state(), weights(student)
    check_answers(copy_of(student), ["two"], data(6)[0], "the student")
    assert torch.equal(torch.get_rng_state(), state)
    assert [torch.equal(a, b) for a, b in zip(weights(student).values(), before.values(), strict=True)] == [True] * 8
    assert student.kept == []
    check_answers(student, ["two"], data(6)[0], "the student")  # one that cannot be copied: its buffers all the same
    assert [torch.equal(a, b) for a, b in zip(weights(student).values(), before.values(), strict=True)] == [True] * 8
    assert all(module.training for module in student.modules())


def test_the_check_calls_no_hooks_of_others_and_those_of_torch():
    student, calls = nn.Sequential(nn.Linear(4, 3), nn.ReLU()), []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, and in use
        nn.utils.weight_norm(student[0])
    student(data(6)[0])
    student.register_forward_hook(lambda *_: calls.append("root"))
    handle = student[0].register_forward_pre_hook(lambda *_: calls.append("layer"))
    check_answers(copy_of(student), ["0", "1"], data(6)[0])
    check_answers(student, ["0", "1"], data(6)[0])
    assert calls == []
    student(data(6)[0])
    assert calls == ["layer", "root"]
    handle.remove()
    student(data(6)[0])
    assert calls == ["layer", "root", "root"]


def test_a_network_made_for_batches_of_one_size():
    class Fixed(nn.Module):
        def __init__(self, do=lambda h: h):
            super().__init__()
            self.one, self.do = nn.Linear(4, 6), do

        def forward(self, x):
            return self.one(self.do(x.view(6, 4)))

    check_answers(Fixed(), ["one"], data(6)[0])
    with pytest.raises(ValueError, match=r"^layer 'one' responds to the same image differently in another batch, by "):
        check_answers(Fixed(ODD["its neighbour"]), ["one"], data(6)[0])


@pytest.mark.parametrize("n", [1, 2, 3, 9, 40])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rounding_and_small_batches_are_no_dependence(n, dtype):
    model = nn.Sequential(nn.Linear(4, 50), nn.ReLU(), nn.BatchNorm1d(50), nn.Linear(50, 3)).to(dtype)
    check_answers(model, ["0", "2", "3"], data(n)[0].to(dtype), output=True)
    assert model.training


def test_how_different_answers_are():
    a = torch.tensor([[1.0, 2.0]])
    assert difference(a, a + 0.1, torch.float32, torch.device("cpu")) == pytest.approx(0.05, rel=1e-5)
    assert difference(a, a + 1e-4, torch.float32, torch.device("cpu")) is None
    assert difference(a, a + 0.1, torch.bfloat16, torch.device("cpu")) is None
    assert difference(a.long(), a.long() + 1, torch.int64, torch.device("cpu")) is None


def test_which_patterns_are_alike():
    x = torch.full((5, 3), 0.3)
    assert alike(x)
    assert alike(x + 1e-8)
    assert alike(torch.zeros(5, 3))
    assert not alike(x + 1e-4 * torch.eye(5, 3))
    assert not alike(x[:1])
    assert not alike(torch.tensor([[float("nan")], [0.0]]))


# a network that writes to its input


class Normalises(nn.Module):
    def __init__(self, when=lambda module: True):
        super().__init__()
        self.two, self.when = nn.Linear(4, 5), when

    def forward(self, x):
        if self.when(self):
            x.sub_(0.5).div_(0.2)
        return self.two(x)


WRITES = (
    "{} writes to its input: whatever is given the images after it gets others, and a loader that hands out its own "
    "tensors has other data from then on; let its first layers make new tensors (x = x - mean where it says x -= mean "
    "or x.sub_(mean); inplace=False)"
)


def trained_on(images, student, terms, **options):
    return rdl.Trainer(student, terms, **options).fit([(images, data(6)[1])], epochs=2)


@pytest.mark.parametrize("term", [rdl.RDLTerm, rdl.RKD, rdl.SP, rdl.CKA, rdl.Hint])
def test_a_teacher_that_writes_to_its_input_is_refused(term):
    student = network()
    teacher = rdl.NetworkTeacher(Normalises(), ["two"])
    with raises(ValueError, WRITES.format("the teacher")):
        trained_on(data(6)[0], student, [term(teacher, {"two": "two"})])
    assert all(torch.equal(a, b) for a, b in zip(student.parameters(), network().parameters(), strict=True))
    own = rdl.NetworkTeacher(Normalises(), ["two"], preprocess=lambda images: images)
    x = data(6)[0]
    trained_on(x, network(), [term(own, {"two": "two"})])  # to a copy of its own
    assert torch.equal(x, data(6)[0])


@pytest.mark.parametrize("when", [lambda module: True, lambda module: module.training])
def test_a_student_that_writes_to_its_input_is_refused(when):
    student = Normalises(when)
    before = weights(student)
    with raises(ValueError, WRITES.format("the student")):
        trained_on(data(6)[0], student, [rdl.RDLTerm(rdl.NetworkTeacher(network(), ["two"]), {"two": "two"})])
    assert all(torch.equal(value, before[name]) for name, value in weights(student).items())
    with raises(ValueError, WRITES.format("the student")):
        rdl.Trainer(Normalises()).evaluate([data(6)])
    with raises(ValueError, WRITES.format("Normalises")):
        rdl.capture(Normalises(), ["two"], data(6)[0])


def test_a_student_that_writes_behind_torchs_back():
    class Numpy(Normalises):
        def forward(self, x):
            x.numpy()[:] -= 0.5
            return self.two(x)

    with raises(
        ValueError,
        "the student, a teacher or a term writes to the images of the batch: whatever is given them after it gets "
        "others, and a loader that hands out its own tensors has other data from then on; let it work on a copy",
    ):
        trained_on(data(6)[0], Numpy(), [rdl.RDLTerm(rdl.NetworkTeacher(network(), ["two"]), {"two": "two"})])


# modes


def test_modules_that_were_put_into_eval_mode_stay_so_in_training():
    modes = {"norm": set(), "drop": set(), "head": set()}

    def made():
        torch.manual_seed(0)
        return nn.Sequential()

    student = made()
    for name, module in (("norm", nn.BatchNorm1d(4)), ("drop", nn.Dropout(0.5)), ("head", nn.Linear(4, 3))):
        student.add_module(name, module)
        module.register_forward_hook(
            lambda module, args, output, name=name: (
                modes[name].add(module.training) if torch.is_grad_enabled() else None
            )
        )
    student.norm.eval()
    student.drop.requires_grad_(False)
    student.norm.weight.requires_grad_(False)
    before = weights(student.norm)
    term = rdl.RDLTerm(brain(), {"norm": "IT"}, stream="stimuli")
    rdl.Trainer(student, [term]).fit(loader(), epochs=2, stimuli=stimuli(), validation=loader(12))
    assert modes == {"norm": {False}, "drop": {True}, "head": {True}}
    after = weights(student.norm)
    assert all(torch.equal(after[name], before[name]) for name in before if name != "bias")
    assert not torch.equal(after["bias"], before["bias"])
    assert [module.training for module in student] == [False, True, True]
    assert [parameter.requires_grad for parameter in student.parameters()] == [False, True, True, True]


def test_a_student_in_eval_mode_throughout_is_trained_in_training_mode():
    student = nn.Sequential(nn.Dropout(), nn.Linear(2, 2)).eval()
    train_as_set(student)
    assert [module.training for module in student.modules()] == [True] * 3
    student[0].eval()
    train_as_set(student)
    train_as_set(student)
    assert [module.training for module in student.modules()] == [True, False, True]


def test_a_network_with_a_training_mode_of_its_own():
    class HoldsNorm(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.head = nn.BatchNorm1d(4), nn.Linear(4, 3)

        def train(self, mode=True):
            super().train(mode)
            self.norm.eval()
            return self

        def forward(self, x):
            return self.head(self.norm(x))

    student = HoldsNorm()  # not called yet: its norm is in training mode
    before = weights(student.norm)
    rdl.Trainer(student).fit(loader(), epochs=1)
    assert torch.equal(student.norm.running_mean, before["running_mean"])


# networks that cannot be copied or recorded


class Keeps(nn.Module):
    """A network that keeps what it answered."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.two, self.out = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x):
        self.kept = {"answers": [self.two(x)]}
        return self.out(self.kept["answers"][0].relu())


def normed(how):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, and in use
        torch.manual_seed(0)
        model = nn.Sequential(how(nn.Linear(4, 5)), nn.ReLU(), nn.Linear(5, 3))
    model(data(6)[0])
    return model


@pytest.mark.parametrize("how", [nn.utils.weight_norm, nn.utils.spectral_norm], ids=["weight_norm", "spectral_norm"])
def test_teachers_whose_weights_are_computed(how):
    model, x = normed(how), data(6)[0]
    teacher = rdl.NetworkTeacher(model, ["1"])
    expected = rdl.rdm(model.eval()[:2](x).detach())
    torch.testing.assert_close(teacher(x)["1"].double(), expected, rtol=1e-5, atol=1e-6)
    rdl.Trainer(network(), [rdl.RDLTerm(teacher, {"two": "1"})]).fit(loader(), epochs=1)
    rdl.Trainer(model, [rdl.RDLTerm(teacher, {"1": "1"})]).fit(loader(), epochs=1)
    torch.testing.assert_close(teacher(x)["1"].double(), expected, rtol=1e-5, atol=1e-6)


def test_a_teacher_that_keeps_its_answers():
    model, x = Keeps(), data(6)[0]
    model(x)
    teacher = rdl.NetworkTeacher(model, ["two"])
    torch.testing.assert_close(teacher(x)["two"].double(), rdl.rdm(model.two(x).detach()), rtol=1e-5, atol=1e-6)
    assert model.kept["answers"][0].requires_grad  # the user's stays as it is
    rdl.Trainer(model, [rdl.RDLTerm(teacher, {"two": "two"})]).fit(loader(), epochs=1)


def test_a_teacher_that_cannot_be_copied():
    model = network()
    model.lock = threading.Lock()
    with raises(
        ValueError,
        "the teacher holds a deep copy of its network, and this Sequential cannot be copied (TypeError: cannot pickle "
        "'_thread.lock' object); delete what it keeps beside its weights, or make the network anew and load its "
        "state_dict",
    ):
        rdl.NetworkTeacher(model, ["two"])
    with raises(TypeError, "model is a str; expected a torch.nn.Module, whose layers have names"):
        rdl.NetworkTeacher("resnet18", ["two"])
    # as a student it is looked at itself
    rdl.Trainer(model, [rdl.RDLTerm(rdl.NetworkTeacher(network(), ["two"]), {"two": "two"})]).fit(loader(), epochs=1)


def test_networks_whose_parameters_have_no_shape_yet():
    def lazy():
        return nn.Sequential(nn.LazyLinear(5), nn.Linear(5, 3))

    message = (
        "{} has parameters without a shape yet: '0.weight', '0.bias'; they are drawn at random when it first runs: "
        "call it on a batch of images once, or load its weights"
    )
    with raises(ValueError, message.format("the teacher")):
        rdl.NetworkTeacher(lazy(), ["0"])
    with raises(ValueError, message.format("the model")):
        rdl.layer_rdms(lazy(), stimuli(), ["0"])
    with raises(ValueError, message.format("the student")):
        rdl.Trainer(lazy()).fit(loader(), epochs=1)
    with_term = lazy()  # its first look gives it shapes
    rdl.Trainer(with_term, [rdl.DeepSupervision(["0"], 3)]).fit(loader(), epochs=1)
    assert with_term[0].weight.shape == (5, 4)


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_torchscript():
    scripted, x = torch.jit.script(network(dropout=0.0)), data(6)[0]
    mixed = nn.Sequential(scripted, nn.Linear(3, 3))
    message = (
        "layer {!r} is TorchScript, which takes no hooks, so that its responses cannot be recorded; take the Python "
        "module that was scripted or traced, or name a layer outside it"
    )
    for model, layer in ((scripted, "two"), (mixed, "0"), (mixed, "0.two")):
        with raises(ValueError, message.format(layer)):
            rdl.NetworkTeacher(model, [layer])
        with raises(ValueError, message.format(layer)):
            rdl.capture(model, [layer], x)
        with raises(ValueError, message.format(layer)):
            rdl.layer_rdms(model, stimuli(), [layer])
        with raises(ValueError, message.format(layer)):
            rdl.Trainer(model, [rdl.RDLTerm(brain(), {layer: "IT"}, stream="stimuli")]).fit(
                loader(), epochs=1, stimuli=stimuli()
            )
    assert torch.equal(rdl.NetworkTeacher(scripted, ["output"]).features(x, ["output"])["output"], scripted(x))
    assert rdl.capture(mixed, ["1"], x)[1]["1"].shape == (6, 3)
    rdl.Trainer(network(), [rdl.KD(rdl.NetworkTeacher(scripted, []))]).fit(loader(), epochs=1)
