"""bf16 is chosen only where the device has it."""

from contextlib import nullcontext

import pytest
import torch

from brainrdl.training.machine import choose_precision

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
