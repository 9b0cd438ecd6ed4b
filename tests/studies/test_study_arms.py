"""Arms with the words that pages have for them, and what fits and cards have in common."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

import brainrdl as rdl
from brainrdl.inference.reweighting.mixtures import fit_rdms
from brainrdl.inference.splits import stratified_splits
from brainrdl.studies.brain import arms as brain
from brainrdl.studies.brain.configuration import ARMS as RESERVED, checked
from brainrdl.studies.brain.inputs import load_inputs
from brainrdl.studies.card import CardOptions, make_card
from brainrdl.studies.inputs import CardRequest, read_inputs
from brainrdl.studies.scores import fit_mixture
from real_data import data_dir

CONTROLS = ["pixels", "animacy", "four_category", "silhouette", "hmax"]
IDS = [f"{kind}/{number:02d}" for kind in ("animal", "tool") for number in range(12)]
CATEGORIES = {stimulus: stimulus.partition("/")[0] for stimulus in IDS}


def random_rdms(names, seed, **coords):
    values = np.random.default_rng(seed).random((len(names), 276))
    return rdl.label_rdms(values, IDS, names, "undeclared", coords)


def test_own_controls_may_not_be_called_as_an_arm():
    assert tuple(arm.name for arm in brain.ARMS if arm.name not in CONTROLS) == RESERVED


def test_fit_and_card_take_the_five_controls_of_the_method():
    read = {"title": "a", "name": "a", "stimuli": "objects92", "studies": {"human": {"rdms": "objects92:human"}}}
    fits = {"fit_to": ["human"], "fit": {"layers": ["pool2"]}, "task": {"data": "digits", "validation": 100}}
    primary = {"primary": {"fitted": "human", "scored": "human"}}
    of_fit = load_inputs(checked({**read, **fits, **primary}), data_dir()).controls
    request = CardRequest("card_networks:any_size", ("0",), "objects92", "objects92:human", data_dir=data_dir())
    of_card = read_inputs(request).controls
    assert of_fit["rdm"].values.tolist() == of_card["rdm"].values.tolist() == CONTROLS
    np.testing.assert_array_equal(of_fit.values, of_card.values)
    assert [arm.name for arm in brain.ARMS[:5]] == CONTROLS


def test_a_mixture_is_that_of_the_fold_that_holds_out_what_the_split_holds_out():
    controls, people = random_rdms(["a", "b"], 0), random_rdms(["x", "y"], 1, subject=["x", "y"])
    for split in stratified_splits(CATEGORIES, 2):
        weights, mixed = fit_mixture(controls, rdl.select_stimuli(people, split.training), method="corr")
        side = dict.fromkeys(split.training, "training") | dict.fromkeys(split.held_out, "held out")
        expected = fit_rdms(controls, people, side).weights.loc["held out"]
        np.testing.assert_allclose(weights, expected, atol=1e-12)
        square = sum(weight * control for weight, control in zip(weights, controls.values, strict=True))
        np.testing.assert_allclose(mixed, square[np.triu_indices(24, 1)], atol=1e-12)


@pytest.fixture
def calls(monkeypatch):
    """What the mixture of a card and of a fit is fitted by."""
    found = []

    def counted(*arguments, **named):
        found.append(named)
        return fit_mixture(*arguments, **named)

    monkeypatch.setattr("brainrdl.studies.card.fit_mixture", counted)
    monkeypatch.setattr("brainrdl.studies.brain.arms.fit_mixture", counted)
    return found


def test_fit_and_card_fit_the_mixture_by_one_function(calls):
    controls, people = random_rdms(["a", "b"], 0), random_rdms(["x", "y"], 1, subject=["x", "y"])
    features = {"fc": torch.rand(24, 5, generator=torch.Generator().manual_seed(0))}
    options = CardOptions(heads=(), n_folds=2, n_resamples=20)
    make_card(features, IDS, people, categories=CATEGORIES, controls=controls, options=options)
    assert calls == [{"method": "corr"}] * 2

    inputs = SimpleNamespace(controls=controls, studies={"one": people})
    runs = SimpleNamespace(inputs=inputs, configuration=SimpleNamespace(method="corr"))
    split = stratified_splits(CATEGORIES, 2)[0]
    mixture = next(arm for arm in brain.ARMS if arm.name == "mixture")
    (outcome,) = mixture.outcomes(brain.Fold(runs, "one", split, students=False))
    assert len(calls) == 3
    assert set(outcome.fitted_to) == set(split.training)


def test_every_arm_has_words():
    for arm in brain.ARMS:
        assert arm.label
        assert arm.about.endswith(".")
        assert arm.family in ("fixed RDMs", "networks", "heads", "RDL", "RDL's controls")
    assert len({arm.name for arm in brain.ARMS}) == len(brain.ARMS)
