"""How the CIFAR study trains: its optimiser, its batches, and what the teacher sees of them."""

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

import brainrdl as rdl
from brainrdl.data import TensorLoader, flip_half, normalize_contrast
from brainrdl.models import nin
from brainrdl.studies.optimizers import clipped, halving_sgd, linear_sgd

LAYERS = ("pool1", "pool2", "pool3")


def augmented(pixels):
    return flip_half(normalize_contrast(pixels))


def rates(epochs, **options):
    optimizer, scheduler = halving_sgd(epochs, **options)([nn.Parameter(torch.zeros(1))])
    seen = []
    for _ in range(epochs):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return seen


class TestOptimizer:
    def test_halved_every_25_of_300_epochs(self):
        assert rates(300) == [0.5 ** (epoch // 25) for epoch in range(300)]

    def test_halved_as_often_in_100_epochs(self):
        seen = rates(100, learning_rate=0.4)
        halved = [epoch for epoch in range(1, 100) if seen[epoch] != seen[epoch - 1]]
        assert halved == [9, 17, 25, 34, 42, 50, 59, 67, 75, 84, 92]
        assert seen == [0.4 * 0.5 ** sum(at <= epoch for at in halved) for epoch in range(100)]

    def test_against_dampened_momentum_by_hand(self):
        """Weight decay before momentum; the first buffer is the gradient itself, later ones are dampened."""
        gradients = [np.array([0.3, -1.0]), np.array([0.1, 0.7]), np.array([-0.5, 0.2]), np.array([2.0, 0.1])]
        weight, buffer = np.array([1.0, -2.0]), None
        parameter = nn.Parameter(torch.tensor(weight))
        optimizer, scheduler = halving_sgd(12)([parameter])
        for step, gradient in enumerate(gradients):
            g = gradient + 5e-4 * weight
            buffer = g if buffer is None else 0.9 * buffer + 0.1 * g
            weight = weight - 0.5**step * buffer
            parameter.grad = torch.tensor(gradient)
            optimizer.step()
            scheduler.step()
            np.testing.assert_allclose(parameter.detach().numpy(), weight, rtol=1e-13)

    def test_a_warm_up_rises_to_the_rate_that_would_have_been(self):
        assert rates(25, warmup=3)[:4] == [0.25, 0.5, 0.75 * 0.5**0, 0.5]
        assert rates(25, warmup=3)[3:] == rates(25)[3:]
        assert rates(25, warmup=0) == rates(25)
        with pytest.raises(ValueError, match=r"^warmup must be at least 0, got -1$"):
            halving_sgd(25, warmup=-1)

    def test_no_epochs(self):
        with pytest.raises(ValueError, match=r"^epochs must be at least 1, got 0$"):
            halving_sgd(0)


class TestClipping:
    def test_longer_gradients_are_cut_shorter_ones_are_not(self):
        a, b = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(2))
        optimizer, _ = clipped(linear_sgd(2, learning_rate=1.0, momentum=0.0), 2.0)([a, b])
        a.grad, b.grad = torch.tensor([2.0]), torch.tensor([3.0, 6.0])  # of length 7 together
        optimizer.step()
        np.testing.assert_allclose(torch.cat((a, b)).detach(), [-4 / 7, -6 / 7, -12 / 7], rtol=1e-6)
        a.grad, b.grad = torch.tensor([0.5]), torch.tensor([1.0, 0.5])
        before = torch.cat((a, b)).detach()
        optimizer.step()
        np.testing.assert_array_equal(torch.cat((a, b)).detach(), before - torch.tensor([0.5, 1.0, 0.5]))

    @pytest.mark.parametrize("norm", [0.0, -1.0, float("inf"), float("nan")])
    def test_a_length_that_is_none(self, norm):
        with pytest.raises(ValueError, match=rf"^norm must be a finite number above 0, got {norm}$"):
            clipped(linear_sgd(2), norm)

    def test_the_trainer_clips_terms_too_and_its_checkpoints_know(self, cifar100, tmp_path):
        loader = TensorLoader(cifar100[0].take(range(8)), batch_size=8, transform=normalize_contrast)

        def fit(make, checkpoint=None):
            torch.manual_seed(0)
            student = nn.Sequential(nn.Flatten(), nn.Linear(3_072, 100))
            teacher = rdl.NetworkTeacher(nn.Sequential(nn.Flatten(), nn.Linear(3_072, 100)), ["1"])
            start = torch.nn.utils.parameters_to_vector(student.parameters()).detach().clone()
            term = rdl.RDLTerm(teacher, {"1": "1"}, alpha=1e6)
            trainer = rdl.Trainer(student, [term], optimizer=make, fabric=Fabric(accelerator="cpu", devices=1))
            trainer.fit(loader, epochs=1, checkpoint=checkpoint)
            return (torch.nn.utils.parameters_to_vector(student.parameters()) - start).norm().item()

        sgd = linear_sgd(1, learning_rate=1.0)
        assert fit(sgd) > 1
        assert fit(clipped(sgd, 1e-2), tmp_path / "run.pt") == pytest.approx(1e-2, rel=1e-3)
        with pytest.raises(ValueError, match=r"optimizer\.groups\.0\.clip is 0\.01 there and 0\.02 here"):
            fit(clipped(sgd, 2e-2), tmp_path / "run.pt")
        with pytest.raises(ValueError, match=r"optimizer\.groups\.0\.clip is 0\.01 there and None here"):
            fit(sgd, tmp_path / "run.pt")


class Watched(nn.Flatten):
    """Flattens images and keeps them."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, images):
        self.seen.append(images.detach().clone())
        return super().forward(images)


def softmax(scores):
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def test_the_recipe_against_a_slow_one(cifar100):
    """A linear classifier, in NumPy from the pixels on: two batches an epoch, the rate halved after each epoch."""
    data = cifar100[0].take(range(20))
    watched, epochs = Watched(), 12
    student = nn.Sequential(watched, nn.Linear(3_072, 100)).double()
    nn.init.zeros_(student[1].weight)
    nn.init.zeros_(student[1].bias)
    loader = TensorLoader(
        data,
        batch_size=8,
        shuffle=True,
        drop_last=True,
        transform=lambda pixels: augmented(pixels).double(),
    )
    fabric = Fabric(accelerator="cpu", devices=1)
    optimizer = halving_sgd(epochs, learning_rate=0.01)
    rdl.Trainer(student, optimizer=optimizer, fabric=fabric).fit(loader, epochs=epochs)

    pixels = data.images.numpy().astype(np.float64).reshape(20, -1)
    normal = (pixels - pixels.mean(axis=1, keepdims=True)) / pixels.std(axis=1, keepdims=True)
    mirrored = normal.reshape(20, 3, 32, 32)[..., ::-1].reshape(20, -1)
    weight, bias = np.zeros((100, 3_072)), np.zeros(100)
    buffers = []
    assert len(watched.seen) == 2 * epochs
    for update, seen in enumerate(watched.seen):
        batch = seen.flatten(1).numpy()
        either = np.concatenate([normal, mirrored])
        which = [int(np.abs(either - image).max(axis=1).argmin()) for image in batch]
        np.testing.assert_allclose(batch, either[which], rtol=0, atol=1e-5)
        assert sum(at >= 20 for at in which) == 4
        at = np.array(which) % 20
        assert len(set(at)) == 8
        error = (softmax(batch @ weight.T + bias) - np.eye(100)[data.labels.numpy()[at]]) / 8
        gradients = [error.T @ batch + 5e-4 * weight, error.sum(axis=0) + 5e-4 * bias]
        buffers = [0.9 * b + 0.1 * g for b, g in zip(buffers, gradients, strict=True)] if buffers else gradients
        rate = 0.01 * 0.5 ** (update // 2)
        weight, bias = weight - rate * buffers[0], bias - rate * buffers[1]
    np.testing.assert_allclose(student[1].weight.detach().numpy(), weight, rtol=0, atol=1e-12)
    np.testing.assert_allclose(student[1].bias.detach().numpy(), bias, rtol=0, atol=1e-12)
    assert np.abs(weight).max() > 1e-3


def test_the_teacher_sees_the_very_flipped_batch_and_stays_as_it_was(cifar100):
    torch.manual_seed(0)
    data = cifar100[0].take(range(20))
    seen = {"student": [], "teacher": []}

    def watch(who):
        return lambda module, inputs: seen[who].append(inputs[0].detach().clone())

    network = nin(10)
    network.register_forward_pre_hook(watch("teacher"))
    teacher = rdl.NetworkTeacher(network, LAYERS)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    student = nin(100, readout=100)
    student.register_forward_pre_hook(watch("student"))
    term = rdl.RDLTerm(teacher, {layer: layer for layer in LAYERS}, n_pairs=20, alpha=1.0)
    loader = TensorLoader(data, batch_size=8, shuffle=True, drop_last=True, transform=augmented, with_ids=True)
    history = rdl.Trainer(student, [term], optimizer=halving_sgd(1), fabric=Fabric(accelerator="cpu", devices=1)).fit(
        loader, epochs=1
    )
    assert np.isfinite(history.select_dtypes("number")).all(axis=None)
    trained = seen["student"][-2:]  # behind a first look that sets the term up
    assert len(seen["teacher"]) >= 2
    for mine, teachers in zip(trained, seen["teacher"][-2:], strict=True):
        assert torch.equal(mine, teachers)
        normal = normalize_contrast(data.images)
        straight = [any(torch.equal(image, other) for other in normal) for image in mine]
        assert sum(straight) == 4
    after = teacher.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


class KilledError(Exception):
    """What ends a run in the test below."""


@pytest.mark.parametrize("killed_in", [1, 2])
def test_a_killed_run_sees_the_same_flips_and_ends_the_same(cifar100, tmp_path, killed_in):
    data = cifar100[0].take(range(64))
    n_batches = 4

    def fit(folder, batches=None):
        torch.manual_seed(1)
        watched = Watched()
        student = nn.Sequential(watched, nn.Linear(3_072, 100))
        given = 0

        def transform(pixels):
            nonlocal given
            given += 1
            if batches is not None and given > batches:
                raise KilledError
            return augmented(pixels)

        loader = TensorLoader(data, batch_size=16, shuffle=True, drop_last=True, transform=transform)
        trainer = rdl.Trainer(student, optimizer=halving_sgd(3), fabric=Fabric(accelerator="cpu", devices=1))
        torch.manual_seed(len(folder))  # whatever was drawn before a run
        try:
            trainer.fit(loader, epochs=3, checkpoint=tmp_path / folder)
        except KilledError:
            assert batches is not None
        return student, watched.seen

    whole, seen = fit("whole")
    fit("broken off", batches=killed_in * n_batches + 2)
    resumed, again = fit("broken off")
    assert len(seen) == 3 * n_batches
    assert len(again) == (3 - killed_in) * n_batches
    assert all(torch.equal(a, b) for a, b in zip(again, seen[killed_in * n_batches :], strict=True))
    assert all(torch.equal(a, b) for a, b in zip(resumed.parameters(), whole.parameters(), strict=True))
    assert len({image.numpy().tobytes() for image in seen}) == 3 * n_batches
