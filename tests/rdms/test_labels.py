"""Labels that several arrays of RDMs share, and subjects that a file does not name."""

import numpy as np
import pytest

import brainrdl as rdl
from brainrdl.inference import compare_models
from brainrdl.rdms.subjects import subjects_of

IDS = [f"s{k}" for k in range(6)]


def layers(model=None, seed=0, names=("conv1", "fc")):
    values = np.random.default_rng(seed).random((len(names), 15))
    return rdl.label_rdms(values, IDS, names, "correlation", None if model is None else {"model": model})


def labels(*parts):
    return rdl.concat_rdms(parts[0] if len(parts) == 1 else parts)["rdm"].values.tolist()


def test_shared_labels_are_told_apart_by_the_network():
    a, b = layers("torchvision:resnet18"), layers("torchvision:alexnet", 1)
    joined = rdl.concat_rdms([a, b])
    assert joined["rdm"].values.tolist() == ["resnet18 conv1", "resnet18 fc", "alexnet conv1", "alexnet fc"]
    np.testing.assert_array_equal(joined.values, np.concatenate([a.values, b.values]))
    assert joined["model"].values.tolist() == ["torchvision:resnet18"] * 2 + ["torchvision:alexnet"] * 2


def test_labels_that_nobody_shares_stay():
    assert labels(layers("resnet18"), layers("alexnet", 1, ("conv2",))) == ["conv1", "fc", "conv2"]


def test_networks_of_one_name_keep_their_source():
    assert labels(layers("torchvision:net"), layers("mine:net", 1))[::2] == ["torchvision:net conv1", "mine:net conv1"]


def test_one_network_with_and_without_its_weights():
    with_weights, without = layers("torchvision:resnet18"), layers("torchvision:resnet18 (random weights)", 1)
    assert labels(with_weights, without)[::2] == ["resnet18 conv1", "resnet18 (random weights) conv1"]


def test_keys_come_before_the_labels():
    assert labels({"old": layers(), "new": layers(seed=1)}) == ["old conv1", "old fc", "new conv1", "new fc"]


@pytest.mark.parametrize("model", [None, "torchvision:resnet18"])
def test_labels_that_no_network_tells_apart_are_refused(model):
    with pytest.raises(ValueError) as error:
        rdl.concat_rdms([layers(model), layers(model, 1)])
    assert str(error.value) == (
        "labels along 'rdm' must be unique, but these occur more than once: 'conv1', 'fc'; give the arrays by name, as "
        "in {'first': rdms, 'second': others}, and the name comes before each label"
    )


@pytest.mark.parametrize(
    ("first", "second"), [("resnet18", "alexnet"), ("torchvision:resnet18", "torchvision:alexnet")]
)
def test_models_of_several_arrays_are_compared_under_their_networks_names(first, second):
    brain = rdl.label_rdms(np.random.default_rng(9).random((1, 15)), IDS, ["IT"], "correlation")
    result = compare_models([layers(first), layers(second, 1)], brain, n_resamples=5)
    assert result.table["model"].tolist() == ["resnet18 conv1", "resnet18 fc", "alexnet conv1", "alexnet fc"]
    result = compare_models({"a": layers(first), "b": layers(first, 1)}, brain, n_resamples=5)
    assert result.table["model"].tolist() == ["a conv1", "a fc", "b conv1", "b fc"]


@pytest.mark.parametrize(
    ("given", "n_rdms", "along", "expected"),
    [
        (3, 3, {}, ["S1", "S2", "S3"]),
        (["ann", "bob", "ann"], 3, {"session": [1, 1, 2]}, ["ann", "bob", "ann"]),
        ("participant", 2, {"participant": ["p", "q"]}, ["p", "q"]),
        (2, 4, {"subject_index": [0, 0, 1, 1], "time_index": [0, 1, 0, 1]}, ["S1", "S1", "S2", "S2"]),
        (["ann", "bob"], 6, {"axis_0": [0, 0, 0, 1, 1, 1], "axis_1": [0, 1, 2] * 2}, ["ann"] * 3 + ["bob"] * 3),
    ],
)
def test_subjects_are_those_of_the_files_order(given, n_rdms, along, expected):
    assert subjects_of(given, n_rdms, along) == expected


@pytest.mark.parametrize(
    ("given", "along", "message"),
    [
        (3, {}, "holds 4 RDMs, but subjects names 3; give one for each RDM, in the file's order"),
        # on two axes of one length a number does not say which is that of people
        (
            2,
            {"axis_0": [0, 0, 1, 1], "axis_1": [0, 1, 0, 1]},
            "holds 4 RDMs, but subjects names 2; give one for each RDM, in the file's order",
        ),
        (
            4,
            {"roi": ["V1", "V1", "IT", "IT"]},
            "holds RDMs of 2 regions, so that a number does not say whose each one is; give subjects as 4 names, one "
            "for each RDM in the file's order",
        ),
        (0, {}, "subjects is 0; expected how many people there are, or their names"),
        (["a", "", "b", "c"], {}, "subjects[1] is ''; expected a name"),
        (
            "who",
            {"roi": ["V1"] * 4},
            "has no coordinate 'who' of its RDMs that could hold the subjects; there are 'roi'",
        ),
        (4, {"subject": ["a", "a", "b", "b"]}, "names its subjects already, 'a', 'b'; leave subjects out"),
    ],
)
def test_subjects_that_do_not_fit_are_refused(given, along, message):
    with pytest.raises(ValueError) as error:
        subjects_of(given, 4, along)
    assert str(error.value) == message
