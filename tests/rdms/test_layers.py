import io
import json
import re
import sys
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from rsatoolbox.data import Dataset
from rsatoolbox.rdm import calc_rdm
from torch import nn
from torchvision.models import resnet18

import brainrdl as rdl
from brainrdl.known import METRICS
from brainrdl.rdms import activations as _activations, layers as export
from brainrdl.rdms.layout import check_rdms

IDS = [f"stimulus-{k}" for k in range(12)]
WAYS = ("memory", "file", "again")


def raises(message, error=ValueError):
    return pytest.raises(error, match=f"^{re.escape(message)}$")


def images(n=12, seed=0):
    return torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def stimuli(values=None):
    values = images() if values is None else values
    return rdl.StimulusSet.from_arrays(values, [f"stimulus-{k}" for k in range(len(values))])


def network():
    torch.manual_seed(0)
    body = [nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(216, 7)]
    return nn.Sequential(*body).double()


def expected(model, layers, metric, values):
    _, features = rdl.capture(model.eval(), layers, values)
    return torch.stack([rdl.to_square(rdl.rdm(features[layer].detach(), metric)) for layer in layers]).numpy()


@pytest.fixture
def passes(monkeypatch):
    """The passes that were planned, of which there is none yet."""
    planned = []

    class Watched(_activations.Activations):
        def __init__(self, run, layers, passes, metric, *, in_memory):
            planned.append((passes, in_memory))
            super().__init__(run, layers, passes, metric, in_memory=in_memory)

    monkeypatch.setattr(export, "Activations", Watched)
    return planned


def forced(way, monkeypatch):
    """Room for two blocks only, and the rest in a file or again; the memory that says so."""
    if way == "memory":
        return 2**30
    monkeypatch.setattr(export, "_OVERHEAD", 0)
    if way == "again":
        monkeypatch.setattr(export, "disk_room", lambda: 0)
    return 8 * 2 * 12 * 12 + 12 * 2 * 16 * 100


@pytest.mark.parametrize("metric", ["mse", "correlation"])
def test_resnet18_agrees_with_rsatoolbox_in_several_blocks(metric, passes):
    torch.manual_seed(0)
    model = resnet18()
    values = torch.rand(64, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    layers = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    assert len(layers) == 20
    rdms = rdl.layer_rdms(model, stimuli(values), layers, metric, batch_size=20, max_memory=26 * 2**20)
    ((planned,), in_memory), *_ = passes
    assert not in_memory
    assert sum(block.layer == "conv1" for block in planned) >= 4
    with torch.no_grad():
        _, features = rdl.capture(model.eval(), layers, values)
    for layer in layers:
        dataset = Dataset(features[layer].double().numpy())
        theirs = calc_rdm(dataset, method={"mse": "euclidean"}.get(metric, metric)).dissimilarities[0]
        ours = rdl.to_condensed(torch.from_numpy(rdms.sel(rdm=layer).values)).numpy()
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=0)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("metric", METRICS)
def test_batches_and_blocks_change_nothing(metric, way, monkeypatch, passes):
    model, layers = network(), ["0", "4"]  # "0" would be changed by the ReLU in place, if it were read late
    wanted = expected(model, layers, metric, images())
    memory = forced(way, monkeypatch)
    for batch_size in (1, 5, 32):
        rdms = rdl.layer_rdms(model, stimuli(), layers, metric, batch_size=batch_size, max_memory=memory)
        np.testing.assert_allclose(rdms.values, wanted, rtol=1e-10, atol=1e-14)
    planned, in_memory = passes[0]
    assert in_memory == (way != "file")
    assert (len(planned) > 1) == (way == "again")
    assert len([block for blocks in planned for block in blocks if block.layer == "0"]) >= (1 if way == "memory" else 4)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("metric", METRICS)
def test_near_duplicates_are_told_apart(metric, way, monkeypatch):
    values = torch.cat([100 + 1e-5 * images(6), images(6, seed=1)])
    model = nn.Sequential(nn.Flatten(), nn.Identity())
    rdms = rdl.layer_rdms(model, stimuli(values), ["0", "1"], metric, max_memory=forced(way, monkeypatch))
    wanted = rdl.to_square(rdl.rdm(values, metric)).numpy()
    # 1e-14 apart; unit vectors are themselves rounded at 1e-16, which is seen in differences of 1e-7
    rounding = 1e-7 if metric in ("correlation", "cosine") else 1e-9
    np.testing.assert_allclose(rdms.values, np.stack([wanted, wanted]), rtol=rounding, atol=0)
    reference = (values[0] - values[1]).square().mean().item()
    if metric == "mse":
        np.testing.assert_allclose(rdms.values[0, 0, 1], reference, rtol=1e-9)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("metric", ["correlation", "cosine"])
