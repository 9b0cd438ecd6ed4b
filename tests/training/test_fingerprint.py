"""A run that goes on is the run that was begun: other images, labels, ids and functions are seen."""

import json
import random
from argparse import Namespace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset, TensorDataset

import brainrdl as rdl
from brainrdl.training.checkpoint import save_checkpoint
from brainrdl.training.functions import Facts
from small_network import (
    IDS,
    assert_same,
    assert_same_history,
    brain_term,
    data,
    loader,
    network,
    raises,
    stimuli,
    weights,
)

FACTOR = 1.0
ANY = "."  # the whole messages are compared below


class StopError(Exception):
    pass


def begun(path, task=None, *, terms=None, student=None, epochs=3, stop=None, **options):
    """A run of some epochs; with `stop`, broken off behind so many of them."""
    left = [stop]

    def validation(model):
        if left[0] is not None:
            left[0] -= 1
            if left[0] < 0:
                raise StopError
        return {}

    made = {name: options.pop(name) for name in ("task_loss", "optimizer") if name in options}
    student = network() if student is None else student
    trainer = rdl.Trainer(student, [] if terms is None else terms, **made)
    history = trainer.fit(
        loader() if task is None else task, epochs=epochs, checkpoint=path, validation=validation, **options
    )
    return weights(student), history


def broken_off(path, *args, **options):
    with pytest.raises(StopError):
        begun(path, *args, stop=1, **options)


def refused(path, difference):
    return raises(
        ValueError,
        f"{path} belongs to a run on other data, or with other functions: {difference}. Restore them to resume it, or "
        "name another path to start over",
    )


# what the batches hold


def batches(images=None, labels=None, ids=None, size=6):
    x, y = data()
    x, y = (x if images is None else images), (y if labels is None else labels)
    parts = [(x[k : k + size], y[k : k + size]) for k in range(0, len(x), size)]
    if ids is None:
        return parts
    return [(*part, ids[k * size : (k + 1) * size]) for k, part in enumerate(parts)]


def one_changed(values, place):
    values = values.clone()
    values[place] += 1
    return values


def of(images, labels):
    return DataLoader(TensorDataset(images, labels), batch_size=6, shuffle=True)


NAMES = [f"s{k}" for k in range(24)]
DATA = {
    "task images": (batches(), batches(images=one_changed(data()[0], 13)), "batch 2 of the task has other images"),
    "labels": (batches(), batches(labels=(data()[1] + 1) % 3), "batch 0 of the task has other labels"),
    "type": (
        batches(),
        batches(images=data()[0].double().float() * (1 + 1e-6)),
        "batch 0 of the task has other images",
    ),
    "ids": (batches(ids=NAMES), batches(ids=[*NAMES[:20], "x", *NAMES[21:]]), "batch 3 of the task has other ids"),
    "batch size": (
        batches(),
        [(x[:4], y[:4]) for x, y in batches()],
        "batch 0 of the task has 6 images there and 4 here",
    ),
    "order": (
        loader(),
        loader(shuffle=False),
        "batch 0 of the task has other images; batch 0 of the task has other labels",
    ),
    "one swap in many": (
        loader(shuffle=True),
        of(data()[0], one_changed(data()[1], 7) % 3),
        "batch 2 of the task has other labels",
    ),
}


@pytest.mark.parametrize("change", list(DATA))
def test_a_run_is_not_resumed_on_other(change, tmp_path):
    there, here, difference = DATA[change]
    broken_off(tmp_path / "run", there)
    with refused(tmp_path / "run", difference):
        begun(tmp_path / "run", here)
    assert len(begun(tmp_path / "run", there)[1]) == 3


def swapped(images):
    images = images.clone()
    images[[1, 6]] = images[[6, 1]]
    return images


@pytest.mark.parametrize("size", [None, 3])
def test_nor_with_images_swapped_between_ids(size, tmp_path):
    images = stimuli().batch()[0]

    def stream(values):
        return rdl.StimulusStream(rdl.StimulusSet.from_arrays(values, IDS), batch_size=size)

    broken_off(tmp_path / "run", terms=[brain_term()], stimuli=stream(images))
    with refused(tmp_path / "run", f"batch {0 if size is None else 1} of the stimuli has other images"):
        begun(tmp_path / "run", terms=[brain_term()], stimuli=stream(swapped(images)))
    begun(tmp_path / "run", terms=[brain_term()], stimuli=stream(images))


