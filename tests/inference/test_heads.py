"""Heads on a frozen network."""

from collections import OrderedDict

import pytest
import torch
from torch import nn

import brainrdl as rdl
from brainrdl.inference.reweighting.heads import Gains, Headed, PositionMean, Readout, UnitPatterns
from small_network import assert_same, raises, weights


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(1, 4, 3), norm=nn.BatchNorm2d(4), act=nn.ReLU(), drop=nn.Dropout(0.5), flat=nn.Flatten()
        )
    )


IMAGES = torch.randn(6, 1, 5, 5, generator=torch.Generator().manual_seed(1))


def test_gains_scale_channels_and_never_turn_their_sign():
    head = Gains.of(torch.tensor([2.0, 0.0, 0.5]))
    features = torch.randn(5, 3, 2, 2)
    assert torch.equal(head(features), features * torch.tensor([2.0, 0.0, 0.5])[:, None, None])
    assert torch.equal(head(features[:, :, 0, 0]), features[:, :, 0, 0] * torch.tensor([2.0, 0.0, 0.5]))
    assert head.deviation().item() == pytest.approx((1 + 1 + 0.25) / 3)
    optimizer = torch.optim.SGD(head.parameters(), lr=1.0)
    head.gains.sum().backward()  # to below 0
    optimizer.step()
    assert (head.gains >= 0).all()
    torch.testing.assert_close(head.gains, torch.tensor([1.0, 0.0, 0.5]))


@pytest.mark.parametrize("rank", [None, 2])
def test_readouts_start_as_the_identity_and_learn(rank):
    torch.manual_seed(0)
    head, features = Readout(12, rank), torch.randn(5, 3, 2, 2)
    assert torch.equal(head(features), features.flatten(1))
    assert head.deviation().item() == 0
    target = rdl.rdm(torch.randn(5, 7))
    optimizer = torch.optim.Adam(head.parameters(), lr=0.05)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        losses.append(rdl.rdl_loss(head(features), target, compare="corr"))
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.2 * losses[0]
    w = head(torch.eye(12))
    torch.testing.assert_close(head(features), features.flatten(1) @ w)
    assert head.deviation().item() == pytest.approx((w - torch.eye(12)).square().sum().item(), rel=1e-5)
    assert torch.linalg.matrix_rank(w - torch.eye(12)) <= (rank or 12)


def test_unit_patterns():
    features = torch.randn(6, 3, 2, dtype=torch.float64) + 4
    for metric, centred in (("correlation", True), ("cosine", False)):
        halved = rdl.rdm(UnitPatterns(centred=centred)(features), "sqeuclidean") / 2
        torch.testing.assert_close(halved, rdl.rdm(features, metric))
    assert torch.equal(UnitPatterns(centred=True)(torch.ones(2, 3)), torch.zeros(2, 3))


def test_position_means():
    features = torch.randn(6, 3, 2, 2)
    torch.testing.assert_close(PositionMean()(features), features.mean(dim=(2, 3)))
    assert torch.equal(PositionMean()(features[:, :, 0, 0]), features[:, :, 0, 0])


def test_a_headed_network_changes_in_its_head_alone():
    backbone = network()
    model = Headed(backbone, "act", Gains(4)).train()
    before = weights(model.backbone)
    assert [name for name, parameter in model.named_parameters() if parameter.requires_grad] == ["head.weight"]
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    target = rdl.rdm(torch.randn(6, 7, generator=torch.Generator().manual_seed(2)))
    rdl.rdl_loss(model(IMAGES), target, compare="corr").backward()
    optimizer.step()
    assert_same(weights(model.backbone), before)  # the statistics of batch normalisation too
    assert model.training
    assert model.head.training
    assert not any(module.training for module in model.backbone.modules())
    assert model.head.deviation() > 0
    # the network that was given stays as it is, and trainable
    assert backbone.training
    assert all(parameter.requires_grad for parameter in backbone.parameters())


def test_the_head_is_a_layer_like_any_other(tmp_path):
    model = Headed(network(), "act", nn.Sequential(PositionMean(), Gains.of(torch.tensor([1.0, 2.0, 3.0, 4.0])))).eval()
    assert rdl.list_layers(model)[:2] == ["backbone", "backbone.conv"]
    output, features = rdl.capture(model, ["backbone.act", "head"], IMAGES, flatten=False)
    expected = features["backbone.act"].mean(dim=(2, 3)) * torch.tensor([1.0, 2.0, 3.0, 4.0])
    torch.testing.assert_close(features["head"], expected)
    assert torch.equal(output, features["head"])
    ids = [f"image-{k}" for k in range(6)]
    rdms = rdl.layer_rdms(model, rdl.StimulusSet.from_arrays(IMAGES, ids), ["head"], "euclidean")
    torch.testing.assert_close(rdl.to_condensed(torch.from_numpy(rdms.values[0])), rdl.rdm(expected, "euclidean"))
    rdl.save_model(model, tmp_path / "model.safetensors")
    loaded = rdl.load_model(
        tmp_path / "model.safetensors", lambda: Headed(network(7), "act", nn.Sequential(PositionMean(), Gains(4)))
    )
    assert torch.equal(loaded(IMAGES), output)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: Gains(3)(torch.ones(2, 4)),
            ValueError,
            "features have shape (2, 4), expected (stimuli, 3, …): one gain for each of 3 channels",
        ),
        (lambda: Gains(0), ValueError, "n_channels must be at least 1, but is 0"),
        (lambda: Readout(3, 0), ValueError, "rank must be at least 1, but is 0"),
        (
            lambda: Readout(3)(torch.ones(2, 2, 2)),
            ValueError,
            "features have shape (2, 2, 2), which is 4 units each; the readout is of 3",
        ),
        (
            lambda: Headed("resnet18", "act", Gains(3)),
            TypeError,
            "backbone is a str, expected a torch.nn.Module",
        ),
        (
            lambda: Headed(network(), "acts", Gains(4)),
            ValueError,
            "Sequential has no layer 'acts'; did you mean 'act' or 'flat'?",
        ),
    ],
)
def test_refusals(call, error, message):
    with raises(error, message):
        call()
