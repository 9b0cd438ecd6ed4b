import re

import pytest
import torch

import brainrdl as rdl
from brainrdl import _run
from brainrdl._replay import beside_default_stream, cuda_graph
from training import assert_same, loader, network, network_teacher, stimuli, weights

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture
def recorded(monkeypatch):
    """Record as on a GPU, where a recording is simply the function again; counts its uses."""
    uses = []

    def record(function):
        def replay():
            uses.append(function)
            function()

        return replay

    monkeypatch.setattr(_run, "cuda_graph", lambda: record)
    monkeypatch.setattr(_run, "RECORDING_DEVICES", ("cpu",))
    return uses


def terms():
    teacher = network_teacher()
    return [
        rdl.RDLTerm(teacher, {"one": "one"}, n_pairs=4, alpha=rdl.linear_decay(0.5)),
        rdl.RDLTerm(teacher, {"two": "two"}, loss=rdl.RDLoss(metric="euclidean", compare="corr"), n_pairs=7),
        rdl.KD(teacher, alpha=0.3),
    ]


def sgd(parameters):
    optimizer = torch.optim.SGD(parameters, lr=0.05, momentum=0.9, fused=True)
    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 1 - epoch / 3)


CPU = _run.Fabric(accelerator="cpu", devices=1)


def fitted(*, cuda_graphs, fabric=CPU, terms=terms, n=26, **options):
    student = network()
    trainer = rdl.Trainer(student, terms(), optimizer=sgd, fabric=fabric, cuda_graphs=cuda_graphs)
    history = trainer.fit(loader(n), epochs=3, log_every=3, **options)
    return weights(student), history.drop(columns="seconds")


def test_a_replayed_training_is_the_training(recorded):
    plain, history = fitted(cuda_graphs=False)
    assert not recorded
    replayed, replayed_history = fitted(cuda_graphs=True)
    # 26 images: an epoch's first update and its last, of two images, are none of the replayed ones
    assert len(recorded) == 3 * 3
    assert len(set(recorded)) == 3
    assert_same(plain, replayed)
    assert history.equals(replayed_history)


def test_a_replayed_training_goes_on_from_its_checkpoint(recorded, tmp_path):
    class StoppedError(Exception):
        pass

    def stop(student, seen=[]):  # noqa: B006
        seen.append(0)
        if len(seen) == 2:
            raise StoppedError
        return {}

    with pytest.raises(StoppedError):
        fitted(cuda_graphs=True, checkpoint=tmp_path / "run.pt", validation=stop)
    resumed, _ = fitted(cuda_graphs=True, checkpoint=tmp_path / "run.pt")
    assert_same(resumed, fitted(cuda_graphs=False)[0])


def test_a_replayed_update_that_is_not_finite_is_named_and_not_applied(recorded):
    class Spoils(rdl.Term):
        name = "spoils"

        def __call__(self, features, batch, generator):
            spoilt = (batch.images == SPOILT).any()
            return {"one": torch.where(spoilt, torch.nan, features["one"].square().mean())}

    images, labels = torch.randn(24, 4, generator=torch.Generator().manual_seed(0)), torch.arange(24) % 3
    SPOILT = images[15, 0] = 100.0
    batches = [(images[at : at + 6], labels[at : at + 6]) for at in range(0, 24, 6)]
    student, before = network(), []
    student.register_forward_pre_hook(lambda m, args: before.append(weights(m)) if m.training else None)
    trainer = rdl.Trainer(student, [Spoils(["one"])], optimizer=sgd, cuda_graphs=True)
    with pytest.raises(
        FloatingPointError, match=r"^spoils/one is nan in epoch 0, update 2 \(both counted from 0\): task"
    ):
        trainer.fit(batches, epochs=1)
    assert_same(weights(student), before[2])


@pytest.mark.parametrize("what", ["ids", "stimuli"])
def test_what_cannot_be_replayed_runs_as_ever(recorded, what):
    if what == "ids":
        batches = [(x, y, tuple(map(str, range(len(x))))) for x, y in loader(shuffle=False)]
        rdl.Trainer(network(), terms(), fabric=CPU, cuda_graphs=True).fit(batches, epochs=1)
    else:
        term = rdl.RDLTerm(network_teacher(), {"one": "one"}, stream="stimuli")
        rdl.Trainer(network(), [term], fabric=CPU, cuda_graphs=True).fit(loader(), stimuli=stimuli(), epochs=1)
    assert not recorded


@needs_gpu
def test_a_graph_does_what_the_updates_do():
    fabric = _run.Fabric(accelerator="cuda", devices=1)
    plain, history = fitted(cuda_graphs=False, fabric=fabric)
    replayed, replayed_history = fitted(cuda_graphs=True, fabric=fabric)
    for name, value in plain.items():
        torch.testing.assert_close(replayed[name], value, rtol=1e-5, atol=1e-6)
    assert list(history.columns) == list(replayed_history.columns)
    assert (history - replayed_history).abs().to_numpy().max() < 1e-4


@needs_gpu
def test_what_cannot_be_recorded_is_said():
    class Waits(rdl.Term):
        def __call__(self, features, batch, generator):
            return {"one": features["one"].square().mean() * float(features["one"].detach().max() > -1)}

    fabric = _run.Fabric(accelerator="cuda", devices=1)
    trainer = rdl.Trainer(network(), [Waits(["one"])], fabric=fabric, cuda_graphs=True)
    with pytest.raises(RuntimeError, match=re.escape("this update cannot be recorded as a CUDA graph (")):
        trainer.fit(loader(), epochs=1)


@needs_gpu
def test_recordings_share_a_pool():
    record, total = cuda_graph(), torch.zeros((), device="cuda")
    with beside_default_stream(torch.device("cuda")):
        for size in (1, 2, 3):
            record(lambda size=size: total.add_(torch.ones(size, device="cuda").sum()))()
    assert total.item() == 6
