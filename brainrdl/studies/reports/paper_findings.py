"""The sentences of a paper's report that are made from its numbers, and the networks that failed."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray as xr

from brainrdl.inference.trainings import MIN_SEEDS
from brainrdl.rdms.rounding import is_constant
from brainrdl.studies.paper import published as paper
from brainrdl.studies.reports.differences import SIGNIFICANT, Difference, difference, mcnemar_table
from brainrdl.studies.reports.methods import (
    METHOD,
    PAPER_ARMS,
    ArmWords,
    arm_name,
    baseline_of,
    in_order,
    kinds_of,
    runs_of,
    teacher_name,
    with_labels,
)
from brainrdl.studies.reports.paper_figures import FIXED_LAYERS, format_model
from brainrdl.studies.reports.paper_files import StudyFiles
from brainrdl.studies.reports.words import capital, count, has_no_width, interval, number, p_equals, signed_number, span

_DATASETS = {"digits": "digit", "mnist": "MNIST", "cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}
_FEW_SEEDS = 10


def summary(study: StudyFiles, networks: pd.DataFrame) -> str:
    """Say what was run; `networks` are the study's runs, as `distinct_networks` leaves them."""
    students = networks[networks["arm"] != "teacher"]
    # a study of teachers alone is told of its teachers
    runs = students if len(students) else networks
    n_methods = len(runs[list(METHOD)].drop_duplicates())
    sets = ", ".join(_DATASETS.get(name, name) for name in dict.fromkeys(map(str, runs["dataset"])))
    full, few = runs[runs["labels"].isna()], runs[runs["labels"].notna()]
    sizes = [f"{span(full['train_size'])} {sets} images"] if len(full) else []
    sizes += [f"{span(few['labels'])} labelled {sets} images beside unlabelled ones"] if len(few) else []
    parts = [
        f"{count(len(runs), 'student network' if len(students) else 'network')} ({count(n_methods, 'method')}, "
        f"{count(len(set(runs['seed'])), 'seed')}), each trained on {' or on '.join(sizes)} for {span(runs['epochs'])} "
        f"epoch{'' if (runs['epochs'] == 1).all() else 's'} and scored once on {study.n_images:,} test images. "
        + (
            "Hyperparameters were selected on validation images."
            if study.chosen
            else "Each method had one candidate setting, so that nothing was selected."
        )
    ]
    parts += _teaching(students, study.arms)
    if study.one_teacher:
        parts.append(
            "One teacher of each kind served all seeds: every claim about a method with a teacher is conditional on "
            "that one teacher."
        )
    if len(set(runs["seed"])) >= MIN_SEEDS:
        parts.append("Brackets are 95 % intervals; those of a difference are over seeds and test images.")
    # they are in no mean: a reader has to know
    died = study.results.loc[study.results["test_error"].isna(), "row"]
    if len(died):
        parts.append(f"{count(len(died), 'run')} diverged in training, left out of every mean: {', '.join(died)}.")
    # a seed is the same training on one kind of device only
    devices = study.results["device"].value_counts()
    if len(devices) > 1:
        trained = _list([f"{name} ({count(int(n), 'network')})" for name, n in devices.items()])
        parts.append(f"Trained on {trained}, whose rounding differs: the same seed gives another training run there.")
    # left by an earlier call with other arms or labels
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


def _teaching(students: pd.DataFrame, arms: ArmWords) -> list[str]:
    """Say which methods had which teacher."""
    taught, alone = students[students["teacher"] != ""], students[students["teacher"] == ""]
    by_names: dict[tuple[str, ...], list[str]] = {}
    for kind in kinds_of(taught):
        runs = taught[taught["teacher"] == kind]
        names = tuple(dict.fromkeys(arm_name(str(arm), arms) for arm in in_order(runs, arms)["arm"]))
        what = "deformations of them" if kind == "labels" else "images"
        trained = f"{teacher_name(kind)} (trained on {span(runs['teacher_size'])} {what})"
        by_names.setdefault(names, []).append(trained)
    sentences = [
        f"{capital(_list(names))} had {' or, in networks of their own, '.join(teachers)}."
        for names, teachers in by_names.items()
    ]
    if sentences and len(alone):
        untaught = [arm_name(str(arm), arms) for arm in dict.fromkeys(alone["arm"])]
        sentences.append(f"{capital(_list(untaught))} had no teacher.")
    return sentences


