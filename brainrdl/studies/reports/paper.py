"""One page about a study, made of the files that the study leaves behind and of nothing else."""

from pathlib import Path

from brainrdl.files import atomic_path
from brainrdl.studies.paper import published as paper
from brainrdl.studies.reports.methods import distinct_networks
from brainrdl.studies.reports.page import environment
from brainrdl.studies.reports.paper_faults import faults
from brainrdl.studies.reports.paper_files import read_study
from brainrdl.studies.reports.paper_findings import findings, summary
from brainrdl.studies.reports.paper_sections import sections
from brainrdl.studies.reports.words import date, unbroken


def write_report(folder: Path) -> Path:
    """Write a study's ``report.html``.

    Parameters
    ----------
    folder : Path
        With ``results.csv``, ``correctness.npz`` and ``manifest.json``; and, as far as there are any,
        ``histories.csv``, ``geometry.csv``, ``tries.csv``, ``rdms.nc``, ``mds.nc``, ``results.json`` and
        ``correctness-teachers.npz``.

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
    >>> from brainrdl.studies.reports.paper import write_report
    >>> write_report(Path("out/mnist"))  # doctest: +SKIP
    PosixPath('out/mnist/report.html')
    """
    folder = Path(folder)
    study = read_study(folder)
    networks = distinct_networks(study.results, one_teacher=study.one_teacher)
    if networks.empty:
        raise ValueError(f"{folder / 'results.csv'} has no run with a test error; there is nothing to report")
    page = (
        environment(Path(__file__).parent, folder / "figures")
        .get_template("paper.html.jinja")
        .render(
            title=str(study.manifest.get("title") or study.name),
            created=date(str(study.manifest.get("created", ""))),
            summary=unbroken(summary(study, networks)),
            findings=[unbroken(finding) for finding in findings(study, networks)],
            faults=[unbroken(fault) for fault in faults(study, networks)],
            sections=sections(study, networks),
            notes=[str(note) for note in study.manifest.get("notes", ())],
            study=study.name,
            in_paper=study.name in paper.PAPER,
            baseline="its baseline" if set(study.baselines.values()) - {"plain"} else "plain",
            validated=study.histories is not None and bool(study.histories["validation_error"].notna().any()),
            one_teacher=study.one_teacher,
            n_seeds=networks["seed"].nunique(),
            chosen=study.chosen,
            n_stimuli=0 if study.rdms is None else study.rdms.sizes["stimulus"],
            samples={} if study.mds is None else study.mds.attrs,
        )
    )
    report = folder / "report.html"
    with atomic_path(report) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return report
