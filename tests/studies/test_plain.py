"""Results as a command prints them at its end."""

from pathlib import Path

from brainrdl.studies.reports.fit_files import read_fit
from brainrdl.studies.reports.page import Table
from brainrdl.studies.reports.plain import WIDTH, fit_results, paper_results, plain
from brainrdl.studies.reports.verdict import verdict_sentence

RESULTS = Path(__file__).parents[2] / "results"


def test_a_cells_lines_stand_beside_each_other_where_there_is_room() -> None:
    table = Table(
        "Test errors", ("method", "test error, %"), [["plain", ("2.31", "[2.10,\u00a02.52]")], ["RDL", "1.90"]]
    )
    assert plain(table).splitlines() == [
        "Test errors",
        "method  test error, %",
        "------  -----------------",
        "plain   2.31 [2.10, 2.52]",
        "RDL     1.90",
    ]


def test_wide_cells_stand_below_each_other_and_names_are_wrapped() -> None:
    cell = ("0.123", "[0.100, 0.200] " + 9 * "x")
    table = Table("Scores", ("arm", "raw", "partial", "within"), [["a network with a long name", *(3 * [cell])]])
    lines = plain(table).splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert [line.split() for line in lines[3:]] == [
        [*"a network with a long".split(), "0.123", "0.123", "0.123"],
        ["name", *(3 * ["[0.100,", "0.200]", "xxxxxxxxx"])],
    ]
    assert plain(table, ("arm",)).splitlines()[1:] == ["arm", "-" * 26, "a network with a long name"]


def test_the_results_of_a_papers_study() -> None:
    text = paper_results(RESULTS / "mnist" / "labels")
    lines = text.splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert [line for line in lines if "label" in line and "(" not in line] == [
        "all training images labelled",
        "100 labelled images",
        "300 labelled images",
        "1,000 labelled images",
    ]
    (row,) = (line for line in lines if line.startswith("SP (labels)") and "8.06" in line)
    assert row.split() == ["SP", "(labels)", "3", "8.06", "[6.83,", "9.29]", "−5.91", "[−6.94,", "−5.02]"]


def test_the_results_of_a_fit() -> None:
    text = fit_results(RESULTS / "human_it")
    lines = text.splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert lines[0] == "Fitted to kriegeskorte2008, scored in cichy2014, stratified folds, Pearson r"
    (row,) = (line for line in lines if line.startswith("noise ceiling"))
    assert row.split("  ")[-1].strip() == "0.322 to 0.449"
    verdict = verdict_sentence(read_fit(RESULTS / "human_it"))
    assert text.split("\n\n")[-1].split() == verdict.split()