def test_patterns_without_direction_are_nan_and_named(metric, way, monkeypatch):
    values = images()
    values[[2, 5]] = 0.0 if metric == "cosine" else 3.25
    model = nn.Sequential(nn.Flatten())
    what = {"correlation": "constant over units", "cosine": "zero throughout"}[metric]
    message = (
        f"layer '0' returns a pattern that is {what} to stimuli 'stimulus-2', 'stimulus-5'; their {metric} "
        "distances are NaN"
    )
    with pytest.warns(UserWarning, match=f"^{re.escape(message)}$"):
        rdms = rdl.layer_rdms(model, stimuli(values), ["0"], metric, max_memory=forced(way, monkeypatch))
    square = rdms.values[0]
    others = [k for k in range(12) if k not in (2, 5)]
    assert np.isnan(square[[2, 5]][:, others]).all()
    assert np.isnan(square[2, 5])
    assert (np.diagonal(square) == 0).all()
    wanted = expected(model, ["0"], metric, values[others])[0]
    np.testing.assert_allclose(square[np.ix_(others, others)], wanted, rtol=1e-10, atol=1e-14)
    xr.testing.assert_identical(check_rdms(rdms), rdms)


def test_the_result_is_a_labelled_rdm(tmp_path):
    model = network()
    rdms = rdl.layer_rdms(model, stimuli(), ["4", "0"], "correlation")
    xr.testing.assert_identical(check_rdms(rdms), rdms)
    assert rdms["stimulus"].values.tolist() == IDS
    assert rdms["rdm"].values.tolist() == rdms["layer"].values.tolist() == ["4", "0"]
    assert rdms["model"].values.tolist() == ["Sequential"] * 2
    assert rdms.attrs["metric"] == "correlation"
    provenance = json.loads(rdms.attrs["provenance"])
    assert list(provenance) == ["function", "model", "weights_sha256", "versions"]
    assert provenance["model"] == "torch.nn.modules.container.Sequential"
    assert provenance["versions"] == {name: version(name) for name in ("brainrdl", "torch")}
    with torch.no_grad():
        model[0].weight[0, 0, 0, 0] += 1
    changed = json.loads(rdl.layer_rdms(model, stimuli(), ["0"]).attrs["provenance"])
    assert changed["weights_sha256"] != provenance["weights_sha256"]
    rdms.to_netcdf(tmp_path / "rdms.nc")
    xr.testing.assert_identical(xr.load_dataarray(tmp_path / "rdms.nc"), rdms)


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_left_as_it_was(fails):
    model = network().train()
    model[1].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    values = images()
    if fails:
        values[3] = torch.nan
        message = (
            "layer '0' returns NaN or infinite values to stimuli 'stimulus-3'; distances need finite patterns: "
            "drop these stimuli, or look for the weights or the image that made them"
        )
        with raises(message):
            rdl.layer_rdms(model, stimuli(values), ["0"])
    else:
        rdms = rdl.layer_rdms(model, stimuli(values), ["1"])
        np.testing.assert_allclose(rdms.values, expected(network(), ["1"], "mse", values), rtol=1e-10)
    assert [module.training for module in model] == [True, False, True, True, True]
    assert model.training
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_half_precision_is_taken_as_it_is():
    model, values = nn.Sequential(nn.Flatten()), images().bfloat16()
    rdms = rdl.layer_rdms(model, stimuli(values), ["0"])
    np.testing.assert_array_equal(rdms.values[0], rdl.to_square(rdl.rdm(values)).numpy())


def test_half_precision_in_a_file(monkeypatch):
    values = images().bfloat16()
    rdms = rdl.layer_rdms(
        nn.Sequential(nn.Flatten()), stimuli(values), ["0"], max_memory=forced("file", monkeypatch) - 8 * 12 * 12
    )
    np.testing.assert_allclose(rdms.values[0], rdl.to_square(rdl.rdm(values)).numpy(), rtol=1e-12)


class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.twice, self.never, self.pair = nn.ReLU(), nn.ReLU(), nn.LSTM(64, 2, batch_first=True)
        self.flat, self.plane = nn.Flatten(0), nn.ReLU()

    def forward(self, x):
        self.flat(x)
        self.plane(torch.fft.fft(x))
        return self.twice(self.twice(self.pair(x.flatten(2))[0]))


