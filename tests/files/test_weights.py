import random
import re

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from brainrdl.named_models import _load_weights
from brainrdl.training import load_model, read_manifest, save_model


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 3))


def flipped(content, bit):
    damaged = bytearray(content)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def test_a_flipped_bit_of_given_weights_is_found(tmp_path):
    path, model = tmp_path / "a.safetensors", network()
    save_model(model, path)
    content = bytearray(path.read_bytes())
    content[-5] ^= 64
    path.write_bytes(content)
    message = (
        f"{path} is damaged: '2.weight' is not what was written there; put a copy in its place, or save the model anew"
    )
    for load in (lambda: load_model(path, network), lambda: _load_weights(network(), path)):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            load()


def test_a_flipped_bit_of_a_manifest_is_found(tmp_path):
    path = tmp_path / "a.safetensors"
    save_model(network(), path, {"task": "digits"})
    path.write_bytes(path.read_bytes().replace(b"digits", b"digitr"))
    message = f"{path} is damaged: its manifest is not what was written there; put a copy in its place, or save the "
    with pytest.raises(ValueError, match=f"^{re.escape(message)}model anew$"):
        read_manifest(path)


def test_a_flipped_bit_of_torch_s_archive_is_found(tmp_path):
    path, model = tmp_path / "a.pt", network()
    torch.save(model.state_dict(), path)
    content = path.read_bytes()
    at = content.index(model[0].weight.detach().numpy().tobytes())
    path.write_bytes(flipped(content, 8 * at + 17))
    message = (
        f"{path} is damaged: 'a/data/0' in it is not what was written there (its CRC-32 differs); put a copy in its "
        "place, or save the weights anew (with torch.serialization.set_crc32_options(True), the default)"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        _load_weights(network(), path)


def test_weights_of_other_tools_need_no_checksum(tmp_path):
    model = network()
    save_file(model.state_dict(), tmp_path / "a.safetensors")
    torch.save(model.state_dict(), tmp_path / "a.pt")
    torch.save(model.state_dict(), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    for name in ("a.safetensors", "a.pt", "old.pt"):
        other = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 3))
        assert _load_weights(other, tmp_path / name) == name
        assert same(other, model)


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_no_flipped_bit_goes_through(tmp_path, suffix):
    path, model, draw = tmp_path / f"a.{suffix}", network(), random.Random(0)
    if suffix == "pt":
        torch.save(model.state_dict(), path)
    else:
        save_model(model, path, {"task": "digits"})
    content = path.read_bytes()
    refused = 0
    for _ in range(200):
        path.write_bytes(flipped(content, draw.randrange(8 * len(content))))
        other = network()
        try:
            _load_weights(other, path)
        except ValueError:
            refused += 1
        else:
            assert same(other, model)
    assert refused > 50
