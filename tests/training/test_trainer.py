import errno
import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.loggers import Logger
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import brainrdl as rdl
from brainrdl.data import TensorLoader, load_mnist
from brainrdl.models import mnist_cnn
from brainrdl.terms.losses import compared_rdms
from brainrdl.training import run as _run
from real_data import data_dir
from small_network import (
    IDS,
    assert_same,
    assert_same_history,
    brain,
    brain_term,
    data,
    loader,
    network,
    network_teacher,
    raises,
    stimuli,
    weights,
)


class Watch(rdl.Term):
    """Sees what terms see."""

    name = "watch"

    def __init__(self, layers=("two",), n_pairs=5, **options):
        super().__init__(layers, **options)
        self.n_pairs = n_pairs
        self.batches, self.pairs, self.values = [], [], []

    def __call__(self, features, batch, generator):
        self.batches.append(batch)
        self.pairs.append([batch.pairs(self.n_pairs).tolist() for _ in self.layers])
        self.values.append({layer: features[layer].square().mean() for layer in self.layers})
        return self.values[-1]


# streams


def by_hand(student, teacher, task, brain_teacher, epochs, alpha0):
    """The same training without the package's loop."""
    optimizer = torch.optim.SGD(student.parameters(), lr=0.05, momentum=0.9)
    images, ids = stimuli().batch()
    rows = []
    for epoch in range(epochs):
        alpha = alpha0 * (1 - epoch / epochs)
        sums = np.zeros(4)
        for x, y in task:
            output, features = rdl.capture(student, ["two"], x)
            task_loss = cross_entropy(output, y)
            of_network = rdl.rdl_loss(features["two"], teacher(x, None)["two"])
            features = rdl.capture(student, ["two"], images)[1]
            of_brain = rdl.rdl_loss(
                features["two"], brain_teacher(None, ids)["IT"], metric="correlation", compare="corr"
            )
            optimizer.zero_grad()
            (task_loss + alpha * of_network + 0.3 * of_brain).backward()
            optimizer.step()
            wrong = 100 * (output.argmax(dim=1) != y).float().mean()
            sums += [v.item() for v in (task_loss, wrong, of_network, of_brain)]
        rows.append([*(sums / len(task)), alpha])
    return np.array(rows)


def test_training_is_task_loss_plus_alpha_times_terms():
    teacher, of_brain, task = network_teacher(), brain(), list(loader(shuffle=False))
    student, expected = network(dropout=0.0), network(dropout=0.0)
    terms = [
        rdl.RDLTerm(teacher, {"two": "two"}, alpha=rdl.linear_decay(0.7)),
        rdl.RDLTerm(of_brain, {"two": "IT"}, alpha=0.3, stream="stimuli"),
    ]
    history = rdl.Trainer(student, terms).fit(task, epochs=3, stimuli=stimuli())
    rows = by_hand(expected, teacher, task, of_brain, 3, 0.7)
    for name, value in student.state_dict().items():
        torch.testing.assert_close(value, expected.state_dict()[name], rtol=1e-5, atol=1e-6)
    columns = ["task_loss", "task_error", "rdl/two", "rdl_2/two", "alpha/rdl/two"]
    np.testing.assert_allclose(history[columns].to_numpy(), rows, rtol=1e-5)


def test_the_columns_of_the_history():
    teacher = network_teacher()
    terms = [
        rdl.RDLTerm(teacher, {"two": "two", "one": "one"}, alpha=rdl.linear_decay({"one": 0.5, "two": 1.0})),
        rdl.KD(teacher, alpha=0.25),
        rdl.Hint(teacher, {"act": "act"}, alpha=rdl.constant(0.1)),
    ]
    history = rdl.Trainer(network(), terms).fit(loader(), epochs=4, validation=loader(12))
    assert list(history.columns) == [
        "epoch",
        "task_loss",
        "task_error",
        "rdl/two",
        "rdl/one",
        "kd/output",
        "hint/act",
        "alpha/two",
        "alpha/one",
        "alpha/output",
        "alpha/act",
        "lr",
        "validation_loss",
        "validation_error",
        "seconds",
    ]
    assert history["epoch"].tolist() == [0, 1, 2, 3]
    assert history["alpha/two"].tolist() == [1.0, 0.75, 0.5, 0.25]
    assert history["alpha/one"].tolist() == [0.5, 0.375, 0.25, 0.125]
    assert history["alpha/output"].tolist() == [0.25] * 4
    assert history["lr"].tolist() == [0.05] * 4
    assert (history["seconds"] > 0).all()
    assert history.notna().all().all()


def test_two_terms_of_one_name_and_layer():
    terms = [brain_term(alpha=0.5), brain_term(alpha=0.25), Watch(["one"], stream="stimuli")]
    history = rdl.Trainer(network(), terms).fit(None, epochs=1, stimuli=stimuli())
    assert list(history.columns) == [
        "epoch",
        "rdl/two",
        "rdl_2/two",
        "watch/one",
        "alpha/rdl/two",
        "alpha/rdl_2/two",
        "alpha/one",
        "lr",
        "seconds",
    ]
    assert history["alpha/rdl_2/two"][0] == 0.25


def test_a_column_is_named_alike_in_epochs_without_stimuli():
    terms = [Watch(), brain_term()]
    stream = rdl.StimulusStream(stimuli(), every=8)
    history = rdl.Trainer(network(), terms).fit(loader(), epochs=3, stimuli=stream)
    assert [c for c in history.columns if c.startswith("alpha")] == ["alpha/watch/two", "alpha/rdl/two"]
    assert history["rdl/two"].notna().tolist() == [True, False, True]
    assert history["alpha/watch/two"].notna().all()


def test_the_plain_trainer_has_no_terms():
    history = rdl.Trainer(network()).fit(loader(), epochs=2)
    assert list(history.columns) == ["epoch", "task_loss", "task_error", "lr", "seconds"]


def test_training_on_stimuli_alone():
    student = network(dropout=0.0)
    history = rdl.Trainer(student, [brain_term()]).fit(None, epochs=30, stimuli=stimuli())
    assert list(history.columns) == ["epoch", "rdl/two", "alpha/two", "lr", "seconds"]
    assert history["rdl/two"].iloc[-1] < 0.7 * history["rdl/two"].iloc[0]
    assert torch.equal(student.out.weight, network().out.weight)
    assert history.attrs["configuration"]["terms"][0]["compare"] == "corr"


def test_an_epoch_is_a_pass_over_the_stimuli_where_there_is_no_task():
    watch = Watch(n_pairs=2, stream="stimuli")
    stream = rdl.StimulusStream(stimuli(), batch_size=3)
    rdl.Trainer(network(), [watch]).fit(None, epochs=4, stimuli=stream)
    assert len(watch.batches) == 8
    for epoch in range(4):
        assert len({i for batch in watch.batches[2 * epoch : 2 * epoch + 2] for i in batch.ids}) == 6