@pytest.mark.parametrize(
    ("layer", "error", "message"),
    [
        ("twcie", ValueError, "Odd has no layer 'twcie'; did you mean 'twice'?"),
        (
            "twice",
            ValueError,
            "layer 'twice' ran 2 times in one forward pass, so that its features are ambiguous; give each use a module "
            "of its own, or name a layer behind it",
        ),
        (
            "never",
            ValueError,
            "layer 'never' did not run when the model did; name a layer that its forward calls",
        ),
        (
            "pair",
            ValueError,
            "layer 'pair' responds to 1 stimuli with tuple, expected a tensor (stimuli, ...); name a layer within it "
            "or behind it",
        ),
        (
            "flat",
            ValueError,
            "layer 'flat' responds to 1 stimuli with shape (192,), expected a tensor (stimuli, ...); name a layer "
            "within it or behind it",
        ),
    ],
)
def test_layers_that_cannot_be_read_are_refused(layer, error, message):
    class Real(Odd):
        def forward(self, x):
            self.flat(x)
            return self.twice(self.twice(self.pair(x.flatten(2))[0]))

    Real.__name__ = "Odd"
    with raises(message, error):
        rdl.layer_rdms(Real(), stimuli(images().float()), [layer])


def test_complex_answers_are_refused():
    model = Odd()
    model.plane = nn.Identity()
    message = (
        "layer 'plane' returns torch.complex64 of shape (1, 3, 8, 8); distances need real numbers, and at least "
        "one unit"
    )
    with raises(message):
        rdl.layer_rdms(model, stimuli(images().float()), ["plane"])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"layers": "0"}, TypeError, "layers is one string, '0'; expected a sequence of strings: ['0']"),
        ({"layers": ["0", "0"]}, ValueError, "layers must be unique, but these occur more than once: '0'"),
        ({"layers": []}, ValueError, "layers is empty; list_layers(model) names those there are"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1, but is 0"),
        (
            {"metric": "crossnobis"},
            ValueError,
            "unknown metric 'crossnobis'; computed from features are: mse, sqeuclidean, euclidean, correlation, cosine",
        ),
        (
            {"stimuli": torch.zeros(3, 3, 8, 8)},
            TypeError,
            "stimuli is a Tensor, expected a StimulusSet, whose ids label the RDM: StimulusSet.from_folder(path, "
            "transform) or .from_arrays(images, ids)",
        ),
        ({"stimuli": stimuli(images(1))}, ValueError, "an RDM needs at least 2 stimuli, got 1"),
        (
            {"max_memory": 10**6},
            ValueError,
            "max_memory is 1,000,000 bytes, but 12 stimuli and 1 layers need at least 25,167,744; raise it, or ask for "
            "fewer layers at a time",
        ),
        (
            {"stimuli": stimuli(torch.zeros(4, 3, 8, 8, dtype=torch.float64)), "metric": "cosine", "layers": ["3"]},
            ValueError,
            "layer '3' has no cosine RDM: of its patterns 4 of 4 are zero throughout; choose another metric, or leave "
            "the layer out",
        ),
    ],
)
def test_what_makes_no_rdm_is_refused(arguments, error, message):
    model = network()
    nn.init.zeros_(model[0].bias)
    with raises(message, error):
        rdl.layer_rdms(**{"model": model, "stimuli": stimuli(), "layers": ["0"], **arguments})


def test_the_least_memory_that_is_named_is_enough():
    least = 25_167_744
    rdms = rdl.layer_rdms(network(), stimuli(), ["0"], max_memory=least)
    np.testing.assert_allclose(rdms.values, expected(network(), ["0"], "mse", images()), rtol=1e-10)
    with pytest.raises(ValueError, match="max_memory"):
        rdl.layer_rdms(network(), stimuli(), ["0"], max_memory=least - 1)


def test_images_of_several_sizes_are_refused():
    sizes = [torch.zeros(3, side, 8, dtype=torch.float64) for side in (8, 8, 6)]
    odd = rdl.StimulusSet.from_dataset(sizes, ["a", "b", "c"])
    message = (
        "layer '0' responds to stimulus 'c' with 144 units of torch.float64, the first stimulus with 192 of "
        "torch.float64; give a transform that makes all images alike"
    )
    with raises(message):
        rdl.layer_rdms(nn.Sequential(nn.Flatten()), odd, ["0"], batch_size=2)


def test_a_temporary_folder_in_memory_counts_as_none(monkeypatch, tmp_path):
    monkeypatch.setattr(_activations.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(_activations.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 1000}))
    listed = tmp_path / "mounts"
    listed.write_text(f"/dev/a / ext4 rw 0 0\n/dev/b {tmp_path} tmpfs rw 0 0\n")
    here, real = _activations.Path, _activations.Path("/proc/mounts")
    monkeypatch.setattr(_activations, "Path", lambda path: listed if here(path) == real else here(path))
    assert _activations.disk_room() == 0
    listed.write_text(f"/dev/a / tmpfs rw 0 0\n/dev/b {tmp_path} ext4 rw 0 0\n")
    assert _activations.disk_room() == 500