def _list(names: Sequence[str]) -> str:
    return " and ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)


def findings(study: StudyFiles, networks: pd.DataFrame) -> list[str]:
    """Compare RDL with its baseline, and with plain where that is another, by kind of teacher: a sentence each."""
    found = []
    full = with_labels(networks, None)
    few = networks[networks["labels"].notna()]
    for arm in ("rdl", "rdl_corr"):
        # the baseline says what the method adds, plain what a user gains
        for control in dict.fromkeys((baseline_of(arm, study.baselines), "plain")):
            for runs, compare in ((full, _finding), (few, _finding_few)):
                # without the control there is nothing to say
                if control is not None and (runs["arm"] == control).any():
                    found += [compare(study, runs, (arm, kind), control) for kind in kinds_of(runs[runs["arm"] == arm])]
    return found or ["There is no pair of RDL and plain runs to compare."]


def error_note(study: StudyFiles, networks: pd.DataFrame, table: pd.DataFrame) -> str:
    """Say what the numbers of a table are, of what `error_table` makes of `networks` on the students' test images."""
    other = "plain" if set(table["baseline"]) <= {"", "plain"} else "the method named below it"
    parts = [f"A negative difference: a lower error than {other}."]
    if (table["n_seeds"] >= MIN_SEEDS).any():
        parts.append(
            "In brackets: of the error, the 95 % t interval over seeds; of the difference, the 95 % crossed bootstrap "
            "over seeds and images."
        )
    if (table["n_seeds"] < MIN_SEEDS).any():
        parts.append("One or two seeds have no interval: they say nothing about other training runs.")
    # t is symmetric, the logit is not
    skewed = (table["high"] - table["test_error"]) - (table["test_error"] - table["low"])
    if (skewed.abs() > 1e-9).any():
        parts.append("Where the t interval of an error would leave 0 to 100 %, it is computed on the logit scale.")
    intervals = [table[["low", "high"]].to_numpy(float), table[["paired_low", "paired_high"]].to_numpy(float)]
    if any(has_no_width(low, high) for low, high in np.concatenate(intervals)):
        parts.append("Where all seeds have the same error there is no t interval: its width would be 0.")
    # one or two seeds have no bootstrap to be narrow
    shared = table.loc[table["n_shared"] >= MIN_SEEDS, "n_shared"]
    if len(shared) and shared.min() < _FEW_SEEDS:
        parts.append(
            f"With fewer than {_FEW_SEEDS} seeds the bootstrap interval is somewhat too narrow: see also the paired t "
            "interval."
        )
    if (table["arm"] == "teacher").any():
        parts.append("The teacher's row is plain training on the teacher's images.")
    parts += _teachers_elsewhere(study, networks)
    if study.one_teacher:
        parts.append("Conditional on one teacher of each kind.")
    return " ".join(parts)


def _teachers_elsewhere(study: StudyFiles, networks: pd.DataFrame) -> list[str]:
    """Say the errors of teachers that cannot do the students' task and so stand in no table."""
    elsewhere = networks[networks["row"].isin(list(study.teacher_correctness))]
    sentences = []
    for kind in kinds_of(elsewhere):
        runs = elsewhere[elsewhere["teacher"] == kind]
        n_images = len(study.teacher_correctness[str(runs["row"].iloc[0])])
        published = paper.PAPER[study.name].teacher_error if study.name in paper.PAPER else None
        data = _DATASETS.get(str(runs["dataset"].iloc[0]), str(runs["dataset"].iloc[0]))
        sentences.append(
            f"{capital(teacher_name(kind))} has other classes and hence no row: its test error is "
            f"{number(runs['test_error'].mean())} % of {n_images:,} {data} images"
            + (f", mean of {count(len(runs), 'seed')}" if len(runs) > 1 else "")
            + (f" (the paper's: {number(published, 1)} %)." if published is not None else ".")
        )
    return sentences


