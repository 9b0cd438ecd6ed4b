"""The sentences of a report that are made from its numbers."""

import pandas as pd

from brainrdl.experiments.report import paper
from brainrdl.experiments.report._spelling import capital, count, interval, number, p_equals, signed_number, span
from brainrdl.experiments.report.comparisons import SIGNIFICANT, Difference, difference, mcnemar_table
from brainrdl.experiments.report.methods import METHOD, arm_name, kinds_of, runs_of, teacher_name, with_labels
from brainrdl.experiments.report.study_files import StudyFiles

_DATASETS = {"mnist": "MNIST", "cifar100": "CIFAR-100"}
_FEW_SEEDS = 10


def summary(study: StudyFiles, networks: pd.DataFrame) -> str:
    """Say what was run.

    Parameters
    ----------
    study : StudyFiles
        The study.
    networks : DataFrame
        Its runs, as `distinct_networks` leaves them.

    Returns
    -------
    str
    """
    students = networks[networks["arm"] != "teacher"]
    runs = students if len(students) else networks
    n_methods = len(runs[list(METHOD)].drop_duplicates())
    sets = ", ".join(_DATASETS.get(name, name) for name in dict.fromkeys(map(str, networks["dataset"])))
    full, few = runs[runs["labels"].isna()], runs[runs["labels"].notna()]
    sizes = [f"{span(full['train_size'])} {sets} images"] if len(full) else []
    sizes += [f"{span(few['labels'])} labelled {sets} images beside unlabelled ones"] if len(few) else []
    parts = [
        f"{count(len(runs), 'student network' if len(students) else 'network')} ({count(n_methods, 'method')}, "
        f"{count(len(set(runs['seed'])), 'seed')}), each trained on {' or on '.join(sizes)} for "
        f"{span(runs['epochs'])} epochs and scored once on {study.n_images:,} test images. Choices were made on "
        "validation images."
    ]
    taught = networks[networks["teacher"] != ""]
    kinds = [
        f"{teacher_name(kind)} ({span(taught.loc[taught['teacher'] == kind, 'teacher_size'])} images)"
        for kind in kinds_of(taught)
    ]
    if kinds:
        parts.append(f"They learnt from {' and '.join(kinds)}.")
    if study.one_teacher:
        parts.append(
            "One teacher of each kind served all seeds: every claim about a taught method is conditional on that one "
            "teacher."
        )
    if len(set(runs["seed"])) > 1:
        parts.append("Brackets hold 95 % intervals, of a difference over seeds and test images.")
    died = study.results.loc[study.results["test_error"].isna(), "row"]
    if len(died):
        parts.append(f"{count(len(died), 'run')} died in training and count nowhere: {', '.join(died)}.")
    unlisted = sorted(set(study.correctness) - set(study.results["row"]))
    if unlisted:
        parts.append(f"Scored, but not among the results and not used: {', '.join(unlisted)}.")
    published = paper.PAPER.get(study.name)
    if published and set(full["train_size"]) - {published.train_size}:
        parts.append(
            f"The paper's students had {published.train_size:,} training images: its numbers stand beside these for "
            "orientation only."
        )
    return " ".join(parts)


def findings(study: StudyFiles, networks: pd.DataFrame) -> list[str]:
    """Compare RDL with the networks that were not taught, for each kind of teacher.

    Parameters
    ----------
    study : StudyFiles
        The study.
    networks : DataFrame
        Its runs, as `distinct_networks` leaves them.

    Returns
    -------
    list of str
        A finding each; where nothing can be compared, one that says so.
    """
    found = []
    full = with_labels(networks, None)
    few = networks[networks["labels"].notna()]
    for arm in ("rdl", "rdl_corr"):
        for control in ("plain", "plain_readout"):
            for runs, tell in ((full, _finding), (few, _finding_few)):
                if (runs["arm"] == control).any():
                    found += [tell(study, runs, (arm, kind), control) for kind in kinds_of(runs[runs["arm"] == arm])]
    return found or ["There is no pair of RDL and plain runs to compare."]