def test_the_terms_alone_on_the_task_loader():
    student = network(dropout=0.0)
    trainer = rdl.Trainer(student, [rdl.RDLTerm(network_teacher(), {"two": "two"})], task_loss=None)
    history = trainer.fit(loader(), epochs=12, validation=loader())
    assert list(history.columns) == [
        "epoch",
        "task_error",
        "rdl/two",
        "alpha/two",
        "lr",
        "validation_error",
        "seconds",
    ]
    assert history["rdl/two"].iloc[-1] < 0.8 * history["rdl/two"].iloc[0]
    assert torch.equal(student.out.weight, network().out.weight)


def test_a_task_loader_with_ids_can_be_measured():
    images, ids = stimuli().batch()
    watch = Watch()
    term = rdl.RDLTerm(brain(), {"two": "IT"})
    task = [(images[:5], torch.tensor([0, 1, 2, 0, 1]), ids[:5]), (images[3:], torch.tensor([0, 1, 2, 0, 1]), ids[3:])]
    rdl.Trainer(network(), [term, watch]).fit(task, epochs=1)
    assert [batch.ids for batch in watch.batches] == [ids[:5], ids[3:]]
    assert torch.equal(watch.batches[1].images, images[3:])
    assert watch.batches[0].labels.tolist() == [0, 1, 2, 0, 1]


def test_what_a_batch_holds_on_the_stimulus_stream():
    student, watch = network(dropout=0.0), Watch(stream="stimuli")
    seen = []
    student.register_forward_hook(lambda module, args, output: seen.append((args[0], output)))
    rdl.Trainer(student, [watch]).fit(loader(), epochs=1, stimuli=stimuli())
    batch = watch.batches[0]
    assert (batch.labels, batch.ids) == (None, IDS)
    assert batch.images is seen[2][0]  # after the set-up and the first task batch
    assert torch.equal(batch.output, seen[2][1])


def test_a_loader_of_stimuli_cycles():
    images, ids = stimuli().batch()
    watch = Watch(n_pairs=2, stream="stimuli")
    halves = [(images[:4], ids[:4]), (images[4:], ids[4:])]
    rdl.Trainer(network(), [watch]).fit(loader(n=18), epochs=2, stimuli=halves)
    assert [batch.ids[0] for batch in watch.batches] == ["a", "e", "a", "e", "a", "e"]


def test_stimuli_with_every_third_update():
    watch, task_watch = Watch(stream="stimuli"), Watch(["one"])
    stream = rdl.StimulusStream(stimuli(), every=3)
    history = rdl.Trainer(network(), [watch, task_watch]).fit(loader(), epochs=2, stimuli=stream)
    assert len(task_watch.batches) == 8
    assert len(watch.batches) == 3  # updates 0, 3 and 6
    values = [value["two"].item() for value in watch.values]
    np.testing.assert_allclose(history["watch/two"], [np.mean(values[:2]), values[2]], rtol=1e-6)


def test_one_teacher_on_both_streams():
    teacher, asked = network_teacher(), []
    observe = teacher.observe
    teacher.observe = lambda images, ids, names: (asked.append((len(images), names)), observe(images, ids, names))[1]
    terms = [rdl.RDLTerm(teacher, {"two": "two"}), rdl.RDLTerm(teacher, {"one": "one"}, stream="stimuli")]
    history = rdl.Trainer(network(), terms).fit(loader(), epochs=2, stimuli=stimuli())
    assert history[["rdl/two", "rdl_2/one"]].notna().all().all()
    assert asked == [(6, ("two",)), (8, ("one",))] * 9  # the set-up's and eight updates'


def test_labels_need_not_be_classes():
    x, _ = data()
    task = DataLoader(TensorDataset(x, x[:, :3]), batch_size=6)
    history = rdl.Trainer(network(), task_loss=nn.MSELoss()).fit(task, epochs=2, validation=task)
    assert list(history.columns) == ["epoch", "task_loss", "lr", "validation_loss", "seconds"]
    assert history.attrs["configuration"]["task_loss"] == {
        "name": "MSELoss",
        "layers": {"": "MSELoss()"},
        "reduction": "mean",
    }


# pairs


def test_pairs_are_drawn_anew_for_every_update_and_shared_within_it():
    terms = [Watch(["one", "two"], n_pairs=6), Watch(["act"], n_pairs=4), Watch(["two"], n_pairs=4, stream="stimuli")]
    rdl.Trainer(network(), terms).fit(loader(), epochs=2, stimuli=stimuli())
    many, few, other = (term.pairs for term in terms)
    assert len(many) == 8
    for update in range(8):
        assert many[update][0] == many[update][1]
        assert few[update][0] == many[update][0][:4]
        assert other[update][0] != few[update][0]
    assert len({str(pairs) for pairs in many}) == 8


def test_rdl_gets_the_pairs_of_the_update(monkeypatch):
    used = []

    def spy(*args, pairs, **options):
        used.append(pairs)
        return compared_rdms(*args, pairs=pairs, **options)

    monkeypatch.setattr("brainrdl.terms.rdl.compared_rdms", spy)
    watch = Watch(["one"], n_pairs=4)
    term = rdl.RDLTerm(network_teacher(), {"one": "one", "two": "two"}, n_pairs=4)
    rdl.Trainer(network(), [term, watch]).fit(loader(), epochs=1)
    assert len(used) == 8
    for update in range(4):
        first, second = used[2 * update : 2 * update + 2]
        assert first is second
        assert first.tolist() == watch.pairs[update][0]


# randomness


class Noisy(rdl.Term):
    """A term that draws random numbers wherever it can."""

    name = "noisy"

    def setup(self, features, batch, generator):
        torch.randn(3, generator=generator)
        self.heads["head"] = nn.Sequential(nn.Linear(6, 3), nn.Dropout(0.5))

    def __call__(self, features, batch, generator):
        head = self.heads["head"](features["one"])
        return {"one": head.square().mean() + torch.rand(()) + torch.rand((), generator=generator)}


def all_terms():
    teacher = network_teacher()
    return [
        rdl.RDLTerm(teacher, {"two": "two", "one": "one"}, n_pairs=7, alpha=0.0),
        rdl.Hint(teacher, {"act": "act"}, alpha=0.0),
        rdl.DeepSupervision(["act"], 3, alpha=0.0),
        rdl.KD(teacher, head="one", alpha=0.0),
        Noisy(["one"], alpha=0.0),
        brain_term(n_pairs=9, alpha=0.0),
        rdl.RDLTerm(brain(), {"one": "IT"}, stream="stimuli", alpha=0.0),
    ]


def watched(terms, **options):
    """The batches and dropout masks that a student sees on the task stream, and its weights in the end."""
    student, batches, masks = network(), [], []
    student.register_forward_pre_hook(lambda m, args: batches.append(args[0].tolist()) if m.training else None)
    student.drop.register_forward_hook(
        lambda m, args, output: masks.append((output == 0).tolist()) if m.training else None
    )
    rdl.Trainer(student, terms).fit(loader(), epochs=2, seed=3, **options)
    task = [k for k, batch in enumerate(batches) if len(batch) == 6]
    return [batches[k] for k in task], [masks[k] for k in task], weights(student)


