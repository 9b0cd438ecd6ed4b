"""InfiMNIST: against a slow scalar reference, and what follows from its facts."""

import json
import math
import re
import runpy
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from brainrdl.data import (
    Deformation,
    InfiMNIST,
    LabelledImages,
    checksum,
    infimnist,
    load_digits,
    load_mnist,
    read_infimnist_idx,
    write_idx,
)
from real_data import data_dir

PREPARE = Path(__file__).parents[2] / "datasets" / "infimnist" / "prepare.py"
MNIST_FILES = [
    f"mnist/{part}.gz"
    for part in (
        "train-images-idx3-ubyte",
        "train-labels-idx1-ubyte",
        "t10k-images-idx3-ubyte",
        "t10k-labels-idx1-ubyte",
    )
]
# Around the places where the 32-bit product wraps, and far beyond them.
INDICES = [
    70_000,
    70_001,
    79_999,
    80_000,
    199_999,
    2**31 - 1,
    2**32 - 1,
    2**32,
    2**32 + 12_345,
    10**12 - 1,
    2**62 + 3,
]
INDICES += range(123_000, 123_060)


def _sources(n: int = 7, *, size: int = 28, top: int = 255, channels: int = 1) -> LabelledImages:
    pixels = np.random.default_rng(n).integers(0, top + 1, (n, channels, size, size), dtype=np.uint8)
    return LabelledImages(
        images=torch.from_numpy(pixels),
        labels=torch.arange(n) % 3,
        ids=tuple(f"source-{at}" for at in range(n)),
        classes=("a", "b", "c"),
        top=top,
    )


def _facts(index: int, n_fields: int = 1_522) -> tuple[int, int, int]:
    """Compute the original's k1, k2 and α, one index at a time."""
    k1 = (index * 131_071 & 0xFFFFFFFF) % (n_fields - 1)
    k2 = (k1 + 1 + 2 * index) % n_fields
    return k1, k2, -1 if (k1 + k2) % 2 else 1


def _slow(source: np.ndarray, fields: np.ndarray, index: int, top: int) -> np.ndarray:
    """One grey image, pixel by pixel in float32, with central differences; then the shift."""
    k1, k2, alpha = _facts(index, len(fields))
    height, width = source.shape

    def pixel(row: int, column: int) -> np.float32:
        inside = 0 <= row < height and 0 <= column < width
        return np.float32(source[row, column] if inside else 0)

    deformed = np.zeros_like(source)
    for row in range(height):
        for column in range(width):
            along_columns = (pixel(row, column + 1) - pixel(row, column - 1)) / np.float32(2)
            along_rows = (pixel(row + 1, column) - pixel(row - 1, column)) / np.float32(2)
            change = fields[k1, row, column] * along_columns - fields[k2, row, column] * along_rows
            value = pixel(row, column) + np.float32(alpha) * change
            deformed[row, column] = int(min(max(value, np.float32(0)), np.float32(top)))
    vertical, horizontal = {
        0: (-1, 0),
        1: (1, 0),
        2: (0, -1),
        3: (0, 1),
        4: (-1, -1),
        5: (-1, 1),
        6: (1, -1),
        7: (1, 1),
        8: (0, 0),
    }[k1 % 9]
    shifted = np.zeros_like(deformed)
    for row in range(height):
        for column in range(width):
            if 0 <= row + vertical < height and 0 <= column + horizontal < width:
                shifted[row + vertical, column + horizontal] = deformed[row, column]
    return shifted