def error_note(study: StudyFiles, runs: pd.DataFrame, table: pd.DataFrame) -> str:
    """Say what the numbers of the table of errors are.

    Parameters
    ----------
    study : StudyFiles
        The study.
    runs : DataFrame
        The runs in the table.
    table : DataFrame
        What `error_table` makes of them.

    Returns
    -------
    str
    """
    parts = ["A negative difference: errs less than plain."]
    if (table["n_seeds"] > 1).any():
        parts.append(
            "In brackets: of the error, the 95 % t interval over seeds; of the difference, the 95 % crossed bootstrap "
            "over seeds and images."
        )
    if (table["n_seeds"] == 1).any():
        parts.append("From one seed there is no interval over trainings.")
    shared = table.loc[table["n_shared"] > 1, "n_shared"]
    if len(shared) and shared.min() < _FEW_SEEDS:
        parts.append(
            f"With fewer than {_FEW_SEEDS} seeds the bootstrap comes out somewhat narrow: read the paired t interval "
            "beside it."
        )
    if (runs["arm"] == "teacher").any():
        parts.append("The teacher's row is plain training on the teacher's images.")
    if study.one_teacher:
        parts.append("Conditional on one teacher of each kind.")
    return " ".join(parts)


def _finding(study: StudyFiles, runs: pd.DataFrame, method: tuple[str, str], control: str) -> str:
    compared = difference(runs, study.correctness, method, (control, ""))
    name, other = arm_name(method[0]), arm_name(control)
    who = capital(_taught(method))
    if not compared.n_seeds:
        return f"{who} and {other} share no seed and are not compared."
    told = (
        f"{who}: test error {number(compared.first)} % against {number(compared.second)} % of {other}, "
        f"a difference of {signed_number(compared.estimate)} points"
    )
    if compared.n_seeds == 1:
        of_both = [runs_of(runs, which) for which in (method, (control, ""))]
        (seed,) = set(of_both[0]["seed"]) & set(of_both[1]["seed"])
        p = float(mcnemar_table(pd.concat(of_both), study.correctness, seed=seed)["p"].iloc[0])
        told += (
            " between two networks. There is one seed, hence no interval over trainings; for these two networks, "
            f"McNemar's exact test over images gives p {p_equals(p)}{': no difference is shown' * (p >= SIGNIFICANT)}."
        )
    else:
        told += f" {interval(compared.low, compared.high, signed=True)}. {_verdict(compared, name, other)}"
    return told + (_as_published(study.name, method) if control == "plain" else "")


def _finding_few(study: StudyFiles, runs: pd.DataFrame, method: tuple[str, str], control: str) -> str:
    told = []
    for labels in sorted(runs["labels"].unique()):
        compared = difference(with_labels(runs, labels), study.correctness, method, (control, ""))
        if compared.n_seeds:
            spread = interval(compared.low, compared.high, signed=True) or "(one seed)"
            undecided = ", which holds 0," if _holds_0(compared.low, compared.high) else ""
            told.append(
                f"{signed_number(compared.estimate)} points {spread}{undecided} with {labels:,.0f} labelled images"
            )
    who, other = _taught(method), arm_name(control)
    if not told:
        return f"With few labels, {who} and {other} share no seed and are not compared."
    return f"With few labels, {who} against {other}: {'; '.join(told)}."


def _taught(method: tuple[str, str]) -> str:
    return f"{arm_name(method[0])} with {teacher_name(method[1])}"


def _holds_0(low: float, high: float) -> bool:
    return low <= 0 <= high


def _verdict(compared: Difference, name: str, other: str) -> str:
    seeds_undecided = _holds_0(compared.paired_low, compared.paired_high)
    paired = interval(compared.paired_low, compared.paired_high, signed=True)
    if _holds_0(compared.low, compared.high):
        largest = max(-compared.low, compared.high)
        told = "The interval holds 0: no difference is shown"
        told += f", and one of more than {number(largest)} points is not supported." if largest > 0 else "."
        if not seeds_undecided:
            told += f" On this very test set the seeds do agree (paired t interval {paired})."
        return told
    told = capital(f"{name} errs {'less' if compared.estimate < 0 else 'more'} than {other}.")
    if seeds_undecided:
        told += (
            f" But the paired t interval over the {compared.n_seeds} seeds, {paired}, holds 0: these seeds do not "
            "settle the matter."
        )
    return told


def _as_published(study: str, method: tuple[str, str]) -> str:
    theirs, plain = paper.published_error(study, *method), paper.published_error(study, "plain", "")
    if theirs is None or plain is None:
        return ""
    return f" The paper: {number(theirs)} % against {number(plain)} %, {signed_number(theirs - plain)} points."
