import re

import pytest
import torch
from torch import nn

import brainrdl as rdl
from brainrdl.training import run as _run
from brainrdl.training.checkpoint import save_checkpoint
from brainrdl.training.finite import FiniteGuard, Value
from brainrdl.training.machine import memory_for
from small_network import IDS, assert_same, brain_term, data, loader, network, raises, weights


class BadGradient(torch.autograd.Function):
    """The identity, whose gradient is not finite."""

    @staticmethod
    def forward(ctx, x, factor):
        ctx.factor = factor
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * ctx.factor, None


class Spoils(rdl.Term):
    """Finite values, but from update `at` on a gradient that is not finite at layer "two"."""

    name = "spoils"

    def __init__(self, at, factor, **options):
        super().__init__(["one", "two"], **options)
        self.at, self.factor, self.updates, self.before = at, factor, 0, []

    def __call__(self, features, batch, generator):
        factor = self.factor if self.updates == self.at else 1.0
        self.updates += 1
        two = BadGradient.apply(features["two"], factor)
        return {"one": features["one"].square().mean(), "two": two.square().mean()}


SPOILT = (
    r"^the gradient of 'one\.weight', 'one\.bias', 'two\.weight', 'two\.bias' is not finite in epoch 2, update 3"
    r": task_loss = [\d.]+, spoils/one = [\d.e-]+, spoils/two = [\d.e-]+\. That update was not "
    r"applied, and training stopped\. Lower the learning rate or α, or look for images or targets with values "
    r"that are not finite$"
)


@pytest.mark.parametrize("factor", [float("inf"), float("nan")])
@pytest.mark.parametrize("log_every", [None, 3, 50])
def test_a_gradient_that_is_not_finite_stops_before_the_update(monkeypatch, factor, log_every):
    if log_every is not None:  # as on an accelerator
        monkeypatch.setattr(_run, "updates_between_reads", lambda device, log_every: log_every)
    student, before = network(), []
    student.register_forward_pre_hook(lambda m, args: before.append(weights(m)) if m.training else None)
    with pytest.raises(FloatingPointError, match=SPOILT):
        rdl.Trainer(student, [Spoils(6, factor)]).fit(loader(), epochs=3, log_every=log_every or 50)
    assert_same(weights(student), before[6])
    assert not torch.equal(before[6]["one.weight"], before[5]["one.weight"])


@pytest.mark.parametrize("factor", [float("inf"), float("nan")])
def test_a_fused_optimiser_leaves_the_update_out_itself(monkeypatch, factor):
    monkeypatch.setattr(_run, "updates_between_reads", lambda device, log_every: log_every)
    made = []

    def fused(parameters):
        made.append(torch.optim.SGD(parameters, lr=0.05, momentum=0.9, fused=True))
        return made[-1]

    student, before = network(), []
    student.register_forward_pre_hook(lambda m, args: before.append(weights(m)) if m.training else None)
    with pytest.raises(FloatingPointError, match=SPOILT):
        rdl.Trainer(student, [Spoils(6, factor)], optimizer=fused).fit(loader(), epochs=3)
    assert_same(weights(student), before[6])
    assert not torch.equal(before[6]["one.weight"], before[5]["one.weight"])
    assert not hasattr(made[0], "found_inf")


def test_a_gradient_of_a_head_is_named_by_its_term():
    term = rdl.DeepSupervision(["act"], 3, alpha=1.0)
    setup = term.setup

    def with_a_bad_head(*args):
        setup(*args)
        term.heads["act/"].bias.register_hook(lambda gradient: gradient * float("nan"))

    term.setup = with_a_bad_head
    with pytest.raises(FloatingPointError, match=r"^the gradient of 'deep_supervision/act/\.bias' is not finite in "):
        rdl.Trainer(network(), [term]).fit(loader(), epochs=1)


