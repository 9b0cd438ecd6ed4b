"""bf16 is chosen only where the device has it, and a device only where there is one."""

import platform
import sys
from contextlib import nullcontext
from datetime import UTC, datetime

import pytest
import torch

import brainrdl as rdl
from brainrdl.files.store import versions
from brainrdl.training.machine import (
    PACKAGES,
    choose_precision,
    describe_call,
    device_name,
    now,
    open_fabric,
    precision_of,
    processor,
    use_threads,
)
from small_network import loader, network, raises

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx2": True, "avx512_f": True}, "32-true"),
        ({"avx2": True, "avx512_bf16": False, "amx_bf16": False}, "32-true"),
        ({"avx512_bf16": True}, "bf16-mixed"),
        ({"amx_bf16": True}, "bf16-mixed"),
        ({"architecture": "aarch64", "neon": True, "bf16": True}, "32-true"),
    ],
)
def test_a_cpu_is_asked(monkeypatch, capabilities, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert choose_precision(CPU) == expected


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ({}, "32-true"),
        ({"_is_avx512_bf16_supported": False, "_is_amx_tile_supported": False}, "32-true"),
        ({"_is_avx512_bf16_supported": True}, "bf16-mixed"),
        ({"_is_avx512_bf16_supported": False, "_is_amx_tile_supported": True}, "bf16-mixed"),
    ],
)
def test_a_cpu_is_asked_where_torch_has_the_older_names(monkeypatch, answers, expected):
    for name in ("get_capabilities", "_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.delattr(torch.cpu, name, raising=False)
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cpu, name, lambda answer=answer: answer, raising=False)
    assert choose_precision(CPU) == expected


@pytest.mark.parametrize(("native", "expected"), [(True, "bf16-mixed"), (False, "32-true")])
def test_a_gpu_that_only_imitates_bf16_does_without(monkeypatch, native, expected):
    entered = []
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext(entered.append(device)))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation or native)
    assert choose_precision(CUDA) == expected
    assert entered == [CUDA]


def test_this_machine_has_an_answer():
    assert choose_precision(CPU) in ("32-true", "bf16-mixed")


def test_another_device_trains_in_full_precision():
    assert choose_precision(torch.device("mps")) == "32-true"


@pytest.mark.parametrize("asked", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("device", [CPU, CUDA])
def test_what_is_asked_for_is_taken(device, asked):
    assert choose_precision(device, asked) == asked


def test_an_unknown_word():
    with pytest.raises(ValueError, match=r"^unknown precision '16'; known are: auto, 32-true, bf16-mixed$"):
        choose_precision(CPU, "16")


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_a_machine_without_a_gpu_trains_on_its_processor(no_gpu, device):
    fabric = open_fabric(device, "32-true")
    assert fabric.device == CPU
    assert fabric.world_size == 1
    assert precision_of(fabric) == "32-true"


def test_the_precision_follows_from_the_device(no_gpu, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    assert precision_of(open_fabric()) == "bf16-mixed"
    assert precision_of(open_fabric("cpu", "32-true")) == "32-true"


def test_a_gpu_that_is_not_there(no_gpu):
    with raises(ValueError, "device is 'cuda', and torch finds no CUDA device here; take 'cpu' or 'auto'"):
        open_fabric("cuda")


def test_an_unknown_device():
    with raises(ValueError, "unknown device 'tpu'; known are: auto, cpu, cuda"):
        open_fabric("tpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_is_taken_where_there_is_one():
    fabric = open_fabric()
    assert fabric.device.type == "cuda"
    assert device_name(fabric.device) == torch.cuda.get_device_name()


@pytest.fixture
def threads(monkeypatch):
    """Threads of a process, 8 of them to begin with."""
    used = [8]
    monkeypatch.setattr(torch, "get_num_threads", lambda: used[-1])
    monkeypatch.setattr(torch, "set_num_threads", used.append)
    return used


@pytest.mark.parametrize(
    ("asked", "processes", "expected"),
    [(None, 1, 8), (3, 1, 3), (None, 3, 2), (None, 20, 1), (3, 4, 3)],
)
def test_processes_share_the_threads(threads, asked, processes, expected):
    assert use_threads(asked, processes=processes) == expected
    assert threads[-1] == expected


def test_torchs_own_number_of_threads_is_left_alone(threads):
    use_threads()
    assert threads == [8]


def test_no_threads():
    with raises(ValueError, "threads must be at least 1, got 0"):
        use_threads(0)


def test_a_processor_has_a_name():
    assert device_name(CPU) == "cpu"
    assert processor()


def test_a_processor_outside_linux(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(platform, "processor", lambda: "arm")
    assert processor() == "arm"


def test_facts_of_a_call(no_gpu):
    before = datetime.now(UTC).replace(microsecond=0)
    call = describe_call("brainrdl fit study.yaml", open_fabric("cpu"))
    started = datetime.fromisoformat(call.pop("started"))
    assert call == {"command": "brainrdl fit study.yaml", "device": "cpu", "threads": torch.get_num_threads()}
    assert before <= started <= datetime.fromisoformat(now()) <= datetime.now(UTC)
    assert now().endswith("+00:00")


def test_versions_stand_in_the_order_asked_for():
    found = versions(PACKAGES)
    assert tuple(found) == PACKAGES
    assert found["brainrdl"] == rdl.__version__
    assert torch.__version__.startswith(found["torch"])


def test_a_fabric_of_the_large_package_trains_the_same():
    large = pytest.importorskip("lightning.fabric")
    histories = []
    for fabric in (open_fabric("cpu", "32-true"), large.Fabric(accelerator="cpu", devices=1)):
        history = rdl.Trainer(network(), fabric=fabric).fit(loader(), epochs=2)
        histories.append(history.drop(columns="seconds"))
    assert histories[0].equals(histories[1])
