"""What came out of a study as a few lines of plain text, for the end of its command."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap

from brainrdl.studies.reports.fit_files import in_setting, read_fit
from brainrdl.studies.reports.fit_findings import format_setting
from brainrdl.studies.reports.fit_tables import contrast_table, score_table
from brainrdl.studies.reports.methods import distinct_networks, sort_fit_arms, with_labels
from brainrdl.studies.reports.page import Cell, Table
from brainrdl.studies.reports.paper_files import read_study
from brainrdl.studies.reports.paper_tables import error_cells, error_table
from brainrdl.studies.reports.verdict import verdict_sentence
from brainrdl.studies.reports.words import capital

WIDTH = 100
"""Characters of a line at most."""

_LEAST = 20  # of the first column, whose names are wrapped


def paper_results(folder: Path) -> str:
    """Print the test errors of a paper's study, by number of labelled images: those of its report's first tables."""
    study = read_study(folder)
    networks = study.on_the_test_set(distinct_networks(study.results, one_teacher=study.one_teacher, arms=study.arms))
    parts = []
    for labels in (None, *sorted(networks["labels"].dropna().unique())):
        runs = with_labels(networks, labels)
        if runs.empty:
            continue
        table = error_table(runs, study.correctness, study=study.name, baselines=study.baselines, arms=study.arms)
        cells = error_cells(
            table, "all training images labelled" if labels is None else f"{labels:,.0f} labelled images"
        )
        parts.append(plain(cells, cells.head[:4]))
    return "\n\n".join(parts)


def fit_results(folder: Path) -> str:
    """Print the verdict of a fit, the scores of all arms in its primary setting, and the primary contrast."""
    study = read_fit(folder)
    contrasts, (a, b) = in_setting(study.contrasts, study.primary), study.pair
    primary = contrasts[(contrasts["a"] == a) & (contrasts["b"] == b)]
    setting = capital(format_setting(study.primary))
    scores = score_table(sort_fit_arms(in_setting(study.summary, study.primary)), setting)
    return "\n\n".join(
        [*map(plain, (scores, contrast_table(primary, "The primary contrast"))), _filled(verdict_sentence(study))]
    )


def plain(table: Table, columns: Sequence[str] | None = None) -> str:
    """Print a table, or some of its columns, in lines of at most 100 characters.

    The lines of a cell stand beside each other where there is room, else below each other.
    """
    head = list(table.head if columns is None else columns)
    places = [list(table.head).index(name) for name in head]
    stacked = [[_lines(row[place]) for place in places] for row in table.rows]
    rows = [[[" ".join(cell)] for cell in row] for row in stacked]
    widths = _widths(head, rows)
    if sum(widths) + 2 * (len(widths) - 1) > WIDTH:
        rows, widths = stacked, _widths(head, stacked)
    top = [wrap(name, width) or [""] for name, width in zip(head, widths, strict=True)]
    body = [[wrap(" ".join(row[0]), widths[0]) or [""], *row[1:]] for row in rows]
    rule = [["-" * width] for width in widths]
    return "\n".join([_filled(table.caption), *(line for row in (top, rule, *body) for line in _printed(row, widths))])


def _widths(head: Sequence[str], rows: Sequence[Sequence[Sequence[str]]]) -> list[int]:
    """Widths of columns: heads are wrapped, and the cells of the first column, which takes what is left."""
    widths = [max((len(line) for row in rows for line in row[k]), default=0) for k in range(len(head))]
    widths = [max(width, *map(len, name.split() or [""])) for width, name in zip(widths, head, strict=True)]
    left = WIDTH - sum(widths[1:]) - 2 * (len(widths) - 1)
    return [min(widths[0], max(left, _LEAST)), *widths[1:]]


def _printed(row: Sequence[Sequence[str]], widths: Sequence[int]) -> list[str]:
    height = max(map(len, row))
    lines = []
    for k in range(height):
        cells = [lines_of[k] if k < len(lines_of) else "" for lines_of in row]
        lines.append("  ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip())
    return lines


def _lines(cell: Cell) -> list[str]:
    # a page's spaces that do not break are a terminal's spaces
    return [line.replace("\u00a0", " ") for line in ((cell,) if isinstance(cell, str) else cell)]


def _filled(text: str) -> str:
    return "\n".join(wrap(text.replace("\u00a0", " "), WIDTH))
