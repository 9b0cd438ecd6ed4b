"""Global contrast normalisation and flips, on CIFAR's images."""

import math

import pytest
import torch

from brainrdl.data import TensorLoader, flip_half, normalize_contrast


@pytest.fixture(scope="module")
def images(cifar100):
    return cifar100[0].images[:128]


class TestNormalizeContrast:
    def test_against_the_definition(self, images):
        normal = normalize_contrast(images)
        assert normal.dtype == torch.float32
        for at in (0, 1, 77):
            values = images[at].flatten().tolist()
            assert len(values) == 3_072
            mean = sum(values) / 3_072
            sd = math.sqrt(sum((value - mean) ** 2 for value in values) / 3_072)
            expected = torch.tensor([(value - mean) / max(sd, 1e-8) for value in values], dtype=torch.float64)
            torch.testing.assert_close(normal[at].flatten().double(), expected, rtol=1e-5, atol=1e-6)

    def test_mean_0_and_sd_1_whatever_the_brightness(self, images):
        normal = normalize_contrast(images)
        torch.testing.assert_close(normal.mean(dim=(1, 2, 3)), torch.zeros(128), rtol=0, atol=1e-5)
        torch.testing.assert_close(normal.std(dim=(1, 2, 3), correction=0), torch.ones(128), rtol=1e-5, atol=0)
        torch.testing.assert_close(normalize_contrast(images // 8 * 4 + 40), normalize_contrast(images // 8))

    @pytest.mark.parametrize("grey", [0, 1, 83, 255])
    def test_an_image_of_one_colour_is_0(self, grey):
        assert not normalize_contrast(torch.full((2, 3, 32, 32), grey, dtype=torch.uint8)).any()

    def test_an_image_does_not_depend_on_its_batch(self, images):
        assert torch.equal(normalize_contrast(images)[5:6], normalize_contrast(images[5:6]))


class TestFlipHalf:
    @pytest.mark.parametrize("n", [1, 2, 7, 128])
    def test_exactly_half_are_mirrored_and_the_others_stay(self, images, n):
        torch.manual_seed(0)
        batch = images[:n]
        flipped = flip_half(batch)
        mirrored = [torch.equal(a, b.flip(-1)) for a, b in zip(flipped, batch, strict=True)]
        assert sum(mirrored) == n // 2
        assert all(torch.equal(a, b) for a, b, is_so in zip(flipped, batch, mirrored, strict=True) if not is_so)

    def test_which_half_the_global_cpu_generator_says(self, images):
        torch.manual_seed(0)
        first, second = flip_half(images), flip_half(images)
        torch.manual_seed(0)
        assert torch.equal(flip_half(images), first)
        assert not torch.equal(second, first)

    def test_every_image_is_as_likely_as_another(self):
        torch.manual_seed(0)
        marked = torch.tensor([0.0, 1.0]).expand(8, 1, 1, 2)
        share = torch.stack([flip_half(marked)[:, 0, 0, 0] for _ in range(2_000)]).mean(dim=0)
        assert (share - 0.5).abs().max() < 4 * 0.5 / 2_000**0.5

    @pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
    def test_the_memory_format_stays(self, images, memory_format):
        batch = normalize_contrast(images).contiguous(memory_format=memory_format)
        assert flip_half(batch).is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize("function", [normalize_contrast, flip_half])
def test_another_shape_is_refused(function):
    with pytest.raises(ValueError, match=r"^images have shape \(3, 32, 32\), expected \(n, channels, height, width\)$"):
        function(torch.zeros(3, 32, 32, dtype=torch.uint8))


class TestLoader:
    def test_serves_what_the_transform_makes_of_the_pixels(self, cifar100):
        data = cifar100[0].take(range(20))
        loader = TensorLoader(data, batch_size=8, drop_last=True, transform=normalize_contrast)
        batches = [image for image, _ in loader]
        assert [len(image) for image in batches] == [8, 8]
        torch.testing.assert_close(torch.cat(batches), normalize_contrast(data.images[:16]))

    def test_every_pass_flips_another_half_and_the_seed_before_it_fixes_which(self, cifar100):
        data = cifar100[0].take(range(64))
        loader = TensorLoader(data, batch_size=32, shuffle=True, transform=flip_half, with_ids=True)

        def flips() -> dict[str, bool]:
            return {
                name: torch.equal(image, data.images[data.ids.index(name)].flip(-1))
                for images, _, ids in loader
                for name, image in zip(ids, images, strict=True)
            }

        torch.manual_seed(0)
        first, second = flips(), flips()
        torch.manual_seed(0)
        assert flips() == first
        assert sum(first.values()) == sum(second.values()) == 32
        assert 10 < sum(first[name] != second[name] for name in first) < 54