def test_added_terms_shift_neither_order_nor_dropout_nor_the_student():
    batches, masks, end = watched([])
    assert len(batches) == 8
    assert batches[:4] != batches[4:]
    assert len({str(mask) for mask in masks}) == 8
    other_batches, other_masks, other_end = watched(
        all_terms(), stimuli=rdl.StimulusStream(stimuli(), batch_size=5), validation=loader(12)
    )
    assert other_batches == batches
    assert other_masks == masks
    assert_same(other_end, end)


@pytest.mark.parametrize("k", range(7))
def test_each_term_alone_shifts_nothing(k):
    term = all_terms()[k]
    batches, masks, end = watched([])
    other = watched([term], **({"stimuli": stimuli()} if term.stream == "stimuli" else {}))
    assert (other[0], other[1]) == (batches, masks)
    assert_same(other[2], end)


def test_a_term_on_another_stream_does_not_shift_the_stimuli():
    seen = []
    for terms in ([], all_terms()[:5]):
        watch = Watch(n_pairs=2, stream="stimuli", alpha=0.0)
        stream = rdl.StimulusStream(stimuli(), batch_size=5)
        rdl.Trainer(network(), [*terms, watch]).fit(loader(), epochs=2, stimuli=stream)
        seen.append([batch.ids for batch in watch.batches])
    assert seen[0] == seen[1]
    assert len(set(seen[0])) > 1


def test_the_seed_decides_and_nothing_else():
    def trained(seed, before):
        torch.manual_seed(before)
        torch.rand(before)
        student = network()
        torch.manual_seed(before)
        terms = [rdl.RDLTerm(network_teacher(), {"two": "two"}, n_pairs=5)]
        rdl.Trainer(student, terms).fit(loader(), epochs=1, seed=seed)
        return weights(student)

    first = trained(0, 1)
    assert_same(trained(0, 2), first)
    assert not torch.equal(trained(1, 1)["one.weight"], first["one.weight"])


def test_the_heads_follow_from_the_seed():
    def heads(seed, terms=()):
        hint = rdl.Hint(network_teacher(), {"act": "act"}, alpha=0.0)
        rdl.Trainer(network(), [hint, *terms]).fit(loader(), epochs=1, seed=seed)
        return [p.tolist() for p in hint.parameters()]

    assert heads(0) == heads(0)
    assert heads(0) != heads(1)


def test_the_global_generators_are_untouched():
    torch.manual_seed(11)
    np.random.seed(11)  # noqa: NPY002 - what a user's own code may draw from
    random.seed(11)
    student = network()
    trainer = rdl.Trainer(student, all_terms())
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    trainer.fit(loader(), epochs=2, stimuli=stimuli(), validation=loader(12))
    trainer.evaluate(loader(12))
    with pytest.raises(FloatingPointError):
        trainer.fit([(torch.full((6, 4), torch.nan), torch.zeros(6).long())], epochs=1, stimuli=stimuli())
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002
    assert random.getstate() == before[2]


def test_validation_does_not_shift_training():
    ends = []
    for validation in (None, loader(12), loader(24, batch_size=24)):
        student = network()
        rdl.Trainer(student).fit(loader(), epochs=2, validation=validation)
        ends.append(weights(student))
    assert_same(ends[0], ends[1])
    assert_same(ends[0], ends[2])


def test_two_runs_are_bitwise_the_same():
    runs = []
    for _ in range(2):
        student = network()
        terms = [rdl.RDLTerm(network_teacher(), {"two": "two"}, n_pairs=5), brain_term()]
        history = rdl.Trainer(student, terms).fit(loader(), epochs=3, stimuli=stimuli())
        runs.append((weights(student), history))
    assert_same(runs[0][0], runs[1][0])
    assert_same_history(runs[0][1], runs[1][1])


# checkpoints


class InterruptionError(Exception):
    pass


class Interrupted:
    """A loader that is cut off in one of its passes."""

    def __init__(self, inner, at_pass, at_batch, stop):
        self.inner = inner
        self.passes = 0
        self.at = (at_pass, at_batch)
        self.stop = stop

    def __len__(self):
        return len(self.inner)

    def __iter__(self):
        number, self.passes = self.passes, self.passes + 1
        for k, batch in enumerate(self.inner):
            if (number, k) == self.at:
                self.stop()
            yield batch


def interrupt():
    raise InterruptionError


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


def numpy_schedule(parameters):
    optimizer = torch.optim.Adam(parameters, lr=0.01)
    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: np.cos(epoch / 4))


def multi_step(parameters):
    optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9)
    return optimizer, torch.optim.lr_scheduler.MultiStepLR(optimizer, [1, 3], gamma=0.5)


SCENARIOS = {
    "plain": lambda: ([], {}, {}),
    "rdl": lambda: (
        [rdl.RDLTerm(network_teacher(), {"two": "two", "one": "one"}, n_pairs=7, alpha=rdl.linear_decay(1.0))],
        {"optimizer": multi_step},
        {},
    ),
    "stimuli": lambda: (
        [brain_term(n_pairs=6, alpha=rdl.cosine_decay(0.5))],
        {"optimizer": numpy_schedule},
        {"stimuli": rdl.StimulusStream(stimuli(), batch_size=3)},  # 4 updates per epoch, 2 per pass
    ),
    "stimuli, every other": lambda: (
        [brain_term(n_pairs=4)],
        {},
        {"stimuli": rdl.StimulusStream(stimuli(), batch_size=4, every=3)},  # passes end within epochs
    ),
    "drawn subjects": lambda: ([drawn_term()], {}, {"stimuli": stimuli()}),
    "kd": lambda: ([rdl.KD(network_teacher(), head="act", temperature=2.0)], {}, {}),
    "noisy": lambda: ([Noisy(["one"]), rdl.Hint(network_teacher(), {"act": "act"})], {}, {}),
    "validated": lambda: ([rdl.DeepSupervision(["act"], 3)], {}, {"validation": loader(12)}),
}


def drawn_term():
    values = np.random.default_rng(1).uniform(0.1, 2, (3, 28))
    coords = {"roi": "IT", "subject": ["s1", "s2", "s3"]}
    rdms = rdl.label_rdms(values, IDS, ["1", "2", "3"], "correlation", coords)
    return rdl.RDLTerm(rdl.MeasuredTeacher(rdms, subjects="draw"), {"two": "IT"}, n_pairs=9, stream="stimuli")


def run(scenario, checkpoint=None, stop=None, epochs=4):
    """One run; with `stop`, cut off in the third epoch where a file is given."""
    terms, made, fitted = SCENARIOS[scenario]()
    student = network()
    task = loader()
    # where there are terms on the task stream, their set-up is a pass before the first epoch's
    epoch_2 = 3 if any(term.stream == "task" for term in terms) else 2
    watched = task if stop is None else Interrupted(task, epoch_2, 2, stop)
    trainer = rdl.Trainer(student, terms, **made)
    history = trainer.fit(watched, epochs=epochs, checkpoint=checkpoint, seed=5, **fitted)
    return weights(student), history, [weights(term.heads) for term in terms]