def test_passes_and_time_left_are_shown(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    rdl.layer_rdms(network(), stimuli(), ["0", "4"], max_memory=forced("again", monkeypatch))
    lines = [line for line in re.split(r"[\r\n]+", shown.getvalue()) if line.strip()]
    texts = list(dict.fromkeys(line.split(":")[0] for line in lines if line.startswith("pass")))
    n_passes = int(re.search(r"of (\d+)", texts[0])[1])
    assert n_passes > 1
    assert texts[:2] == [f"pass 1 of {n_passes}, the model runs", f"pass 1 of {n_passes}, distances of 0"]
    assert texts[-1] == f"pass {n_passes} of {n_passes}, distances of 4"
    done = [int(found[1]) for line in lines if (found := re.search(r"(\d+)%", line))]
    assert all(a <= b for a, b in pairwise(done))
    assert done[-1] == 100
    assert re.search(r"\d\d:\d\d<\d\d:\d\d$", lines[-1])


def resident(which):
    """Bytes of this process in memory: ``VmRSS`` now, ``VmHWM`` at most."""
    return 1024 * int(re.search(rf"{which}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak can be set back on Linux only")
@pytest.mark.parametrize("metric", ["mse", "correlation"])
def test_memory_stays_below_what_was_asked_for(metric):
    # 48 stimuli × 1.2 million units are 230 MB, in float64 twice that
    model = nn.Sequential(nn.Upsample(scale_factor=16), nn.Flatten())
    many = stimuli(torch.rand(48, 3, 40, 40))
    rdl.layer_rdms(model, many.select(many.ids[:4]), ["1"], metric, batch_size=4)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    rdl.layer_rdms(model, many, ["1"], metric, batch_size=4, max_memory=64 * 2**20)
    # a forward pass of its own: four images' answers
    assert resident("VmHWM") - before < 64 * 2**20 + 4 * 4 * 1_228_800


class OnBatch(nn.Module):
    """Dropout that is on whatever the mode."""

    def forward(self, x):
        return nn.functional.dropout(x, 0.5)


@pytest.mark.parametrize(
    "odd", [OnBatch(), nn.BatchNorm2d(3, track_running_stats=False)], ids=["chance", "other stimuli"]
)
def test_layers_that_depend_on_the_batch_or_on_chance_are_refused(odd):
    model = nn.Sequential(nn.Identity(), odd.double(), nn.Flatten())
    assert rdl.layer_rdms(model, stimuli(), ["0"]).sizes["rdm"] == 1
    with pytest.raises(ValueError) as raised:
        rdl.layer_rdms(model, stimuli(), ["0", "1"])
    assert re.sub(r"by [\d.e+-]+ of", "by … of", str(raised.value)) == (
        "layer '1' responds to stimulus 'stimulus-0' alone differently than in its batch, by … of its largest "
        "response: it depends on the other stimuli or on chance, as BatchNorm without running statistics does, or "
        "dropout that is on in eval mode; RDMs need responses that do not"
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_rounding_is_no_dependence_on_the_batch(dtype):
    rdms = rdl.layer_rdms(network().to(dtype), stimuli(images().to(dtype)), ["0", "4"], batch_size=12)
    assert np.isfinite(rdms.values).all()


def test_stimuli_that_the_model_does_not_take():
    start = "Sequential with weights of torch.float64 does not take the stimuli, "
    end = "; give stimuli of the type, channels and size that the model expects"
    for values, what in (
        (images().float(), "torch.float32 of shape (1, 3, 8, 8)"),
        ((images() * 50).to(torch.uint8), "torch.uint8 of shape (1, 3, 8, 8)"),
        (images()[:, :1], "torch.float64 of shape (1, 1, 8, 8)"),
    ):
        with pytest.raises(ValueError) as raised:
            rdl.layer_rdms(network(), stimuli(values), ["0"])
        assert re.sub(r": .*; give", ": (torch's words); give", str(raised.value)) == (
            f"{start}{what}: (torch's words){end}"
        )


@pytest.mark.parametrize(
    ("model", "options", "error", "message"),
    [
        (images, {}, TypeError, "model is a function, expected a torch.nn.Module, whose layers have names"),
        (None, {"batch_size": 2.5}, TypeError, "batch_size is 2.5; expected a whole number"),
        (
            None,
            {"device": "gpu"},
            ValueError,
            "device is 'gpu', which torch does not know; expected cpu, cuda, cuda:1, …",
        ),
        (
            None,
            {"device": "cuda:99"},
            ValueError,
            f"device is 'cuda:99', but torch finds {torch.cuda.device_count()} CUDA devices here; take another, or cpu",
        ),
    ],
)
def test_models_batches_and_devices_that_are_none(model, options, error, message):
    with raises(message, error):
        rdl.layer_rdms(network() if model is None else model, stimuli(), ["0"], **options)
