import re
import weakref
from collections import OrderedDict

import pytest
import torch
from lightning_fabric import Fabric
from torch import nn
from torch.utils.checkpoint import checkpoint

import brainrdl as rdl


def raises(error, message):
    return pytest.raises(error, match=f"^{re.escape(message)}$")


def net():
    torch.manual_seed(0)
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(1, 3, 3),
            relu=nn.ReLU(inplace=True),
            body=nn.Sequential(nn.Flatten(), nn.Linear(27, 4), nn.ReLU(inplace=True)),
            out=nn.Linear(4, 2),
        )
    )


def images(n=5):
    return torch.randn(n, 1, 5, 5, generator=torch.Generator().manual_seed(1))


def hooks(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


class Wrapper(nn.Module):
    def __init__(self, name, model):
        super().__init__()
        self.add_module(name, model)
        self.inner = name

    def forward(self, x):
        return getattr(self, self.inner)(x)


class Calls(nn.Module):
    """Calls what it is told to, in order."""

    def __init__(self, calls, **children):
        super().__init__()
        self.calls = calls
        for name, child in children.items():
            self.add_module(name, child)

    def forward(self, x):
        for name in self.calls:
            x = getattr(self, name)(x)
        return x


class Parts(nn.Module):
    """A layer that returns something else than a tensor."""

    def __init__(self, make):
        super().__init__()
        self.make = make

    def forward(self, x):
        return self.make(x)


class Last(nn.Module):
    def __init__(self, layer, take):
        super().__init__()
        self.layer = layer
        self.take = take

    def forward(self, x):
        return self.take(self.layer(x))


# names


def test_layers_are_listed_in_the_order_of_registration():
    assert rdl.list_layers(net()) == ["conv", "relu", "body", "body.0", "body.1", "body.2", "out"]


@pytest.mark.parametrize("prefix", ["module", "_orig_mod", "_forward_module"])
def test_a_wrappers_prefix_is_not_part_of_a_name(prefix):
    model = net()
    wrapped = Wrapper(prefix, model)
    assert rdl.list_layers(wrapped) == rdl.list_layers(model)
    expected = rdl.capture(model, ["body.1"], images())[1]["body.1"]
    for name in ("body.1", f"{prefix}.body.1"):
        assert torch.equal(rdl.capture(wrapped, [name], images())[1][name], expected)


def test_wrappers_within_wrappers():
    model = net()
    wrapped = Wrapper("_forward_module", Wrapper("module", Wrapper("_orig_mod", model)))
    assert rdl.list_layers(wrapped) == rdl.list_layers(model)
    name = "_forward_module.module._orig_mod.conv"
    features = rdl.capture(wrapped, [name, "conv"], images())[1]
    assert torch.equal(features[name], features["conv"])
    assert torch.equal(features["conv"], model.conv(images()).flatten(1))


def test_a_prefix_is_understood_where_there_is_no_wrapper():
    features = rdl.capture(net(), ["module.conv"], images())[1]
    assert list(features) == ["module.conv"]


def test_a_networks_own_child_called_module_is_no_wrapper():
    model = Calls(["module", "fc"], module=Calls(["fc"], fc=nn.Linear(2, 3)), fc=nn.Linear(3, 4))
    assert rdl.list_layers(model) == ["module", "module.fc", "fc"]
    features = rdl.capture(model, ["fc", "module.fc", "module"], torch.ones(2, 2))[1]
    assert {name: value.shape[1] for name, value in features.items()} == {"fc": 4, "module.fc": 3, "module": 3}


def test_a_data_parallel_model():
    model = net()
    assert rdl.list_layers(nn.DataParallel(model)) == rdl.list_layers(model)


def test_the_compiled_and_the_fabric_wrapped_model_list_the_same_layers():
    model = net()
    names = rdl.list_layers(model)
    assert rdl.list_layers(torch.compile(model, backend="eager")) == names
    assert rdl.list_layers(Fabric(accelerator="cpu", devices=1).setup(model)) == names


def test_a_shared_module_answers_by_both_names():
    shared = nn.Linear(2, 3)
    model = Calls(["a"], a=shared, b=nn.Sequential(shared))
    assert rdl.list_layers(model) == ["a", "b", "b.0"]
    x = torch.ones(2, 2)
    features = rdl.capture(model, ["a", "b.0"], x)[1]
    assert torch.equal(features["a"], shared(x))
    assert torch.equal(features["b.0"], shared(x))


@pytest.mark.parametrize(
    ("layer", "hint"),
    [
        ("cnov", "did you mean 'conv'?"),
        ("body.3", "did you mean 'body.2' or 'body.1' or 'body.0'?"),
        ("module.cnov", "did you mean 'conv'?"),
        ("quite another", "list_layers(model) lists them all"),
        ("", "list_layers(model) lists them all"),
        ("module", "list_layers(model) lists them all"),
    ],
)
def test_an_unknown_layer(layer, hint):
    model = net()
    with raises(ValueError, f"Sequential has no layer {layer!r}; {hint}"):
        rdl.capture(model, ["conv", layer], images())
    assert hooks(model) == 0


def test_a_single_string_is_no_list_of_layers():
    message = "layers must be a list of names, got the single string 'conv'; write ['conv']"
    with raises(ValueError, message):
        rdl.capture(net(), "conv", images())


def test_a_layer_named_twice():
    with raises(ValueError, "layers names a layer twice: 'conv', 'out', 'conv'"):
        rdl.Recorder(net(), ["conv", "out", "conv"])


# what is recorded


def test_features_are_what_the_layer_answered_not_what_an_inplace_relu_left():
    model, x = net(), images()
    raw = nn.functional.conv2d(x, model.conv.weight, model.conv.bias)
    assert (raw < 0).any()
    output, features = rdl.capture(model, ["conv", "relu", "body.1", "body"], x)
    assert torch.equal(features["conv"], raw.flatten(1))
    assert torch.equal(features["relu"], raw.relu().flatten(1))
    linear = model.body[1](raw.relu().flatten(1))
    assert (linear < 0).any()
    assert torch.equal(features["body.1"], linear)
    assert torch.equal(features["body"], linear.relu())
    assert torch.equal(output, model(x))


def test_features_keep_their_shape_unless_flattened():
    features = rdl.capture(net(), ["conv", "out"], images(), flatten=False)[1]
    assert features["conv"].shape == (5, 3, 3, 3)
    assert features["out"].shape == (5, 2)


def test_features_come_in_the_order_asked_for():
    assert list(rdl.capture(net(), ["out", "conv"], images())[1]) == ["out", "conv"]


def test_one_number_per_stimulus_is_one_unit():
    model = nn.Sequential(nn.Linear(3, 2), Parts(lambda x: x[:, 0]))
    assert rdl.capture(model, ["1"], torch.ones(4, 3))[1]["1"].shape == (4, 1)


def test_gradients_flow_through_features():
    model, x = net(), images()
    output, features = rdl.capture(model, ["conv"], x)
    features["conv"].square().sum().backward()
    expected = torch.autograd.grad(
        nn.functional.conv2d(x, model.conv.weight, model.conv.bias).square().sum(), model.conv.weight
    )
    assert torch.equal(model.conv.weight.grad, expected[0])
    assert model.out.weight.grad is None
    assert output.requires_grad


def test_the_mode_of_the_model_stays_as_it_is():
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5))
    for training in (True, False):
        model.train(training)
        rdl.capture(model, ["0"], torch.randn(4, 3))
        assert [m.training for m in model.modules()] == [training] * 3


