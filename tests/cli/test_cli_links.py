"""Links that lead out of a folder of images: every command that reads one asks."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import nn

import brainrdl as rdl
from brainrdl.cli import main
from brainrdl.stimuli.stimulus_set import StimulusSet
from brainrdl.studies.brain.configuration import Configuration, configuration_hash
from brainrdl.studies.inputs import read_images


def tiny() -> nn.Module:
    """A network of one layer."""
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 16, 4))


@pytest.fixture
def linked(tmp_path: Path) -> Path:
    """A folder of three images, each behind a link."""
    (tmp_path / "out").mkdir()
    (tmp_path / "in").mkdir()
    rng = np.random.default_rng(0)
    for name in "abc":
        Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)).save(tmp_path / "out" / f"{name}.png")
        (tmp_path / "in" / f"{name}.png").symlink_to(tmp_path / "out" / f"{name}.png")
    return tmp_path / "in"


def test_commands_ask_before_they_follow_a_link(
    tmp_path: Path, linked: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    out = tmp_path / "a.nc"
    network = ["rdms", "network", "--model", "test_cli_links:tiny", "--layers", "1", "--stimuli", str(linked)]
    listed = [*network[:4], "--list-layers", *network[-2:]]
    plot = ["plot", str(out), "-o", str(tmp_path / "a.png"), "--images", str(linked)]
    rdl.write_rdms(rdl.label_rdms(np.array([[0.1, 0.2, 0.3]]), ["a", "b", "c"], ["IT"], "mse"), out)
    message = "or read what they lead to as well: --follow-links\n"
    for command in (plot, listed, [*network, "-o", str(out)]):
        assert main(command) == 2
        assert capsys.readouterr().err.endswith(message)
        assert main([*command, "--follow-links"]) == 0
        capsys.readouterr()
    expected = rdl.layer_rdms(tiny().eval(), StimulusSet.from_folder(linked, follow_links=True), ["1"])
    assert rdl.read_rdms(out)["stimulus"].values.tolist() == expected["stimulus"].values.tolist() == ["a", "b", "c"]


def test_a_study_may_follow_links_and_stays_the_same_study(linked: Path) -> None:
    said = {"name": "x", "title": "x", "stimuli": str(linked), "categories": "c.csv", "controls": {}}
    said |= {"studies": {"s": {"rdms": "a.nc"}}, "fit_to": ["s"], "student": {"weights": "w", "image_size": None}}
    said |= {"fit": {"layers": ["0"]}, "primary": {"arm": "rdl", "fitted": "s", "scored": "s"}}
    asked, allowed = (Configuration.model_validate(said | more) for more in ({}, {"follow_links": True}))
    assert configuration_hash(asked) == configuration_hash(allowed)
    with pytest.raises(ValueError, match=r"3 links in .* lead out of the folder"):
        read_images(asked.stimuli, None, None, follow_links=asked.follow_links)
    assert read_images(allowed.stimuli, None, None, follow_links=allowed.follow_links).ids == ("a", "b", "c")
