"""The tables of docs/results.md, made from results/."""

import runpy
import sys
from pathlib import Path

import pandas as pd
import pytest
from test_paper_report import make_study, number

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "results" / "tables.py"
PLACE = "before\n\n<!-- tables of results/mnist* -->\nold\n<!-- end of tables -->\n\nafter\n"
rewrite = runpy.run_path(str(SCRIPT))["rewrite"]


def test_the_page_is_in_step_with_the_results():
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert "<!-- tables of results/" in text
    assert rewrite(text)[0] == text


def test_finished_studies_are_told_and_others_passed_over(tmp_path):
    make_study(
        tmp_path / "results" / "mnist" / "small",
        arms=("plain", "rdl"),
        teachers=("clean",),
        labels=(100,),
        n_images=200,
    )
    (tmp_path / "results" / "mnist" / "running").mkdir()
    (tmp_path / "results" / "mnist" / "running" / "study.json").write_text("{}", encoding="utf-8")
    text, passed_over = rewrite(PLACE, tmp_path)
    assert text.startswith(
        "before\n\n<!-- tables of results/mnist* -->\n\n### Representational distance learning on MNIST "
        "(`results/mnist/small`)\n\n"
    )
    assert text.endswith("\n\n<!-- end of tables -->\n\nafter\n")
    assert "\nold\n" not in text
    lines = text.splitlines()
    for caption, methods in (
        ("**Test error of each method, all training images labelled**", ["plain", "RDL (clean)"]),
        ("**100 labelled images**", ["plain", "RDL (clean)"]),
    ):
        head, rule, *rows = lines[lines.index(caption) + 2 :][: 2 + len(methods)]
        assert head.startswith("| method | seeds | test error, % |")
        assert rule == "|---" * (head.count("|") - 1) + "|"
        assert [row.split(" | ")[0].removeprefix("| ") for row in rows] == methods
        assert {row.count("|") for row in rows} == {head.count("|")}
    runs = pd.read_csv(tmp_path / "results/mnist/small/results.csv")
    mean = runs.loc[(runs["arm"] == "plain") & runs["labels"].isna(), "test_error"].mean()
    assert f"| plain | 3 | {number(mean)}<br>[" in text
    assert passed_over == [
        f"passed over: {tmp_path / 'results/mnist/running'} lacks results.csv, correctness.npz, manifest.json; a "
        "report is made from what a study leaves in its folder: name the folder that brainrdl reproduce wrote into"
    ]
    assert rewrite(text, tmp_path) == (text, passed_over)


def test_without_a_study_nothing_is_changed(tmp_path):
    passed_over = ["there is no finished study in results/mnist*, so its tables are left as they are"]
    assert rewrite(PLACE, tmp_path) == (PLACE, passed_over)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a\n<!-- tables of results/mnist -->\n",
            "line 2: <!-- tables of results/mnist --> stands alone; each '<!-- tables of FOLDERS -->' needs one "
            "'<!-- end of tables -->' behind it",
        ),
        (
            "<!-- end of tables -->\n",
            "line 1: <!-- end of tables --> stands alone; each '<!-- tables of FOLDERS -->' needs one "
            "'<!-- end of tables -->' behind it",
        ),
    ],
)
def test_half_a_place(text, message, tmp_path):
    with pytest.raises(ValueError) as error:
        rewrite(text, tmp_path)
    assert str(error.value) == message


def test_the_command(tmp_path, monkeypatch, capsys):
    make_study(tmp_path / "results" / "mnist", arms=("plain", "rdl"), teachers=("clean",), labels=(), n_images=200)
    page = tmp_path / "docs" / "page.md"
    page.parent.mkdir()
    page.write_text(PLACE, encoding="utf-8")

    def run(*options):
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), "--page", str(page), *options])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(SCRIPT), run_name="__main__")
        return ended.value.code, *capsys.readouterr()

    assert run("--check") == (1, "", f"{page} is not in step with the results; make tables rewrites it\n")
    assert page.read_text(encoding="utf-8") == PLACE
    assert run() == (0, f"written: {page}\n", "")
    assert run("--check") == (0, f"{page} is in step with the results\n", "")
    page.write_text("<!-- end of tables -->", encoding="utf-8")
    assert run()[0] == 2


def test_the_papers_p_values_and_errors_are_read_as_disagreements():
    script = runpy.run_path(str(ROOT / "results" / "paper_mcnemar.py"))
    disagreements, impossible = script["disagreements"], script["impossible"]
    # b = 10, c = 2 is the only table with b - c = 8 whose exact p, .0386, prints as .04
    assert disagreements(56, 48, 0.04) == [12]
    # equal errors have p = 1
    assert disagreements(56, 56, 0.89) == []
    assert disagreements(3, 3, 1.0) == [0, 2, 4, 6]
    # six networks that disagree on 4 images each may be; not if two of them disagree on 9 or 10
    possible = {pair: [4] for pair in script["P_VALUES"]}
    assert impossible(possible) == []
    told = impossible({**possible, ("baseline", "RDL"): [9, 10]})
    assert len(told) == 4
    assert told[0] == "baseline – RDL: at least 9, but at most 8 by teacher"


def test_the_results_stay_small():
    files = [path for path in (ROOT / "results").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert [path for path in files if path.stat().st_size > 4e6] == []
    assert sum(path.stat().st_size for path in files) < 45 * 2**20