@pytest.mark.parametrize("scenario", list(SCENARIOS))
def test_a_run_that_was_interrupted_ends_as_one_that_was_not(tmp_path, scenario):
    path = tmp_path / "run"
    expected, history, heads = run(scenario)
    with pytest.raises(InterruptionError):
        run(scenario, path, interrupt)
    assert len(torch.load(path, weights_only=True)["history"]) == 2
    torch.manual_seed(123)  # another process is in another state
    got, resumed, resumed_heads = run(scenario, path)
    assert_same(got, expected)
    assert_same_history(resumed, history)
    for a, b in zip(resumed_heads, heads, strict=True):
        assert_same(a, b)
    assert sorted(os.listdir(tmp_path)) == ["run", "run.previous"]


def test_a_run_that_was_interrupted_in_every_epoch(tmp_path):
    path = tmp_path / "run"
    expected, history, _ = run("stimuli")
    for epoch in range(1, 4):
        terms, made, fitted = SCENARIOS["stimuli"]()
        # each attempt ends one epoch and breaks off in the next; one that resumes reads the first batches before
        task = Interrupted(loader(), 1 if epoch == 1 else 2, 3, interrupt)
        with pytest.raises(InterruptionError):
            rdl.Trainer(network(), terms, **made).fit(task, epochs=4, checkpoint=path, seed=5, **fitted)
        assert len(torch.load(path, weights_only=True)["history"]) == epoch
    got, resumed, _ = run("stimuli", path)
    assert_same(got, expected)
    assert_same_history(resumed, history)


@pytest.mark.parametrize("scenario", ["rdl", "stimuli"])
def test_a_run_that_was_killed_ends_as_one_that_was_not(tmp_path, scenario):
    path = tmp_path / "run"
    code = (
        "import sys, torch; torch.set_num_threads(int(sys.argv[3])); import test_trainer as t; "
        "t.run(sys.argv[1], sys.argv[2], t.kill)"
    )
    command = [sys.executable, "-c", code, scenario, str(path), str(torch.get_num_threads())]
    here = Path(__file__).parent
    places = os.pathsep.join([str(here), str(here.parent), os.environ.get("PYTHONPATH", "")])
    killed = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": places}, capture_output=True, text=True, timeout=120
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(torch.load(path, weights_only=True)["history"]) == 2
    expected, history, _ = run(scenario)
    got, resumed, _ = run(scenario, path)
    assert_same(got, expected)
    assert_same_history(resumed, history)


def test_a_finished_run_returns_its_history_without_training(tmp_path):
    path = tmp_path / "run"
    expected, history, _heads = run("rdl", path)
    before = path.read_bytes()
    steps = []

    def optimizer(parameters):
        made, scheduler = multi_step(parameters)
        made.register_step_pre_hook(lambda *_: steps.append(1))
        return made, scheduler

    terms = SCENARIOS["rdl"]()[0]
    student = network(9)
    again = rdl.Trainer(student, terms, optimizer=optimizer).fit(loader(), epochs=4, checkpoint=path, seed=5)
    assert steps == []
    assert_same(weights(student), expected)
    pd.testing.assert_frame_equal(again, history, check_exact=True)
    assert again.attrs == history.attrs
    assert path.read_bytes() == before


def test_a_checkpoint_in_a_new_folder_is_written_after_every_epoch(tmp_path):
    path = tmp_path / "a" / "b" / "run"
    seen = []

    class Look(Watch):
        def __call__(self, *args):
            seen.append(len(torch.load(path, weights_only=True)["history"]) if path.exists() else 0)
            return super().__call__(*args)

    rdl.Trainer(network(), [Look()]).fit(loader(), epochs=3, checkpoint=str(path))
    assert seen == [0] * 4 + [1] * 4 + [2] * 4
    assert sorted(os.listdir(path.parent)) == ["run", "run.previous"]


def test_a_write_that_fails_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    path, write = tmp_path / "run", Path.write_bytes
    expected, history, _ = run("plain")
    sizes = []

    def failing(self, content):
        sizes.append(len(content))
        if len(sizes) == 3:
            write(self, content[: len(content) // 2])
            raise OSError("no space left on device")
        return write(self, content)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", failing)
        with pytest.raises(OSError, match="no space left"):
            run("plain", path)
    assert min(sizes) > 1_000
    assert sorted(os.listdir(tmp_path)) == ["run", "run.previous"]
    got, resumed, _ = run("plain", path)
    assert_same(got, expected)
    assert_same_history(resumed, history)


def other_run(path, **changes):
    given = {
        "student": network(),
        "terms": [rdl.RDLTerm(network_teacher(), {"two": "two"}, n_pairs=7, alpha=rdl.linear_decay(1.0))],
        "task_loss": cross_entropy,
        "optimizer": multi_step,
        "task": loader(),
        "epochs": 2,
        "seed": 0,
        "fabric": None,
        "stimuli": None,
    } | changes
    trainer = rdl.Trainer(
        given["student"],
        given["terms"],
        task_loss=given["task_loss"],
        optimizer=given["optimizer"],
        fabric=given["fabric"],
    )
    return trainer.fit(
        given["task"], epochs=given["epochs"], seed=given["seed"], stimuli=given["stimuli"], checkpoint=path
    )


def one_term(teacher=None, **changes):
    options = {"n_pairs": 7, "alpha": rdl.linear_decay(1.0)} | changes
    return {"terms": [rdl.RDLTerm(teacher or network_teacher(), {"two": "two"}, **options)]}


def frozen():
    student = network()
    student.one.requires_grad_(False)
    return student


def sgd(**changes):
    options = {"lr": 0.1, "momentum": 0.9} | changes

    def make(parameters):
        optimizer = torch.optim.SGD(parameters, **options)
        return optimizer, torch.optim.lr_scheduler.MultiStepLR(optimizer, [1, 3], gamma=0.5)

    return {"optimizer": make}


def step(size):
    def make(parameters):
        optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9)
        return optimizer, torch.optim.lr_scheduler.StepLR(optimizer, size)

    return {"optimizer": make}


CHANGES = {
    "epochs": ({"epochs": 3}, "and the alpha of the rdl term, linear_decay, depends on the number of epochs ("),
    "fewer epochs": (
        {"epochs": 1},
        "epochs is 2 there and 1 here, and a training run can be made longer, but not shorter",
    ),
    "seed": ({"seed": 1}, "seed is 0 there and 1 here"),
    "width": ({"student": network(width=7)}, "student.one.weight.0 is 6 there and 7 here"),
    "frozen": ({"student": frozen()}, "trained is ['one.weight', 'one.bias', 'two.weight'"),
    "updates": ({"task": loader(30)}, "updates_per_epoch is 4 there and 5 here"),
    "pairs": (one_term(n_pairs=8), "terms.0.n_pairs is 7 there and 8 here"),
    "alpha": (one_term(alpha=0.5), "terms.0.alpha.0.two is 1.0 there and 0.5 here"),
    "gradient": (one_term(loss=rdl.RDLoss(gradient="mean")), "terms.0.gradient is 'auto' there and 'mean' here"),
    "comparison": (one_term(loss=rdl.RDLoss(compare="corr")), "terms.0.compare is 'mse' there and 'corr' here"),
    "teacher": (
        one_term(rdl.NetworkTeacher(network(8, dropout=0.0), ["one", "two"])),
        "teachers.0 has other parameters",
    ),
    "no term": ({"terms": []}, "terms is [rdl] there and [] here"),
    "learning rate": (sgd(lr=0.2), "optimizer.groups.0.lr is 0.1 there and 0.2 here"),
    "weight decay": (sgd(weight_decay=0.1), "optimizer.groups.0.weight_decay is 0 there and 0.1 here"),
    "no scheduler": (
        {"optimizer": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)},
        "and None here",
    ),
    "task loss": ({"task_loss": nn.CrossEntropyLoss()}, "task_loss is 'cross_entropy' there and {'name': 'Cross"),
    "precision": (
        {"fabric": Fabric(accelerator="cpu", devices=1, precision="bf16-mixed")},
        "precision is '32-true' there and 'bf16-mixed' here",
    ),
}


