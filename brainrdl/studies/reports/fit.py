"""One page about a fit to measured RDMs, made of the files that it leaves behind and of nothing else."""

from pathlib import Path

from brainrdl.files import atomic_path
from brainrdl.studies.reports.fit_files import read_fit
from brainrdl.studies.reports.fit_findings import findings, summary, verdict_of, verdict_sentence
from brainrdl.studies.reports.fit_names import ABOUT_SCORES, SCORES, arm_name
from brainrdl.studies.reports.fit_sections import sections
from brainrdl.studies.reports.page import environment
from brainrdl.studies.reports.words import date, unbroken


def write_report(folder: Path) -> Path:
    """Write the ``report.html`` of a fit.

    Parameters
    ----------
    folder : Path
        With ``manifest.json``, ``scores.csv``, ``summary.csv`` and ``contrasts.csv``; and, as far as there are any,
        ``choices.csv``, ``histories.csv``, ``rdms.nc`` and ``thumbnails.npz``.

    Returns
    -------
    Path
        The report: one file that needs no other. Its figures are also left in ``figures/``.

    Raises
    ------
    FileNotFoundError
        If a required file is missing; all that are missing are named.
    ValueError
        If a file lacks a column, is damaged, or contradicts another.

    Examples
    --------
    >>> from pathlib import Path
    >>> from brainrdl.studies.reports.fit import write_report
    >>> write_report(Path("out/human_it"))  # doctest: +SKIP
    PosixPath('out/human_it/report.html')
    """
    folder = Path(folder)
    study = read_fit(folder)
    page = (
        environment(Path(__file__).parent, folder / "figures")
        .get_template("fit.html.jinja")
        .render(
            title=str(study.manifest.get("title") or study.manifest.get("name") or "A fit to measured RDMs"),
            created=date(str(study.manifest.get("created", ""))),
            kind=verdict_of(study).kind,
            verdict=unbroken(verdict_sentence(study)),
            summary=unbroken(summary(study)),
            findings=[unbroken(finding) for finding in findings(study)],
            sections=sections(study),
            notes=[str(note) for note in study.manifest.get("notes", ())],
            scores={name: ABOUT_SCORES[score] for score, name in SCORES.items()},
            pair=[arm_name(arm) for arm in study.pair],
        )
    )
    report = folder / "report.html"
    with atomic_path(report) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return report
