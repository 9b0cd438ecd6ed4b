import json
import re
import sys

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from torchvision.models import resnet18

import brainrdl as rdl
from brainrdl.cli._network import list_named_layers, network_rdms
from brainrdl.features.recorder import layer_shapes
from brainrdl.named_models import load_named_model

OWN = """
import torch
from torch import nn

def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(inplace=True), nn.Flatten())

def grey(image):
    return torch.full((3, 5, 5), image.getpixel((0, 0))[0] / 255)

def with_transform():
    return small(), grey

def number():
    return 3
"""


def raises(message, error=ValueError):
    return pytest.raises(error, match=f"^{re.escape(message)}$")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory with a module of models and a folder of images."""
    (tmp_path / "own_models.py").write_text(OWN)
    (tmp_path / "images").mkdir()
    for k, color in enumerate(("red", "green", "gold")):
        Image.new("RGB", (8, 6), color).save(tmp_path / "images" / f"{k}-{color}.png")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("own_models", None)


def test_torchvision_with_its_own_preprocessing():
    named = load_named_model("torchvision:resnet18", untrained=True)
    assert list(named.model.state_dict()) == list(resnet18().state_dict())
    assert named.transform(Image.new("RGB", (300, 260))).shape == (3, 224, 224)
    assert named.weights == "none loaded"


def test_random_weights_by_name_are_said():
    with pytest.warns(UserWarning, match="random weights") as caught:
        load_named_model("torchvision:squeezenet1_1")
    assert [str(warning.message) for warning in caught] == [
        "torchvision:squeezenet1_1 has random weights: none were named; give weights= a file or one of torchvision's "
        "names, such as 'DEFAULT', or untrained=True where random ones are meant"
    ]


@pytest.mark.parametrize("kind", ["pt", "wrapped", "parallel", "safetensors"])
def test_weights_from_a_file(kind, here):
    torch.manual_seed(3)
    state = nn.Sequential(nn.Conv2d(3, 2, 3)).state_dict()
    path = here / ("weights.safetensors" if kind == "safetensors" else "weights.pt")
    if kind == "safetensors":
        save_file(state, path)
    elif kind == "parallel":
        torch.save({f"module.{name}": value for name, value in state.items()}, path)
    else:
        torch.save({"state_dict": state, "epoch": 3} if kind == "wrapped" else state, path)
    named = load_named_model("own_models:small", path)
    assert named.weights == path.name
    assert named.transform is None
    torch.testing.assert_close(named.model[0].weight.detach(), state["0.weight"], rtol=0, atol=0)


class Harmful:
    def __reduce__(self):
        return print, ("code was run",)


def test_a_file_with_code_is_not_opened(here, capsys):
    torch.save({"0.weight": Harmful()}, here / "weights.pt")
    message = (
        "weights.pt holds more than tensors, or is not a file of torch's; it is not opened, since that could run code: "
        "save the weights alone with torch.save(model.state_dict(), path)"
    )
    with raises(message):
        load_named_model("own_models:small", "weights.pt")
    assert "code was run" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "weights", "error", "message"),
    [
        (
            "resnet18",
            None,
            ValueError,
            "model 'resnet18' is not the name of a model; expected torchvision:NAME or package.module:factory",
        ),
        (
            "torchvision:alexnett",
            None,
            ValueError,
            "torchvision has no model 'alexnett'; did you mean 'alexnet' or 'googlenet' or 'resnet50'?",
        ),
        (
            "torchvision:resnet18",
            "IMAGENET",
            FileNotFoundError,
            "there is no file IMAGENET, and no weights of that name for resnet18 in torchvision, which has "
            "IMAGENET1K_V1, DEFAULT",
        ),
        ("own_models:smal", None, ValueError, "{here}/own_models.py has no function 'smal'; did you mean 'small'?"),
        (
            "no_models:small",
            None,
            ValueError,
            "there is no module 'no_models' for model 'no_models:small'; looked in {here} and where Python looks for "
            "packages",
        ),
        (
            "own_models:number",
            None,
            ValueError,
            "own_models:number returned a int; expected a torch module, or a module and its transform",
        ),
        (
            "own_models:small",
            "none.pt",
            FileNotFoundError,
            "there is no file none.pt; name a state_dict (.pt, .pth) or a .safetensors file",
        ),
        ("own_models:small", "list.pt", ValueError, "list.pt holds no state_dict, a dict of tensors by name; save one "
         "with model.state_dict()"),
        ("own_models:small", "cut.safetensors", ValueError, "cut.safetensors cannot be read as weights "
         "(SafetensorError); is it damaged?"),
        (
            "own_models:small",
            "other.pt",
            ValueError,
            "other.pt holds the weights of another architecture: Error(s) in loading state_dict for Sequential: "
            'Missing key(s) in state_dict: "0.weight", "0.bias". Unexpected key(s) in state_dict: "other".',
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_loaded_is_refused(name, weights, error, message, here):
    torch.save([1, 2], here / "list.pt")
    torch.save({"other": torch.zeros(2)}, here / "other.pt")
    (here / "cut.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    before = list(sys.path)
    with raises(message.format(here=here), error):
        load_named_model(name, weights)
    assert sys.path == before


def test_what_a_module_of_models_lacks_is_its_own_error(here):
    (here / "own_models.py").write_text("import not_installed")
    with pytest.raises(ModuleNotFoundError, match="not_installed"):
        load_named_model("own_models:small")


def test_network_rdms_are_those_of_its_images(here):
    # to the transform, which keeps red alone, two of them are one image
    with pytest.warns(UserWarning, match=r"^the same image under several ids: '0-red' = '2-gold'; "):
        rdms = network_rdms("own_models:with_transform", "images", ["0", "2"], "euclidean")
    assert rdms["stimulus"].values.tolist() == ["0-red", "1-green", "2-gold"]
    assert rdms["model"].values.tolist() == ["own_models:with_transform"] * 2
    named = load_named_model("own_models:with_transform")
    reds = torch.tensor([255, 0, 255]) / 255
    wanted = rdl.rdm(named.model(reds[:, None, None, None].expand(3, 3, 5, 5)).detach(), "euclidean")
    torch.testing.assert_close(rdl.to_condensed(torch.from_numpy(rdms.sel(rdm="2").values)), wanted)
    provenance = json.loads(rdms.attrs["provenance"])
    assert provenance["name"] == "own_models:with_transform"
    assert provenance["weights"] == "none loaded"
    assert provenance["preprocessing"].startswith("<function grey")
    plain = json.loads(network_rdms("own_models:small", "images", ["0"]).attrs["provenance"])
    assert plain["preprocessing"] == "floats in [0, 1]"


def test_torchvisions_preprocessing_is_told(here):
    torch.save(resnet18().state_dict(), "resnet.pt")
    rdms = network_rdms("torchvision:resnet18", "images", ["fc"], "correlation", weights="resnet.pt")
    provenance = json.loads(rdms.attrs["provenance"])
    assert provenance["weights"] == "resnet.pt"
    assert provenance["preprocessing"].startswith("ImageClassification( crop_size=[224] resize_size=[256]")
    assert "mean=[0.485, 0.456, 0.406]" in provenance["preprocessing"]


class Shapes(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.relu, self.never = nn.ReLU(inplace=True), nn.Linear(2, 2)
        self.lstm = nn.LSTM(6, 2, batch_first=True)

    def forward(self, x):
        return self.lstm(self.relu(self.norm(self.relu(self.conv(x)))).flatten(1, 2))[0]


def test_layer_shapes():
    model = Shapes().train()
    before = model.norm.running_mean.clone()
    shapes = layer_shapes(model, torch.zeros(1, 3, 8, 8))
    assert shapes == {"conv": (4, 6, 6), "norm": (4, 6, 6), "relu": None, "never": None, "lstm": None}
    assert model.training
    assert model.norm.training
    torch.testing.assert_close(model.norm.running_mean, before, rtol=0, atol=0)
    assert not any(module._forward_hooks for module in model.modules())


def test_layers_are_listed(here):
    assert list_named_layers("own_models:with_transform").splitlines() == ["0  2 × 3 × 3", "1  2 × 3 × 3", "2  18"]
    assert list_named_layers("own_models:small", "images").splitlines() == ["0  2 × 4 × 6", "1  2 × 4 × 6", "2  48"]
    message = "own_models:small does not say how large its images are; name stimuli=, to show it one"
    with raises(message):
        list_named_layers("own_models:small")
    lines = list_named_layers("torchvision:resnet18").splitlines()
    assert lines[0] == f"{'conv1':21}  64 × 112 × 112"
    assert f"{'layer1.0.relu':21}  cannot be asked for" in lines
    assert lines[-1] == f"{'fc':21}  1000"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (".os:x", "model '.os:x' is not the name of a model; expected torchvision:NAME or package.module:factory"),
        ("os:getcwd", "os:getcwd returned a str; expected a torch module, or a module and its transform"),
        (
            "textwrap:dedent",
            "textwrap:dedent cannot be called without arguments (missing a required argument: 'text'); name a function "
            "that can",
        ),
        ("sys:nothing_at_all", "sys has no function 'nothing_at_all'"),
    ],
)
def test_names_that_give_no_network(name, message):
    with raises(message):
        load_named_model(name)


def test_an_untrained_network_is_the_same_each_time_and_no_draw_is_taken_from_the_user():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    first, second = (load_named_model("torchvision:resnet18", untrained=True).model.state_dict() for _ in range(2))
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_a_detector_downloads_nothing_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(
        "torchvision.models._api.load_state_dict_from_url", lambda url, *_, **__: asked.append(url) or {}
    )
    load_named_model("torchvision:ssdlite320_mobilenet_v3_large", untrained=True)
    assert asked == []