def test_no_layers_is_a_plain_forward_pass():
    output, features = rdl.capture(net(), [], images())
    assert torch.equal(output, net()(images()))
    assert features == {}


def test_the_input_need_not_be_a_tensor():
    model = nn.Sequential(Parts(lambda x: x["image"]), nn.Linear(3, 2))
    assert rdl.capture(model, ["1"], {"image": torch.ones(4, 3)})[1]["1"].shape == (4, 2)


def test_features_of_another_length_than_the_batch():
    model = nn.Sequential(nn.Linear(3, 2), Parts(lambda x: x.repeat(2, 1)))
    message = (
        "layer '1' returned 8 rows to 4 stimuli; its first dimension must be the stimuli: give "
        "select={layer: function} to move it there"
    )
    with raises(ValueError, message):
        rdl.capture(model, ["1"], torch.ones(4, 3))
    x = torch.randn(4, 3)
    features = rdl.capture(model, ["1"], x, select={"1": lambda out: out[:4]})[1]
    assert torch.equal(features["1"], model[0](x))


# tuples and dicts

TUPLE = Last(Parts(lambda x: (x, 2 * x)), lambda out: out[0])
DICT = Last(Parts(lambda x: {"tokens": x, "pooled": 3 * x}), lambda out: out["tokens"])


