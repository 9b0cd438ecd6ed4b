"""What is refused before the first update."""

import copy
import pickle
import re
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import brainrdl as rdl
from brainrdl.data import TensorLoader, load_digits
from brainrdl.training.streams import first_batch, last_batch_size
from small_network import IDS, assert_same, brain_term, data, loader, network, network_teacher, raises, stimuli, weights


def refused(error, message, terms=(), task=None, made=None, **fitted):
    """Fit is refused with the whole message, and nothing was trained."""
    student = network()
    modes = [module.training for module in student.modules()]
    with raises(error, message):
        rdl.Trainer(student, terms, **made or {}).fit(loader() if task is None else task, epochs=2, **fitted)
    assert_same(weights(student), weights(network()))
    assert [module.training for module in student.modules()] == modes


# the optimiser


def test_an_optimiser_of_other_parameters():
    other = network()
    refused(
        ValueError,
        "the optimiser lacks 6 of 6 parameters that require a gradient, which would never be trained: 'one.weight', "
        "'one.bias', 'two.weight', 'two.bias', 'out.weight' and 1 more; make it from the parameters that the function "
        "is called with (they include the heads'), and freeze what is not to be trained with requires_grad_(False)",
        made={"optimizer": lambda parameters: torch.optim.SGD(other.parameters(), lr=0.1)},
    )


def test_an_optimiser_without_the_heads():
    student = network()
    terms = [rdl.Hint(network_teacher(), {"act": "act"})]
    trainer = rdl.Trainer(student, terms, optimizer=lambda parameters: torch.optim.SGD(student.parameters(), lr=0.1))
    with raises(
        ValueError,
        "the optimiser lacks 2 of 8 parameters that require a gradient, which would never be trained: "
        "'hint/act/.weight', 'hint/act/.bias'; make it from the parameters that the function is called with (they "
        "include the heads'), and freeze what is not to be trained with requires_grad_(False)",
    ):
        trainer.fit(loader(), epochs=1)


def test_groups_of_parameters_and_further_ones_are_fine():
    further = nn.Parameter(torch.zeros(1))

    def groups(parameters):
        first, *rest = parameters
        return torch.optim.SGD([{"params": rest}, {"params": [first], "lr": 0.2}, {"params": [further]}], lr=0.1)

    assert len(rdl.Trainer(network(), optimizer=groups).fit(loader(), epochs=1)) == 1


def test_a_scheduler_that_needs_a_metric():
    def plateau(parameters):
        optimizer = torch.optim.SGD(parameters, lr=0.1)
        return optimizer, torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)

    refused(
        ValueError,
        "ReduceLROnPlateau needs a metric at every step, and the trainer steps a scheduler by epochs alone; use "
        "another scheduler, such as CosineAnnealingLR",
        made={"optimizer": plateau},
    )


def test_an_optimiser_that_needs_a_closure():
    refused(
        ValueError,
        "LBFGS evaluates the loss several times a step (closure), and the trainer does so once; use another optimiser, "
        "such as SGD or Adam",
        made={"optimizer": torch.optim.LBFGS},
    )


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (lambda optimizer: (optimizer, 0.1), "a tuple of SGD, float"),
        (lambda optimizer: (optimizer,), "a tuple of SGD"),
        (lambda optimizer: (optimizer, None, None), "a tuple of SGD, NoneType, NoneType"),
        (lambda optimizer: None, "a NoneType"),
    ],
)
def test_what_is_no_optimiser_and_scheduler(answer, what):
    refused(
        ValueError,
        f"optimizer must be a function parameters -> Optimizer or (Optimizer, LRScheduler), and it returned {what}",
        made={"optimizer": lambda parameters: answer(torch.optim.SGD(parameters, lr=0.1))},
    )


# streams


ONE_PASS = (
    "{} is a {}, which can be read once only; give something that starts anew for each pass: a DataLoader, or list(…)"
)


class Sized:
    """An iterator that knows its length."""

    def __init__(self):
        self.batches = iter([data(6)] * 2)

    def __len__(self):
        return 2

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.batches)


