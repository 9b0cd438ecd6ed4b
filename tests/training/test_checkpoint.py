import os
import pickle
import re
import zipfile
from collections import OrderedDict
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import brainrdl as rdl
from brainrdl.files.store import atomic_path
from brainrdl.identity import differences
from brainrdl.training.checkpoint import (
    has_checkpoint,
    load_checkpoint,
    read_manifest,
    remove_checkpoint,
    save_checkpoint,
)


def raises(error, message):
    return pytest.raises(error, match=f"^{re.escape(message)}$")


CONFIGURATION = {"seed": 0, "student": {"weight": [2, 1]}, "terms": [{"name": "rdl", "alpha": [1.0, 0.5]}]}


# atomic writing


def test_the_old_file_stays_until_the_new_one_is_complete(tmp_path):
    path = tmp_path / "deep" / "file"
    with atomic_path(path) as temporary:
        assert temporary.parent == path.parent
        temporary.write_text("old")
        assert not path.exists()
    assert path.read_text() == "old"
    with atomic_path(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(KeyError), atomic_path(str(path)) as temporary:
        temporary.write_text("half")
        raise KeyError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@contextmanager
def no_room():
    """Let no file grow beyond 1,000 bytes, as on a full disk; the file that pytest reports to included."""
    resource = pytest.importorskip("resource", reason="Windows limits no files")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_named_with_the_file(tmp_path):
    path = tmp_path / "file"
    with raises(OSError, f"[Errno 27] File too large: '{path}'"), no_room(), atomic_path(path) as temporary:
        temporary.write_text("x" * 10_000)
    with raises(OSError, f"[Errno 27] File too large: '{path}'"), no_room():
        save_checkpoint({"weights": torch.zeros(10_000)}, path)
    message = (
        f"{path} could not be written: Error while serializing: I/O error: File too large (os error 27); make room, "
        "or name another place"
    )
    with raises(OSError, message), no_room():
        rdl.save_model(nn.Linear(1_000, 10), path)
    assert list(tmp_path.iterdir()) == []


def test_the_content_is_on_disk_before_it_has_its_name(tmp_path, monkeypatch):
    order = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (order.append("fsync"), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (order.append("replace"), replace(a, b)))
    with atomic_path(tmp_path / "file") as temporary:
        temporary.write_text("x")
    assert order == ["fsync", "replace", "fsync"]


# a run's state


def test_a_state_comes_back_as_it_was(tmp_path):
    state = {
        "configuration": CONFIGURATION,
        "student": OrderedDict(w=torch.randn(2, 3), n=torch.tensor(4)),
        "optimizer": {"state": {0: {"momentum": torch.ones(2)}}, "param_groups": [{"lr": 0.1, "betas": (0.9, 0.99)}]},
        "history": [{"epoch": 0, "task_loss": 0.5}],
        "scheduler": None,
    }
    save_checkpoint(state, tmp_path / "run")
    loaded = load_checkpoint(tmp_path / "run", CONFIGURATION)
    assert loaded.keys() == state.keys()
    assert torch.equal(loaded["student"]["w"], state["student"]["w"])
    assert isinstance(loaded["student"], OrderedDict)
    assert loaded["optimizer"]["param_groups"] == state["optimizer"]["param_groups"]
    assert torch.equal(loaded["optimizer"]["state"][0]["momentum"], torch.ones(2))
    assert (loaded["history"], loaded["scheduler"]) == (state["history"], None)


def test_numbers_that_a_schedule_computed_with_numpy(tmp_path):
    state = {
        "configuration": CONFIGURATION,
        "optimizer": [{"lr": np.float64(0.25), "step": np.int64(3), "betas": (np.float32(0.5), 1)}],
    }
    save_checkpoint(state, tmp_path / "run")
    group = load_checkpoint(tmp_path / "run", CONFIGURATION)["optimizer"][0]
    assert group == {"lr": 0.25, "step": 3, "betas": (0.5, 1)}
    assert [type(group[key]) for key in ("lr", "step")] == [float, int]


def foreign(kind):
    if kind == "empty":
        return b""
    if kind == "text":
        return b"epoch,task_loss\n0,1.5\n"
    if kind == "image":
        return b"\x89PNG\r\n\x1a\n" + bytes(range(256))
    return pickle.dumps({"configuration": CONFIGURATION}) if kind == "plain pickle" else os.urandom(400)


@pytest.mark.parametrize("kind", ["empty", "text", "image", "plain pickle", "noise"])
def test_a_foreign_file_is_refused(tmp_path, kind):
    path = tmp_path / "run"
    path.write_bytes(foreign(kind))
    message = f"^{re.escape(str(path))} is not a checkpoint of this trainer(, or is damaged \\(\\w+\\); remove it to "
    with pytest.raises(ValueError, match=message + "start over$|; name another path, or remove it to start over$)"):
        load_checkpoint(path, CONFIGURATION)
    assert path.exists()


def test_a_damaged_checkpoint_is_refused(tmp_path):
    path = tmp_path / "run"
    save_checkpoint({"configuration": CONFIGURATION, "student": {"w": torch.randn(500)}}, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with raises(
        ValueError,
        f"{path} is not a checkpoint of this trainer, or is damaged (RuntimeError); remove it to start over",
    ):
        load_checkpoint(path, CONFIGURATION)


@pytest.mark.parametrize("content", [[1, 2], {"student": {}}, torch.zeros(2)])
def test_another_torch_file_is_refused(tmp_path, content):
    path = tmp_path / "run"
    torch.save(content, path)
    with raises(
        ValueError, f"{path} is not a checkpoint of this trainer; name another path, or remove it to start over"
    ):
        load_checkpoint(path, CONFIGURATION)


@pytest.mark.parametrize("bit", [1, 16, 128])
def test_a_flipped_byte_is_refused_wherever_it_is(tmp_path, bit):
    path = tmp_path / "run"
    save_checkpoint({"configuration": CONFIGURATION, "student": {"w": torch.arange(300.0)}}, path)
    whole = path.read_bytes()
    damaged = (
        f"^{re.escape(str(path))} is (damaged: it is not what was written there \\(its SHA-256 differs\\); put a copy "
        "in its place, or|not a checkpoint of this trainer, or is damaged \\(\\w+\\);) remove it to start over$"
    )
    for position in (*range(0, len(whole) - 100, 97), *range(len(whole) - 100, len(whole))):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ bit]) + whole[position + 1 :])
        with pytest.raises(ValueError, match=damaged):
            load_checkpoint(path, CONFIGURATION)
    path.write_bytes(whole)
    assert torch.equal(load_checkpoint(path, CONFIGURATION)["student"]["w"], torch.arange(300.0))