def faults(study: StudyFiles, networks: pd.DataFrame) -> list[str]:
    """Name the networks at chance, and those with constant RDMs, a sentence each."""
    sentences = []
    # older manifests name no classes: then nobody is at chance
    n_classes = len(study.manifest.get("classes", ()))
    guessing = at_chance(study.on_the_test_set(networks), n_classes, study.n_images)
    if guessing:
        sentences.append(
            f"At chance, with about the {number(100 * (1 - 1 / n_classes), 0)} % error of guessing among "
            f"{n_classes} classes: {', '.join(guessing)}. They are included in every mean."
        )
    collapsed = constant_layers(study.rdms, study.mds)
    if collapsed:
        sentences.append(
            f"Collapsed, all images being equally far apart in a layer: {format_layers(collapsed, study.arms)}. A "
            "constant RDM has no correlation, so the maps omit it."
        )
    return sentences


def at_chance(networks: pd.DataFrame, n_classes: int, n_images: int) -> list[str]:
    """Find the rows of networks that are no better than a guess among `n_classes`, of which images are equally many."""
    if n_classes < 2:
        return []
    chance = 1 / n_classes
    # three binomial standard errors are little among many images, where naming the commonest class gains more
    most = max(chance + 3 * np.sqrt(chance * (1 - chance) / n_images), 1.25 * chance)
    right = 1 - networks["test_error"] / 100
    return [str(row) for row in networks.loc[right <= most, "row"]]


def constant_layers(rdms: xr.DataArray | None, distances: xr.DataArray | None) -> list[tuple[str, str]]:
    """Find the layers (network, layer) whose RDM is constant, in ``rdms.nc`` or for a sample of ``mds.nc``."""
    if rdms is None:
        return []
    named = _layers(rdms)
    squares = rdms.to_numpy()
    # the diagonal is 0 whatever the layer
    off = squares[:, ~np.eye(squares.shape[1], dtype=bool)]
    # mds.nc lacks the layers whose RDM was constant for some sample of images
    mapped = named if distances is None else _layers(distances)
    return [
        pair
        for pair, distances in zip(named, off, strict=True)
        if pair[1] not in FIXED_LAYERS and (is_constant(distances) or pair not in mapped)
    ]


def format_layers(layers: Sequence[tuple[str, str]], arms: ArmWords = PAPER_ARMS) -> str:
    """Name layers by network: plain (fc), RDL (clean) (pool2, fc)."""
    by_model: dict[str, list[str]] = {}
    for model, layer in layers:
        by_model.setdefault(format_model(model, arms), []).append(layer)
    return ", ".join(f"{model} ({', '.join(names)})" for model, names in by_model.items())


def _finding(study: StudyFiles, runs: pd.DataFrame, method: tuple[str, str], control: str) -> str:
    compared = difference(runs, study.correctness, method, (control, ""))
    name, other = arm_name(method[0], study.arms), arm_name(control, study.arms)
    who = capital(_taught(method, study.arms))
    if not compared.n_seeds:
        return f"{who} and {other} share no seed and are not compared."
    text = (
        f"{who}: test error {number(compared.first)} % against {number(compared.second)} % of {other}, "
        f"a difference of {signed_number(compared.estimate)} points"
    )
    if compared.n_seeds == 1:
        both = [runs_of(runs, which) for which in (method, (control, ""))]
        # seeds differ where runs died: the one that both have
        (seed,) = set(both[0]["seed"]) & set(both[1]["seed"])
        p = float(mcnemar_table(pd.concat(both), study.correctness, seed=seed)["p"].iloc[0])
        text += (
            " between two networks. There is one seed, hence no interval over training runs; for these two networks, "
            f"McNemar's exact test over images gives p {p_equals(p)}{': no difference shown' * (p >= SIGNIFICANT)}."
        )
    elif compared.n_seeds < MIN_SEEDS:
        text += ". Two seeds are too few for an interval over training runs."
    else:
        spread = interval(compared.low, compared.high, signed=True)
        text += f"{' ' * bool(spread)}{spread}. {_verdict(compared, name, other)}"
    return text + (_as_published(study.name, method) if control == "plain" else "")