@pytest.mark.parametrize(
    ("model", "answer"), [(TUPLE, "a tuple"), (DICT, "keys ['tokens', 'pooled']")], ids=["tuple", "dict"]
)
def test_a_layer_that_answers_with_several_things(model, answer):
    message = (
        f"layer 'layer' returns {answer}, not a tensor; say which part is meant: "
        "select={'layer': index, key or function}"
    )
    with raises(TypeError, message):
        rdl.capture(model, ["layer"], torch.ones(2, 3))
    assert hooks(model) == 0


@pytest.mark.parametrize(
    ("model", "select", "factor"),
    [
        (TUPLE, 0, 1),
        (TUPLE, 1, 2),
        (TUPLE, -1, 2),
        (TUPLE, lambda out: out[0] + out[1], 3),
        (DICT, "pooled", 3),
        (DICT, "tokens", 1),
    ],
)
def test_select_says_which_part_is_meant(model, select, factor):
    x = torch.randn(2, 3)
    features = rdl.capture(model, ["layer"], x, select={"layer": select})[1]
    assert torch.equal(features["layer"], factor * x)


@pytest.mark.parametrize(
    ("model", "select", "where"),
    [(TUPLE, 2, "a tuple"), (TUPLE, "pooled", "a tuple"), (DICT, "polled", "['tokens', 'pooled']")],
)
def test_select_finds_nothing(model, select, where):
    message = f"select['layer'] = {select!r} finds nothing in the layer's output: {where}"
    with raises(TypeError, message):
        rdl.capture(model, ["layer"], torch.ones(2, 3), select={"layer": select})


def test_select_must_name_a_layer_that_is_recorded():
    with raises(ValueError, "select names 'relu', which is not among the layers ['conv']"):
        rdl.Recorder(net(), ["conv"], select={"relu": 0})


def test_a_single_number_is_no_features():
    model = nn.Sequential(Parts(lambda x: x.sum()))
    with raises(TypeError, "layer '0' returns a single number; features need shape (stimuli, …)"):
        rdl.capture(model, ["0"], torch.ones(2, 3))


# which layers ran


def test_a_layer_that_runs_twice_is_ambiguous():
    model = Calls(["fc", "act", "fc"], fc=nn.Linear(3, 3), act=nn.ReLU())
    message = (
        "layer 'fc' ran 2 times in one forward pass, so that its features are ambiguous; give each use a module of "
        "its own, or name a layer behind it"
    )
    with raises(RuntimeError, message):
        rdl.capture(model, ["fc"], torch.ones(2, 3))
    assert rdl.capture(model, ["act"], torch.ones(2, 3))[1]["act"].shape == (2, 3)


