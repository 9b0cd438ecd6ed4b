import re

import numpy as np
import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, RandomSampler, TensorDataset

import brainrdl as rdl
from brainrdl.training.randomness import RandomStates
from brainrdl.training.streams import Passes, length, stimulus_batch, task_batch


def raises(error, message):
    return pytest.raises(error, match=f"^{re.escape(message)}$")


def states(seed=0):
    return RandomStates(seed, torch.device("cpu"))


def stimuli(n=7):
    return rdl.StimulusSet.from_arrays(torch.arange(n, dtype=torch.float32)[:, None], [f"s{i}" for i in range(n)])


def seen(batches):
    return [images.flatten().tolist() for images, *_ in batches]


NUMBERS = TensorDataset(torch.arange(12.0))


class Augmented(Dataset):
    """Adds noise to what it hands out."""

    def __len__(self):
        return 12

    def __getitem__(self, i):
        return (i + torch.rand(()),)


# repeat


@pytest.mark.parametrize(("steps", "expected"), [(5, [1, 2, 1, 2, 1]), (4, [1, 2, 1, 2]), (2, [1, 2]), (1, [1])])
def test_repeat_cycles_and_cuts(steps, expected):
    loader = rdl.repeat([1, 2], steps)
    assert len(loader) == steps
    assert list(loader) == expected
    assert list(loader) == expected


def test_each_repetition_is_shuffled_anew():
    torch.manual_seed(0)
    loader = rdl.repeat(DataLoader(NUMBERS, batch_size=12, shuffle=True), 2)
    first, second = seen(loader)
    assert sorted(first) == sorted(second) == list(range(12))
    assert first != second


def test_repeat_reads_no_batch_more_than_it_gives():
    read = []

    class Reader:
        def __iter__(self):
            for i in range(10):
                read.append(i)
                yield i

    assert list(rdl.repeat(Reader(), 3)) == [0, 1, 2]
    assert read == [0, 1, 2]


def test_errors_of_repeat():
    with raises(ValueError, "steps must be at least 1, got 0"):
        rdl.repeat([1], 0)
    with raises(ValueError, "the loader to repeat is empty"):
        list(rdl.repeat([], 3))


# the stimulus stream


def test_the_whole_set_is_one_batch_in_its_order():
    stream = rdl.StimulusStream(stimuli())
    assert len(stream) == 1
    before = torch.get_rng_state()
    for _ in range(2):
        ((images, ids),) = list(stream)
        assert images.flatten().tolist() == list(range(7))
        assert ids == tuple(f"s{i}" for i in range(7))
    assert torch.equal(torch.get_rng_state(), before)


def test_who_writes_to_the_whole_set_leaves_it_as_it_is():
    stream = rdl.StimulusStream(stimuli())
    next(iter(stream))[0].zero_()
    assert next(iter(stream))[0].flatten().tolist() == list(range(7))


def test_batches_of_a_pass_share_no_stimulus():
    torch.manual_seed(0)
    stream = rdl.StimulusStream(stimuli(), batch_size=3)
    assert len(stream) == 2
    orders = []
    for _ in range(3):
        batches = list(stream)
        assert [len(images) for images, _ in batches] == [3, 3]
        for images, ids in batches:
            assert ids == tuple(f"s{int(i)}" for i in images.flatten())
        ids = [stimulus for _, ids in batches for stimulus in ids]
        assert len(set(ids)) == 6
        orders.append(ids)
    assert orders[0] != orders[1] != orders[2]


def test_images_are_loaded_once_where_the_set_is_shown_whole():
    loaded = []

    class Source(Dataset):
        def __len__(self):
            return 3

        def __getitem__(self, i):
            loaded.append(i)
            return torch.zeros(2)

    stream = rdl.StimulusStream(rdl.StimulusSet.from_dataset(Source(), ["a", "b", "c"]))
    assert loaded == []
    for _ in range(3):
        list(stream)
    assert loaded == [0, 1, 2]


