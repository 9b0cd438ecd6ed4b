import re

import pytest
import torch

import brainrdl as rdl
import tape
from brainrdl.training import run as _run
from brainrdl.training.cuda_graphs import beside_default_stream, cuda_graphs as new_record
from small_network import assert_same, loader, network, network_teacher, stimuli, weights

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture
def repeats(monkeypatch):
    """Record on the CPU as on a GPU, and read flags now and then as there; a recording each time it is repeated."""
    made = []

    def record(function):
        play = tape.record(function)

        def repeat():
            made.append(play)
            play()

        return repeat

    monkeypatch.setattr(_run, "recording_on", lambda device: record)
    monkeypatch.setattr(_run, "updates_between_reads", lambda device, log_every: log_every)
    return made


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


def test_a_repeated_training_is_the_training(repeats):
    plain, history = fitted(cuda_graphs=False)
    assert not repeats
    repeated, repeated_history = fitted(cuda_graphs=True)
    # 26 images: an epoch's first update and its last, of two images, are none of the repeated ones
    assert len(repeats) == 3 * 3
    assert len(set(repeats)) == 3
    assert_same(plain, repeated)
    assert history.equals(repeated_history)


def test_a_repeated_training_resumes_from_its_checkpoint(repeats, tmp_path):
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


class Spoils(rdl.Term):
    """NaN where the batch holds 100."""

    name = "spoils"

    def __call__(self, features, batch, generator):
        spoilt = (batch.images == 100).any()
        return {"one": torch.where(spoilt, torch.nan, features["one"].square().mean())}


@pytest.mark.parametrize("at", [1, 2, 3, 5])
def test_an_update_that_is_not_finite_is_named_and_not_applied_when_repeated(repeats, at):
    images, labels = torch.randn(42, 4, generator=torch.Generator().manual_seed(0)), torch.arange(42) % 3
    images[6 * at, 0] = 100.0
    batches = [(images[k : k + 6], labels[k : k + 6]) for k in range(0, 42, 6)]
    said, left = [], []
    for cuda_graphs in (False, True):
        student = network()
        trainer = rdl.Trainer(student, [Spoils(["one"])], optimizer=sgd, fabric=CPU, cuda_graphs=cuda_graphs)
        with pytest.raises(FloatingPointError) as error:
            trainer.fit(batches, epochs=1, log_every=3)
        said.append(str(error.value))
        left.append(weights(student))
    assert said[0].startswith(f"spoils/one is nan in epoch 1, update {at + 1}: task_loss = ")
    assert said[0] == said[1]
    assert_same(*left)
    assert repeats


@pytest.mark.parametrize("what", ["ids", "stimuli"])
def test_what_cannot_be_recorded_runs_as_ever(repeats, what):
    if what == "ids":
        batches = [(x, y, tuple(map(str, range(len(x))))) for x, y in loader(shuffle=False)]
        rdl.Trainer(network(), terms(), fabric=CPU, cuda_graphs=True).fit(batches, epochs=1)
    else:
        term = rdl.RDLTerm(network_teacher(), {"one": "one"}, stream="stimuli")
        rdl.Trainer(network(), [term], fabric=CPU, cuda_graphs=True).fit(loader(), stimuli=stimuli(), epochs=1)
    assert not repeats


def test_an_optimiser_that_counts_on_the_host_runs_as_ever(repeats):
    def adagrad(parameters):
        optimizer = torch.optim.SGD(parameters, lr=0.05, momentum=0.9)
        optimizer.register_step_post_hook(
            lambda *_: [optimizer.state[p].update(step=1) for g in optimizer.param_groups for p in g["params"]]
        )
        return optimizer

    rdl.Trainer(network(), optimizer=adagrad, fabric=CPU, cuda_graphs=True).fit(loader(), epochs=1)
    assert not repeats


def test_a_teacher_of_ones_own_runs_as_ever(repeats):
    class Drawing(rdl.NetworkTeacher):
        def draw(self, generator):
            torch.rand((), generator=generator)

    teacher = Drawing(network(7, dropout=0.0), ["one"])
    rdl.Trainer(network(), [rdl.RDLTerm(teacher, {"one": "one"})], fabric=CPU, cuda_graphs=True).fit(loader(), epochs=1)
    assert not repeats


def test_batches_of_changing_sizes_are_repeated_only_behind_their_like(repeats):
    sizes = (6, 5, 5, 6, 5, 6, 6, 5)
    images, labels = torch.randn(sum(sizes), 4), torch.arange(sum(sizes)) % 3
    batches = list(zip(images.split(sizes), labels.split(sizes), strict=True))
    left = []
    for cuda_graphs in (False, True):
        student = network()
        rdl.Trainer(student, terms(), optimizer=sgd, fabric=CPU, cuda_graphs=cuda_graphs).fit(batches, epochs=2)
        left.append(weights(student))
    assert_same(*left)
    assert len(repeats) == 2 * 3  # the second batch of 5 in a row, and what is of its size behind it


def test_a_term_that_draws_on_the_host_is_refused(repeats):
    class Draws(rdl.Term):
        def __call__(self, features, batch, generator):
            return {"one": features["one"].square().mean() * torch.rand((), generator=generator)}

    trainer = rdl.Trainer(network(), [Draws(["one"])], optimizer=sgd, fabric=CPU, cuda_graphs=True)
    with pytest.raises(RuntimeError, match=r"^an update draws random numbers on the host, which a recorded one would"):
        trainer.fit(loader(), epochs=1)


@needs_gpu
def test_a_graph_does_what_the_updates_do():
    fabric = _run.Fabric(accelerator="cuda", devices=1)
    plain, history = fitted(cuda_graphs=False, fabric=fabric)
    repeated, repeated_history = fitted(cuda_graphs=True, fabric=fabric)
    for name, value in plain.items():
        torch.testing.assert_close(repeated[name], value, rtol=1e-5, atol=1e-6)
    assert list(history.columns) == list(repeated_history.columns)
    assert (history - repeated_history).abs().to_numpy().max() < 1e-4


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
    record, total = new_record(), torch.zeros((), device="cuda")
    with beside_default_stream(torch.device("cuda")):
        for size in (1, 2, 3):
            record(lambda size=size: total.add_(torch.ones(size, device="cuda").sum()))()
    assert total.item() == 6