def test_a_shared_module_that_runs_under_both_names_is_ambiguous():
    shared = nn.Linear(3, 3)
    with raises(
        RuntimeError,
        "layer 'b' ran 2 times in one forward pass, so that its features are ambiguous; give each use a module of "
        "its own, or name a layer behind it",
    ):
        rdl.capture(Calls(["a", "b"], a=shared, b=shared), ["b"], torch.ones(2, 3))


def test_a_layer_that_never_runs():
    model = Calls(["used"], used=nn.Linear(3, 2), spare=nn.Linear(3, 2))
    message = "layer 'spare' did not run in the last forward pass; name a layer that the model's forward calls"
    with raises(RuntimeError, message):
        rdl.capture(model, ["used", "spare"], torch.ones(2, 3))


NOT_RUN = (
    "none of the layers ['conv'] has run since features were last taken; call the model (the very one that the "
    "Recorder was given, or its wrapper) before features()"
)


def test_features_are_handed_over_once():
    model = net()
    with rdl.Recorder(model, ["conv"]) as recorder:
        with raises(RuntimeError, NOT_RUN):
            recorder.features()
        model(images())
        held = weakref.ref(recorder.features()["conv"])
        assert held() is None
        with raises(RuntimeError, NOT_RUN):
            recorder.features()


def test_features_are_those_of_the_last_forward_pass():
    model = net()
    with rdl.Recorder(model, ["conv"], flatten=False) as recorder:
        model(images())
        model(images() + 1)
        assert torch.equal(recorder.features()["conv"], model.conv(images() + 1))


def test_a_layer_called_on_its_own_is_not_recorded():
    model = net()
    with rdl.Recorder(model, ["conv"]) as recorder:
        model.conv(images())
        with raises(RuntimeError, NOT_RUN):
            recorder.features()


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_the_reruns_of_gradient_checkpointing_are_ignored(use_reentrant):
    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net()
            self.runs = 0
            self.net.conv.register_forward_hook(self.count)

        def count(self, *_):
            self.runs += 1

        def forward(self, x):
            return checkpoint(self.net, x, use_reentrant=use_reentrant)

    model, x = Checkpointed(), images().requires_grad_()
    with rdl.Recorder(model, ["net.conv", "net.body"]) as recorder:
        loss = model(x).square().sum()
        first = recorder.features()
        loss.backward()
        assert model.runs == 2
        with raises(RuntimeError, NOT_RUN.replace("'conv'", "'net.conv', 'net.body'")):
            recorder.features()
        again = model(x)
        assert torch.equal(recorder.features()["net.body"], first["net.body"])
    assert again.shape == (5, 2)
    expected = net()
    expected(images()).square().sum().backward()
    assert torch.equal(model.net.conv.weight.grad, expected.conv.weight.grad)


# hooks


def test_hooks_are_gone_after_the_with_block():
    model = net()
    with rdl.Recorder(model, ["conv"]) as recorder:
        assert hooks(model) == 3
        model(images())
        assert recorder.features()["conv"].shape == (5, 27)
    assert hooks(model) == 0


def test_hooks_are_gone_after_a_forward_pass_that_raises():
    model = net()
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        rdl.capture(model, ["conv"], torch.zeros(2, 1, 9, 9))
    assert hooks(model) == 0
    with pytest.raises(KeyError), rdl.Recorder(model, ["conv"]):
        raise KeyError
    assert hooks(model) == 0


def test_hooks_are_gone_after_remove():
    model = net()
    recorder = rdl.Recorder(model, ["conv", "out"])
    assert hooks(model) == 4
    recorder.remove()
    assert hooks(model) == 0
    recorder.remove()


def test_after_a_forward_pass_that_raised_the_next_one_is_recorded():
    model = net()
    with rdl.Recorder(model, ["conv"], flatten=False) as recorder:
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
            model(torch.zeros(2, 1, 9, 9))
        model.conv(images())  # not recorded: the pass that raised is over
        assert recorder.features()["conv"].shape == (2, 3, 7, 7)
        model(images())
        assert torch.equal(recorder.features()["conv"], model.conv(images()))


