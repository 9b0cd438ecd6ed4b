import pickle
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from PIL import Image
from torch.utils.data import DataLoader, IterableDataset, TensorDataset
from torchvision.transforms import v2

from brainrdl.stimuli.stimulus_set import StimulusSet

unicode_ids = st.lists(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1),
    min_size=1,
    max_size=6,
    unique=True,
)


def raises(error, message):
    return pytest.raises(error, match=f"^{re.escape(message)}$")


def pixels(height=6, width=8, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def save(path, array=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels() if array is None else array).save(path, **options)


# from_folder


def test_ids_are_sorted_paths_without_suffix(tmp_path):
    for name in ("b.png", "a/z.JPG", "a/v1.2.bmp", "ä.tif", "B.webp"):
        save(tmp_path / name)
    save(tmp_path / ".hidden.png")
    save(tmp_path / ".cache" / "c.png")
    stimuli = StimulusSet.from_folder(str(tmp_path))
    assert stimuli.ids == ("B", "a/v1.2", "a/z", "b", "ä")
    assert len(stimuli) == 5
    assert [stimulus for _, stimulus in stimuli] == list(stimuli.ids)


def test_folders_behind_a_link_are_entered(tmp_path):
    save(tmp_path / "elsewhere" / "x.png")
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "link").symlink_to(tmp_path / "elsewhere")
    assert StimulusSet.from_folder(tmp_path / "here", follow_links=True).ids == ("link/x",)


def test_without_a_transform_images_are_floats_as_torchvision_makes_them(tmp_path):
    save(tmp_path / "x.png")
    image, stimulus = StimulusSet.from_folder(tmp_path)[0]
    as_floats = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
    assert stimulus == "x"
    assert torch.equal(image, as_floats(Image.open(tmp_path / "x.png")).as_subclass(torch.Tensor))


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA"])
def test_the_transform_gets_rgb(tmp_path, mode):
    Image.fromarray(pixels()).convert(mode).save(tmp_path / "x.png")
    seen = []

    def transform(image):
        seen.append((image.mode, image.size))
        return torch.zeros(1)

    stimuli = StimulusSet.from_folder(tmp_path, transform)
    assert seen == []
    assert torch.equal(stimuli[0][0], torch.zeros(1))
    assert seen == [("RGB", (8, 6))]


def test_two_files_with_one_id(tmp_path):
    save(tmp_path / "a.png")
    save(tmp_path / "a.jpg")
    with raises(
        ValueError,
        f"{tmp_path / 'a.jpg'} and {tmp_path / 'a.png'} would both be stimulus 'a', since an id is a path "
        "without its suffix; rename one of them or take it out of the folder",
    ):
        StimulusSet.from_folder(tmp_path)


def test_a_folder_without_images(tmp_path):
    (tmp_path / "notes.txt").write_text("none")
    with raises(
        ValueError,
        f"no images in {tmp_path}; expected files that end in .bmp, .gif, .jpeg, .jpg, .pgm, .png, .ppm, "
        f".tif, .tiff, .webp",
    ):
        StimulusSet.from_folder(tmp_path)


def test_no_folder(tmp_path):
    with raises(
        NotADirectoryError,
        f"{tmp_path / 'none'} is not a folder; from_folder needs the folder that holds the images",
    ):
        StimulusSet.from_folder(tmp_path / "none")


def test_other_files_are_left_out_aloud(tmp_path):
    save(tmp_path / "a.png")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "labels.csv").write_text("a,1")
    message = f"left out of the stimuli in {tmp_path}, as they do not end as images do: 'b/labels.csv'"
    with pytest.warns(UserWarning, match=f"^{re.escape(message)}$"):
        stimuli = StimulusSet.from_folder(tmp_path)
    assert stimuli.ids == ("a",)


