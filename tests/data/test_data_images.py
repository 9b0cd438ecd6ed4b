"""Labelled images, stratified parts and the loader."""

import hashlib
import re
from dataclasses import FrozenInstanceError, replace

import pytest
import torch
from hypothesis import given, strategies as st

from brainrdl.data import LabelledImages, TensorLoader, checksum, stratified_split, to_float
from brainrdl.data.images import interleaved_order


def _data(n: int = 10, top: int = 255) -> LabelledImages:
    generator = torch.Generator().manual_seed(1)
    return LabelledImages(
        images=torch.randint(0, top + 1, (n, 1, 3, 4), generator=generator, dtype=torch.uint8),
        labels=torch.arange(n) % 3,
        ids=tuple(f"image-{at}" for at in range(n)),
        classes=("a", "b", "c"),
        top=top,
    )


def _seed(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_interleaved_order_spreads_the_classes():
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    order = interleaved_order(labels, torch.Generator().manual_seed(0))
    assert sorted(order.tolist()) == list(range(6))
    assert labels[order].view(3, 2).sum(dim=1).tolist() == [1, 1, 1]


class TestLabelledImages:
    @pytest.mark.parametrize(
        ("changes", "error", "message"),
        [
            (
                {"images": torch.zeros(10, 1, 3, 4)},
                TypeError,
                "images are float32, expected uint8; keep pixels as 0 to top and let to_float scale them",
            ),
            (
                {"labels": torch.zeros(10, dtype=torch.int32)},
                TypeError,
                "labels are int32, expected int64; convert them by labels.to(torch.int64)",
            ),
            (
                {"images": torch.zeros(10, 3, 4, dtype=torch.uint8)},
                ValueError,
                (
                    "images have shape (10, 3, 4), expected (n, channels, height, width); a single grey "
                    "channel is images.unsqueeze(1)"
                ),
            ),
            (
                {"labels": torch.zeros(9, dtype=torch.int64)},
                ValueError,
                "labels have shape (9,), expected (10,): one label for each image",
            ),
            ({"ids": ("a", "b")}, ValueError, "there are 2 ids for 10 images; give one id for each image"),
            (
                {"ids": tuple("abcdefghie")},
                ValueError,
                "id 'e' occurs more than once; ids join images with RDM rows, so give each image its own",
            ),
            (
                {"classes": ("a", "b", "a")},
                ValueError,
                "class 'a' occurs more than once; name each class once",
            ),
            (
                {"labels": torch.zeros(10, dtype=torch.int64, device="meta")},
                ValueError,
                ("images are on cpu, labels on meta; build the data on one device and move it with .to(device)"),
            ),
            ({"top": 0}, ValueError, "top is 0, expected 1 to 255: the pixel value that stands for white"),
            (
                {"top": 256},
                ValueError,
                "top is 256, expected 1 to 255: the pixel value that stands for white",
            ),
            (
                {"classes": ("a", "b")},
                ValueError,
                ("image 'image-2' has label 2, expected 0 to 1 (2 classes); correct the label or add the class"),
            ),
            (
                {"labels": torch.tensor([0, 0, 0, 0, -1, 0, 0, 0, 0, 0])},
                ValueError,
                ("image 'image-4' has label -1, expected 0 to 2 (3 classes); correct the label or add the class"),
            ),
            (
                {"images": torch.full((10, 1, 3, 4), 17, dtype=torch.uint8), "top": 16},
                ValueError,
                "the brightest pixel is 17, above top=16; give the value that stands for white",
            ),
        ],
    )
    def test_what_does_not_belong_together_is_refused(self, changes, error, message):
        with pytest.raises(error, match=f"^{re.escape(message)}$"):
            replace(_data(), **changes)

    def test_is_frozen(self):
        with pytest.raises(FrozenInstanceError):
            _data().top = 3

    def test_no_images_are_data_too(self):
        empty = _data().take([])
        assert len(empty) == 0
        assert empty.images.shape == (0, 1, 3, 4)

    @pytest.mark.parametrize("indices", [[7, 0, 3], torch.tensor([7, 0, 3]), torch.tensor([7, 0, 3]).to(torch.uint8)])
    def test_take_keeps_the_order_asked_for(self, indices):
        data = _data()
        taken = data.take(indices)
        assert taken.ids == ("image-7", "image-0", "image-3")
        assert torch.equal(taken.images, torch.stack([data.images[7], data.images[0], data.images[3]]))
        assert taken.labels.tolist() == [1, 0, 0]
        assert (taken.classes, taken.top) == (data.classes, data.top)

    @pytest.mark.parametrize(
        ("indices", "error", "message"),
        [
            ([0, 10], IndexError, "position 10 is outside 0 to 9; there are 10 images"),
            ([-1], IndexError, "position -1 is outside 0 to 9; there are 10 images"),
            (
                torch.ones(10, dtype=torch.bool),
                TypeError,
                "indices are bool, expected integers; a mask becomes indices by mask.nonzero().flatten()",
            ),
            (
                [0.0],
                TypeError,
                "indices are float64, expected integers; a mask becomes indices by mask.nonzero().flatten()",
            ),
            (torch.tensor(3), ValueError, "indices have shape (), expected (k,): a list of integers"),
            (
                [1, 2, 1],
                ValueError,
                ("id 'image-1' occurs more than once; ids join images with RDM rows, so give each image its own"),
            ),
        ],
    )
    def test_take_refuses(self, indices, error, message):
        with pytest.raises(error, match=f"^{re.escape(message)}$"):
            _data().take(indices)

    def test_to_a_device(self):
        data = _data()
        moved = data.to("cpu")
        assert moved.images.device == torch.device("cpu")
        assert checksum(moved) == checksum(data)


class TestToFloat:
    def test_scales_to_0_to_1(self):
        scaled = to_float(torch.arange(256).to(torch.uint8))
        assert scaled.dtype == torch.float32
        assert torch.equal(scaled, torch.arange(256, dtype=torch.float32) / 255)

    def test_another_white(self):
        assert to_float(torch.tensor([16], dtype=torch.uint8), 16).item() == 1


class TestChecksum:
    def test_any_change_is_seen(self):
        data = _data(top=200)
        pixels = data.images.clone()
        pixels[4, 0, 2, 1] ^= 1
        changed = [
            replace(data, images=pixels),
            replace(data, labels=data.labels.flip(0)),
            replace(data, ids=data.ids[::-1]),
            replace(data, classes=("a", "b", "d")),
            replace(data, top=255),
            replace(data, images=data.images.reshape(10, 1, 4, 3)),
            data.take(range(9, -1, -1)),
        ]
        assert len({checksum(each) for each in [data, *changed]}) == len(changed) + 1

    def test_it_follows_the_values_not_the_memory(self):
        data = _data()
        strided = data.images.flip(3).contiguous().flip(3).transpose(2, 3).contiguous().transpose(2, 3)
        assert not strided.is_contiguous()
        assert checksum(replace(data, images=strided)) == checksum(data)

    def test_is_a_sha256(self):
        assert len(checksum(_data())) == len(hashlib.sha256().hexdigest())


class TestStratifiedSplit:
    @given(data=st.data(), counts=st.lists(st.integers(0, 30), min_size=1, max_size=6))
    def test_parts_are_disjoint_complete_and_in_proportion(self, data, counts):
        n = sum(counts)
        labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
        first = data.draw(st.integers(0, n))
        second = data.draw(st.integers(0, n - first))
        parts = stratified_split(labels, [first, second, n - first - second], _seed(0))
        assert [len(part) for part in parts] == [first, second, n - first - second]
        assert torch.equal(torch.cat(parts).sort().values, torch.arange(n))
        left = torch.tensor(counts)
        for part in parts:
            drawn = labels[part].bincount(minlength=len(counts))
            if left.sum():
                assert (drawn - len(part) * left / left.sum()).abs().max() < 1
            left = left - drawn

    def test_the_largest_remainders_are_rounded_up(self):
        # Shares of 7 among 10 images: 3.5, 2.1, 1.4.
        labels = torch.tensor([0] * 5 + [1] * 3 + [2] * 2)
        (part,) = stratified_split(labels, [7], _seed(0))
        assert labels[part].bincount().tolist() == [4, 2, 1]

    def test_the_same_state_draws_the_same_parts_and_another_others(self):
        labels = torch.arange(100) % 5
        first, again, other = (stratified_split(labels, [50, 20], _seed(seed)) for seed in (3, 3, 4))
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
        assert not torch.equal(first[0], other[0])

    def test_parts_are_shuffled(self):
        labels = torch.repeat_interleave(torch.arange(2), 50)
        (part,) = stratified_split(labels, [100], _seed(0))
        blocks = (labels[part].diff() != 0).sum()
        assert 30 < blocks < 70

    @pytest.mark.parametrize(
        ("sizes", "message"),
        [
            ([6, 5], "sizes [6, 5] add up to 11, but there are 10 images; ask for fewer"),
            ([3, -1], "sizes are [3, -1]; a part cannot have fewer than 0 images"),
        ],
    )
    def test_impossible_sizes(self, sizes, message):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            stratified_split(torch.zeros(10, dtype=torch.int64), sizes, _seed(0))


class TestTensorLoader:
    def test_batches_in_order(self):
        data = _data()
        batches = list(TensorLoader(data, batch_size=4))
        assert [len(image) for image, _ in batches] == [4, 4, 2]
        assert torch.equal(torch.cat([image for image, _ in batches]), to_float(data.images, data.top))
        assert torch.equal(torch.cat([label for _, label in batches]), data.labels)

    def test_white_is_1(self):
        data = replace(_data(top=16), images=torch.full((10, 1, 3, 4), 16, dtype=torch.uint8))
        image, _ = next(iter(TensorLoader(data, batch_size=2)))
        assert image.dtype == torch.float32
        assert bool((image == 1).all())

    @pytest.mark.parametrize(
        ("n", "batch_size", "drop_last", "batches"),
        [(10, 4, False, 3), (10, 4, True, 2), (8, 4, False, 2), (8, 4, True, 2)],
    )
    def test_length(self, n, batch_size, drop_last, batches):
        loader = TensorLoader(_data(n), batch_size=batch_size, drop_last=drop_last)
        assert len(loader) == batches == len(list(loader))
        assert loader.batch_size == batch_size

    def test_ids_images_and_labels_stay_together_when_shuffled(self):
        data = _data()
        torch.manual_seed(0)
        seen = []
        for image, label, ids in TensorLoader(data, batch_size=3, shuffle=True, with_ids=True):
            assert isinstance(ids, tuple)
            places = [data.ids.index(name) for name in ids]
            assert torch.equal(image, to_float(data.images[places]))
            assert torch.equal(label, data.labels[places])
            seen += ids
        assert sorted(seen) == sorted(data.ids)
        assert tuple(seen) != data.ids

    @pytest.mark.parametrize("with_ids", [False, True])
    def test_a_stream_of_stimuli_has_no_labels(self, with_ids):
        (batch,) = TensorLoader(_data(), batch_size=10, labelled=False, with_ids=with_ids)
        image, ids = batch
        assert image.shape == (10, 1, 3, 4)
        assert ids == _data().ids

    def test_the_global_seed_before_a_pass_fixes_it(self):
        loader = TensorLoader(_data(50), batch_size=7, shuffle=True, with_ids=True)

        def order() -> list[str]:
            return [name for _, _, ids in loader for name in ids]

        torch.manual_seed(5)
        first, second = order(), order()
        torch.manual_seed(5)
        assert order() == first
        assert second != first

    def test_the_order_is_drawn_when_the_pass_begins(self):
        loader = TensorLoader(_data(50), batch_size=50, shuffle=True, with_ids=True)
        torch.manual_seed(5)
        begun = iter(loader)
        state = torch.random.get_rng_state()
        torch.manual_seed(6)
        _, _, ids = next(begun)
        torch.manual_seed(5)
        assert ids == next(iter(loader))[2]
        assert torch.equal(torch.random.get_rng_state(), state)

    def test_the_order_is_one_randperm(self):
        torch.manual_seed(5)
        expected = torch.randperm(50)
        torch.manual_seed(5)
        _, label = next(iter(TensorLoader(_data(50), batch_size=50, shuffle=True)))
        assert torch.equal(label, _data(50).labels[expected])

    def test_an_unshuffled_pass_draws_nothing(self):
        before = torch.random.get_rng_state()
        list(TensorLoader(_data(), batch_size=3))
        assert torch.equal(torch.random.get_rng_state(), before)

    @pytest.mark.parametrize(
        ("n", "settings", "message"),
        [
            (0, {"batch_size": 3}, "the data set holds no images; a loader needs at least one"),
            (10, {"batch_size": 0}, "batch_size is 0, expected at least 1"),
            (
                10,
                {"batch_size": 11, "drop_last": True},
                ("drop_last leaves no batch: 10 images do not fill one of 11; lower batch_size or keep the last batch"),
            ),
        ],
    )
    def test_a_loader_without_batches_is_refused(self, n, settings, message):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            TensorLoader(_data(n), **settings)
