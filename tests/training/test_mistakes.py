"""What a training is given by mistake: refused in words before the first update, or warned of."""

import re

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.optim import SGD
from torch.optim.lr_scheduler import ExponentialLR
from torch.utils.data import DataLoader, TensorDataset

import brainrdl as rdl
from small_network import assert_same, data, loader, network, network_teacher, raises, weights

ANY = "."  # the whole messages are compared below
TRAINER_ARGUMENTS = {
    "a float": ({"epochs": 2.0}, TypeError, "epochs is 2.0; expected a whole number"),
    "text": ({"epochs": "3"}, TypeError, "epochs is '3'; expected a whole number"),
    "no seed": ({"seed": None}, TypeError, "seed is None; expected a whole number"),
    "a part of a seed": ({"seed": 1.5}, TypeError, "seed is 1.5; expected a whole number"),
    "a switch for a path": (
        {"checkpoint": True},
        TypeError,
        "checkpoint is a bool; expected one path, a string or a pathlib.Path",
    ),
    "no path": ({"checkpoint": ""}, ValueError, "checkpoint is an empty string; expected a path"),
}


@pytest.mark.parametrize("mistake", list(TRAINER_ARGUMENTS))
def test_arguments_of_another_kind(mistake):
    options, error, message = TRAINER_ARGUMENTS[mistake]
    with raises(error, message):
        rdl.Trainer(network()).fit(loader(), **{"epochs": 1} | options)


def test_numpys_whole_numbers_are_whole_numbers(tmp_path):
    students = [network(), network()]
    for student, seed in zip(students, (np.int64(3), 3), strict=True):
        rdl.Trainer(student).fit(loader(), epochs=np.int64(1), seed=seed, checkpoint=tmp_path / "run.ckpt")
    assert_same(weights(students[0]), weights(students[1]))


@pytest.mark.parametrize(
    ("given", "what"),
    [
        (network, "a function; expected a network, a torch.nn.Module"),
        (nn.Linear, "the class Linear; expected a network, a torch.nn.Module, not yet made: call it"),
    ],
)
def test_a_student_that_is_no_network(given, what):
    with raises(TypeError, f"student is {what}"):
        rdl.Trainer(given)


FUNCTION = (
    "expected a function (output, label) -> mean, such as torch.nn.functional.cross_entropy, or None"  # of the task
)
FABRIC = "expected a lightning_fabric.Fabric, such as Fabric(accelerator='cpu', devices=1)"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"terms": network_teacher()}, "terms must be a sequence of Terms, got a NetworkTeacher; write [RDLTerm(…)]"),
        ({"terms": "rdl"}, "terms[0] is a str; expected a Term (RDLTerm, Hint, KD, …)"),
        (
            {"task_loss": nn.CrossEntropyLoss},
            f"task_loss is the class CrossEntropyLoss; {FUNCTION}, not yet made: call it",
        ),
        ({"task_loss": "mse"}, f"task_loss is a str; {FUNCTION}"),
        ({"fabric": "cuda"}, f"fabric is a str; {FABRIC}"),
        ({"fabric": torch.device("cpu")}, f"fabric is a device; {FABRIC}"),
        ({"threads": "auto"}, "threads is 'auto'; expected a whole number"),
        ({"threads": 1.5}, "threads is 1.5; expected a whole number"),
    ],
)
def test_what_a_trainer_is_made_of_by_mistake(given, message):
    with raises(TypeError, message):
        rdl.Trainer(network(), **given)


def test_a_data_set_in_the_place_of_a_loader():
    pictures = TensorDataset(torch.zeros(6, 3, 2, 2), torch.zeros(6, dtype=torch.int64))
    student = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    end = "is a TensorDataset, which gives one image at a time; make batches of it: DataLoader(dataset, batch_size=…, "
    with raises(ValueError, f"the task loader {end}shuffle=True)"):
        rdl.Trainer(student).fit(pictures, epochs=1)
    with raises(ValueError, f"the validation loader {end}shuffle=True)"):
        rdl.Trainer(network()).fit(loader(), epochs=1, validation=TensorDataset(*data()))