@pytest.mark.parametrize("change", list(CHANGES))
def test_a_checkpoint_of_another_configuration_is_refused(tmp_path, change):
    path = tmp_path / "run"
    other_run(path)
    before = path.read_bytes()
    changes, difference = CHANGES[change]
    student = weights(changes.get("student", network()))
    with pytest.raises(ValueError, match=re.escape(difference)) as error:
        other_run(path, **changes)
    assert str(error.value).startswith(f"{path} belongs to a run with another configuration: ")
    assert str(error.value).endswith(". Restore the setting to resume it, or name another path to start over")
    assert path.read_bytes() == before
    assert_same(weights(changes.get("student", network())), student)


def test_the_settings_of_scheduler_adam_and_stream_are_compared(tmp_path):
    def adam(beta):
        return {"optimizer": lambda p: torch.optim.Adam(p, betas=(0.9, beta))}

    def stream(size):
        return {"terms": [brain_term()], "stimuli": rdl.StimulusStream(stimuli(), batch_size=size)}

    for there, here, difference in (
        (step(1), step(2), "scheduler.step_size is 1 there and 2 here"),
        (adam(0.99), adam(0.999), "optimizer.groups.0.betas.1 is 0.99 there and 0.999 here"),
        (stream(4), stream(5), "stimuli_per_update is 4 there and 5 here"),
    ):
        path = tmp_path / difference[:9]
        other_run(path, **there)
        with raises(
            ValueError,
            f"{path} belongs to a run with another configuration: {difference}. Restore the setting to resume it, "
            "or name another path to start over",
        ):
            other_run(path, **here)


def test_a_foreign_file_is_refused_and_stays(tmp_path):
    path = tmp_path / "run"
    path.write_text("my only copy")
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))} is not a checkpoint of this trainer"):
        rdl.Trainer(network()).fit(loader(), epochs=1, checkpoint=path)
    assert path.read_text() == "my only copy"


# losses that are not finite


class Breaks(rdl.Term):
    """Its second layer's value is not finite from some update on."""

    name = "breaks"

    def __init__(self, at, value):
        super().__init__(["one", "two"])
        self.at, self.value, self.updates = at, value, 0

    def __call__(self, features, batch, generator):
        factor = self.value if self.updates == self.at else 1.0
        self.updates += 1
        return {"one": features["one"].square().mean(), "two": features["two"].square().mean() * factor}


class States:
    """The student's parameters before every update, in training mode only."""

    def __init__(self, student):
        self.before = []
        student.register_forward_pre_hook(lambda m, args: self.before.append(weights(m)) if m.training else None)


@pytest.fixture
def as_on_an_accelerator(monkeypatch):
    monkeypatch.setattr(_run, "updates_between_reads", lambda device, log_every: log_every)


BROKEN = (
    r"^breaks/two is {} in epoch 2, update 3: task_loss = [\d.]+, breaks/one = [\d.e-]+, "
    r"breaks/two = {}\. That update was not applied, and training stopped\. Lower the learning rate or α, or look for "
    r"images or targets with values that are not finite$"
)


@pytest.mark.parametrize("value", ["inf", "nan"])
def test_a_loss_that_is_not_finite_stops_before_the_update(value):
    student = network()
    states = States(student)
    with pytest.raises(FloatingPointError, match=BROKEN.format(value, value)):
        rdl.Trainer(student, [Breaks(6, float(value))]).fit(loader(), epochs=3)
    assert len(states.before) == 7
    assert_same(weights(student), states.before[6])
    assert not torch.equal(states.before[6]["one.weight"], states.before[5]["one.weight"])


@pytest.mark.usefixtures("as_on_an_accelerator")
@pytest.mark.parametrize(("log_every", "seen"), [(1, 7), (2, 8), (3, 7), (50, 8)])
def test_on_an_accelerator_the_update_is_undone_until_the_next_read_out(log_every, seen):
    student = network()
    states = States(student)
    with pytest.raises(FloatingPointError, match=BROKEN.format("nan", "nan")):
        rdl.Trainer(student, [Breaks(6, float("nan"))]).fit(loader(), epochs=3, log_every=log_every)
    assert len(states.before) == seen
    assert_same(weights(student), states.before[6])


@pytest.mark.usefixtures("as_on_an_accelerator")
def test_on_an_accelerator_heads_are_undone_too():
    term = rdl.DeepSupervision(["act"], 3, alpha=1.0)
    heads = []
    student = network()
    student.register_forward_pre_hook(lambda m, args: heads.append(weights(term.heads)) if m.training else None)
    with pytest.raises(FloatingPointError):
        rdl.Trainer(student, [term, Breaks(2, float("nan"))]).fit(loader(), epochs=1)
    assert len(heads) == 4
    assert_same(weights(term.heads), heads[2])
    assert not torch.equal(*(next(iter(h.values())) for h in heads[:2]))


def test_the_accelerators_way_is_the_same_training(monkeypatch, request):
    expected, history, _ = run("rdl")
    request.getfixturevalue("as_on_an_accelerator")
    got, other, _ = run("rdl")
    assert_same(got, expected)
    assert_same_history(other, history)


def test_the_first_loss_that_is_not_finite_is_named():
    x, y = data(6)
    x[2, 1] = torch.nan
    with pytest.raises(FloatingPointError, match=r"^task_loss is nan in epoch 1, update 2: task"):
        rdl.Trainer(network()).fit([data(6), (x, y), data(6)], epochs=1)