def test_a_flipped_number_is_damage(tmp_path):
    path = tmp_path / "run"
    save_checkpoint({"configuration": CONFIGURATION, "student": {"w": torch.full((50,), 1.5)}}, path)
    number = torch.full((50,), 1.5).numpy().tobytes()
    assert path.read_bytes().count(number) == 1
    path.write_bytes(path.read_bytes().replace(number, bytes(200)))
    with raises(
        ValueError,
        f"{path} is damaged: it is not what was written there (its SHA-256 differs); put a copy in its place, or "
        "remove it to start over",
    ):
        load_checkpoint(path, CONFIGURATION)


def test_a_checkpoint_is_a_file_that_torch_reads(tmp_path):
    save_checkpoint({"configuration": CONFIGURATION}, tmp_path / "run")
    assert torch.load(tmp_path / "run", weights_only=True) == {"configuration": CONFIGURATION}
    assert zipfile.ZipFile(tmp_path / "run").testzip() is None


def test_an_error_of_the_system_without_a_path_names_the_file(tmp_path, monkeypatch):
    path = tmp_path / "run"
    save_checkpoint({"configuration": CONFIGURATION}, path)

    def failing(*args, **options):
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(torch, "load", failing)
    with raises(
        ValueError, f"{path} is not a checkpoint of this trainer, or is damaged (OSError); remove it to start over"
    ):
        load_checkpoint(path, CONFIGURATION)
    monkeypatch.undo()
    with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path / "none"))):
        load_checkpoint(tmp_path / "none", CONFIGURATION)


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_is_not_executed(tmp_path, zipped):
    path, mark = tmp_path / "run", tmp_path / "mark"
    state = {"configuration": CONFIGURATION, "history": Bomb(mark)}
    if zipped:
        torch.save(state, path)
    else:
        path.write_bytes(pickle.dumps(state))
    mark.unlink(missing_ok=True)
    with raises(
        ValueError,
        f"{path} is not a checkpoint of this trainer, or is damaged (UnpicklingError); remove it to start over",
    ):
        load_checkpoint(path, CONFIGURATION)
    assert not mark.exists()