def one_update(gradients, every=1):
    parameters = {name: nn.Parameter(torch.zeros_like(g)) for name, g in gradients.items()}
    for name, parameter in parameters.items():
        parameter.grad = gradients[name]
    guard = FiniteGuard(torch.optim.SGD(list(parameters.values()), lr=1e-30), parameters, every=every)
    guard.step([Value("task_loss", torch.tensor(1.0), 1.0)], "here")
    guard.check()
    return parameters


@pytest.mark.parametrize("every", [1, 2])
def test_finite_gradients_pass_however_large_or_empty(every):
    huge = torch.full((4,), 3e38)  # the sum of squares overflows
    gradients = {"huge": huge, "empty": torch.zeros(0), "wide": torch.full((2,), 1e300, dtype=torch.float64)}
    assert one_update(gradients | {"huge": huge}, every)["huge"].tolist() == (-huge * 1e-30).tolist()


def test_a_sparse_gradient():
    table = nn.Embedding(5, 2, sparse=True)
    guard = FiniteGuard(torch.optim.SGD(table.parameters(), lr=1.0), dict(table.named_parameters()), every=1)
    table(torch.tensor([1, 1])).sum().backward()
    before = table.weight.detach().clone()
    guard.step([Value("task_loss", torch.tensor(1.0), 1.0)], "here")
    assert torch.equal(table.weight[1], before[1] - 2)
    table.weight.grad = None
    (table(torch.tensor([3])).sum() * torch.nan).backward()
    with pytest.raises(FloatingPointError, match=r"^the gradient of 'weight' is not finite in there: task_loss = 1\."):
        guard.step([Value("task_loss", torch.tensor(1.0), 1.0)], "there")


def test_where_a_scaler_looks_at_the_gradients():
    parameters = {"w": nn.Parameter(torch.zeros(1))}
    parameters["w"].grad = torch.tensor([torch.inf])
    guard = FiniteGuard(torch.optim.SGD(parameters.values(), lr=0.0), parameters, every=1, gradients=False)
    guard.step([Value("task_loss", torch.tensor(1.0), 1.0)], "here")


# α


@pytest.mark.parametrize(
    ("schedule", "value"),
    [
        (lambda epoch, epochs: 1.0 if epoch < 2 else float("nan"), "nan"),
        (lambda epoch, epochs: {"one": 1.0, "two": 1.0 if epoch < 2 else -0.5}, "-0.5"),
        (lambda epoch, epochs: 1.0 if epoch < 2 else float("inf"), "inf"),
        (lambda epoch, epochs: 1.0 if epoch < 2 else None, "None"),
    ],
)
def test_an_alpha_that_a_schedule_spoils_later_is_refused_before_training(schedule, value):
    student = network()
    layer = "two" if value == "-0.5" else "one"
    with raises(
        ValueError,
        f"alpha of layer '{layer}' is {value} in epoch 3 of 3; a schedule, which is called with (2, 3) there, returns "
        "finite numbers of at least 0",
    ):
        rdl.Trainer(student, [Spoils(-1, 1.0, alpha=schedule)]).fit(loader(), epochs=3)
    assert_same(weights(student), weights(network()))


def test_a_schedule_of_one_argument():
    with raises(
        TypeError,
        "a schedule is called with (epoch, epochs), and alpha takes (epoch) (too many positional arguments); write "
        "lambda epoch, epochs: …",
    ):
        Spoils(0, 1.0, alpha=lambda epoch: 1.0)
    assert Spoils(0, 1.0, alpha=max).alpha is max  # it does not tell what it takes
    assert Spoils(0, 1.0, alpha=lambda *args: 1.0).alpha(0, 1) == 1.0


@pytest.mark.parametrize("alpha", ["1", None, [1.0], float("nan"), -1.0])
def test_an_alpha_that_is_no_number(alpha):
    with raises(ValueError, f"alpha must be a finite number of at least 0, got {alpha!r}"):
        Spoils(0, 1.0, alpha=alpha)


# a teacher that fails


def spoilt_teacher(metric="mse"):
    model = network(7, dropout=0.0)
    with torch.no_grad():
        model.two.weight[0, 0] = torch.nan
    return rdl.NetworkTeacher(model, ["one", "two"], metric)