def test_a_term_that_is_not_finite_stops_training_whatever_its_alpha():
    term = Breaks(1, float("inf"))
    term.alpha = 0.0
    with pytest.raises(FloatingPointError, match=r"^breaks/two is inf in epoch 1, update 2: "):
        rdl.Trainer(network(), [term]).fit(loader(), epochs=1)


# the optimiser


def test_the_optimiser_gets_the_student_and_all_heads_once():
    given = []

    def optimizer(parameters):
        parameters = list(parameters)
        given.append(parameters)
        return torch.optim.SGD(parameters, lr=0.1)

    student = frozen()
    teacher = network_teacher()
    terms = [rdl.Hint(teacher, {"two": "two"}), rdl.KD(teacher, head="two"), rdl.RDLTerm(teacher, {"two": "two"})]
    rdl.Trainer(student, terms, optimizer=optimizer).fit(loader(), epochs=2)
    (parameters,) = given
    expected = [student.two, student.out, *terms[0].heads.values(), *terms[1].heads.values()]
    assert [id(p) for p in parameters] == [id(p) for module in expected for p in module.parameters()]
    assert torch.equal(student.one.weight, network().one.weight)


def test_the_default_optimiser_and_a_scheduler():
    history = rdl.Trainer(network()).fit(loader(), epochs=2)
    (group,) = history.attrs["configuration"]["optimizer"]["groups"]
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.05, 0.9, 0)
    assert history.attrs["configuration"]["optimizer"]["name"] == "SGD"
    history = rdl.Trainer(network(), optimizer=lambda p: torch.optim.SGD(p, lr=torch.tensor(0.25))).fit(
        loader(), epochs=1
    )
    assert history["lr"].dtype == float
    assert history["lr"][0] == 0.25
    history = rdl.Trainer(network(), optimizer=multi_step).fit(loader(), epochs=4)
    assert history["lr"].tolist() == [0.1, 0.05, 0.05, 0.025]


def test_heads_are_learned():
    hint = rdl.Hint(network_teacher(), {"act": "act"})
    seen = []
    hint_setup = hint.setup
    hint.setup = lambda *args: (hint_setup(*args), seen.append(weights(hint.heads)))
    rdl.Trainer(network(), [hint]).fit(loader(), epochs=1)
    assert not torch.equal(*(next(iter(h.values())) for h in (seen[0], weights(hint.heads))))


def test_a_second_fit_starts_with_fresh_heads():
    hint = rdl.Hint(network_teacher(), {"act": "act"}, alpha=0.0)
    student, setup = network(), hint.setup

    def setup_of_none(*args):
        assert len(hint.heads) == 0
        setup(*args)

    hint.setup = setup_of_none
    trainer = rdl.Trainer(student, [hint])
    first = trainer.fit(loader(), epochs=1)
    heads = weights(hint.heads)
    after = weights(student)
    second = trainer.fit(loader(), epochs=1)
    assert_same(weights(hint.heads), heads)  # never learned, and built from the same seed
    assert second["task_loss"][0] < first["task_loss"][0]
    assert not torch.equal(student.one.weight, after["one.weight"])


def test_what_the_optimizer_function_returns():
    with raises(
        ValueError,
        "optimizer must be a function parameters -> Optimizer or (Optimizer, LRScheduler), and it returned a list",
    ):
        rdl.Trainer(network(), optimizer=list).fit(loader(), epochs=1)


def test_there_must_be_something_to_train():
    student = network().requires_grad_(False)
    with raises(ValueError, "no parameter of the student or of a head requires a gradient: there is nothing to train"):
        rdl.Trainer(student).fit(loader(), epochs=1)


# the student


def hooks(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


@pytest.mark.parametrize("mode", [True, False])
def test_the_student_keeps_its_mode_and_loses_its_hooks(mode):
    student, modes = network().train(mode), []
    student.drop.register_forward_hook(lambda module, *_: modes.append(module.training))
    rdl.Trainer(student, [Watch()]).fit(loader(), epochs=2, validation=loader(12))
    student.drop._forward_hooks.clear()
    assert modes == [False] + ([True] * 4 + [False] * 2) * 2  # the set-up, then updates and validation
    assert [m.training for m in student.modules()] == [mode] * 6
    assert hooks(student) == 0
    with pytest.raises(FloatingPointError):
        rdl.Trainer(student, [Breaks(0, float("nan"))]).fit(loader(), epochs=1)
    assert hooks(student) == 0


def test_the_set_up_changes_nothing():
    student = nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 3))
    before = weights(student)
    modes = []

    class Setup(Watch):
        def setup(self, features, batch, generator):
            modes.append([m.training for m in student.modules()])
            assert not features["2"].requires_grad
            assert not batch.output.requires_grad
            assert_same(weights(student), before)

    rdl.Trainer(student, [Setup(["2"])]).fit(loader(), epochs=1)
    assert modes == [[True] * 4]


def test_an_unknown_layer_of_the_student():
    with raises(ValueError, "Sequential has no layer 'tow'; did you mean 'two'?"):
        rdl.Trainer(network(), [Watch(["tow"])]).fit(loader(), epochs=1)


def test_a_student_in_mixed_precision():
    teacher = network_teacher()
    terms = [
        rdl.RDLTerm(teacher, {"two": "two"}, n_pairs=9),
        rdl.RKD(teacher, {"one": "one"}),
        rdl.SP(teacher, {"two": "two"}),
        rdl.CKA(teacher, {"two": "two"}),
        rdl.Hint(teacher, {"act": "act"}),
        rdl.KD(teacher),
        rdl.DeepSupervision(["act"], 3),
        brain_term(),
    ]
    fabric = Fabric(accelerator="cpu", devices=1, precision="bf16-mixed")
    student = network(dropout=0.0)
    history = rdl.Trainer(student, terms, fabric=fabric).fit(loader(), epochs=2, stimuli=stimuli())
    assert np.isfinite(history.drop(columns="epoch").to_numpy()).all()
    full = rdl.Trainer(network(dropout=0.0), terms).fit(loader(), epochs=2, stimuli=stimuli())
    np.testing.assert_allclose(
        history.drop(columns="seconds").to_numpy(), full.drop(columns="seconds").to_numpy(), rtol=0.1, atol=0.05
    )
    assert all(p.dtype == torch.float32 for p in student.parameters())


# evaluation


def test_evaluation_is_the_mean_over_images_in_eval_mode():
    student = network().train()
    x, y = data(20)
    trainer = rdl.Trainer(student)
    batches = [(x[:13], y[:13]), (x[13:], y[13:], tuple("abcdefg"))]
    scores = trainer.evaluate(batches)
    assert student.training
    student.eval()
    with torch.no_grad():
        output = student(x)
    assert list(scores) == ["loss", "error"]
    assert scores["loss"] == pytest.approx(cross_entropy(output, y).item(), rel=1e-6)
    assert scores["error"] == 100 * (output.argmax(dim=1) != y).sum().item() / 20
    assert trainer.evaluate(batches) == scores
    assert not student.training