def test_another_configuration_is_refused_by_its_differences(tmp_path):
    path = tmp_path / "run"
    save_checkpoint({"configuration": CONFIGURATION}, path)
    here = {
        "seed": 1,
        "student": {"weight": [2, 1], "bias": [1]},
        "terms": [{"name": "rdl", "alpha": [1.0, 0.25]}],
    }
    with raises(
        ValueError,
        f"{path} belongs to a run with another configuration: seed is 0 there and 1 here; student.bias is None there "
        "and [1] here; terms.0.alpha.1 is 0.5 there and 0.25 here. Restore the setting to resume it, or name "
        "another path to start over",
    ):
        load_checkpoint(path, here)
    assert load_checkpoint(path, CONFIGURATION) == {"configuration": CONFIGURATION}


def test_differences():
    assert differences(CONFIGURATION, CONFIGURATION) == []
    assert differences({"a": [1, 2]}, {"a": [1]}) == ["a is [1, 2] there and [1] here"]
    assert differences({"a": {"b": 1}}, {"a": None}) == ["a is {'b': 1} there and None here"]
    assert differences({"a": {"b": {"c": "x"}}}, {"a": {"b": {"c": "y"}}}) == ["a.b.c is 'x' there and 'y' here"]
    assert differences({"x": 1}, {"y": 1}) == ["x is 1 there and None here", "y is None there and 1 here"]


def test_differences_are_short():
    # α of each of a hundred epochs, the same in all
    always, half = {"alpha": [{"fc": 1.0}] * 100}, {"alpha": [{"fc": 0.5}] * 100}
    assert differences(always, half) == ["alpha.fc is 1.0 there and 0.5 here"]
    assert differences(always, {"alpha": [{"fc": 1.0}] * 99 + [{"fc": 0.0}]}) == [
        "alpha.99.fc is 1.0 there and 0.0 here"
    ]
    # numbers of a list are told apart by their places
    assert differences({"betas": [1, 1]}, {"betas": [2, 2]}) == [
        "betas.0 is 1 there and 2 here",
        "betas.1 is 1 there and 2 here",
    ]
    rdl, kd = {"name": "rdl", "alpha": [{"fc": 1.0}] * 100}, {"name": "kd", "alpha": [{"output": 1.0}] * 100}
    assert differences({"terms": [rdl]}, {"terms": [rdl, kd]}) == ["terms is [rdl] there and [rdl, kd] here"]
    assert differences({"layers": None}, {"layers": "x" * 300}) == [f"layers is None there and '{'x' * 198}… here"]


# models


def model(seed=0, width=3):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(2, width), nn.BatchNorm1d(width), nn.Linear(width, 1))