NOT_FINITE = (
    "the teacher's {} is not finite (NaN or infinite) for 6 of 6 images, the first at position 0 of the batch; look at "
    "these images and at the teacher's parameters"
)


@pytest.mark.parametrize("metric", ["mse", "correlation"])
def test_a_teacher_that_answers_nan_is_not_unmeasured(metric):
    teacher = spoilt_teacher(metric)
    with raises(FloatingPointError, NOT_FINITE.format("layer 'two'")):
        teacher(data(6)[0])
    with raises(FloatingPointError, NOT_FINITE.format("output")):
        teacher.features(data(6)[0], ["one", "output"])
    term = rdl.RDLTerm(teacher, {"two": "two"})
    with raises(FloatingPointError, NOT_FINITE.format("layer 'two'")):
        rdl.Trainer(network(), [term]).fit(loader(), epochs=1)
    assert teacher.features(data(6)[0], ["one"])["one"].isfinite().all()


def test_distances_that_overflow_are_not_unmeasured():
    distances = rdl.NetworkTeacher(network(), ["one"]).distances(torch.tensor([[3e38], [-3e38], [torch.nan]]))
    assert distances.tolist() == [float("inf")] * 3


@pytest.mark.parametrize("compare", ["mse", "corr", "cosine"])
def test_a_target_that_is_infinite(compare):
    target = torch.tensor([1.0, torch.inf, 2.0])
    with raises(
        ValueError,
        "target holds infinite distances; mark a pair that was not measured by NaN, or find what made them",
    ):
        rdl.rdl_loss(torch.randn(3, 2), target, compare=compare)
    # a pair that is not asked for does not matter
    pairs = torch.tensor([[0, 1], [1, 2]])
    assert rdl.rdl_loss(torch.randn(3, 2), target, compare=compare, pairs=pairs).isfinite()


@pytest.mark.parametrize("alpha0", [float("nan"), -1.0, float("inf")])
def test_a_relative_alpha_that_is_no_weight(alpha0):
    teacher = rdl.NetworkTeacher(network(), ["one"])
    with raises(ValueError, f"alpha must be a finite number of at least 0, got {alpha0}"):
        rdl.relative_alpha(alpha0, teacher, data(6)[0], {"one": "one"})


def test_relative_alpha_of_images_of_another_type():
    teacher = rdl.NetworkTeacher(network(), ["one"])
    with pytest.raises(
        TypeError,
        match=r"^the teacher has parameters of torch\.float32 and got images of torch\.uint8 \(.+\); convert the "
        + re.escape("images, as in images.to(torch.float32) / 255")
        + "$",
    ):
        rdl.relative_alpha(1.0, teacher, torch.zeros(6, 4, dtype=torch.uint8), {"one": "one"})


# weights


def far(parameters):
    return torch.optim.SGD(parameters, lr=1e38)


def test_weights_that_are_not_finite_after_the_last_update(tmp_path):
    path, (x, y) = tmp_path / "run", data(6)
    with raises(
        FloatingPointError,
        "'0.weight' is not finite after epoch 1, update 1, whose loss and gradient were. No "
        "checkpoint was written of it, and training stopped. Lower the learning rate or α",
    ):
        rdl.Trainer(nn.Sequential(nn.Linear(4, 3)), optimizer=far).fit([(1e3 * x, y)], epochs=1, checkpoint=path)
    assert not path.exists()


def test_buffers_that_are_not_finite_after_the_last_update():
    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = network()
            self.register_buffer("mean", torch.zeros(1))
            self.register_buffer("mask", torch.full((2,), -torch.inf))  # which is meant

        def forward(self, x):
            self.mean += torch.inf if self.training else 0.0
            return self.net(x)

    with raises(
        FloatingPointError,
        "'mean' is not finite after epoch 1, update 4, whose loss and gradient were. No "
        "checkpoint was written of it, and training stopped. Lower the learning rate or α",
    ):
        rdl.Trainer(Counts()).fit(loader(), epochs=1)