def test_validation_is_evaluated_after_every_epoch():
    student, end = network(), []
    validation = loader(12)
    trainer = rdl.Trainer(student)
    history = trainer.fit(loader(), epochs=3, validation=validation)
    end = trainer.evaluate(validation)
    assert history["validation_loss"].iloc[-1] == end["loss"]
    assert history["validation_error"].iloc[-1] == end["error"]
    assert len(set(history["validation_loss"])) == 3


def test_evaluation_without_a_task_loss_or_classes():
    x, y = data(12)
    assert list(rdl.Trainer(network(), task_loss=None).evaluate([(x, y)])) == ["error"]
    assert list(rdl.Trainer(network(), task_loss=nn.MSELoss()).evaluate([(x, x[:, :3])])) == ["loss"]


def test_an_empty_loader_to_evaluate():
    with raises(ValueError, "the loader to evaluate has no batches"):
        rdl.Trainer(network()).evaluate([])


# devices and loggers


def test_a_single_term_and_a_finished_optimizer_are_refused():
    with raises(TypeError, "terms must be a sequence, got the single term 'rdl'; write [term]"):
        rdl.Trainer(network(), brain_term())
    with raises(
        TypeError,
        "optimizer must be a function parameters -> Optimizer, got a SGD; the heads' parameters exist only in fit: "
        "write lambda parameters: SGD(parameters, lr=…)",
    ):
        rdl.Trainer(network(), optimizer=torch.optim.SGD(network().parameters(), lr=0.1))


def test_more_than_one_device_is_refused():
    class Two(Fabric):
        world_size = 2

    with raises(
        ValueError,
        "the Fabric stands for 2 devices, and training runs on one: the pairs of a batch must be together; give "
        "Fabric(devices=1)",
    ):
        rdl.Trainer(network(), fabric=Two(accelerator="cpu", devices=1))


class Memory(Logger):
    name, version = "memory", 0

    def __init__(self):
        self.logged = []

    def log_metrics(self, metrics, step=None):
        self.logged.append((step, metrics))

    def log_hyperparams(self, *args, **options):
        raise AssertionError


def test_loggers_get_the_values():
    logger = Memory()
    fabric = Fabric(accelerator="cpu", devices=1, loggers=[logger])
    trainer = rdl.Trainer(network(), [Watch()], fabric=fabric)
    history = trainer.fit(loader(), epochs=2, log_every=3, validation=loader(12))
    assert [step for step, _ in logger.logged] == [3, 4, 4, 7, 8, 8]
    assert list(logger.logged[0][1]) == ["task_loss", "watch/two", "task_error"]
    for epoch in range(2):
        first, last, row = (metrics for _, metrics in logger.logged[3 * epoch : 3 * epoch + 3])
        assert row == history.iloc[epoch].to_dict()
        assert all(last[column] == row[column] for column in last)
        assert first["task_loss"] != last["task_loss"]


# requests that cannot be met


@pytest.mark.parametrize(
    ("made", "fitted", "message"),
    [
        ({}, {"epochs": 0}, "epochs and log_every must be at least 1, got 0 and 50"),
        ({}, {"log_every": 0}, "epochs and log_every must be at least 1, got 1 and 0"),
        ({}, {"task_loader": None}, "there is nothing to train on: give a task loader, stimuli, or both"),
        (
            {"terms": [Watch(), rdl.DeepSupervision(["act"], 3), brain_term()]},
            {"task_loader": None, "stimuli": stimuli()},
            "watch, deep_supervision is computed on the task stream, and there is no task loader; give one, or the "
            "term stream='stimuli'",
        ),
        (
            {"terms": [Watch(), brain_term()]},
            {},
            "rdl is computed on the stimulus stream: give fit(…, stimuli=…)",
        ),
        ({"terms": [Watch()]}, {"stimuli": stimuli()}, "stimuli are given, but no term has stream='stimuli'"),
        (
            {"task_loss": None},
            {},
            "task_loss=None and no term on the task stream: the task loader would serve nothing",
        ),
        (
            {"terms": [brain_term()], "task_loss": None},
            {"stimuli": stimuli()},
            "task_loss=None and no term on the task stream: the task loader would serve nothing",
        ),
        (
            {"terms": [brain_term()]},
            {"task_loader": None, "stimuli": rdl.StimulusStream(stimuli(), every=2)},
            "every=2 leaves updates without stimuli, and there is no task loader to fill them; give one, or every=1",
        ),
        (
            {},
            {"task_loader": (batch for batch in loader())},
            "the task loader is a generator, which can be read once only; give something that starts anew for each "
            "pass: a DataLoader, or list(…)",
        ),
        (
            {},
            {"task_loader": []},
            "the task loader has no batches; give it at least one (a batch size above the data's, drop_last?)",
        ),
        (
            {"terms": [brain_term()]},
            {"task_loader": None, "stimuli": iter([stimuli().batch()])},
            "the loader of the stimuli is a list_iterator, which can be read once only; give something that starts "
            "anew for each pass: a DataLoader, or list(…)",
        ),
        (
            {"terms": [brain_term()]},
            {"stimuli": [data(6)]},
            "stimulus ids must be strings, one per image, got a Tensor",
        ),
        (
            {"terms": [rdl.RDLTerm(brain(), {"two": "IT"})]},
            {},
            "a MeasuredTeacher finds its rows by stimulus id, and this batch has no ids; let the loader yield "
            "(image, label, id), or give the stimuli as a StimulusSet",
        ),
    ],
)
def test_requests_that_cannot_be_met(made, fitted, message):
    student = network()
    arguments = {"task_loader": loader(), "epochs": 1} | fitted
    with raises(ValueError, message):
        rdl.Trainer(student, **made).fit(arguments.pop("task_loader"), **arguments)
    assert_same(weights(student), weights(network()))
    assert hooks(student) == 0


class Promises:
    """A loader whose length is not that of its passes."""

    def __init__(self, length, batches):
        self.length, self.batches = length, batches

    def __len__(self):
        return self.length

    def __iter__(self):
        return iter([data(6)] * self.batches)


@pytest.mark.parametrize(("length", "batches", "gave"), [(3, 2, "2"), (3, 0, "0"), (3, 4, "more"), (3, 9, "more")])
def test_a_loader_that_does_not_keep_its_length(length, batches, gave):
    with raises(
        ValueError,
        f"the task loader has a length of 3, but a pass over it gave {gave} batches; repeat(loader, steps) gives it "
        "as many as it says",
    ):
        rdl.Trainer(network()).fit(Promises(length, batches), epochs=1)


def test_an_endless_loader_is_not_trained_on_beyond_its_length():
    student = network()
    states = States(student)
    with pytest.raises(ValueError, match="gave more batches"):
        rdl.Trainer(student).fit(Promises(3, 5), epochs=1)
    assert len(states.before) == 3


def test_repeat_makes_a_loader_of_any_length():
    watch = Watch(["one"])
    history = rdl.Trainer(network(), [watch]).fit(rdl.repeat(loader(), 6), epochs=2)
    assert len(watch.batches) == 12
    assert history.attrs["configuration"]["updates_per_epoch"] == 6


