import runpy
import sys
from pathlib import Path

import xarray as xr
from PIL import Image

EXAMPLES = Path(__file__).parent.parent / "examples"


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