@pytest.mark.parametrize("batch_size", [1, 0, 8])
def test_a_batch_size_that_cannot_be(batch_size):
    with raises(ValueError, f"batch_size must lie in 2 … 7 (the number of stimuli), got {batch_size}"):
        rdl.StimulusStream(stimuli(), batch_size=batch_size)


def test_a_single_stimulus_has_no_distances():
    with raises(ValueError, "batch_size must lie in 2 … 1 (the number of stimuli), got 1"):
        rdl.StimulusStream(stimuli(1))


def test_every_is_at_least_one_update():
    assert rdl.StimulusStream(stimuli(), every=3).every == 3
    with raises(ValueError, "every must be at least 1 update, got 0"):
        rdl.StimulusStream(stimuli(), every=0)


def test_an_epoch_without_a_task_has_at_least_one_update():
    assert rdl.StimulusStream(stimuli(), batch_size=3, steps=5).steps == 5
    with raises(ValueError, "steps must be at least 1 update, got 0"):
        rdl.StimulusStream(stimuli(), steps=0)


# seeded passes


def loaders():
    generator = torch.Generator()
    sampler = torch.Generator()
    batch_sampler = BatchSampler(RandomSampler(NUMBERS, generator=torch.Generator()), 4, drop_last=False)
    return {
        "shuffled": lambda: DataLoader(NUMBERS, batch_size=4, shuffle=True),
        "own generator": lambda: DataLoader(NUMBERS, batch_size=4, shuffle=True, generator=generator),
        "own sampler": lambda: DataLoader(NUMBERS, batch_size=4, sampler=RandomSampler(NUMBERS, generator=sampler)),
        "own batch sampler": lambda: DataLoader(NUMBERS, batch_sampler=batch_sampler),
        "repeated": lambda: rdl.repeat(DataLoader(NUMBERS, batch_size=4, shuffle=True, generator=generator), 7),
        "augmented": lambda: DataLoader(Augmented(), batch_size=4, shuffle=True),
        "stimuli": lambda: rdl.StimulusStream(stimuli(12), batch_size=4),
    }


@pytest.mark.parametrize("kind", list(loaders()))
def test_a_pass_is_the_same_wherever_a_run_goes_on(kind):
    loader = loaders()[kind]()
    passes = Passes(loader, states(), "task order")
    torch.manual_seed(1)
    run = [seen(passes.one_pass(number)) for number in range(3)]
    assert run[0] != run[1] != run[2]
    torch.manual_seed(2)
    list(loader)
    again = Passes(loader, states(), "task order")
    assert seen(again.one_pass(2)) == run[2]
    assert seen(again.one_pass(0)) == run[0]
    assert seen(Passes(loader, states(1), "task order").one_pass(0)) != run[0]
    assert seen(Passes(loader, states(), "stimulus order").one_pass(0)) != run[0]


def test_a_pass_does_not_depend_on_what_is_drawn_between_its_batches():
    loader = DataLoader(Augmented(), batch_size=3, shuffle=True)
    expected = seen(Passes(loader, states(), "task order").one_pass(0))
    got, own = [], states()
    for batch in Passes(loader, own, "task order").one_pass(0):
        got.append(batch)
        torch.rand(5)
        with own.use("task forward"):
            torch.rand(2)
    assert seen(got) == expected


def test_a_pass_leaves_the_global_state_as_it_was():
    torch.manual_seed(0)
    expected = torch.rand(8)
    torch.manual_seed(0)
    passes = Passes(DataLoader(Augmented(), batch_size=6, shuffle=True), states(), "task order")
    got = [torch.rand(4) for _ in passes.one_pass(0)]
    assert torch.equal(torch.cat(got), expected)


def test_a_stream_cycles_in_seeded_passes():
    stream = rdl.StimulusStream(stimuli(), batch_size=3)
    passes = Passes(stream, states(), "stimulus order")
    got = seen(passes.next() for _ in range(6))
    other = Passes(stream, states(), "stimulus order")
    expected = [batch for number in range(3) for batch in seen(other.one_pass(number))]
    assert got == expected