def test_an_incomplete_last_batch_of_one():
    term = rdl.RDLTerm(network_teacher(), {"two": "two"})
    with raises(
        ValueError,
        "a batch of 1 stimulus has no distances; choose another batch size, or drop the incomplete last batch",
    ):
        rdl.Trainer(network(), [term]).fit([data(6), data(1)], epochs=1)
    rdl.Trainer(network(), [term]).fit(loader(25, drop_last=True), epochs=1)


def test_alpha_without_a_value_for_a_layer():
    term = Watch(["one", "two"], alpha=lambda epoch, epochs: {"one": 1.0})
    with raises(ValueError, "alpha has no value for layer 'two'; it has: 'one'"):
        rdl.Trainer(network(), [term]).fit(loader(), epochs=1)


# MNIST


@pytest.fixture(scope="module")
def mnist():
    return load_mnist(data_dir("mnist"))[0].take(range(4096))


def train_on_mnist(images, *, epochs, steps=None, **options):
    torch.manual_seed(1)
    student = mnist_cnn()
    torch.manual_seed(2)
    teacher = rdl.NetworkTeacher(mnist_cnn(), ["pool2", "fc"])
    term = rdl.RDLTerm(teacher, {"pool2": "pool2", "fc": "fc"}, n_pairs=500, alpha=rdl.linear_decay(0.1))
    task = TensorLoader(images, batch_size=128, shuffle=True)
    task = task if steps is None else rdl.repeat(task, steps)
    stop = options.pop("stop", None)
    task = task if stop is None else Interrupted(task, 3, steps - 1, stop)
    history = rdl.Trainer(student, [term]).fit(task, epochs=epochs, **options)
    return weights(student), history


def test_two_runs_on_mnist_are_bitwise_the_same(mnist):
    (first, history), (second, again) = (train_on_mnist(mnist, epochs=1) for _ in range(2))
    assert_same(first, second)
    assert_same_history(history, again)
    assert history["task_error"][0] < 75
    assert history.attrs["configuration"]["updates_per_epoch"] == 32


def test_a_run_on_mnist_that_was_interrupted_ends_as_one_that_was_not(mnist, tmp_path):
    expected, history = train_on_mnist(mnist, epochs=4, steps=3)
    path = tmp_path / "run"
    with pytest.raises(InterruptionError):
        train_on_mnist(mnist, epochs=4, steps=3, checkpoint=path, stop=interrupt)
    assert len(torch.load(path, weights_only=True)["history"]) == 2
    got, resumed = train_on_mnist(mnist, epochs=4, steps=3, checkpoint=path)
    assert_same(got, expected)
    assert_same_history(resumed, history)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (
            None,
            "the validation function returned a NoneType; expected numbers by name, such as {'score': 0.5}, or {} for "
            "none",
        ),
        (
            {"score": "good"},
            "the validation function returned 'good' as 'score', which is not a number: it is a string",
        ),
        ({3: 0.5}, "the validation function returned a score called 3; expected a string"),
    ],
)
def test_a_validation_function_returns_numbers_by_name(found, message):
    with pytest.raises(TypeError) as error:
        rdl.Trainer(network()).fit(loader(), epochs=1, validation=lambda student: found)
    assert str(error.value) == message


def test_a_validation_function_leaves_no_graph_and_no_switch_behind():
    def validate(student):
        score = student(torch.zeros(1, 1, 4, 4)).sum()
        torch.set_grad_enabled(False)
        return {"score": score}

    history = rdl.Trainer(network()).fit(loader(), epochs=2, validation=validate)
    assert torch.is_grad_enabled()
    assert history["validation_score"].dtype == float


# what must not change beside a training


class Meddles(rdl.Term):
    """Writes to a teacher's parameters in one update."""

    name = "meddles"

    def __init__(self, teacher, at):
        super().__init__(["one"], alpha=0.1)
        self.teacher, self.at, self.updates = teacher, at, 0

    def __call__(self, features, batch, generator):
        if self.updates == self.at:
            next(self.teacher.parameters()).data.add_(0.1)
        self.updates += 1
        return {"one": features["one"].square().mean()}


CHANGED = (
    "the NetworkTeacher changed during the training: it has other parameters than at its beginning. A teacher stays as "
    "it is: look for what writes to its parameters or buffers (a term, a hook, an optimiser), or give it a copy of the "
    "network that changes"
)


@pytest.mark.parametrize(("at", "epochs"), [(0, 0), (5, 1), (11, 2)])
def test_a_teacher_that_changes_is_seen_at_the_end_of_its_epoch(tmp_path, at, epochs):
    path, teacher = tmp_path / "run", network_teacher()
    terms = [rdl.RDLTerm(teacher, {"two": "two"}), Meddles(teacher, at)]
    with raises(ValueError, CHANGED):
        rdl.Trainer(network(), terms).fit(loader(), epochs=3, checkpoint=path)
    # the epoch's checkpoint is not written
    assert (len(torch.load(path, weights_only=True)["history"]) if path.exists() else 0) == epochs


def test_a_second_training_on_one_checkpoint_is_refused(tmp_path):
    path, refused = tmp_path / "run", []

    class Second(Watch):
        def __call__(self, *args):
            if not refused:
                try:
                    rdl.Trainer(network()).fit(loader(), epochs=1, checkpoint=path)
                except OSError as error:
                    refused.append(error)
                # another one beside it is none of its business
                rdl.Trainer(network()).fit(loader(), epochs=1, checkpoint=tmp_path / "other")
            return super().__call__(*args)

    rdl.Trainer(network(), [Second()]).fit(loader(), epochs=1, checkpoint=path)
    assert [(type(error).__name__, str(error)) for error in refused] == [
        (
            "HeldError",
            f"another training writes the checkpoint {path} at this moment; wait until it is done, or name another "
            "path",
        )
    ]
    assert sorted(os.listdir(tmp_path)) == ["other", "run"]


def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch):
    def none(file, how):
        raise OSError(errno.ENOLCK, "none")

    monkeypatch.setattr("fcntl.flock", none)
    message = f"{tmp_path} is on a file system without locks; let no second training write run there"
    with pytest.warns(UserWarning, match=f"^{re.escape(message)}$") as warned:
        rdl.Trainer(network()).fit(loader(), epochs=1, checkpoint=tmp_path / "run")
    assert warned[0].filename == __file__


def test_a_student_of_several_ranks_is_refused(monkeypatch):
    student = nn.Sequential(network())
    student[0].__class__ = type("Wrapped", (nn.parallel.DistributedDataParallel,), {})
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    with raises(
        ValueError,
        "the student is a DistributedDataParallel of 2 ranks, and training runs on one device: the pairs of a batch "
        "must be together; give the network within it (.module), and train on one rank",
    ):
        rdl.Trainer(student)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 1)
    rdl.Trainer(student)