class TestAgainstTheSlowReference:
    @pytest.mark.parametrize(
        ("size", "top", "n_fields", "scale"),
        [(9, 255, 1_522, 1.0), (8, 16, 1_522, 1.0), (9, 255, 4, 3.0), (9, 255, 5, 3.0)],
    )
    def test_every_pixel_is_the_same(self, size, top, n_fields, scale):
        sources = _sources(size=size, top=top)
        settings = Deformation(field_sd=1.5, field_scale=scale, tangent_sd=0, n_fields=n_fields)
        generator = InfiMNIST(sources, deformation=settings)
        generated = generator.generate(INDICES)
        fields = generator._fields.numpy()
        for place, index in enumerate(INDICES):
            source = sources.images[(index - 10_000) % len(sources), 0].numpy()
            np.testing.assert_array_equal(generated.images[place, 0].numpy(), _slow(source, fields, index, top))
        inside = generated.images[:, :, 1:-1, 1:-1]
        assert bool((inside == 0).any())
        assert bool((inside == top).any())

    def test_alpha_is_always_minus_one_with_the_originals_number_of_fields(self):
        assert {_facts(index)[2] for index in INDICES} == {-1}
        assert {_facts(index, 5)[2] for index in INDICES} == {-1, 1}

    def test_tangents_are_gaussian_derivatives(self):
        # Of a Gaussian blob of variance v, smoothed with variance s²: −x/(v+s²) times a blob of variance
        # v+s².
        variance, sd, size = 9.0, 1.0, 41
        at = torch.arange(size, dtype=torch.float64) - size // 2
        blob = torch.exp(-(at**2) / (2 * variance))
        total = variance + sd**2
        smooth = torch.exp(-(at**2) / (2 * total)) * math.sqrt(variance / total)
        along_columns, along_rows = infimnist._tangents(torch.outer(blob, blob)[None, None].float(), sd)
        expected = torch.outer(smooth, -at / total * smooth)
        scale = expected.abs().max()
        # Three standard deviations of the kernel are kept: 2 % of the largest slope.
        assert (along_columns[0, 0] - expected).abs().max() < 0.02 * scale
        assert (along_rows[0, 0] - expected.T).abs().max() < 0.02 * scale

    @pytest.mark.parametrize("sd", [0, 1e-200, 0.01, 0.7, 2.5])
    def test_a_ramp_has_its_slope(self, sd):
        ramp = (3 * torch.arange(40.0)).expand(1, 1, 40, 40)
        along_columns, along_rows = infimnist._tangents(ramp, sd)
        inside = slice(16, 24)
        torch.testing.assert_close(along_columns[0, 0, inside, inside], torch.full((8, 8), 3.0))
        torch.testing.assert_close(along_rows[0, 0, inside, inside], torch.zeros(8, 8), atol=1e-4, rtol=0)


class TestIndexing:
    def test_labels_and_ids_follow_the_source(self):
        sources = _sources(7)
        generated = InfiMNIST(sources).generate(INDICES)
        assert generated.labels.tolist() == [(index - 10_000) % 7 % 3 for index in INDICES]
        assert generated.ids == tuple(f"infimnist-{index:08d}" for index in INDICES)
        assert (generated.classes, generated.top) == (sources.classes, sources.top)

    def test_clean_sources_are_all_that_is_deformed(self):
        sources = _sources(7)
        still = Deformation(field_scale=0, shift=False)
        generated = InfiMNIST(sources, deformation=still).generate(range(80_000, 80_021))
        expected = [(index - 10_000) % 7 for index in range(80_000, 80_021)]
        assert torch.equal(generated.images, sources.images[expected])

    def test_an_image_does_not_depend_on_its_batch(self, monkeypatch):
        generator = InfiMNIST(_sources(50))
        together = generator.generate(range(80_000, 80_101))
        monkeypatch.setattr(infimnist, "_CHUNK", 8)
        in_chunks = generator.generate(torch.arange(80_100, 79_999, -1))
        assert torch.equal(in_chunks.images.flip(0), together.images)
        for place in (0, 57, 100):
            assert torch.equal(generator.generate([80_000 + place]).images[0], together.images[place])
        assert torch.equal(InfiMNIST(_sources(50)).generate(range(80_000, 80_101)).images, together.images)

    def test_nothing_is_drawn_from_the_global_random_state(self):
        before = torch.random.get_rng_state()
        InfiMNIST(_sources()).generate([70_000])
        assert torch.equal(torch.random.get_rng_state(), before)

    def test_another_seed_gives_other_images(self):
        images = [
            InfiMNIST(_sources(), deformation=Deformation(seed=seed)).generate([70_000]).images for seed in (0, 1)
        ]
        assert not torch.equal(*images)

    def test_channels_move_together(self):
        grey = _sources()
        colour = replace(grey, images=grey.images.expand(-1, 3, -1, -1))
        generated = InfiMNIST(colour).generate(range(70_000, 70_020)).images
        assert torch.equal(generated, InfiMNIST(grey).generate(range(70_000, 70_020)).images.expand(-1, 3, -1, -1))

    @pytest.mark.parametrize("index", [69_999, 10_000, 0, -1])
    def test_mnists_own_images_are_refused(self, index):
        message = (
            f"index {index} is not generated: 0 to 9,999 are MNIST's test images and 10,000 to 69,999 its "
            "training images (load_mnist reads them); ask for 70,000 and above"
        )
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            InfiMNIST(_sources()).generate([70_000, index])

    def test_an_index_twice_is_refused(self):
        repeated = "id 'infimnist-00070000' occurs more than once"
        message = f"{repeated}; ids join images with RDM rows, so give each image its own"
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            InfiMNIST(_sources()).generate([70_000, 70_000])

    def test_no_sources(self):
        message = "there are no source images; InfiMNIST deforms the images that it is given"
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            InfiMNIST(_sources().take([]))

    def test_no_indices_give_no_images(self):
        assert InfiMNIST(_sources()).generate([]).images.shape == (0, 1, 28, 28)