@pytest.mark.parametrize("position", range(7))
def test_a_stream_goes_on_at_its_position(position):
    stream = rdl.StimulusStream(stimuli(12), batch_size=4)
    whole = Passes(stream, states(), "stimulus order")
    got = seen(whole.next() for _ in range(position))
    saved = whole.state_dict()
    rest = seen(whole.next() for _ in range(8))
    resumed_states = states()
    with resumed_states.use("stimulus order"):
        torch.rand(9)
    resumed = Passes(stream, resumed_states, "stimulus order")
    resumed.load_state_dict(saved)
    assert seen(resumed.next() for _ in range(8)) == rest
    assert len(got) == position


def test_an_empty_stream():
    with raises(ValueError, "the loader of the stimuli is empty"):
        Passes([], states(), "stimulus order").next()


def test_a_stream_that_can_be_read_only_once():
    once = Passes(iter([1, 2]), states(), "stimulus order")
    assert [once.next(), once.next()] == [1, 2]
    with raises(ValueError, "the loader of the stimuli is empty"):
        once.next()


# lengths and batches


def test_a_loader_needs_a_length():
    class Stream(IterableDataset):
        def __iter__(self):
            yield 1

    with raises(ValueError, "the task loader has no length; repeat(loader, steps) gives it one"):
        length((x for x in [1]), "the task loader")
    assert length(rdl.repeat(Stream(), 4), "the task loader") == 4
    with raises(
        ValueError, "the stimuli has no batches; give it at least one (a batch size above the data's, drop_last?)"
    ):
        length(DataLoader(NUMBERS, batch_size=13, drop_last=True), "the stimuli")


IMAGES, LABELS = torch.zeros(2, 3), torch.tensor([0, 1])


def test_task_batches():
    assert task_batch((IMAGES, LABELS)) == (IMAGES, LABELS, None)
    assert task_batch([IMAGES, LABELS, ["a", "b"]])[2] == ("a", "b")
    (batch,) = DataLoader([(torch.zeros(3), 1, "x"), (torch.ones(3), 0, "y")], batch_size=2)
    images, labels, ids = task_batch(batch)
    assert (images.shape, labels.tolist(), ids) == ((2, 3), [1, 0], ("x", "y"))


@pytest.mark.parametrize(
    ("batch", "what"),
    [
        (IMAGES, "a Tensor"),
        ({"image": IMAGES, "label": LABELS}, "a dict"),
        ([IMAGES], "a list of 1: Tensor"),
        ((IMAGES, LABELS, ["a", "b"], 1, 2), "a tuple of 5: Tensor, Tensor, list, int"),
    ],
)
def test_what_is_no_task_batch(batch, what):
    with raises(ValueError, f"a task loader yields (image, label) or (image, label, id), got {what}"):
        task_batch(batch)


def test_stimulus_batches():
    assert stimulus_batch((IMAGES, ("a", "b")))[1] == ("a", "b")
    assert stimulus_batch([IMAGES, ["a", "b"]])[1] == ("a", "b")


@pytest.mark.parametrize(
    ("batch", "what"),
    [(IMAGES, "a Tensor"), ([IMAGES, LABELS, ["a", "b"]], "a list of 3: Tensor, Tensor, list")],
)
def test_what_is_no_stimulus_batch(batch, what):
    with raises(ValueError, f"a stimulus loader yields (image, id), got {what}"):
        stimulus_batch(batch)


@pytest.mark.parametrize(
    ("ids", "what"),
    [
        (LABELS, "a Tensor"),
        ("ab", "a str"),
        ([0, 1], "a list of 2: int, int"),
        (["a", 1], "a list of 2: str, int"),
        (np.array(["a", "b"]), "a ndarray"),
        (None, "a NoneType"),
    ],
)
def test_ids_are_strings(ids, what):
    for take in (lambda: stimulus_batch((IMAGES, ids)), lambda: task_batch((IMAGES, LABELS, ids))):
        with raises(ValueError, f"stimulus ids must be strings, one per image, got {what}"):
            take()


def test_one_id_per_image():
    with raises(ValueError, "a batch has 2 images and 3 ids"):
        stimulus_batch((IMAGES, ["a", "b", "c"]))