def test_iterators_that_would_be_empty_in_the_second_epoch():
    refused(ValueError, ONE_PASS.format("the task loader", "Sized"), task=Sized())
    refused(ValueError, ONE_PASS.format("the validation loader", "Sized"), validation=Sized())
    refused(
        ValueError,
        ONE_PASS.format("the loader of the stimuli", "list_iterator"),
        terms=[brain_term()],
        stimuli=iter([stimuli().batch()]),
    )
    with raises(ValueError, ONE_PASS.format("the loader to repeat", "list_iterator")):
        rdl.repeat(iter([1, 2]), 3)


def test_stimuli_without_a_batch():
    class Empty:
        def __iter__(self):
            return iter([])

    refused(ValueError, "the loader of the stimuli gave no batch", terms=[brain_term()], stimuli=[])
    refused(ValueError, "the loader of the stimuli gave no batch", terms=[brain_term()], stimuli=Empty())


def test_parts_of_a_batch_that_are_no_tensors():
    x, y = data(6)
    message = (
        "a {} loader yields batches of tensors, and its {}s are a {}; torch.as_tensor makes one, and a DataLoader does "
        "so for numbers and arrays"
    )
    refused(TypeError, message.format("task", "label", "NoneType"), task=[(x, None)])
    refused(TypeError, message.format("task", "label", "list"), task=[(x, y.tolist())])
    refused(TypeError, message.format("task", "image", "ndarray"), task=[(x.numpy(), y)])
    images = [(x.numpy(), IDS[:6])]
    refused(TypeError, message.format("stimulus", "image", "ndarray"), terms=[brain_term()], stimuli=images)


def test_the_form_of_a_validation_batch():
    x, y = data(6)
    refused(
        ValueError,
        "validation: a task loader yields (image, label) or (image, label, id), got a Tensor",
        validation=[x],
    )
    refused(ValueError, "validation: the validation loader has no batches", validation=[])
    refused(
        TypeError,
        "validation: a task loader yields batches of tensors, and its labels are a list; torch.as_tensor makes one, "
        "and a DataLoader does so for numbers and arrays",
        validation=[(x, y.tolist())],
    )


def test_reading_the_first_batch_is_not_noticed():
    own = torch.Generator().manual_seed(3)
    shuffled = DataLoader(TensorDataset(*data()), batch_size=6, shuffle=True, generator=own)
    before, state = torch.get_rng_state(), own.get_state()
    images, _ = first_batch(shuffled, "it")
    assert images.shape == (6, 4)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(own.get_state(), state)


@pytest.mark.parametrize("kind", ["folder", "file above"])
def test_a_checkpoint_that_cannot_be_written(tmp_path, kind):
    if kind == "folder":
        refused(IsADirectoryError, f"{tmp_path} is a folder; name a file in it for the checkpoint", checkpoint=tmp_path)
        return
    (tmp_path / "file").write_text("")
    refused(
        FileExistsError,
        f"no checkpoint can be written in {tmp_path / 'file'} (File exists); name another path, or make that folder "
        "writable",
        checkpoint=tmp_path / "file" / "run",
    )


# the task loss


def test_a_task_loss_that_is_no_single_number():
    refused(
        ValueError,
        "the task loss CrossEntropyLoss returned shape (6,); expected a single number, the mean over the batch "
        "(reduction='mean')",
        made={"task_loss": nn.CrossEntropyLoss(reduction="none")},
    )
    refused(
        TypeError,
        "the task loss seven returned a float; expected a Tensor that carries the gradient",
        made={"task_loss": seven},
    )
    student, expected = network(), network()
    rdl.Trainer(student, task_loss=lambda *batch: cross_entropy(*batch)[None]).fit(loader(), epochs=1)
    rdl.Trainer(expected).fit(loader(), epochs=1)
    assert_same(weights(student), weights(expected))


def seven(output, labels):
    return 7.0