def test_the_hooks_of_others_stay():
    model, seen = net(), []
    model.conv.register_forward_hook(lambda *_: seen.append("conv"))
    rdl.capture(model, ["conv"], images())
    model(images())
    assert seen == ["conv", "conv"]


# compiled and wrapped models

COMPILED = (
    "{} is already compiled, and hooks added now would never fire; record first, compile afterwards "
    "(brainrdl.Recorder(model, …), then torch.compile(model))"
)


def test_a_copy_of_a_recorded_model_records_nothing():
    model = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
    recorder = rdl.Recorder(model, ["0"])
    x = torch.ones(4, 3)
    model(x)
    teacher = rdl.NetworkTeacher(model, ["1"])
    torch.testing.assert_close(teacher.features(x, ["1"])["1"], model(x))
    assert list(recorder.features()) == ["0"]


def test_a_compiled_student_can_be_trained_where_nothing_is_recorded():
    student = torch.compile(nn.Sequential(nn.Linear(3, 2)), backend="eager")
    loader = [(torch.randn(4, 3), torch.tensor([0, 1, 0, 1]))]
    assert len(rdl.Trainer(student).fit(loader, epochs=1)) == 1


def test_a_compiled_model_is_refused():
    with raises(ValueError, COMPILED.format("the model")):
        rdl.Recorder(torch.compile(net(), backend="eager"), ["conv"])
    in_place = net()
    in_place.compile(backend="eager")
    with raises(ValueError, COMPILED.format("the model")):
        rdl.capture(in_place, ["conv"], images())
    assert hooks(in_place) == 0


def test_a_model_with_a_compiled_layer_is_refused():
    model = net()
    model.body = torch.compile(model.body, backend="eager")
    with raises(ValueError, COMPILED.format("its layer 'body'")):
        rdl.Recorder(model, ["conv"])
    model = net()
    model.body[1].compile(backend="eager")
    with raises(ValueError, COMPILED.format("its layer 'body.1'")):
        rdl.Recorder(model, ["conv"])


@pytest.mark.parametrize("in_place", [True, False])
def test_a_recorder_works_through_a_later_compilation(in_place):
    torch._dynamo.reset()
    model, x = net(), images()
    expected = rdl.capture(model, ["conv", "body.1"], x)[1]
    with rdl.Recorder(model, ["conv", "body.1"]) as recorder:
        if in_place:
            model.compile(backend="eager")
            compiled = model
        else:
            compiled = torch.compile(model, backend="eager")
        for _ in range(3):
            compiled(x)
            features = recorder.features()
            assert all(torch.equal(features[name], expected[name]) for name in expected)
        features["conv"].sum().backward()
        assert model.conv.weight.grad is not None
        compiled(x + 1)
        assert not torch.equal(recorder.features()["conv"], expected["conv"])


def test_a_recorder_works_through_a_later_fabric_setup():
    model, x = net(), images()
    expected = rdl.capture(model, ["conv"], x)[1]["conv"]
    with rdl.Recorder(model, ["conv"]) as recorder:
        fabric = Fabric(accelerator="cpu", devices=1)
        wrapped, _ = fabric.setup(model, torch.optim.SGD(model.parameters(), lr=0.1))
        output = wrapped(x)
        features = recorder.features()["conv"]
        assert torch.equal(features, expected)
        fabric.backward(output.sum() + features.sum())
        assert model.conv.weight.grad is not None


def test_a_recorder_on_the_fabric_wrapped_model():
    model, x = net(), images()
    wrapped = Fabric(accelerator="cpu", devices=1).setup(model)
    features = rdl.capture(wrapped, ["_forward_module.conv"], x)[1]
    assert torch.equal(features["_forward_module.conv"], rdl.capture(model, ["conv"], x)[1]["conv"])
