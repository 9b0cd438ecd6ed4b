"""What BatchNorm and dropout do with the stimulus batch, by the options of a StimulusStream."""

from collections import OrderedDict

import pytest
import torch
from torch import nn
from torch.nn import functional

import brainrdl as rdl
from brainrdl.training.streams import stimulus_mode
from small_network import assert_same, assert_same_history, brain, data, loader, raises, stimuli, weights


class FunctionalDropout(nn.Module):
    """Dropout that no search for layers of torch's Dropout classes finds."""

    def forward(self, x):
        return functional.dropout(x, 0.5, training=self.training)


def student(dropout=None, norm=None):
    torch.manual_seed(3)
    return nn.Sequential(
        OrderedDict(
            one=nn.Linear(4, 6),
            norm=norm or nn.BatchNorm1d(6),
            drop=dropout or nn.Dropout(0.5),
            two=nn.Linear(6, 5),
        )
    )


def standing_still(parameters):
    return torch.optim.SGD(parameters, lr=0.0)


def brain_term(layer="two"):
    return rdl.RDLTerm(brain(), {layer: "IT"}, stream="stimuli")


def fit(model, task_loader, stream, *, epochs=1, optimizer=None, **options):
    return rdl.Trainer(model, [brain_term()], optimizer=optimizer).fit(
        task_loader, epochs=epochs, stimuli=stream, **options
    )


class Seen:
    """Inputs and outputs of a layer in training, by the size of the batch: 6 task images or 8 stimuli."""

    def __init__(self, layer, model):
        self.of = {}
        layer.register_forward_hook(
            lambda m, args, output: (
                self.of.update({len(output): (args[0].detach().clone(), output.detach().clone())})
                if torch.is_grad_enabled()
                else None
            )
        )


def moved(buffers, x):
    """Running statistics after another batch: momentum .1, the variance without bias."""
    return {
        "running_mean": 0.9 * buffers["running_mean"] + 0.1 * x.mean(dim=0),
        "running_var": 0.9 * buffers["running_var"] + 0.1 * x.var(dim=0),
        "num_batches_tracked": buffers["num_batches_tracked"] + 1,
    }


def normalised(x, mean, variance, layer):
    return (x - mean) / (variance + layer.eps).sqrt() * layer.weight + layer.bias


@pytest.mark.parametrize("dropout", [True, False])
@pytest.mark.parametrize("norm", ["shared", "own", "eval"])
def test_the_running_statistics_and_the_stimuli_under_every_option(norm, dropout):
    model = student()
    with torch.no_grad():
        model.norm.weight.uniform_(0.5, 2)
        model.norm.bias.uniform_(-1, 1)
    before, places = weights(model.norm), {name: b.data_ptr() for name, b in model.norm.named_buffers()}
    seen, dropped = Seen(model.norm, model), Seen(model.drop, model)
    x, y = data(6)
    fit(model, [(x, y % 5)], rdl.StimulusStream(stimuli(), norm=norm, dropout=dropout), optimizer=standing_still)

    task, shown = seen.of[6][0], seen.of[8][0]
    after_task = moved(before, task)
    after = moved(after_task, shown) if norm == "shared" else after_task
    for name, buffer in model.norm.named_buffers():
        torch.testing.assert_close(buffer, after[name], rtol=1e-5, atol=1e-6)
        assert buffer.data_ptr() == places[name]
    statistics = (
        (after_task["running_mean"], after_task["running_var"])
        if norm == "eval"
        else (shown.mean(dim=0), shown.var(dim=0, correction=0))
    )
    torch.testing.assert_close(seen.of[8][1], normalised(shown, *statistics, model.norm), rtol=1e-4, atol=1e-5)
    assert bool((dropped.of[8][1] == 0).any()) is dropout
    assert torch.equal(*dropped.of[8]) is not dropout
    assert (dropped.of[6][1] == 0).any()  # the task batch meets dropout in any case


@pytest.mark.parametrize("norm", ["shared", "own", "eval"])
def test_running_statistics_of_other_layers(norm):
    model = nn.Sequential(nn.InstanceNorm1d(3, track_running_stats=True), nn.Sequential(nn.BatchNorm1d(3)))
    frozen = nn.BatchNorm1d(3, track_running_stats=False)
    model.append(frozen)
    before = weights(model)
    with stimulus_mode(model.train(), norm, True):
        model(torch.randn(4, 3, 5))
    changed = [name for name, value in weights(model).items() if not torch.equal(value, before[name])]
    statistics = [f"{layer}.{part}" for layer in ("0", "1.0") for part in ("running_mean", "running_var")]
    tracked = {*statistics, "1.0.num_batches_tracked"}
    assert tracked == set(changed) if norm == "shared" else changed == []


