"""The code writes the committed reports again, byte for byte, from what the studies left in results/.

`python tests/test_committed_reports.py` does so for all of them, the tests for those that differ most from each other.
"""

import gzip
import re
import runpy
import shutil
import sys
from collections.abc import Callable
from difflib import unified_diff
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib as mpl
import PIL
import pytest

from brainrdl.studies.reports.fit import write_report as write_fit_report
from brainrdl.studies.reports.paper import write_report as write_study_report
from real_data import data_dir

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results"
TESTED = ("mnist/full", "mnist/labels", "cifar100/32-epochs", "human_it")
OTHERS = ("mnist/10000", "mnist/10000-clipped", "cifar100/45-epochs", "cifar100/5000")

# other versions of these may draw the same figure in other bytes: then only what is around the pictures is compared
DRAWN_BY = {mpl: "3.11.", PIL: "13."}


def written_again(name: str, folder: Path) -> list[str]:
    """Write a study's report in `folder`; a line for each thing that is not as it was committed."""
    committed, made = RESULTS / name, folder / name
    shutil.copytree(committed, made, ignore=shutil.ignore_patterns("report.html", "figures", "*.safetensors"))
    if (made / "choices.csv.gz").exists():
        (made / "choices.csv").write_bytes(gzip.decompress((made / "choices.csv.gz").read_bytes()))
    write: Callable[[Path], Path] = write_fit_report if name == "human_it" else write_study_report
    page = write(made).read_text(encoding="utf-8")
    before = (committed / "report.html").read_text(encoding="utf-8")
    differing = page_differences(before, page)
    if as_drawn():
        drawn = {path.name: path.read_bytes() for path in (made / "figures").iterdir()}
        figures = {path.name: path.read_bytes() for path in (committed / "figures").iterdir()}
        differing += [f"figures/{name}" for name in sorted({*drawn, *figures}) if drawn.get(name) != figures.get(name)]
    return differing


def as_drawn() -> bool:
    return all(package.__version__.startswith(version) for package, version in DRAWN_BY.items())


def page_differences(before: str, after: str) -> list[str]:
    """The first lines in which two pages differ, a picture as a digest."""
    if not as_drawn():
        before, after = (re.sub(r'(?<="data:)[^"]*', "", page) for page in (before, after))
    if before == after:
        return []
    short = [
        re.sub(r'(?<="data:)([^"]*)', lambda uri: f"{hash(uri[1]):x}", page).splitlines() for page in (before, after)
    ]
    return list(islice(unified_diff(*short, "committed", "now", n=0, lineterm=""), 20)) or ["line ends"]


@pytest.mark.parametrize("name", TESTED)
def test_a_study_s_report_is_written_again(name: str, tmp_path: Path) -> None:
    differing = written_again(name, tmp_path)
    assert not differing, "\n".join([f"results/{name}:", *differing])


def haxby_again(data: Path, folder: Path, *options: str) -> list[str]:
    """Make Haxby's RDMs and their page; what differs from the committed page."""
    before = (RESULTS / "haxby" / "rdms.html").read_text(encoding="utf-8")
    day = before.partition('<p class="date">')[2].partition("</p>")[0]
    arguments = ["haxby_rdms.py", "--data-dir", str(data), "--out", str(folder), "--day", day, *options]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", arguments)
        runpy.run_path(str(ROOT / "examples" / "haxby_rdms.py"), run_name="__main__")
    after = (folder / "rdms.html").read_text(encoding="utf-8")
    if "--short" in options:  # the table of what other choices do has two rows of thirteen then
        head, _, rest = before.partition('<tr><th scope="row">shrinkage to the identity</th>')
        before = head + rest[rest.index("</tbody>") :]
    # which versions of packages computed it is said in a table, and at its end
    said = r"(?<=>Computed with )[^<]*|(?<=<th scope=\"row\">software</th>)<td.*?</td>"
    return page_differences(*(re.sub(said, "", page) for page in (before, after)))


def test_the_haxby_report_is_written_again(tmp_path: Path) -> None:
    differing = haxby_again(data_dir("haxby_bids"), tmp_path, "--short")
    assert not differing, "\n".join(["results/haxby:", *differing])


def main() -> int:
    """Write every report again."""
    failed = 0
    with TemporaryDirectory() as folder:
        made = {name: written_again(name, Path(folder)) for name in (*TESTED, *OTHERS)}
        made["haxby"] = haxby_again(data_dir("haxby_bids"), Path(folder, "haxby"))
    for name, differing in made.items():
        print("\n".join([f"results/{name}: {'differs' if differing else 'the same'}", *differing]))
        failed += bool(differing)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