class TestShift:
    @pytest.mark.parametrize(
        ("number", "row", "column"),
        [(0, 2, 3), (1, 4, 3), (2, 3, 2), (3, 3, 4), (4, 2, 2), (5, 2, 4), (6, 4, 2), (7, 4, 4), (8, 3, 3)],
    )
    def test_a_spot_moves_by_one_pixel(self, number, row, column):
        spot = torch.zeros(1, 1, 7, 7, dtype=torch.uint8)
        spot[0, 0, 3, 3] = 200
        sources = LabelledImages(spot, torch.tensor([0]), ids=("spot",), classes=("spot",))
        index = next(index for index in range(70_000, 90_000) if _facts(index)[0] % 9 == number)
        moved = InfiMNIST(sources, deformation=Deformation(field_scale=0)).generate([index]).images[0, 0]
        assert moved.nonzero().tolist() == [[row, column]]
        assert moved[row, column] == 200

    def test_nothing_wraps_around_the_edges(self):
        frame = torch.full((1, 1, 5, 5), 100, dtype=torch.uint8)
        sources = LabelledImages(frame, torch.tensor([0]), ids=("frame",), classes=("frame",))
        up_left = next(index for index in range(70_000, 90_000) if _facts(index)[0] % 9 == 4)
        moved = InfiMNIST(sources, deformation=Deformation(field_scale=0)).generate([up_left]).images[0, 0]
        assert moved[-1].tolist() == [0] * 5
        assert moved[:, -1].tolist() == [0] * 5
        assert bool((moved[:4, :4] == 100).all())

    def test_can_be_left_out(self):
        sources = _sources()
        still = InfiMNIST(sources, deformation=Deformation(field_scale=0, shift=False)).generate(range(70_000, 70_007))
        assert torch.equal(still.images, sources.images[[(index - 10_000) % 7 for index in range(70_000, 70_007)]])