def test_a_data_set_of_whole_batches_is_a_loader():
    batches = TensorDataset(data()[0].reshape(4, 6, 4), data()[1].reshape(4, 6))
    assert len(rdl.Trainer(network()).fit(batches, epochs=1)) == 1


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        (
            network(),
            "teacher is a Sequential; expected an RDMTeacher: NetworkTeacher(network, [layers]) makes a network one",
        ),
        (
            np.eye(4),
            "teacher is a ndarray; expected an RDMTeacher: MeasuredTeacher(rdms) makes labelled RDMs one, and "
            "label_rdms labels an array",
        ),
    ],
)
def test_what_is_no_teacher_yet(teacher, message):
    with raises(TypeError, message):
        rdl.RDLTerm(teacher, {"two": "one"})


def test_layers_that_are_numbers():
    with raises(TypeError, "layers maps 2 to 'one'; both are names, and names are strings: {'2': 'one'}"):
        rdl.RDLTerm(network_teacher(), {2: "one"})


def test_a_number_of_pairs_that_is_not_whole():
    with raises(TypeError, "n_pairs is 10.5; expected a whole number"):
        rdl.RDLTerm(network_teacher(), {"two": "one"}, n_pairs=10.5)


def test_numbers_of_a_stream_that_are_not_whole():
    stimuli = rdl.StimulusSet.from_arrays(torch.zeros(4, 2), list("abcd"))
    for options in ({"batch_size": 2.0}, {"every": 2.5}, {"steps": "3"}):
        (name, value) = next(iter(options.items()))
        with raises(TypeError, f"{name} is {value!r}; expected a whole number"):
            rdl.StimulusStream(stimuli, **options)
    with raises(TypeError, "steps is 2.5; expected a whole number"):
        rdl.repeat([1, 2], 2.5)
    with raises(TypeError, "n_pairs is 10.5; expected a whole number"):
        rdl.RDLoss(n_pairs=10.5)
    with raises(ValueError, "n_pairs must be at least 1, but is 0"):
        rdl.RDLoss(n_pairs=0)


def test_a_teacher_of_another_precision_may_be_converted_itself():
    teacher = rdl.NetworkTeacher(network(7).half(), ["one"])
    with pytest.raises(
        TypeError,
        match=r"^the teacher has parameters of torch\.float16 and got images of torch\.float32 \(.+\); convert the "
        r"images, as in images\.to\(torch\.float16\), or the network, as in network\.to\(torch\.float32\)$",
    ):
        rdl.Trainer(network(), [rdl.RDLTerm(teacher, {"two": "one"})]).fit(loader(), epochs=1)


# what trains nothing, or something else


def test_a_scheduler_of_another_optimiser():
    def make(parameters):
        return SGD(parameters, lr=0.1), ExponentialLR(SGD(parameters, lr=0.1), 0.5)

    with raises(
        ValueError,
        "ExponentialLR changes the learning rate of another optimiser than the one that trains; make it from the "
        "optimiser that the function returns",
    ):
        rdl.Trainer(network(), optimizer=make).fit(loader(), epochs=1)


LOSSES = {
    "softmax": (
        functional.cross_entropy,
        nn.Softmax(dim=1),
        "the task loss cross_entropy takes logits, and the student returns probabilities, so that a softmax "
        "follows a softmax; leave the softmax out of the student",
    ),
    "softmax, as an object": (
        nn.CrossEntropyLoss(label_smoothing=0.1),
        nn.Softmax(dim=1),
        "the task loss CrossEntropyLoss takes logits, and the student returns probabilities, so that a softmax "
        "follows a softmax; leave the softmax out of the student",
    ),
    "no log_softmax": (
        functional.nll_loss,
        nn.Identity(),
        "the task loss nll_loss takes log-probabilities, and the student returns other numbers, so that it has no "
        "lower bound; use cross_entropy, or end the student in a log_softmax",
    ),
}


@pytest.mark.parametrize("fault", list(LOSSES))
def test_outputs_that_the_task_loss_does_not_take_are_said_once(fault):
    loss, end, message = LOSSES[fault]
    with pytest.warns(UserWarning, match=ANY) as said:
        history = rdl.Trainer(nn.Sequential(network(), end), task_loss=loss).fit(loader(), epochs=2)
    assert [str(warning.message) for warning in said] == [message]
    assert history.attrs["warnings"] == [message]


@pytest.mark.parametrize(
    ("loss", "end"),
    [
        (functional.cross_entropy, nn.Identity()),
        (functional.nll_loss, nn.LogSoftmax(dim=1)),
        (lambda output, labels: functional.nll_loss(output.log(), labels), nn.Softmax(dim=1)),
    ],
)
def test_outputs_that_the_task_loss_takes_pass(loss, end):
    history = rdl.Trainer(nn.Sequential(network(), end), task_loss=loss).fit(loader(), epochs=1)
    assert history.attrs["warnings"] == []