@pytest.mark.parametrize(
    ("change", "what", "why"),
    [
        (lambda y: y.float(), "torch.float32", "expected target dtype to be Long or Byte, but got Float"),
        (lambda y: y + 1, "torch.int64", "Target 3 is out of bounds."),
    ],
)
def test_labels_that_the_task_loss_cannot_take(change, what, why):
    x, y = data(6)
    refused(
        ValueError,
        f"the task loss cross_entropy failed on an output of (6, 3) values and labels of shape (6,) and type {what}: "
        f"{why}; for classes, labels are integers (torch.int64) from 0 to the number of classes less 1",
        task=[(x, change(y))],
    )
    with pytest.raises(ValueError, match=f": {re.escape(why)}; for classes, labels are integers"):
        rdl.Trainer(network()).evaluate([(x, change(y))])


# terms


class Returns(rdl.Term):
    name = "returns"

    def __init__(self, make, **options):
        super().__init__(["two"], **options)
        self.make = make

    def __call__(self, features, batch, generator):
        return {"two": self.make(features["two"])}


def test_what_a_term_returns():
    refused(
        TypeError,
        "returns/two is a float; a term returns a Tensor of a single number for each layer, computed from the features "
        "so that it carries their gradient",
        terms=[Returns(lambda f: f.mean().item())],
    )
    refused(
        ValueError,
        "returns/two has shape (5,); a term returns a single number a layer",
        terms=[Returns(lambda f: f.mean(dim=0))],
    )
    no_gradient = (
        "returns/two has no gradient, so that it trains nothing: no parameter before 'two' requires one, or the term "
        "detached it; unfreeze one, leave the layer out, or watch it with alpha=0"
    )
    refused(ValueError, no_gradient, terms=[Returns(lambda f: f.detach().mean())])
    history = rdl.Trainer(network(), [Returns(lambda f: f.detach().mean(), alpha=0.0)]).fit(loader(), epochs=1)
    assert np.isfinite(history["returns/two"][0])


def test_rdl_on_a_frozen_layer():
    def frozen():
        student = network()
        student.one.requires_grad_(False)
        return student

    term = rdl.RDLTerm(network_teacher(), {"one": "one"})
    student = frozen()
    with raises(
        ValueError,
        "rdl/one has no gradient, so that it trains nothing: no parameter before 'one' requires one, or the term "
        "detached it; unfreeze one, leave the layer out, or watch it with alpha=0",
    ):
        rdl.Trainer(student, [term]).fit(loader(), epochs=1)
    assert_same(weights(student), weights(frozen()))
    # a classifier on a frozen layer learns by itself
    rdl.Trainer(frozen(), [rdl.DeepSupervision(["one"], 3)]).fit(loader(), epochs=1)


def test_terms_that_are_none_or_given_twice():
    hint = rdl.Hint(network_teacher(), {"act": "act"})
    with raises(
        ValueError,
        "terms names the same 'hint' term twice, which would share its heads and state; make two, or double its alpha",
    ):
        rdl.Trainer(network(), [hint, brain_term(), hint])
    with raises(TypeError, "terms[1] is a function; expected a Term (RDLTerm, Hint, KD, …)"):
        rdl.Trainer(network(), [hint, cross_entropy])


def test_layers_of_a_term():
    single = "layers must be a list of names, got the single string 'fc'; write ['fc']"
    mapping = "layers must map student layers to teacher names, got a {}; write {{'student layer': 'teacher name'}}"
    with raises(ValueError, single):
        rdl.DeepSupervision("fc", 10)
    with raises(ValueError, "layers names a layer twice: 'fc', 'one', 'fc'"):
        rdl.DeepSupervision(["fc", "one", "fc"], 10)
    for make in (rdl.Hint, rdl.RKD, rdl.SP, rdl.CKA, rdl.RDLTerm):
        with raises(TypeError, mapping.format("str")):
            make(network_teacher(), "one")
        with raises(TypeError, mapping.format("list")):
            make(network_teacher(), ["one"])
    with raises(ValueError, "layers names a layer twice: 'output', 'output'"):
        rdl.NetworkTeacher(network(), ["output", "output"])