def test_a_model_comes_back_with_its_buffers_and_manifest(tmp_path):
    saved = model()
    saved(torch.randn(5, 2))
    rdl.save_model(saved.train(), tmp_path / "new" / "m.safetensors", {"task": "digits", "ü": [1, None]})
    loaded = rdl.load_model(tmp_path / "new" / "m.safetensors", lambda: model(1))
    assert not any(m.training for m in loaded.modules())
    assert loaded.state_dict().keys() == saved.state_dict().keys()
    for name, value in saved.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)
    assert read_manifest(tmp_path / "new" / "m.safetensors") == {"task": "digits", "ü": [1, None]}
    assert os.listdir(tmp_path / "new") == ["m.safetensors"]


def test_a_model_without_a_manifest(tmp_path):
    rdl.save_model(model(), str(tmp_path / "m"))
    assert read_manifest(tmp_path / "m") == {}
    save_file({"a": torch.zeros(2)}, tmp_path / "n")
    assert read_manifest(tmp_path / "n") == {}


def test_a_model_with_shared_parameters(tmp_path):
    def tied():
        made = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        made[1].weight = made[0].weight
        return made

    saved = tied()
    rdl.save_model(saved, tmp_path / "m")
    loaded = rdl.load_model(tmp_path / "m", tied)
    assert loaded[0].weight is loaded[1].weight
    assert torch.equal(loaded[0].weight, saved[0].weight)


def test_a_manifest_must_fit_json(tmp_path):
    with raises(TypeError, "Object of type set is not JSON serializable"):
        rdl.save_model(model(), tmp_path / "m", {"layers": {"a"}})
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_is_not_there(tmp_path):
    with raises(FileNotFoundError, f"no model at {tmp_path / 'm'}; save_model writes one"):
        rdl.load_model(tmp_path / "m", model)


def test_a_damaged_model(tmp_path):
    path = tmp_path / "m"
    rdl.save_model(model(), path)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))} is not a safetensors file, or is damaged: .+"):
        rdl.load_model(path, model)
    path.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))} is not a safetensors file, or is damaged: .+"):
        rdl.load_model(path, model)


@pytest.mark.parametrize("factory", [lambda: model(width=4), lambda: nn.Linear(2, 1)])
def test_a_model_of_another_architecture(tmp_path, factory):
    path = tmp_path / "m"
    rdl.save_model(model(), path)
    kind = type(factory()).__name__
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))} holds another architecture than {kind}: (.|\n)+"):
        rdl.load_model(path, factory)


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        (torch.full((3,), 1.5).numpy().tobytes(), torch.full((3,), 2.5).numpy().tobytes(), "'2.weight'"),
        (b"digits", b"digitt", "its manifest"),
    ],
)
def test_a_flipped_byte_in_a_model(tmp_path, old, new, what):
    path = tmp_path / "m"
    saved = model()
    with torch.no_grad():
        saved[2].weight.fill_(1.5)
    rdl.save_model(saved, path, {"task": "digits"})
    assert path.read_bytes().count(old) == 1
    path.write_bytes(path.read_bytes().replace(old, new))
    with raises(
        ValueError,
        f"{path} is damaged: {what} is not what was written there; put a copy in its place, or save the model anew",
    ):
        rdl.load_model(path, model)


def test_a_model_without_digests_is_read(tmp_path):
    path = tmp_path / "m"
    save_file({name: value.clone() for name, value in model().state_dict().items()}, path)
    assert torch.equal(rdl.load_model(path, lambda: model(1))[0].weight, model()[0].weight)


def test_a_module_in_place_of_a_factory(tmp_path):
    path = tmp_path / "m"
    rdl.save_model(model(), path)
    with raises(
        TypeError,
        "factory is a Sequential; expected a function that makes a module of the saved architecture, such as lambda: "
        "mnist_cnn()",
    ):
        rdl.load_model(path, model())
    with raises(TypeError, "factory returned a int; expected a module of the saved architecture"):
        rdl.load_model(path, lambda: 3)


# the checkpoint before