@pytest.mark.parametrize("who", ["teacher", "student"])
def test_distillation_of_probabilities_is_said(who):
    ended = nn.Sequential(network(3, dropout=0.0), nn.Softmax(dim=1))
    teacher, student = (ended, network()) if who == "teacher" else (network(3, dropout=0.0), ended)
    term = rdl.KD(rdl.NetworkTeacher(teacher, [rdl.list_layers(teacher)[0]]))
    with pytest.warns(UserWarning, match=ANY) as said:
        rdl.Trainer(student, [term], task_loss=None).fit(loader(), epochs=1)
    assert [str(warning.message) for warning in said] == [
        f"KD takes logits, and the {who} returns probabilities, which a softmax makes all alike; leave the "
        "softmax out of it"
    ]


def _in_order(classes, batch):
    """A loader of as many images as `classes`, and a student for them."""
    labels = torch.as_tensor(classes)
    pictures = TensorDataset(torch.randn(len(labels), 4, generator=torch.Generator().manual_seed(0)), labels)
    return DataLoader(pictures, batch), nn.Linear(4, 5)


@pytest.mark.parametrize(
    ("per_class", "n", "last"),
    [
        (30, 120, 3),  # at the end of the first pass
        (300, 550, 1),  # as soon as many images have been seen
        (580, 600, 1),  # of one class alone, no order can be told
    ],
)
def test_a_loader_of_images_class_by_class_is_warned_of(per_class, n, last):
    loader, student = _in_order([i // per_class for i in range(4 * per_class)], 50)
    told = (
        f"the labels of the first {n} task images are in order, from 0 to {last}: each batch shows few classes, and "
        "distances between the others are not compared; shuffle=True in the DataLoader mixes them"
    )
    with pytest.warns(UserWarning, match=f"^{re.escape(told)}$") as given:
        history = rdl.Trainer(student).fit(loader, epochs=2)
    assert [warning.filename for warning in given] == [__file__]
    assert history.attrs["warnings"] == [told]


@pytest.mark.parametrize(
    ("classes", "batch"),
    [
        ([i % 4 for i in range(600)], 50),  # in one order, and of all classes
        ([0] * 600, 50),  # of one class
        ([0] * 50 + [1] * 50, 50),  # two batches
    ],
)
def test_other_orders_are_not_warned_of(classes, batch):
    loader, student = _in_order(classes, batch)
    assert rdl.Trainer(student).fit(loader, epochs=1).attrs["warnings"] == []


def test_images_of_another_shape_name_the_network_and_what_it_got():
    def convolutional(channels):
        return nn.Sequential(nn.Conv2d(channels, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 3))

    grey = [(torch.zeros(5, 1, 4, 4), torch.zeros(5, dtype=torch.int64))]
    end = (
        "failed on 5 images of shape (1, 4, 4) (Given groups=1, weight of size [2, 3, 1, 1], expected input[5, 1, 4, "
        "4] to have 3 channels, but got 1 channels instead); give images of the shape that it takes: (channels, "
        "height, width)"
    )
    with raises(RuntimeError, f"the student {end}"):
        rdl.Trainer(convolutional(3)).fit(grey, epochs=1)
    term = rdl.RDLTerm(rdl.NetworkTeacher(convolutional(3), ["2"]), {"2": "2"})
    of_teacher = "; NetworkTeacher(…, preprocess=function) changes them for the teacher alone"
    with raises(RuntimeError, f"the teacher {end}{of_teacher}"):
        rdl.Trainer(convolutional(1), [term]).fit(grey, epochs=1)
    with raises(
        ValueError,
        "the student failed on 4 images of shape (4,) (expected 4D input (got 2D input)); give images of the shape "
        "that it takes: (channels, height, width)",
    ):
        rdl.Trainer(nn.BatchNorm2d(4)).fit([(torch.zeros(4, 4), torch.zeros(4, dtype=torch.int64))], epochs=1)


def test_a_fault_of_a_network_that_is_not_of_shapes_is_left_as_it_is():
    class Broken(nn.Linear):
        def forward(self, x):
            raise RuntimeError("no licence")

    with raises(RuntimeError, "no licence"):
        rdl.Trainer(Broken(2, 2)).fit([(torch.zeros(3, 2), torch.zeros(3, dtype=torch.int64))], epochs=1)