def test_classes_of_deep_supervision():
    refused(
        ValueError,
        "deep supervision was made for 2 classes (labels 0 … 1), and a label is 2; give n_classes the number of the "
        "task's classes",
        terms=[rdl.DeepSupervision(["act"], 2)],
    )
    x, y = data(6)
    refused(
        ValueError,
        "deep supervision needs class labels (integers, one per image), got torch.float32 of shape (6,)",
        terms=[rdl.DeepSupervision(["act"], 3)],
        task=[(x, y.float())],
    )
    with raises(ValueError, "n_classes must be at least 1, got 0"):
        rdl.DeepSupervision(["act"], 0)


def test_classes_of_deep_supervision_in_a_later_batch():
    x, y = data(6)
    term = rdl.DeepSupervision(["act"], 2)
    with pytest.raises(ValueError, match=r"^deep supervision was made for 2 classes \(labels 0 … 1\), and a "):
        rdl.Trainer(network(), [term]).fit([(x, y.clamp(max=1)), (x, y)], epochs=1)


# images


@pytest.mark.parametrize(("dtype", "end"), [(torch.uint8, " / 255"), (torch.float64, "")])
def test_stimuli_of_another_data_type(dtype, end):
    images = rdl.StimulusSet.from_arrays(torch.zeros(8, 4, dtype=dtype), IDS)
    student = network()
    with pytest.raises(
        TypeError,
        match=rf"^the student has parameters of torch\.float32 and got images of {dtype} \(.+\); convert the images, "
        rf"as in images\.to\(torch\.float32\){end}$",
    ):
        rdl.Trainer(student, [brain_term()]).fit(None, epochs=1, stimuli=images)


def batchnorm():
    torch.manual_seed(0)
    return nn.Sequential(OrderedDict(one=nn.Linear(4, 6), norm=nn.BatchNorm1d(6), out=nn.Linear(6, 3)))


NORMALISED = (
    "the student normalises over the batch, and one of 1 image has no spread (Expected more than 1 value per channel "
    "when training, got input size torch.Size([1, 6])); choose another batch size, or leave out the incomplete last "
    "batch (drop_last=True)"
)


def test_a_last_batch_of_one_image_is_refused_before_training():
    for task in (loader(25), rdl.repeat(loader(25), 7)):
        student = batchnorm()
        with raises(ValueError, f"the task loader's last batch holds 1 image, and {NORMALISED}"):
            rdl.Trainer(student).fit(task, epochs=1)
        assert_same(weights(student), weights(batchnorm()))
    refused(
        ValueError,
        "the task loader's last batch holds 1 image, which has no distances; choose another batch size, or leave the "
        "incomplete last batch out (drop_last=True)",
        terms=[rdl.RDLTerm(network_teacher(), {"two": "two"})],
        task=loader(25),
    )


def test_a_last_batch_of_one_image_that_could_not_be_foreseen():
    with raises(ValueError, NORMALISED):
        rdl.Trainer(batchnorm()).fit([data(6), data(1)], epochs=1)


def test_a_last_batch_of_one_image_where_it_does_no_harm():
    x, y = torch.randn(5, 1, 3, 3), torch.zeros(5, dtype=torch.int64)
    student = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(18, 3))
    history = rdl.Trainer(student).fit(DataLoader(TensorDataset(x, y), batch_size=2), epochs=1)
    assert history.attrs["configuration"]["updates_per_epoch"] == 3
    rdl.Trainer(batchnorm()).fit(rdl.repeat(loader(25), 4), epochs=1)  # never gets there
    rdl.Trainer(network()).fit(loader(25), epochs=1)


def test_the_size_of_the_last_batch():
    digits = load_digits()[2]
    assert last_batch_size(TensorLoader(digits, batch_size=499)) == 1
    assert last_batch_size(TensorLoader(digits, batch_size=499, drop_last=True)) is None
    assert last_batch_size(loader(24)) == 6
    assert last_batch_size(loader(25, drop_last=True)) is None
    assert last_batch_size([data(6)]) is None