def test_nor_is_a_finished_run_that_of_other_images(tmp_path):
    begun(tmp_path / "run", batches())
    with refused(tmp_path / "run", "batch 2 of the task has other images"):
        begun(tmp_path / "run", batches(images=one_changed(data()[0], 13)))


class Counted(Dataset):
    def __init__(self):
        self.read = 0

    def __len__(self):
        return 24

    def __getitem__(self, place):
        self.read += 1
        x, y = data()
        return x[place], y[place]


def test_a_run_that_is_begun_reads_nothing_for_it(tmp_path):
    counted = Counted()
    begun(tmp_path / "run", DataLoader(counted, batch_size=6))
    assert counted.read == 3 * 24


def test_the_manifest_of_a_history_holds_the_checksums(tmp_path):
    _, history = begun(None, batches(), terms=[brain_term()], stimuli=stimuli())
    found = history.attrs["fingerprint"]
    assert json.loads(json.dumps(found)) == found
    assert [batch["size"] for batch in found["streams"]["task"]["batches"]] == [6, 6, 6, 6]
    assert [batch["ids"] for batch in found["streams"]["stimuli"]["batches"]] == [list(IDS)]
    assert found["cannot be told"] == {}


# functions


def weighted(factor):
    return lambda output, labels: factor * cross_entropy(output, labels)


def with_default(factor):
    def loss(output, labels, factor=factor):
        return factor * cross_entropy(output, labels)

    return loss


def with_keyword(factor):
    def loss(output, labels, *, factor=factor):
        return factor * cross_entropy(output, labels)

    return loss


def by_global(output, labels):
    return FACTOR * cross_entropy(output, labels)


def nested(factor):
    inner = weighted(factor)
    return lambda output, labels: inner(output, labels) + 0


class Weighted:
    def __init__(self, factor):
        self.factor = factor
        self.path = object()  # not used by what is called

    def __call__(self, output, labels):
        return self.scaled(cross_entropy(output, labels))

    def scaled(self, value):
        return self.factor * value

    def method(self, output, labels):
        return self.scaled(cross_entropy(output, labels))


class Slotted:
    __slots__ = ("factor",)

    def __init__(self, factor):
        self.factor = factor

    def __call__(self, output, labels):
        return self.factor * cross_entropy(output, labels)


