"""What a user installs and imports."""

import inspect
import pkgutil
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

import brainrdl

ROOT = Path(__file__).parent.parent


def test_fmri_is_imported_on_first_use() -> None:
    code = "import sys, brainrdl; brainrdl.fmri.GLM; print('nilearn' in sys.modules, hasattr(brainrdl, 'fmrii'))"
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert printed.split() == ["True", "False"]


def test_no_module_bears_the_name_of_a_public_function() -> None:
    modules = {module.name for module in pkgutil.iter_modules(brainrdl.__path__)}
    assert not modules & set(brainrdl.__all__)


@pytest.mark.parametrize("name", brainrdl.__all__)
def test_every_public_name_has_an_example(name: str) -> None:
    documented = inspect.getdoc(getattr(brainrdl, name)) or ""
    assert "Examples\n--------" in documented


@pytest.mark.parametrize("name", brainrdl.fmri.__all__)
def test_every_public_name_of_fmri_has_an_example(name: str) -> None:
    documented = inspect.getdoc(getattr(brainrdl.fmri, name)) or ""
    assert "Examples\n--------" in documented


def test_the_datasets_folder_is_no_package() -> None:
    assert (ROOT / "datasets").is_dir()
    assert not list((ROOT / "datasets").rglob("__init__.py"))


def test_the_wheel_holds_the_package_and_nothing_else(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(next(name for name in names if name.endswith("METADATA"))).decode()
    assert {name.split("/")[0] for name in names} == {"brainrdl", next(iter(names[-1:])).split("/")[0]}
    # all that is no module too: stubs (the doors read them), templates, the style sheet, the example study, py.typed
    kept = {path.relative_to(ROOT).as_posix() for path in (ROOT / "brainrdl").rglob("*") if path.is_file()}
    kept = {name for name in kept if "__pycache__" not in name}
    assert {name for name in names if name.startswith("brainrdl/")} == kept
    assert {Path(name).suffix for name in kept} == {".py", ".pyi", ".typed", ".jinja", ".css", ".yaml"}
    assert not [name for name in names if name.startswith("brainrdl/") and name.endswith((".pyc", ".pt"))]
    assert "Requires-Dist: torch>=2.10" in metadata
    assert f"Version: {brainrdl.__version__}" in metadata
    # whatever the package needs is installed from the wheel alone, in a place without the checkout
    target = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    code = "import brainrdl; brainrdl.rdm; print(brainrdl.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(target)}, check=True, capture_output=True
    ).stdout.decode()
    assert Path(found.strip()).is_relative_to(target)


def test_the_readmes_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "README.md").read_text()
    network, brain, export = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    histories = []
    for block in (network, brain):
        lines = [line for line in block.strip().splitlines() if not line.startswith(("import ", "from "))]
        assert len(lines) <= 11
        scope: dict[str, object] = {}
        exec(compile(block, "README.md", "exec"), scope)
        histories.append(scope["history"])
    assert scope["scores"]["score"].tolist() == ["raw", "within_category"]  # type: ignore[index]
    assert histories[0]["validation_error"].iloc[-1] < 20  # type: ignore[index]
    assert histories[1]["rdl/1"].iloc[-1] < histories[1]["rdl/1"].iloc[0]  # type: ignore[index]
    assert len(export.strip().splitlines()) <= 12
    monkeypatch.chdir(tmp_path)
    scope = {}
    exec(compile(export, "README.md", "exec"), scope)
    assert brainrdl.read_rdms("resnet18.h5")["layer"].values.tolist() == ["layer1", "layer4", "avgpool"]
    assert Path("resnet18.png").stat().st_size


def test_the_readmes_commands_are_the_makefiles() -> None:
    text = (ROOT / "README.md").read_text()
    makefile = (ROOT / "Makefile").read_text()
    for command in ("demo", "test"):
        assert f"make {command}" in text
        assert f"\n{command}:" in makefile


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == brainrdl.__version__
    assert citation["license"] == "BSD-3-Clause"


def test_the_readme_fits_on_a_screen_or_three_and_its_links_lead_somewhere() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 120
    for target in re.findall(r"\]\(([^)]+)\)", text):
        assert target.startswith("https://") or (ROOT / target).exists(), target


def test_what_is_offered_is_there() -> None:
    assert all(inspect.ismodule(getattr(brainrdl, name)) for name in brainrdl._packages)
    assert {*brainrdl.__all__, *brainrdl._packages} < set(dir(brainrdl))
    assert not brainrdl._packages & set(brainrdl.__all__)