def test_preprocessing_in_place_leaves_the_students_batch():
    seen = []
    teacher = rdl.NetworkTeacher(network(7, dropout=0.0), ["one"], preprocess=lambda images: images.mul_(0))
    images = data(6)[0]
    answers = teacher.features(images, ["one"])["one"]
    assert torch.equal(images, data(6)[0])
    assert torch.equal(answers, answers[:1].expand(6, -1))
    student = network(dropout=0.0)
    student.register_forward_pre_hook(lambda module, args: seen.append(args[0].clone()))
    rdl.Trainer(student, [rdl.RDLTerm(teacher, {"one": "one"}), rdl.KD(teacher)]).fit([data(6)], epochs=2)
    assert all(torch.equal(batch, images) for batch in seen)


def test_preprocessing_that_returns_nothing():
    teacher = rdl.NetworkTeacher(network(), ["one"], preprocess=lambda images: None)
    with raises(TypeError, "preprocess returned a NoneType; expected the teacher's input, a Tensor"):
        teacher.features(data(6)[0], ["one"])


# modes, and what is left behind


def mixed():
    """A network whose user keeps one part in eval mode."""
    student = network()
    student.drop.eval()
    return student, [module.training for module in student.modules()]


class Fails(rdl.Term):
    name = "fails"

    def __init__(self, where):
        super().__init__(["one"])
        self.where = where

    def setup(self, features, batch, generator):
        if self.where == "setup":
            raise KeyboardInterrupt

    def __call__(self, features, batch, generator):
        if self.where == "update":
            raise KeyboardInterrupt
        return {"one": features["one"].mean()}


@pytest.mark.parametrize("where", ["setup", "update", "nowhere"])
def test_every_module_keeps_its_mode(where):
    student, modes = mixed()
    trainer = rdl.Trainer(student, [Fails(where)])
    try:
        trainer.fit(loader(), epochs=1, validation=loader(6))
        assert where == "nowhere"
    except KeyboardInterrupt:
        assert where != "nowhere"
    assert [module.training for module in student.modules()] == modes
    assert trainer.evaluate(loader(6)).keys() == {"loss", "error"}
    assert [module.training for module in student.modules()] == modes


def test_an_evaluation_that_fails_leaves_the_mode():
    student, modes = mixed()
    with pytest.raises(ValueError, match=r"^the task loss cross_entropy failed on "):
        rdl.Trainer(student).evaluate([(data(6)[0], torch.zeros(5, 7))])
    assert [module.training for module in student.modules()] == modes


def test_a_forward_pass_that_was_interrupted():
    student = network().eval()
    recorder = rdl.Recorder(student, ["one"])

    def interrupt(module, args):
        raise KeyboardInterrupt

    handle = student.out.register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        student(data(6)[0])
    handle.remove()
    with raises(
        RuntimeError,
        "the last forward pass was interrupted, so that its features are not whole; call the model again",
    ):
        recorder.features()
    student.one(data(6)[0])  # a layer called by itself is not recorded any more
    student(data(6)[0])
    assert recorder.features()["one"].shape == (6, 6)
    student(data(6)[0])
    recorder.remove()
    with pytest.raises(RuntimeError, match=r"^none of the layers"):
        recorder.features()


@pytest.mark.parametrize("way", [copy.deepcopy, lambda thing: pickle.loads(pickle.dumps(thing))])
def test_copies_of_recorded_models_and_teachers(way):
    student, x = network().eval(), data(6)[0]
    recorder = rdl.Recorder(student, ["one", "two"])
    copied = way(student)
    assert torch.equal(copied(x), student(x))
    features = recorder.features()
    copied(x)
    with rdl.Recorder(copied, ["one"]) as other:
        copied(x)
        assert torch.equal(other.features()["one"], features["one"])
    with pytest.raises(RuntimeError, match=r"^none of the layers"):
        recorder.features()  # the copy reaches nothing of the original's
    teacher = rdl.NetworkTeacher(student, ["one"])
    again = way(teacher)
    assert torch.equal(again(x)["one"], teacher(x)["one"])
    assert again.describe() == teacher.describe()