def test_an_unreadable_image_is_named_when_it_is_asked_for(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    stimuli = StimulusSet.from_folder(tmp_path)
    with raises(
        OSError,
        f"{tmp_path / 'a.png'} cannot be read as an image (cannot identify image file "
        f"'{tmp_path / 'a.png'}'); replace the file or take it out of the folder",
    ):
        stimuli[0]


def test_a_truncated_image_is_named(tmp_path):
    save(tmp_path / "a.bmp")
    content = (tmp_path / "a.bmp").read_bytes()
    (tmp_path / "a.bmp").write_bytes(content[:100])
    with pytest.raises(OSError, match=re.escape(f"{tmp_path / 'a.bmp'} cannot be read as an image (")):
        StimulusSet.from_folder(tmp_path)[0]


def test_transparent_pixels_are_refused(tmp_path):
    array = pixels(channels=4)
    array[..., 3] = 255
    array[2, 3, 3] = 254
    save(tmp_path / "a.png", array)
    with raises(
        ValueError,
        f"{tmp_path / 'a.png'} has transparent pixels, whose colour depends on the background; save it on "
        f"the background that was shown",
    ):
        StimulusSet.from_folder(tmp_path)[0]


def test_a_transparent_palette_colour_is_refused(tmp_path):
    Image.fromarray(pixels(channels=3)).convert("P").save(tmp_path / "a.png", transparency=0)
    image = Image.open(tmp_path / "a.png")
    image.putpixel((0, 0), 0)
    image.save(tmp_path / "a.png", transparency=0)
    with pytest.raises(ValueError, match="has transparent pixels"):
        StimulusSet.from_folder(tmp_path)[0]


def test_sixteen_bits_are_refused(tmp_path):
    save(tmp_path / "a.png", np.arange(48, dtype=np.uint16).reshape(6, 8) * 1000)
    with raises(
        ValueError,
        f"{tmp_path / 'a.png'} has more than 8 bits per channel (mode I;16), which RGB would cut off; save "
        f"it with 8 bits, scaled as it was shown",
    ):
        StimulusSet.from_folder(tmp_path)[0]


def test_several_frames_are_refused(tmp_path):
    frames = [Image.fromarray(pixels(seed=seed)) for seed in range(2)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    with raises(
        ValueError,
        f"{tmp_path / 'a.gif'} holds several frames; a stimulus is one image, so save the frame that was shown",
    ):
        StimulusSet.from_folder(tmp_path)[0]


def test_a_transform_that_returns_no_tensor(tmp_path):
    save(tmp_path / "a.png")
    with raises(
        TypeError,
        "the image of stimulus 'a' is a Image, expected a Tensor; let the transform return one",
    ):
        StimulusSet.from_folder(tmp_path, lambda image: image)[0]


# from_arrays


@pytest.mark.parametrize(
    "images",
    [
        torch.rand(3, 1, 2, 2),
        torch.randint(0, 256, (3, 2, 2), dtype=torch.uint8),
        torch.rand(3, 4, dtype=torch.float16),
        np.random.default_rng(0).random((3, 2, 2)),
        np.random.default_rng(0).random((3, 2, 2), dtype=np.float32).astype(">f4"),
        np.arange(12, dtype=np.uint8).reshape(3, 4),
    ],
)
def test_arrays_keep_their_type_and_values(images):
    before = images.numpy().copy() if isinstance(images, torch.Tensor) else images.copy()
    stimuli = StimulusSet.from_arrays(images, ["a", "b", "c"])
    stacked, ids = stimuli.batch()
    assert ids == ("a", "b", "c")
    assert stacked.numpy().dtype == before.dtype.newbyteorder("=")
    np.testing.assert_array_equal(stacked, before)
    stimuli[0][0].zero_()
    np.testing.assert_array_equal(stimuli.batch()[0], before)


def test_a_read_only_array_mapped_from_disk_serves(tmp_path):
    np.save(tmp_path / "images.npy", np.arange(12, dtype=np.float32).reshape(3, 4))
    stimuli = StimulusSet.from_arrays(np.load(tmp_path / "images.npy", mmap_mode="r"), ["a", "b", "c"])
    assert stimuli[2][0].tolist() == [8, 9, 10, 11]


@pytest.mark.parametrize(
    ("images", "ids", "error", "message"),
    [
        ([[1.0]], ["a"], TypeError, "images is a list; expected a Tensor or ndarray of shape (n, ...)"),
        (
            torch.zeros(2, 3, dtype=torch.int64),
            ["a", "b"],
            TypeError,
            "images is of type torch.int64; convert it to uint8 or to floating point",
        ),
        (
            np.zeros((2, 3), int),
            ["a", "b"],
            TypeError,
            "images is of type int64; convert it to uint8 or to floating point",
        ),
        (
            torch.zeros(2),
            ["a", "b"],
            ValueError,
            "images has shape (2,), expected (n, ...); for a single image add the first axis: images[None]",
        ),
        (
            torch.zeros(2, 3),
            ["a"],
            ValueError,
            "1 ids for 2 images; expected one id each, in the same order",
        ),
        (
            torch.zeros(2, 3),
            ["a", "a"],
            ValueError,
            "ids must be unique, but these occur more than once: 'a'",
        ),
        (torch.zeros(0, 3), [], ValueError, "ids is empty; a StimulusSet needs at least one stimulus"),
    ],
)
def test_what_is_no_array_of_images(images, ids, error, message):
    with raises(error, message):
        StimulusSet.from_arrays(images, ids)


# from_dataset


class _Images(torch.utils.data.Dataset):
    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, position):
        return self.images[position]


def test_the_first_element_of_an_item_is_the_image():
    images = torch.rand(2, 3, 4)
    for dataset in (
        TensorDataset(images, torch.tensor([5, 6])),
        _Images(images),
        StimulusSet.from_arrays(images, ["p", "q"]),
    ):
        stacked, ids = StimulusSet.from_dataset(dataset, ["a", "b"]).batch()
        assert torch.equal(stacked, images)
        assert ids == ("a", "b")


class _Stream(IterableDataset):
    def __iter__(self):
        return iter([])


def test_what_is_no_map_style_dataset():
    with raises(
        TypeError,
        "dataset is a _Stream without a length or without indexing; expected a map-style dataset, with "
        "__len__ and __getitem__",
    ):
        StimulusSet.from_dataset(_Stream(), ["a"])


def test_a_dataset_of_another_length():
    with raises(ValueError, "3 ids for 2 items in the dataset; expected one id each, in the same order"):
        StimulusSet.from_dataset(_Images(torch.rand(2, 3)), ["a", "b", "c"])


def test_a_dataset_without_tensors():
    stimuli = StimulusSet.from_dataset(_Images([np.zeros(3)]), ["a"])
    with raises(TypeError, "the image of stimulus 'a' is a ndarray, expected a Tensor; let the transform return one"):
        stimuli[0]


# the set


def letters(n=4):
    return StimulusSet.from_arrays(torch.arange(float(n))[:, None], list("abcdefgh")[:n])


def test_selecting_keeps_the_order_given():
    chosen = letters().select(["d", "a", "c"])
    images, ids = chosen.batch()
    assert ids == chosen.ids == ("d", "a", "c")
    assert images.flatten().tolist() == [3, 0, 2]
    assert chosen.select(("c", "d")).batch()[0].flatten().tolist() == [2, 3]


@settings(deadline=None)
@given(unicode_ids, st.data())
def test_an_image_stays_with_its_id(ids, data):
    stimuli = StimulusSet.from_arrays(torch.arange(float(len(ids)))[:, None], ids)
    order = data.draw(st.permutations(ids))
    chosen = data.draw(st.lists(st.sampled_from(ids), min_size=1, unique=True))
    for image, stimulus in stimuli.select(order).select(chosen):
        assert ids[int(image)] == stimulus


def test_a_batch_takes_positions_in_any_order():
    images, ids = letters().batch([2, -1, 0])
    assert ids == ("c", "d", "a")
    assert images.flatten().tolist() == [2, 3, 0]
    assert letters().batch(torch.tensor([1, 1]))[1] == ("b", "b")


def test_a_loader_collates_images_and_ids():
    batches = list(DataLoader(letters(), batch_size=3))
    assert [list(ids) for _, ids in batches] == [["a", "b", "c"], ["d"]]
    assert batches[0][0].shape == (3, 1)


def test_sets_are_pickled(tmp_path):
    save(tmp_path / "x.png")
    for stimuli in (
        letters().select(["c", "a"]),
        StimulusSet.from_folder(tmp_path),
        StimulusSet.from_dataset(letters(2), ["x", "y"]),
    ):
        copy = pickle.loads(pickle.dumps(stimuli))
        assert copy.ids == stimuli.ids
        assert torch.equal(copy.batch()[0], stimuli.batch()[0])


def test_a_set_shows_its_size_and_first_ids():
    assert repr(letters(8)) == "StimulusSet(8 stimuli: 'a', 'b', 'c', 'd', 'e' and 3 more)"


def test_images_that_do_not_stack():
    images = [torch.zeros(3, 4, 4), torch.zeros(3, 4, 4), torch.zeros(3, 5, 4)]
    stimuli = StimulusSet.from_dataset(_Images(images), ["a", "b", "c"])
    with raises(
        ValueError,
        "stimulus 'a' is (3, 4, 4) of torch.float32, but stimulus 'c' is (3, 5, 4) of torch.float32; give a "
        "transform that makes all images alike (such as torchvision.transforms.v2.Resize)",
    ):
        stimuli.batch()
    assert stimuli.batch([0, 1])[0].shape == (2, 3, 4, 4)


@pytest.mark.parametrize(
    ("use", "error", "message"),
    [
        (lambda s: s[4], IndexError, "position 4 is outside a StimulusSet of 4 stimuli"),
        (lambda s: s[-5], IndexError, "position -5 is outside a StimulusSet of 4 stimuli"),
        (
            lambda s: s["a"],
            TypeError,
            (
                "a StimulusSet is indexed by one integer, not 'a'; select(ids) takes stimuli by id, "
                "batch(indices) several by position"
            ),
        ),
        (lambda s: s.batch([]), ValueError, "indices is empty; a batch needs at least one stimulus"),
        (
            lambda s: s.select(["a", "z"]),
            ValueError,
            "not among the 4 stimuli of the StimulusSet: 'z'; there are 'a', 'b', 'c', 'd'",
        ),
        (
            lambda s: s.select(["a", "a"]),
            ValueError,
            "ids must be unique, but these occur more than once: 'a'",
        ),
        (lambda s: s.select([]), ValueError, "ids is empty; a StimulusSet needs at least one stimulus"),
        (
            lambda s: s.select("a"),
            TypeError,
            "ids is one string, 'a'; expected a sequence of strings: ['a']",
        ),
    ],
)
def test_what_cannot_be_asked_of_a_set(use, error, message):
    with raises(error, message):
        use(letters())