class TestFields:
    def test_standard_deviation_everywhere(self):
        fields = InfiMNIST(_sources(), deformation=Deformation(field_scale=1.5))._fields
        assert fields.shape == (1_522, 28, 28)
        spread = fields.std(0)
        assert spread.min() > 1.5 * 0.9
        assert spread.max() < 1.5 * 1.1
        assert abs(spread.mean() - 1.5) < 1.5 * 0.02

    def test_smoothness(self):
        # Noise under a Gaussian of sd σ has the autocorrelation exp(−lag²/4σ²).
        fields = InfiMNIST(_sources(), deformation=Deformation(field_sd=4))._fields
        for lag in (2, 4, 8):
            rows = (fields[:, lag:] * fields[:, :-lag]).mean()
            columns = (fields[:, :, lag:] * fields[:, :, :-lag]).mean()
            assert abs(rows - math.exp(-(lag**2) / 64)) < 0.04
            assert abs(columns - math.exp(-(lag**2) / 64)) < 0.04

    def test_fields_are_unrelated(self):
        fields = InfiMNIST(_sources())._fields.flatten(1)
        neighbours = (fields[1:] * fields[:-1]).mean(1)
        assert abs(neighbours.mean()) < 0.03

    def test_a_field_displaces_by_its_pixels(self):
        # Nearly constant fields; x'(c, r) = x(c + αF1, r − αF2), so a blob moves by −αF1 columns and αF2
        # rows.
        size = 33
        at = torch.arange(size, dtype=torch.float64) - size // 2
        blob = torch.exp(-(at**2) / 50)
        pixels = (torch.outer(blob, blob) * 200).round().to(torch.uint8)[None, None]
        sources = LabelledImages(pixels, torch.tensor([0]), ids=("blob",), classes=("blob",))
        settings = Deformation(field_sd=40, field_scale=0.5, tangent_sd=0, n_fields=4, shift=False)
        generator = InfiMNIST(sources, deformation=settings)
        for index in range(70_000, 70_020):
            k1, k2, alpha = _facts(index, 4)
            image = generator.generate([index]).images[0, 0].double()
            column = float((image.sum(0) * at).sum() / image.sum())
            row = float((image.sum(1) * at).sum() / image.sum())
            middle = generator._fields[:, size // 2, size // 2]
            assert abs(column + alpha * middle[k1]) < 0.1
            assert abs(row - alpha * middle[k2]) < 0.1

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"field_sd": -1.0}, "field_sd is -1.0, expected a number of pixels, 0 or more"),
            ({"field_scale": math.inf}, "field_scale is inf, expected a number of pixels, 0 or more"),
            ({"tangent_sd": math.nan}, "tangent_sd is nan, expected a number of pixels, 0 or more"),
            ({"n_fields": 1}, "n_fields is 1, expected at least 2: an image takes two different fields"),
            ({"seed": -1}, "seed is -1, expected 0 or more"),
        ],
    )
    def test_impossible_settings(self, settings, message):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            Deformation(**settings)


class TestDescription:
    def test_states_everything_and_is_json(self):
        sources = _sources()
        told = InfiMNIST(sources).describe()
        assert json.loads(json.dumps(told)) == told
        assert told["deformation"] == {
            "field_sd": 4.0,
            "field_scale": 1.0,
            "tangent_sd": 0.7,
            "seed": 0,
            "n_fields": 1_522,
            "shift": True,
        }
        assert told["source"] == "(i - 10000) mod 7"
        assert told["k1"] == "(i * 131071 mod 2**32) mod 1521"
        assert told["k2"] == "(k1 + 1 + 2 * i) mod 1522"
        assert told["sources_sha256"] == checksum(sources)
        assert InfiMNIST(sources, deformation=Deformation(shift=False)).describe()["shift"] == "none"

    def test_fields_checksum_follows_the_seed(self):
        told = [
            InfiMNIST(_sources(), deformation=Deformation(seed=seed)).describe()["fields_sha256"] for seed in (0, 0, 1)
        ]
        assert told[0] == told[1] != told[2]


