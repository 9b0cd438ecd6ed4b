"""A network with random weights is said to have them wherever its RDMs are shown."""

import numpy as np
import pytest
import torch

import brainrdl as rdl
from brainrdl.features.networks import is_random
from brainrdl.inference import compare_models
from brainrdl.named_models import load_named_model
from brainrdl.rdms import label_rdms
from brainrdl.studies.reports.comparison import comparison_caption, comparison_text

IDS = list("abcdef")


@pytest.fixture(scope="module")
def named():
    return load_named_model("torchvision:squeezenet1_1", untrained=True)


@pytest.fixture(scope="module")
def stimuli():
    return rdl.StimulusSet.from_arrays(torch.rand(6, 3, 48, 48, generator=torch.Generator().manual_seed(0)), IDS)


def test_their_rdms_and_figures_say_so(named, stimuli):
    rdms = rdl.layer_rdms(named.model, stimuli, ["features.0", "features.3"], "correlation")
    assert named.is_random
    assert rdms["rdm"].values.tolist() == ["features.0", "features.3"]
    assert rdms["model"].values.tolist() == ["SqueezeNet (random weights)"] * 2
    titles = [ax.get_title() for ax in rdl.plot_rdms(rdms).axes[:2]]
    assert titles == ["features.0 (random weights)", "features.3 (random weights)"]


def test_a_comparison_says_so_first(named, stimuli):
    rdms = rdl.layer_rdms(named.model, stimuli, ["features.0"], "correlation")
    other = label_rdms(np.random.default_rng(0).random((1, 15)), IDS, ["other"], "mse")
    result = compare_models([rdms, other], label_rdms(np.arange(15.0)[None], IDS, ["IT"], "mse"), n_resamples=20)
    assert result.untrained == ("features.0",)
    assert comparison_text(result).splitlines()[0] == "Random weights: features.0"
    assert comparison_caption(result).startswith("Random weights: features.0. Bars: ")
    assert compare_models(other, label_rdms(np.arange(15.0)[None], IDS, ["IT"], "mse"), n_resamples=20).untrained == ()


def test_a_trained_one_is_not_said_to_have_them(stimuli):
    model = load_named_model("torchvision:squeezenet1_1", untrained=True).model
    assert is_random(model)
    with torch.no_grad():
        model.classifier[1].bias.add_(1)
    assert not is_random(model)
    rdms = rdl.layer_rdms(model, stimuli, ["features.0"], "correlation")
    assert rdms["model"].item() == "SqueezeNet"
    assert not is_random(torch.nn.Linear(2, 2))