def test_dropout_is_off_however_it_is_spelt():
    for layer in (nn.AlphaDropout(0.5), FunctionalDropout(), nn.Sequential(nn.Dropout1d(0.5))):
        model = student(layer)
        x = torch.randn(8, 4)
        with stimulus_mode(model.train(), "own", False):
            once, again = model(x), model(x)
        assert torch.equal(once, again)
        assert not torch.equal(model(x), model(x))


@pytest.mark.parametrize("norm", ["shared", "own", "eval"])
def test_modes_are_as_before_however_the_forward_pass_ends(norm):
    class Frozen(nn.BatchNorm1d):
        def train(self, mode=True):
            return super().train(False)

    model = student(norm=Frozen(6)).train()
    modes, buffers = [m.training for m in model.modules()], dict(model.norm._buffers)
    before = weights(model)
    with pytest.raises(ZeroDivisionError), stimulus_mode(model, norm, False):
        model(torch.randn(8, 4))
        assert not model.norm.training  # it refuses training mode here too
        raise ZeroDivisionError
    assert [m.training for m in model.modules()] == modes
    assert all(model.norm._buffers[name] is buffer for name, buffer in buffers.items())
    assert_same(weights(model), before)


@pytest.mark.parametrize("options", [{}, {"norm": "shared"}, {"norm": "shared", "dropout": True}])
def test_the_default_is_training_mode(options):
    ends = []
    for stream in (stimuli(), rdl.StimulusStream(stimuli(), **options)):
        model = student()
        history = fit(model, loader(), stream, epochs=2)
        ends.append((weights(model), history))
    assert_same(ends[0][0], ends[1][0])
    assert_same_history(ends[0][1], ends[1][1])
    assert ends[0][1].attrs["configuration"]["stimuli_norm"] == "shared"
    assert ends[0][1].attrs["configuration"]["stimuli_dropout"] is True


@pytest.mark.parametrize("norm", ["own", "eval"])
def test_stimuli_without_a_task_leave_the_running_statistics(norm):
    model = student()
    before = weights(model)
    history = fit(model, None, rdl.StimulusStream(stimuli(), norm=norm, dropout=False), epochs=20)
    after = weights(model)
    assert history["rdl/two"].iloc[-1] < 0.9 * history["rdl/two"].iloc[0]
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        assert torch.equal(after[f"norm.{name}"], before[f"norm.{name}"])
    for name in ("one.weight", "norm.weight", "two.weight"):  # gradients pass the normalisation
        assert not torch.equal(after[name], before[name])


@pytest.mark.parametrize("norm", ["own", "eval"])
def test_the_gradient_is_that_of_both_forward_passes(norm):
    model, expected = student(nn.Identity()), student(nn.Identity())
    x, y = data(6)
    images, ids = stimuli().batch()
    fit(model, [(x, y)], rdl.StimulusStream(stimuli(), norm=norm))
    output = expected.train()(x)
    loss = functional.cross_entropy(output, y)
    kept = {name: buffer.clone() for name, buffer in expected.norm.named_buffers()}
    if norm == "eval":
        expected.norm.eval()
        h = expected.one(images)
        h = normalised(h, kept["running_mean"], kept["running_var"], expected.norm)
    else:
        h = expected.one(images)
        h = normalised(h, h.mean(dim=0), h.var(dim=0, correction=0), expected.norm)
    loss = loss + rdl.rdl_loss(expected.two(h), brain()(None, ids)["IT"], metric="correlation", compare="corr")
    loss.backward()
    for parameter, (name, got) in zip(expected.parameters(), model.named_parameters(), strict=True):
        step = parameter.detach() - 0.05 * parameter.grad
        torch.testing.assert_close(got.detach(), step, rtol=1e-4, atol=1e-6, msg=lambda m, name=name: f"{name}: {m}")


def test_the_options_belong_to_the_checkpoint(tmp_path):
    def run(**options):
        return fit(student(), loader(), rdl.StimulusStream(stimuli(), **options), checkpoint=tmp_path / "run")

    history = run(norm="own")
    assert history.attrs["configuration"]["stimuli_norm"] == "own"
    for other, difference in (
        ({"norm": "eval"}, "stimuli_norm is 'own' there and 'eval' here"),
        ({"norm": "own", "dropout": False}, "stimuli_dropout is True there and False here"),
    ):
        with raises(
            ValueError,
            f"{tmp_path / 'run'} belongs to a run with another configuration: {difference}. Restore the setting to "
            "resume it, or name another path to start over",
        ):
            run(**other)
    assert_same_history(run(norm="own"), history)


def test_a_run_without_stimuli_has_no_such_options():
    configuration = rdl.Trainer(student()).fit(loader(), epochs=1).attrs["configuration"]
    assert configuration["stimuli_norm"] is None
    assert configuration["stimuli_dropout"] is None


def test_options_that_are_none():
    with raises(ValueError, "unknown norm 'batch'; known are: shared, own, eval"):
        rdl.StimulusStream(stimuli(), norm="batch")
    with raises(TypeError, "dropout must be True or False, got 'off'"):
        rdl.StimulusStream(stimuli(), dropout="off")