def two(path):
    """Two checkpoints, of one and of two epochs; the newest one's bytes."""
    for epochs in (1, 2):
        history = [{"epoch": epoch} for epoch in range(epochs)]
        save_checkpoint({"configuration": CONFIGURATION, "history": history, "w": torch.randn(50)}, path)
    return path.read_bytes()


def flip(path, place):
    whole = bytearray(path.read_bytes())
    whole[place] ^= 4
    path.write_bytes(whole)


def test_the_last_two_checkpoints_are_kept(tmp_path):
    path = tmp_path / "run"
    for epoch in range(4):
        save_checkpoint({"configuration": CONFIGURATION, "history": [epoch]}, path)
    assert load_checkpoint(path, CONFIGURATION)["history"] == [3]
    assert load_checkpoint(f"{path}.previous", CONFIGURATION)["history"] == [2]
    assert sorted(os.listdir(tmp_path)) == ["run", "run.previous"]


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_offered(tmp_path, damage):
    path = tmp_path / "run"
    whole = two(path)
    if damage == "flipped":
        flip(path, len(whole) // 2)
        fault = f"{path} is damaged: it is not what was written there (its SHA-256 differs)"
    else:
        path.write_bytes(whole[: len(whole) // 2] if damage == "cut" else b"")
        kind = "RuntimeError" if damage == "cut" else "EOFError"
        fault = f"{path} is not a checkpoint of this trainer, or is damaged ({kind})"
    with raises(
        ValueError,
        f"{fault}; the checkpoint before it, {path}.previous, is whole and holds 1 epoch; rename it to run to go on "
        "from there, or remove both to start over",
    ):
        load_checkpoint(path, CONFIGURATION)
    os.replace(f"{path}.previous", path)
    assert load_checkpoint(path, CONFIGURATION)["history"] == [{"epoch": 0}]


def test_the_one_before_is_verified_before_it_is_offered(tmp_path):
    path = tmp_path / "run"
    whole = two(path)
    flip(path, len(whole) // 2)
    fault = f"{path} is damaged: it is not what was written there (its SHA-256 differs)"
    with raises(
        ValueError,
        f"{fault}; the checkpoint before it, {path}.previous, is of another configuration; remove both to start over",
    ):
        load_checkpoint(path, CONFIGURATION | {"seed": 1})
    flip(tmp_path / "run.previous", 700)
    with raises(
        ValueError,
        f"{fault}; so is the checkpoint before it, {path}.previous; put copies in their places, or remove both to "
        "start over",
    ):
        load_checkpoint(path, CONFIGURATION)


def test_a_checkpoint_of_which_only_the_one_before_is_left(tmp_path):
    path = tmp_path / "run"
    assert not has_checkpoint(path)
    two(path)
    assert has_checkpoint(path)
    path.unlink()
    with raises(
        ValueError,
        f"there is no checkpoint {path}, but the one before it, {path}.previous; rename it to run to go on from it, "
        "or remove it to start over",
    ):
        has_checkpoint(path)
    remove_checkpoint(path)
    assert os.listdir(tmp_path) == []


def test_a_process_that_is_killed_between_the_two_has_both(tmp_path, monkeypatch):
    path = tmp_path / "run"
    two(path)

    class KilledError(Exception):
        pass

    for call in range(1, 3):
        calls = []
        replace = os.replace

        def killed(a, b, calls=calls, call=call, replace=replace):
            calls.append((a, b))
            if len(calls) == call:
                raise KilledError
            replace(a, b)

        with monkeypatch.context() as patched:
            patched.setattr(os, "replace", killed)
            with pytest.raises(KilledError):
                save_checkpoint({"configuration": CONFIGURATION, "history": [0, 1, 2]}, path)
        assert len(load_checkpoint(path, CONFIGURATION)["history"]) == 2
        assert load_checkpoint(f"{path}.previous", CONFIGURATION)["history"]