class TestReadingTheOriginalsFiles:
    def _write(self, folder: Path, images: np.ndarray, labels: np.ndarray) -> tuple[Path, Path]:
        write_idx(images, folder / "pat")
        write_idx(labels, folder / "lab")
        return folder / "pat", folder / "lab"

    def test_images_labels_and_ids(self, tmp_path):
        images = np.random.default_rng(0).integers(0, 256, (3, 28, 28), dtype=np.uint8)
        paths = self._write(tmp_path, images, np.array([9, 0, 4], dtype=np.uint8))
        data = read_infimnist_idx(*paths, first_index=99_999_999)
        assert data.ids == ("infimnist-99999999", "infimnist-100000000", "infimnist-100000001")
        assert data.labels.tolist() == [9, 0, 4]
        np.testing.assert_array_equal(data.images[:, 0].numpy(), images)

    def test_the_wrong_way_round(self, tmp_path):
        patterns, labels = self._write(tmp_path, np.zeros((3, 28, 28), np.uint8), np.zeros(3, np.uint8))
        message = (
            f"{labels}: holds uint8 of shape (3,), expected uint8 (n, height, width); are images and labels "
            "in the right order?"
        )
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            read_infimnist_idx(labels, patterns, first_index=80_000)

    def test_labels_of_other_images(self, tmp_path):
        patterns, labels = self._write(tmp_path, np.zeros((3, 28, 28), np.uint8), np.zeros(4, np.uint8))
        message = (
            f"{labels}: holds uint8 of shape (4,), expected uint8 (3,): one label for each image; give the "
            "labels that were written with the images"
        )
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            read_infimnist_idx(patterns, labels, first_index=80_000)

    def test_mnists_own_images_are_refused(self, tmp_path):
        message = (
            "first_index is 10000, expected 70000 or more: the images below are MNIST's own and load_mnist reads them"
        )
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            read_infimnist_idx(tmp_path / "pat", tmp_path / "lab", first_index=10_000)


class TestRealImages:
    def test_digits_stay_close_to_their_sources(self):
        training, _, _ = load_digits()
        settings = Deformation(field_sd=2, field_scale=0.3, tangent_sd=0, shift=False)
        generated = InfiMNIST(training, deformation=settings).generate(range(70_000, 71_000))
        assert generated.top == 16
        assert generated.images.max() == 16
        assert torch.equal(generated.labels, training.labels)
        alike = torch.corrcoef(torch.stack([generated.images.flatten(), training.images.flatten()]).double())[0, 1]
        assert 0.95 < alike < 0.999

    def test_the_papers_teacher_sees_every_training_image_twice(self):
        train, _ = load_mnist(data_dir(*MNIST_FILES))
        middles = replace(train, images=train.images[..., 12:16, 12:16].clone())  # only the labels matter here
        generator = InfiMNIST(middles)
        teacher = generator.generate(range(80_000, 200_000))
        assert torch.equal(teacher.labels.bincount(), 2 * train.labels.bincount())
        assert torch.equal(generator.generate(range(70_000, 80_000)).labels, train.labels[:10_000])

    def test_the_same_source_is_deformed_in_another_way_each_time(self):
        train, _ = load_mnist(data_dir(*MNIST_FILES))
        first, second = (InfiMNIST(train).generate(range(start, start + 500)) for start in (80_000, 140_000))
        assert torch.equal(first.labels, second.labels)
        assert not (first.images == second.images).flatten(1).all(1).any()

    def test_the_images_stay_what_they_were_published_as(self):
        train, _ = load_mnist(data_dir(*MNIST_FILES))
        generated = InfiMNIST(train).generate(range(70_000, 70_100))
        assert checksum(generated) == "cb3acfccfdf30968dd1c241086048cbb7abb5498db30ee95d6c0d570a8cf0d0e"

    @pytest.mark.parametrize("clean", [False, True])
    def test_prepare_writes_what_the_generator_makes(self, monkeypatch, tmp_path, clean):
        arguments = [
            "--data-dir",
            str(data_dir(*MNIST_FILES)),
            "--first",
            "80000",
            "--count",
            "20",
            "--out",
            str(tmp_path),
        ]
        arguments += ["--n-train", "1000"] if clean else []
        monkeypatch.setattr(sys, "argv", [str(PREPARE), *arguments])
        runpy.run_path(str(PREPARE), run_name="__main__")
        stem = tmp_path / "infimnist-80000-80019"
        data = read_infimnist_idx(f"{stem}-images-idx3-ubyte", f"{stem}-labels-idx1-ubyte", first_index=80_000)
        told = json.loads(Path(f"{stem}-description.json").read_text(encoding="utf-8"))
        assert told["n_sources"] == (1_000 if clean else 60_000)
        if not clean:
            train, _ = load_mnist(data_dir(*MNIST_FILES))
            assert checksum(data) == checksum(InfiMNIST(train).generate(range(80_000, 80_020)))
