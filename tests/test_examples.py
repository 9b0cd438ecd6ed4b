import ast
import os
import runpy
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest
import xarray as xr
from PIL import Image

import brainrdl as rdl
from brainrdl.models import mnist_cnn
from brainrdl.training.checkpoint import read_manifest

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"


@pytest.mark.parametrize("folder", ["benchmarks", "datasets", "examples", "results"])
def test_what_scripts_import_is_there(folder):
    for script in sorted((ROOT / folder).rglob("*.py")):
        for statement in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
            if isinstance(statement, ast.ImportFrom) and (statement.module or "").startswith("brainrdl"):
                names = {alias.name for alias in statement.names}
                package = import_module(statement.module)
                if hasattr(package, "__path__"):
                    names = {name for name in names if find_spec(f"{statement.module}.{name}") is None}
                assert [name for name in names if not hasattr(package, name)] == [], script


def test_export_for_rsa(monkeypatch, tmp_path):
    images, out = tmp_path / "images", tmp_path / "resnet18"
    images.mkdir()
    for k in range(3):
        Image.new("RGB", (40, 30), (80 * k, 90, 200 - 60 * k)).save(images / f"image-{k}.png")
    monkeypatch.setattr(sys, "argv", ["export_for_rsa.py", str(images), str(out)])
    runpy.run_path(str(EXAMPLES / "export_for_rsa.py"), run_name="__main__")
    rdms = xr.load_dataarray(out.with_suffix(".nc"))
    assert rdms["rdm"].values.tolist() == ["layer1", "layer2", "layer3", "layer4", "avgpool"]
    assert rdms["stimulus"].values.tolist() == ["image-0", "image-1", "image-2"]
    assert out.with_suffix(".hdf5").stat().st_size
    assert out.with_suffix(".png").stat().st_size


def test_fit_to_brain(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sys, "argv", ["fit_to_brain.py", "--out", str(tmp_path)])
    runpy.run_path(str(EXAMPLES / "fit_to_brain.py"), run_name="__main__")
    told = capsys.readouterr().out
    assert "task error" in told
    scores = pd.read_csv(tmp_path / "scores.csv").set_index(["arm", "score"])["value"]
    # what the simulated brain weighs is learned by fitting, on stimuli that were not fitted
    assert scores["rdl", "raw"] > scores["task_only", "raw"] + 0.05
    assert scores["rdl", "within_category"] > scores["task_only", "within_category"]
    # the fitted network comes back, and says what it has seen
    path = tmp_path / "fold-1.safetensors"
    rdl.load_model(path, lambda: mnist_cnn(10, image_size=8))
    assert len(read_manifest(path)["fitted_to"]) == 40


def test_rdms_during_training(monkeypatch, tmp_path):
    out = tmp_path / "rdms.png"
    monkeypatch.setattr(sys, "argv", ["rdms_during_training.py", "--short", "--out", str(out)])
    runpy.run_path(str(EXAMPLES / "rdms_during_training.py"), run_name="__main__")
    rows = 2 if os.environ.get("BRAINRDL_DATA") else 1
    with Image.open(out) as picture:
        assert picture.height > 250 * rows