def test_heads_that_are_not_finite_after_the_last_update():
    class Far(rdl.DeepSupervision):
        def __call__(self, *args):
            with torch.no_grad():
                self.heads["act/"].bias.fill_(torch.nan)
            return {"act": self.heads["act/"].weight.sum()}

    with pytest.raises(
        FloatingPointError, match=r"^'deep_supervision/act/\.bias' is not finite after epoch 1, update "
    ):
        rdl.Trainer(network(), [Far(["act"], 3)]).fit(loader(), epochs=1)


def test_a_finished_run_with_weights_that_are_not_finite(tmp_path):
    path = tmp_path / "run"
    rdl.Trainer(network()).fit(loader(), epochs=1, checkpoint=path)
    state = torch.load(path, weights_only=True)
    state["student"]["two.bias"][0] = torch.nan
    save_checkpoint(state, path)
    with pytest.raises(FloatingPointError, match=r"^'two\.bias' is not finite after epoch 1, "):
        rdl.Trainer(network()).fit(loader(), epochs=1, checkpoint=path)


# validation


class Overflows(nn.Module):
    """Finite in training, and not in eval mode."""

    def forward(self, x):
        return x if self.training else x * float("inf")


def test_a_validation_loss_that_is_not_finite_is_said_and_stays_in_the_history():
    student = nn.Sequential(nn.Linear(4, 3), Overflows())
    message = (
        "the loss on the validation images is nan, though that of training was finite: look for images that are not, "
        "and for layers that do otherwise in eval mode"
    )
    with pytest.warns(UserWarning, match=f"^{message}$"):
        history = rdl.Trainer(student).fit(loader(), epochs=2, validation=loader(12))
    assert history["validation_loss"].isna().all()
    assert history["task_loss"].notna().all()
    assert history.attrs["warnings"] == [message]


# the images


@pytest.mark.parametrize("ids", [True, False])
def test_images_that_are_not_finite_are_named(ids):
    x, y = data(6)
    x[2, 1], x[4, 0] = torch.nan, torch.inf
    batch = (x, y, list("abcdef")) if ids else (x, y)
    where = "'c', 'e'" if ids else "'position 2', 'position 4'"
    with raises(
        FloatingPointError,
        "task_loss is nan in epoch 1, update 1: task_loss = nan. That update was not applied, "
        "and training stopped. Lower the learning rate or α, or look for images or targets with values that are not "
        f"finite; in the task batch the images of {where} are not finite",
    ):
        rdl.Trainer(network()).fit([batch], epochs=1)


def test_stimuli_that_are_not_finite_are_named():
    images = torch.randn(8, 4)
    images[5, 1] = torch.nan
    spoilt = rdl.StimulusSet.from_arrays(images, IDS)
    with pytest.raises(FloatingPointError, match=r"; in the stimulus batch the images of 'f' are not finite$"):
        rdl.Trainer(network(), [brain_term()]).fit(None, stimuli=spoilt, epochs=1)


# memory


class Hog(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = network()

    def forward(self, x):
        torch.empty(len(x) * 10**13)
        return self.net(x)


def test_memory_that_ran_out_is_named_with_its_update():
    with pytest.raises(
        RuntimeError,
        match=r"^memory ran out in epoch 1, update 1: .*can't allocate memory.*; take smaller "
        r"batches, or compare fewer layers or pairs$",
    ):
        rdl.Trainer(Hog()).fit(loader(), epochs=1)


@pytest.mark.parametrize("kind", [MemoryError, torch.OutOfMemoryError])
def test_an_error_of_memory_keeps_its_type(kind):
    with (
        raises(kind, "memory ran out in there: none left; take smaller batches, or compare fewer layers or pairs"),
        memory_for("there"),
    ):
        raise kind("none left")
    with raises(RuntimeError, "another one"), memory_for("there"):
        raise RuntimeError("another one")