def _finding_few(study: StudyFiles, runs: pd.DataFrame, method: tuple[str, str], control: str) -> str:
    parts = []
    for labels in sorted(runs["labels"].unique()):
        compared = difference(with_labels(runs, labels), study.correctness, method, (control, ""))
        if compared.n_seeds:
            spread = interval(compared.low, compared.high, signed=True)
            few = {1: "(one seed)", 2: "(two seeds)"}.get(compared.n_seeds, "(right on the same images)")
            spread = spread or few
            undecided = f" ({_not_shown(compared)})" if _includes_0(compared.low, compared.high) else ""
            parts.append(
                f"{signed_number(compared.estimate)} points {spread} with {labels:,.0f} labelled images{undecided}"
            )
    who, other = _taught(method, study.arms), arm_name(control, study.arms)
    if not parts:
        return f"With few labels, {who} and {other} share no seed and are not compared."
    return f"With few labels, {who} against {other}: {'; '.join(parts)}."


def _taught(method: tuple[str, str], arms: ArmWords) -> str:
    return f"{arm_name(method[0], arms)} with {teacher_name(method[1])}"


def _includes_0(low: float, high: float) -> bool:
    return low <= 0 <= high


def _not_shown(compared: Difference) -> str:
    """Say what an interval that includes 0 leaves open; a gain is a lower error."""
    gain, loss = -compared.low, compared.high
    open_ends = [f"a {noun} of up to {number(end)} points" for noun, end in (("gain", gain), ("loss", loss)) if end > 0]
    if not open_ends:
        return "no gain shown: the interval is 0"
    return f"no gain shown: the interval includes 0, and does not exclude {' or '.join(open_ends)}"


def _verdict(compared: Difference, name: str, other: str) -> str:
    if has_no_width(compared.low, compared.high):
        return "In every seed both are right on the same images: nothing tells them apart, and there is no interval."
    seeds_undecided = _includes_0(compared.paired_low, compared.paired_high)
    paired = interval(compared.paired_low, compared.paired_high, signed=True)
    agreed = f"paired t interval {paired}" if paired else "the same difference in each, hence no paired t interval"
    # the crossed interval decides; the paired one, blind to other images, may only take back
    if _includes_0(compared.low, compared.high):
        text = f"{capital(_not_shown(compared))}."
        if not seeds_undecided:
            text += f" On this very test set the seeds do agree ({agreed})."
        return text
    text = capital(f"{name} has a {'lower' if compared.estimate < 0 else 'higher'} error than {other}.")
    if seeds_undecided:
        text += (
            f" But the paired t interval over the {compared.n_seeds} seeds, {paired or 'a mere 0'}, includes 0: these "
            "seeds do not settle the matter."
        )
    return text


def _as_published(study: str, method: tuple[str, str]) -> str:
    theirs, plain = paper.published_error(study, *method), paper.published_error(study, "plain", "")
    if theirs is None or plain is None:
        return ""
    return f" The paper: {number(theirs)} % against {number(plain)} %, {signed_number(theirs - plain)} points."


def _layers(array: xr.DataArray) -> list[tuple[str, str]]:
    return [(str(m), str(layer)) for m, layer in zip(array["model"].values, array["layer"].values, strict=True)]