class Layered(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.options = {"factor": factor, "log": object()}

    def forward(self, output, labels):
        return self.options["factor"] * cross_entropy(output, labels)


def by_options(factor, **others):
    options = Namespace(factor=factor, **others)
    return lambda output, labels: options.factor * cross_entropy(output, labels)


def by_settings(factor, **others):
    settings = {"factor": factor, **others}
    return lambda output, labels: settings["factor"] * cross_entropy(output, labels)


def by_module(factor):
    smooth = nn.CrossEntropyLoss(label_smoothing=factor / 10)
    return lambda output, labels: smooth(output, labels)


def by_tensor(factor):
    class_weights = torch.tensor([1.0, factor, 1.0])
    return lambda output, labels: cross_entropy(output, labels, weight=class_weights)


def by_array(factor):
    class_weights = np.array([1.0, factor, 1.0])
    return lambda output, labels: float(class_weights[1]) * cross_entropy(output, labels)


FUNCTIONS = {
    "closure": (weighted, "task_loss.closure.factor is 1.0 there and 2.0 here"),
    "default": (with_default, "task_loss.defaults.factor is 1.0 there and 2.0 here"),
    "keyword": (with_keyword, "task_loss.defaults.factor is 1.0 there and 2.0 here"),
    "nested": (nested, "task_loss.closure.inner.closure.factor is 1.0 there and 2.0 here"),
    "object": (Weighted, "task_loss.attributes.factor is 1.0 there and 2.0 here"),
    "slots": (Slotted, "task_loss.attributes.factor is 1.0 there and 2.0 here"),
    "method": (lambda factor: Weighted(factor).method, "task_loss.self.attributes.factor is 1.0 there and 2.0 here"),
    "module": (Layered, "task_loss.attributes.options.factor is 1.0 there and 2.0 here"),
    "partial": (lambda f: partial(with_keyword(1.0), factor=f), None),
    "options": (by_options, "task_loss.closure.options.settings.factor is 1.0 there and 2.0 here"),
    "settings": (by_settings, "task_loss.closure.settings.factor is 1.0 there and 2.0 here"),
    "library module": (
        by_module,
        "task_loss.closure.smooth.layers..settings.label_smoothing is 0.1 there and 0.2 here",
    ),
    "tensor": (by_tensor, "task_loss.closure has other class_weights"),
    "array": (by_array, "task_loss.closure has other class_weights"),
}


@pytest.mark.parametrize("kind", [kind for kind, (_, difference) in FUNCTIONS.items() if difference])
def test_another_value_in_a_function_is_seen(kind, tmp_path):
    make, difference = FUNCTIONS[kind]
    broken_off(tmp_path / "run", task_loss=make(1.0))
    with refused(tmp_path / "run", difference):
        begun(tmp_path / "run", task_loss=make(2.0))
    assert len(begun(tmp_path / "run", task_loss=make(1.0))[1]) == 3


def compiled(text, **names):
    """The function `f` of a piece of code, as a user's changed file has it."""
    space = {"__name__": "__main__", "cross_entropy": cross_entropy, "nn": nn, "torch": torch, "rdl": rdl, **names}
    exec(text, space)
    return space["f"]


LOSS = "def f(output, labels):\n    'Once.'\n    return 1.5 * cross_entropy(output, labels)"
CODES = {
    "constant": ("1.5", "9.5", "task_loss.constants is [1.5] there and [9.5] here"),
    "operation": ("*", "+", "task_loss has other code"),
    "name": ("cross_entropy(", "torch.nn.functional.cross_entropy(", "task_loss has other code"),
}


@pytest.mark.parametrize("change", list(CODES))
def test_another_code_of_a_function_is_seen(change, tmp_path):
    old, new, difference = CODES[change]
    broken_off(tmp_path / "run", task_loss=compiled(LOSS))
    with pytest.raises(ValueError) as error:
        begun(tmp_path / "run", task_loss=compiled(LOSS.replace(old, new)))
    assert f"other functions: {difference}" in str(error.value)
    # what is written about it, and how it is called, is not the function
    same = (
        LOSS.replace("'Once.'", "'Twice.'  # or more").replace("def f", "\n\ndef g") + "\nf = g\ng.__qualname__ = 'f'"
    )
    assert len(begun(tmp_path / "run", task_loss=compiled(same))[1]) == 3


def test_another_global_that_a_function_uses_is_seen(tmp_path, monkeypatch):
    broken_off(tmp_path / "run", task_loss=by_global)
    monkeypatch.setitem(globals(), "FACTOR", 2.0)
    with refused(tmp_path / "run", "task_loss.globals.FACTOR is 1.0 there and 2.0 here"):
        begun(tmp_path / "run", task_loss=by_global)


def test_what_a_function_does_not_use_may_change(tmp_path):
    broken_off(tmp_path / "run", task_loss=by_options(1.0, resume=False, out="a"))
    begun(tmp_path / "run", epochs=3, task_loss=by_options(1.0, resume=True, out="b"))
    broken_off(tmp_path / "other", task_loss=by_settings(1.0, resume=False))
    begun(tmp_path / "other", task_loss=by_settings(1.0, resume=True, more=2))


def test_what_a_run_itself_changes_is_no_setting(tmp_path):
    seen = []

    class Counting:
        def __init__(self):
            self.calls = 0

        def __call__(self, output, labels):
            self.calls += 1
            seen.append(self.calls)
            return cross_entropy(output, labels)

    loss = Counting()
    broken_off(tmp_path / "run", task_loss=loss)
    assert len(begun(tmp_path / "run", task_loss=loss)[1]) == 3


def test_a_loss_that_looks_at_the_student_may_be_given_another_copy_of_it(tmp_path):
    def made(seed):
        student = network(seed)
        return student, lambda output, labels: cross_entropy(output, labels) + 0.1 * student.one.weight.square().sum()

    student, loss = made(0)
    broken_off(tmp_path / "run", student=student, task_loss=loss)
    student, loss = made(3)
    begun(tmp_path / "run", student=student, task_loss=loss)


STUDENT = """
class Scaled(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.one = nn.Linear(4, 3)
        self.factor = factor
        self.unused = object()
    def forward(self, x):
        return self.one(x) * self.factor * 1.0
    def describe(self):
        return 'a student'
def f(factor=1.0):
    torch.manual_seed(0)
    return Scaled(factor)
"""


def test_another_student_of_the_same_layers_is_seen(tmp_path):
    broken_off(tmp_path / "run", student=compiled(STUDENT)())
    with refused(tmp_path / "run", "student.attributes.factor is 1.0 there and 2.0 here"):
        begun(tmp_path / "run", student=compiled(STUDENT)(2.0))
    with refused(tmp_path / "run", "student.Scaled.forward.constants is [1.0] there and [3.0] here"):
        begun(tmp_path / "run", student=compiled(STUDENT.replace("* 1.0", "* 3.0"))())
    begun(tmp_path / "run", student=compiled(STUDENT.replace("'a student'", "'the student'"))())


TERM = """
class Activity(rdl.Term):
    name = 'activity'
    def __init__(self, factor):
        super().__init__(['one'], alpha=0.1)
        self.factor = factor
    def __call__(self, features, batch, generator):
        return {layer: self.factor * features[layer].square().mean() for layer in self.layers}
f = Activity
"""


def test_another_term_of_the_users_is_seen(tmp_path):
    broken_off(tmp_path / "run", terms=[compiled(TERM)(1.0)])
    with refused(tmp_path / "run", "terms.activity.attributes.factor is 1.0 there and 2.0 here"):
        begun(tmp_path / "run", terms=[compiled(TERM)(2.0)])
    with refused(tmp_path / "run", "terms.activity.Activity.__call__ has other code"):
        begun(tmp_path / "run", terms=[compiled(TERM.replace("square", "abs"))(1.0)])
    begun(tmp_path / "run", terms=[compiled(TERM)(1.0)])


def test_another_preprocessing_of_a_teacher_is_seen(tmp_path):
    def term(factor):
        teacher = rdl.NetworkTeacher(network(7, dropout=0.0), ["one"], preprocess=lambda x: x * factor)
        return [rdl.RDLTerm(teacher, {"one": "one"})]

    broken_off(tmp_path / "run", terms=term(1.0))
    with refused(tmp_path / "run", "teachers.0.preprocess.closure.factor is 1.0 there and 2.0 here"):
        begun(tmp_path / "run", terms=term(2.0))
    begun(tmp_path / "run", terms=term(1.0))


OPTIMIZER = """
class Halved(torch.optim.SGD):
    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group['params']:
                parameter.grad *= 0.5
        return super().step(closure)
f = Halved
"""


def test_another_optimiser_of_the_users_is_seen(tmp_path):
    def optimizer(text):
        return {"optimizer": lambda parameters: compiled(text)(parameters, lr=0.1, momentum=0.9)}

    broken_off(tmp_path / "run", **optimizer(OPTIMIZER))
    place = "optimizer.Halved.step.closure.func.constants"
    with refused(tmp_path / "run", f"{place} is ['params', 0.5] there and ['params', 0.25] here"):
        begun(tmp_path / "run", **optimizer(OPTIMIZER.replace("0.5", "0.25")))
    begun(tmp_path / "run", **optimizer(OPTIMIZER))


def test_another_module_in_eval_mode_is_seen(tmp_path):
    def student(*held):
        made = network()
        for name in held:
            made.get_submodule(name).eval()
        return made

    path = tmp_path / "run.ckpt"
    broken_off(path, batches(), student=student("drop"))
    with refused(path, "the student's modules in eval mode were 'drop' there and are none here"):
        begun(path, batches(), student=student())
    with refused(path, "the student's modules in eval mode were 'drop' there and are 'act' here"):
        begun(path, batches(), student=student("act"))
    assert len(begun(path, batches(), student=student("drop"))[1]) == 3


def test_what_cannot_be_told_is_said(tmp_path):
    generator = torch.Generator().manual_seed(0)
    loss = weighted(1.0)

    def noisy(output, labels):
        return loss(output, labels) + 0 * torch.rand((), generator=generator)

    broken_off(tmp_path / "run", task_loss=noisy)
    with pytest.warns(UserWarning, match=ANY) as given:
        _, history = begun(tmp_path / "run", task_loss=noisy)
    message = (
        f"{tmp_path / 'run'}: whether these are as they were cannot be told: task_loss.closure.generator (a Generator)"
    )
    assert [str(warning.message) for warning in given] == [message]
    assert history.attrs["fingerprint"]["cannot be told"] == {"task_loss.closure.generator": "a Generator"}
    assert history.attrs["warnings"] == [message]


def test_facts_end_where_things_refer_to_each_other():
    a = Namespace()
    a.b = Namespace(a=a, many=list(range(100_000)))
    facts = Facts()
    facts.read(a, "x")
    assert facts.found["x.settings.b.settings.a"] == "itself"
    assert facts.found["x.settings.b.settings.many"].startswith("sha256:")
    assert len(facts.found) < 10


def older(path):
    """Make a checkpoint what it was before it held a fingerprint."""
    state = torch.load(path, weights_only=True)
    del state["fingerprint"], state["random"]["outside"]
    save_checkpoint(state, path)


def test_a_checkpoint_of_before_is_resumed_and_said_to_be_one(tmp_path):
    expected, history = begun(None)
    broken_off(tmp_path / "run")
    older(tmp_path / "run")
    with pytest.warns(UserWarning, match=ANY) as given:
        got, resumed = begun(tmp_path / "run")
    assert [str(warning.message) for warning in given] == [
        f"{tmp_path / 'run'} was written by a version that noted no checksums: whether the run is resumed on the same "
        "images, labels, ids and functions cannot be told"
    ]
    assert_same(got, expected)
    assert_same_history(resumed, history)
    # from here on it can
    with refused(tmp_path / "run", "batch 1 of the task has other images"):
        begun(tmp_path / "run", DataLoader(TensorDataset(one_changed(data()[0], 23), data()[1]), 6, True))


# randomness outside torch


class Noisy(Dataset):
    """Images with noise that is drawn as its user likes."""

    def __init__(self, draw):
        self.draw = draw

    def __len__(self):
        return 24

    def __getitem__(self, place):
        x, y = data()
        return x[place] + torch.as_tensor(self.draw(), dtype=torch.float32), y[place]


class Shuffled:
    """A sampler that draws its order with NumPy."""

    def __len__(self):
        return 24

    def __iter__(self):
        return iter(np.random.permutation(24).tolist())  # noqa: NPY002


def owned():
    generator = np.random.default_rng(3)
    return lambda: generator.normal(size=4)


DRAWS = {
    "numpy": lambda: lambda: np.random.normal(size=4),  # noqa: NPY002
    "random": lambda: lambda: [random.gauss(0, 1) for _ in range(4)],
    "its own": owned,
    "RandomState": lambda: partial(np.random.RandomState(3).normal, size=4),
    "Random": lambda: partial(random.Random(3).gauss, 0, 1),
    "torch's own": lambda: partial(torch.rand, 4, generator=torch.Generator().manual_seed(3)),
}


@pytest.mark.parametrize("draws", list(DRAWS))
@pytest.mark.parametrize("within", [None, 2])
def test_what_is_drawn_outside_torch_goes_on_too(draws, within, tmp_path):
    def task():
        np.random.seed(0)  # noqa: NPY002
        random.seed(0)
        return DataLoader(Noisy(DRAWS[draws]()), batch_size=6, shuffle=True)

    expected, history = begun(None, task())
    cut = Cut(task(), 1, within) if within else task()
    with pytest.raises(StopError):
        begun(tmp_path / "run", cut, stop=None if within else 1, checkpoint_every=1)
    again = Cut(task(), -1, 0) if within else task()
    with pytest.warns(UserWarning, match=ANY) as given:
        got, resumed = begun(tmp_path / "run", again)
    assert [str(warning.message) for warning in given] == [
        f"{tmp_path / 'run'}: whether these are as they were cannot be told: the task's batches (its loader draws with "
        "NumPy, random or a generator of its own)"
    ]
    assert_same(got, expected)
    assert_same_history(resumed, history)


class Cut:
    """A loader that breaks off within a pass."""

    def __init__(self, inner, at_pass, at_batch):
        self.inner, self.passes, self.at = inner, 0, (at_pass, at_batch)

    def __len__(self):
        return len(self.inner)

    def __iter__(self):
        number, self.passes = self.passes, self.passes + 1
        for place, batch in enumerate(self.inner):
            if (number, place) == self.at:
                raise StopError
            yield batch


def test_an_order_that_numpy_draws_is_gone_on_with_within_an_epoch(tmp_path):
    def task():
        np.random.seed(0)  # noqa: NPY002
        return DataLoader(TensorDataset(*data()), batch_size=6, sampler=Shuffled())

    expected, history = begun(None, task())
    with pytest.raises(StopError):
        begun(tmp_path / "run", Cut(task(), 1, 2), checkpoint_every=1)
    np.random.seed(99)  # noqa: NPY002 - another process is in another state
    again = DataLoader(TensorDataset(*data()), batch_size=6, sampler=Shuffled())
    with pytest.warns(UserWarning, match="cannot be told: the task's batches"):
        got, resumed = begun(tmp_path / "run", again)
    assert_same(got, expected)
    assert_same_history(resumed, history)


def test_states_that_nothing_draws_from_are_left_to_their_user(tmp_path):
    np.random.seed(0)  # noqa: NPY002
    broken_off(tmp_path / "run")
    np.random.seed(1)  # noqa: NPY002
    random.seed(1)
    expected = np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    begun(tmp_path / "run")
    assert (np.random.get_state()[1].tolist(), random.getstate()) == expected  # noqa: NPY002


def test_a_loader_that_never_gives_the_same_twice_is_said_to(tmp_path):
    class Changing:
        def __len__(self):
            return 4

        def __iter__(self):
            generator = np.random.default_rng()
            return iter([(x + float(generator.normal()), y) for x, y in batches()])

    broken_off(tmp_path / "run", Changing())
    with pytest.warns(UserWarning, match=ANY) as given:
        begun(tmp_path / "run", Changing())
    assert [str(warning.message) for warning in given] == [
        f"{tmp_path / 'run'}: whether these are as they were cannot be told: the task's batches (its loader gives "
        "other batches each time it is read)"
    ]


@pytest.mark.parametrize("workers", [1, 2])
def test_generators_that_workers_copy_are_named(workers):
    task = DataLoader(Noisy(owned()), batch_size=12, num_workers=workers)
    with pytest.warns(UserWarning, match=ANY) as given:
        _, history = begun(None, rdl.repeat(task, 2), epochs=1)
    same = "the 2 workers draw the same numbers, and " if workers == 2 else ""
    assert [str(warning.message) for warning in given] == [
        "the task loader's data draw with a generator of their own ('task.dataset.draw.closure.generator'), of which "
        f"each worker process has a copy: {same}every epoch draws those of the first; draw with torch, which is seeded "
        "for each worker and epoch, or seed it in worker_init_fn= from torch.initial_seed()"
    ]
    assert history.attrs["warnings"] == [str(given[0].message)]


def seeded(worker):
    torch.utils.data.get_worker_info().dataset.draw = partial(
        np.random.default_rng(torch.initial_seed()).normal, size=4
    )


def test_generators_that_workers_seed_are_not_named_and_go_on(tmp_path):
    def task():
        return DataLoader(Noisy(owned()), batch_size=6, num_workers=2, worker_init_fn=seeded)

    expected, history = begun(None, task(), epochs=2)
    broken_off(tmp_path / "run", task(), epochs=2)
    got, resumed = begun(tmp_path / "run", task(), epochs=2)
    assert_same(got, expected)
    assert_same_history(resumed, history)


def test_numpy_in_workers_goes_on(tmp_path):
    def task():
        return DataLoader(Noisy(DRAWS["numpy"]()), batch_size=6, num_workers=2)

    expected, history = begun(None, task(), epochs=2)
    broken_off(tmp_path / "run", task(), epochs=2)
    np.random.seed(99)  # noqa: NPY002
    got, resumed = begun(tmp_path / "run", task(), epochs=2)
    assert_same(got, expected)
    assert_same_history(resumed, history)
