"""The same image under two ids on both sides of a split."""

import json
import re
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import brainrdl as rdl
from brainrdl.inference.held_out import Prediction, held_out_scores
from brainrdl.inference.repeats import same_features, same_images
from brainrdl.inference.reweighting.fit_heads import HeadSettings, fit_head
from brainrdl.inference.splits import Split, inner_splits
from brainrdl.rdms.combine import concat_rdms
from brainrdl.rdms.labelled import label_rdms, select_stimuli
from brainrdl.studies.card import CardOptions, make_card

IDS = tuple(f"o{k}" for k in range(12))
SPLIT = Split("by hand", "one", IDS[:6], IDS[6:])
LABELS = dict.fromkeys(IDS, "thing")
SETTINGS = HeadSettings(strengths=(1.0,), steps=(2,))
ONE_IMAGE = (
    "{} was fitted to 'o0', the same image to the network as 'o6', which {} holds out; a score on it would say how "
    "well it was fitted, not what it predicts: leave one of the two out, or give both to one side"
)


def exactly(message):
    return f"^{re.escape(message)}$"


def images(*same):
    values = torch.rand(12, 8, generator=torch.Generator().manual_seed(0))
    for first, second in same:
        values[second] = values[first]
    return values


def brains(ids=IDS):
    n = len(ids)
    values = np.random.default_rng(0).random((2, n * (n - 1) // 2)) + 0.1
    return label_rdms(values, ids, ["S1", "S2"], "correlation", {"subject": ["S1", "S2"]})


def network_rdms(values):
    torch.manual_seed(0)
    rdms = rdl.layer_rdms(nn.Sequential(nn.Linear(8, 20)), rdl.StimulusSet.from_arrays(values, IDS), ["0"])
    return rdms.assign_coords(arm=("rdm", ["rdl"]), seed=("rdm", [0]))


def score(rdms, fitted_to=SPLIT.training):
    return held_out_scores([Prediction(rdms, fitted_to)], brains(), SPLIT, categories=LABELS, controls=None)


def test_an_image_under_two_ids_is_named_and_not_scored_where_it_was_fitted():
    named = (
        "the same image under several ids: 'o0' = 'o6'; 'o2' = 'o3'; a network that is fitted to one of them is not to "
        "be scored on another"
    )
    with pytest.warns(UserWarning, match=exactly(named)):
        rdms = network_rdms(images((0, 6), (2, 3)))
    assert same_images(rdms) == [("o0", "o6"), ("o2", "o3")]
    with pytest.raises(ValueError, match=exactly(ONE_IMAGE.format("'rdl'", "split 'one'"))):
        score(rdms)
    # nothing was fitted, or not to the one of two
    assert len(score(rdms, ()).table) == 2
    assert len(score(rdms, IDS[1:6]).table) == 2


def test_it_is_found_behind_a_file_and_in_rdms_that_were_put_together(tmp_path):
    with pytest.warns(UserWarning, match="the same image under several ids"):
        rdms = network_rdms(images((0, 6)))
    rdl.write_rdms(rdms, tmp_path / "a.nc")
    others = network_rdms(images()).assign_coords(rdm=["other"], seed=("rdm", [1]))
    together = concat_rdms([others, rdl.read_rdms(tmp_path / "a.nc")])
    with pytest.raises(ValueError, match=exactly(ONE_IMAGE.format("'rdl'", "split 'one'"))):
        score(together)


def test_images_that_differ_are_scored_in_silence():
    values = images()
    values[6] = values[0]
    values[6, 3] += 1e-3
    rdms = network_rdms(values)
    assert "same_image" not in json.loads(rdms.attrs["provenance"])
    assert len(score(rdms).table) == 2


def test_a_silent_network_does_not_make_images_one():
    values = images((0, 6))
    model = nn.Sequential(nn.Linear(8, 4), nn.ReLU())
    nn.init.zeros_(model[0].weight)
    with torch.no_grad():
        model[0].weight[0, 0] = 1.0
        values[:, 0] = -1.0
        values[1, 0] = 1.0
    stimuli = rdl.StimulusSet.from_arrays(values, IDS)
    nn.init.zeros_(model[0].bias)
    with pytest.warns(
        UserWarning,
        match=exactly(
            "the same image under several ids: 'o0' = 'o6'; a network that is fitted to one of them is not to be "
            "scored on another"
        ),
    ):
        assert same_images(rdl.layer_rdms(model, stimuli, ["1"])) == [("o0", "o6")]


def test_rdms_from_elsewhere_without_a_distance_between_the_two_sides_are_named():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rdms = network_rdms(images((0, 6)))
    bare = label_rdms(rdms.values, IDS, ["a"], "mse", {"arm": ["rdl"], "seed": [0]})
    message = (
        "'rdl' was fitted to 'o0' and has no distance between it and 'o6', which split 'one' holds out; if they are "
        "one image under two ids, the score says how well it was fitted: leave one of the two out"
    )
    with pytest.warns(UserWarning, match=exactly(message)):
        score(bare)
    score(bare.assign_attrs(metric="undeclared"))  # as a mixture of categories has it


def head(values, inner):
    return fit_head("gains", {"conv": values}, IDS, select_stimuli(brains(), SPLIT.training), inner, settings=SETTINGS)


def test_a_head_is_not_chosen_by_a_copy_of_what_it_was_fitted_to():
    inner = [Split("inner", "inner-1", ("o0", "o1", "o2"), ("o3", "o4", "o5"))]
    message = ONE_IMAGE.format("the head 'gains'", "inner split 'inner-1'").replace("'o6'", "'o3'")
    with pytest.raises(ValueError, match=exactly(message)):
        head(images((0, 3)), inner)
    fitted = head(images((0, 6)), inner)
    predicted = fitted.predicted({"conv": images((0, 6))}, IDS, "gains", 0)
    with pytest.raises(ValueError, match=exactly(ONE_IMAGE.format("'gains'", "split 'one'"))):
        held_out_scores([predicted], brains(), SPLIT, categories=LABELS, controls=None)


def test_a_card_with_heads_refuses_a_copy_on_the_other_side():
    features = torch.rand(24, 8, generator=torch.Generator().manual_seed(0))
    features[12:] = features[:12]
    ids = [f"s{k:02}" for k in range(24)]
    options = CardOptions(heads=("gains",), n_folds=2, n_inner=2, n_resamples=20)
    with pytest.raises(ValueError, match=r"^the head 'gains' was fitted to 's\d\d', the same image to the network as "):
        make_card({"fc": features}, ids, brains(ids), options=options)
    # layers as they are were fitted to nothing
    assert len(
        make_card({"fc": features}, ids, brains(ids), options=CardOptions(heads=(), n_folds=2, n_resamples=20)).summary
    )


def test_features_are_the_same_only_in_every_layer_and_only_if_they_say_something():
    a, b = images((0, 6), (1, 7)), images((0, 6))
    a[[3, 4]] = b[[3, 4]] = 0.0
    assert same_features({"a": a, "b": b.double()}, IDS) == [("o0", "o6")]
    wide = torch.rand(3, 5000)
    wide[2] = wide[0]
    wide[1] = wide[0]
    wide[1, 1] += 1.0  # beside the units that are looked at first
    assert same_features({"wide": wide}, IDS[:3]) == [("o0", "o2")]


def test_inner_splits_of_different_images_are_as_before():
    inner = inner_splits(SPLIT, LABELS, 2)
    assert head(images(), inner).fitted_to == SPLIT.training
