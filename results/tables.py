"""Rewrite the tables of docs/results.md from the studies in results/.

    python results/tables.py            # or make tables
    python results/tables.py --check    # changes nothing; fails where the page says something else

In the page a place for tables lies between two comments, of which the first names folders:

    <!-- tables of results/mnist* -->
    <!-- end of tables -->

What stands between them is replaced by the test errors of all studies in those folders and below them, as their reports
print them. A study that is not finished is passed over. Where none is, what stands there is left as it is. Either is
said.
"""

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from brainrdl.files.store import atomic_path
from brainrdl.studies.reports.methods import distinct_networks, with_labels
from brainrdl.studies.reports.page import Cell, Table
from brainrdl.studies.reports.paper_files import StudyFiles, read_study
from brainrdl.studies.reports.paper_findings import error_note, summary
from brainrdl.studies.reports.paper_tables import error_cells, error_table, labels_table

ROOT = Path(__file__).resolve().parents[1]
_MARK = re.compile(r"<!-- (?:tables of (?P<folders>\S+)|end of tables) -->")


def rewrite(text: str, root: Path = ROOT) -> tuple[str, list[str]]:
    """Replace what stands in the places for tables.

    Parameters
    ----------
    text : str
        Of the page.
    root : Path
        What its folders lie in.

    Returns
    -------
    text : str
        With new tables.
    passed_over : list of str
        What is not told, and why, a line each.

    Raises
    ------
    ValueError
        If a place has no end or no beginning, or a study's files contradict each other.
    """
    marks = list(_MARK.finditer(text))
    for k, mark in enumerate(marks):
        opens = mark["folders"] is not None
        if opens != (k % 2 == 0) or (opens and k + 1 == len(marks)):
            line = text.count("\n", 0, mark.start()) + 1
            raise ValueError(
                f"line {line}: {mark[0]} stands alone; each '<!-- tables of FOLDERS -->' needs one "
                "'<!-- end of tables -->' behind it"
            )
    written, passed_over, at = [], [], 0
    for first, last in zip(marks[::2], marks[1::2], strict=True):
        made = []
        for folder in _studies(root, first["folders"]):
            try:
                made.append(study_tables(folder, folder.relative_to(root).as_posix()))
            except FileNotFoundError as unfinished:
                passed_over.append(f"passed over: {unfinished}")
        if made:
            written.append("\n\n".join([text[at : first.end()], *made, ""]))
            at = last.start()
        else:
            passed_over.append(f"there is no finished study in {first['folders']}, so its tables are left as they are")
    return "".join([*written, text[at:]]), passed_over


def study_tables(folder: Path, name: str) -> str:
    """Spell a study's test errors in Markdown, under a heading with its `name`."""
    study = read_study(folder)
    networks = distinct_networks(study.results, one_teacher=study.one_teacher, arms=study.arms)
    if networks.empty:
        raise ValueError(f"{folder / 'results.csv'} has no run with a test error; there is nothing to tell")
    title = str(study.manifest.get("title") or study.name)
    parts = [f"### {title} (`{name}`)", summary(study, networks)]
    return "\n\n".join([*parts, *(markdown(table) for table in _error_tables(study, networks))])


def markdown(table: Table) -> str:
    """Spell a table in Markdown: caption, table, note."""
    lines = ["| " + " | ".join(map(_cell, table.head)) + " |", "|---" * len(table.head) + "|"]
    lines += ["| " + " | ".join(map(_cell, row)) + " |" for row in table.rows]
    return "\n\n".join(part for part in (f"**{table.caption}**", "\n".join(lines), table.note) if part)


def _studies(root: Path, folders: str) -> list[Path]:
    """All folders of studies in or below those that a pattern names; study.json is a study's first file."""
    files = (
        path for folder in root.glob(folders) for name in ("study.json", "results.csv") for path in folder.rglob(name)
    )
    return sorted({path.parent for path in files})


def _error_tables(study: StudyFiles, networks: pd.DataFrame) -> Iterator[Table]:
    scored = study.on_the_test_set(networks)
    full = with_labels(scored, None)
    if len(full):
        table = error_table(full, study.correctness, study=study.name, baselines=study.baselines, arms=study.arms)
        caption = "Test error of each method, all training images labelled"
        yield error_cells(table, caption, error_note(study, networks, table))
    few = labels_table(scored, study.correctness, baselines=study.baselines, arms=study.arms)
    if len(few):
        for labels, part in few.groupby("labels"):
            yield error_cells(part.drop(columns="labels"), f"{labels:,} labelled images", tested=True)


def _cell(cell: Cell) -> str:
    return ("<br>".join(cell) if isinstance(cell, tuple) else cell).replace("|", "\\|")


def main() -> int:
    """Parse the options, and rewrite the page or check it; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 where a table would change")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "results.md", help="(default: docs/results.md)")
    options = parser.parse_args()
    before = options.page.read_text(encoding="utf-8")
    try:
        after, passed_over = rewrite(before, options.page.resolve().parents[1])
    except ValueError as error:
        print(f"{options.page}: {error}", file=sys.stderr)
        return 2
    for line in passed_over:
        print(line)
    if after == before:
        print(f"{options.page} is in step with the results")
        return 0
    if options.check:
        print(f"{options.page} is not in step with the results; make tables rewrites it", file=sys.stderr)
        return 1
    with atomic_path(options.page) as temporary:
        temporary.write_text(after, encoding="utf-8")
    print(f"written: {options.page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
