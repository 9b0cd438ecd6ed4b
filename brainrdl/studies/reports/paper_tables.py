"""The tables of a paper's report that are made of errors, tests and geometries: their numbers, and as they are printed.

Numbers are DataFrames, errors in percent, differences in percentage points. What the data cannot say is NaN: a study
with one seed has no interval over trainings. Nothing here reads a file.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from brainrdl.inference import binomial_standard_error, t_interval
from brainrdl.studies.paper import published as paper
from brainrdl.studies.reports.differences import NO_DIFFERENCE, Correctness, difference, mcnemar_table
from brainrdl.studies.reports.methods import (
    ABOUT_TEACHERS,
    METHOD,
    PAPER_ARMS,
    ArmWords,
    arm_name,
    baseline_of,
    in_order,
    kinds_of,
    method_name,
    teacher_name,
)
from brainrdl.studies.reports.page import Table
from brainrdl.studies.reports.paper_files import StudyFiles
from brainrdl.studies.reports.words import (
    as_text,
    capital,
    count,
    duration,
    flat,
    number,
    p_value,
    records,
    share,
    signed_number,
    with_interval,
)


def error_table(
    results: pd.DataFrame,
    correctness: Correctness,
    *,
    study: str = "",
    baselines: Mapping[str, str] | None = None,
    arms: ArmWords = PAPER_ARMS,
    n_resamples: int = 10_000,
) -> pd.DataFrame:
    """Table 3: the test error of each method, and how far it is from that of its baseline.

    `results` are runs with the same number of labels, as `distinct_networks` leaves them. A row per method: ``arm,
    teacher, method, n_seeds``; ``baseline, against``, the arm that it is compared with, and its label (empty for
    ``plain``); ``test_error, low, high``, mean and 95 % t interval over seeds; ``standard_error``, binomial, of one
    network with that error (NaN at 0 and 100 %, where its formula gives a certainty that no test set can);
    ``validation_error``, mean; ``n_shared, difference, crossed_low, crossed_high, paired_low, paired_high`` as in
    `Difference`; ``paper``, as published.
    """
    lines = []
    for (arm, teacher), runs in in_order(results, arms).groupby(list(METHOD), sort=False):
        method = (str(arm), str(teacher))
        mean, low, high = t_interval(runs["test_error"].to_numpy(float))
        baseline = baseline_of(method[0], baselines or {})
        # plain has nobody to be compared with
        compared = NO_DIFFERENCE
        if baseline is not None:
            compared = difference(results, correctness, method, (baseline, ""), n_resamples=n_resamples)
        lines.append(
            {
                "arm": arm,
                "teacher": teacher,
                "method": method_name(*method, arms),
                "n_seeds": len(runs),
                "baseline": baseline or "",
                "against": "" if baseline is None else arm_name(baseline, arms),
                "test_error": mean,
                "low": low,
                "high": high,
                "standard_error": binomial_standard_error(mean, len(correctness[runs["row"].iloc[0]])) or np.nan,
                "validation_error": runs["validation_error"].mean(),
                "n_shared": compared.n_seeds,
                "difference": compared.estimate,
                "crossed_low": compared.low,
                "crossed_high": compared.high,
                "paired_low": compared.paired_low,
                "paired_high": compared.paired_high,
                "paper": paper.published_error(study, *method),
            }
        )
    table = pd.DataFrame(lines)
    return table.astype({"paper": float}) if lines else table


def labels_table(
    results: pd.DataFrame,
    correctness: Correctness,
    *,
    baselines: Mapping[str, str] | None = None,
    arms: ArmWords = PAPER_ARMS,
    n_resamples: int = 10_000,
) -> pd.DataFrame:
    """Compare the methods at each number of labelled images; runs with all labels are passed over.

    What `error_table` says, for ``labels`` ascending, and ``p, b, c``: McNemar's exact test against the baseline for
    the networks of the first seed, not corrected; b is the number of images that only the method gets right, c that
    only the baseline does.
    """
    parts = []
    for labels in sorted(results["labels"].dropna().unique()):
        runs = results[results["labels"] == labels]
        part = error_table(runs, correctness, baselines=baselines, arms=arms, n_resamples=n_resamples)
        part = part.drop(columns="paper")
        part.insert(0, "labels", int(labels))
        tests = mcnemar_table(runs, correctness, arms=arms).rename(columns={"first": "against", "second": "method"})
        # as printed there, b counts the images that only the first, here the baseline, gets right
        swapped = tests[["against", "method", "p", "b", "c"]].rename(columns={"b": "c", "c": "b"})
        parts.append(part.merge(swapped, on=["against", "method"], how="left"))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def print_errors(table: pd.DataFrame, caption: str, note: str = "", *, tested: bool = False) -> Table:
    """Print what `error_table` says, or `labels_table` of one number of labels, then `tested` against the baseline.

    Columns of paired intervals, validation and published errors are left out where there are none. Where methods have
    different baselines, each difference names its own.
    """
    # one column cannot be headed "to plain" then
    several = bool(set(table["baseline"]) - {"", "plain"})
    to = f"difference to {'the baseline' if several else 'plain'}, points"
    head = ["method", "seeds", "test error, %", to, "paired t over seeds", "McNemar p"]
    head += ["binomial SE", "validation error, %", "paper, %"]
    shown = dict.fromkeys(head, True) | {
        "paired t over seeds": bool(table["paired_low"].notna().any()),
        "McNemar p": tested,
        "validation error, %": bool(table["validation_error"].notna().any()),
        "paper, %": "paper" in table and bool(table["paper"].notna().any()),
    }
    rows = []
    for line in records(table):
        # the baseline is not tested against itself
        untested = math.isnan(line.get("p", math.nan))
        crossed, paired = ((line[f"{kind}_low"], line[f"{kind}_high"]) for kind in ("crossed", "paired"))
        to_baseline = with_interval(signed_number(line["difference"]), *crossed, signed=True, flat="the same images")
        cells = (
            (str(line["method"]),),
            (str(line["n_seeds"]),),
            with_interval(number(line["test_error"]), line["low"], line["high"], flat="all seeds equal"),
            (*to_baseline, *([f"to {line['against']}"] if several and line["against"] else [])),
            with_interval("", *paired, signed=True, flat="the same in each"),
            ("",) if untested else (p_value(line["p"]), f"{line['b']:.0f} : {line['c']:.0f}"),
            (number(line["standard_error"]),),
            (number(line["validation_error"]),),
            (number(line.get("paper")),),
        )
        rows.append(tuple(cell for cell, name in zip(cells, head, strict=True) if shown[name]))
    return Table(caption, tuple(name for name in head if shown[name]), tuple(rows), note)


def print_tests(table: pd.DataFrame, runs: pd.DataFrame, caption: str, arms: ArmWords = PAPER_ARMS) -> Table:
    """Print what `mcnemar_table` says of `runs`, one per method: ours above the diagonal, the paper's below."""
    methods = [
        (method_name(arm, teacher, arms), arm_name(arm, arms))
        for arm, teacher in zip(runs["arm"], runs["teacher"], strict=True)
    ]
    # the arm alone would not do where two kinds of teacher stand in one table
    place = {name: k for k, (name, _) in enumerate(methods)}
    cells: list[list[tuple[str, ...]]] = [
        [("–",) if i == j else ("",) for j in range(len(methods))] for i in range(len(methods))
    ]
    for line in records(table):
        i, j = place[line["first"]], place[line["second"]]
        arrow = {"": "", line["first"]: " ←", line["second"]: " ↑"}
        cells[i][j] = (
            p_value(line["p"]) + arrow[line["better"]],
            f"Holm {p_value(line['holm'])}",
            f"{line['b']} : {line['c']}",
        )
        if not math.isnan(line["paper_p"]):
            # below the diagonal rows and columns are swapped, and so are the arrows
            back = {"": "", line["first"]: " ↑", line["second"]: " ←"}
            # two digits, as in the paper, whose .00 is what was printed
            cells[j][i] = (number(line["paper_p"]).removeprefix("0") + back[line["paper_better"]],)
    rows = tuple(((name,), *cells[i]) for i, (_, name) in enumerate(methods))
    return Table(caption, ("", *(name for _, name in methods)), rows)


def geometry_table(
    geometry: pd.DataFrame, baselines: Mapping[str, str] | None = None, arms: ArmWords = PAPER_ARMS
) -> pd.DataFrame:
    """Measure how far each method's geometry is from the teacher's, layer by layer.

    `geometry` has a row per run, teacher and layer: ``arm, labels, seed, teacher, layer, e_aux, correlation``. A row
    per number of labels (NaN: all), method, teacher and layer: ``labels, arm, teacher, method, layer``; ``n_seeds``;
    ``e_aux, correlation``, means over seeds; ``baseline_e_aux``, its baseline's mean against the same teachers (plain's
    own for plain); ``ratio``, e_aux over it; ``n_shared, n_below``, seeds that both have, and in how many of them e_aux
    is below the baseline's; ``below``, if the mean is.
    """
    lines = []
    ordered = in_order(geometry.assign(labels=geometry["labels"].astype(float)), arms)
    for (labels, arm, teacher, layer), runs in ordered.groupby(
        ["labels", "arm", "teacher", "layer"], sort=False, dropna=False
    ):
        same = ordered["labels"].isin([labels])  # == would not find NaN
        baseline = baseline_of(str(arm), baselines or {}) or "plain"
        its = ordered[
            same & (ordered["arm"] == baseline) & (ordered["teacher"] == teacher) & (ordered["layer"] == layer)
        ]
        by_seed = its.set_index("seed")["e_aux"]
        shared = runs.set_index("seed")["e_aux"].to_frame("e_aux").join(by_seed.rename("baseline"), how="inner")
        e_aux, baseline_e_aux = float(runs["e_aux"].mean()), float(by_seed.mean()) if len(by_seed) else np.nan
        lines.append(
            {
                "labels": labels,
                "arm": arm,
                "teacher": teacher,
                "method": arm_name(str(arm), arms),
                "layer": layer,
                "n_seeds": len(runs),
                "e_aux": e_aux,
                "correlation": float(runs["correlation"].mean()),
                "baseline_e_aux": baseline_e_aux,
                "ratio": e_aux / baseline_e_aux if baseline_e_aux else np.nan,
                "n_shared": len(shared),
                "n_below": int((shared["e_aux"] < shared["baseline"]).sum()),
                "below": e_aux < baseline_e_aux,
            }
        )
    return pd.DataFrame(lines)


def print_geometry(table: pd.DataFrame) -> Iterator[Table]:
    """Print what `geometry_table` says, a table for each number of labels and kind of teacher.

    Those about few labels are folded where one about all labels stands beside them.
    """
    for _, part in table.groupby(["labels", "teacher"], dropna=False, sort=False):
        kind, labels = str(part["teacher"].iloc[0]), float(part["labels"].iloc[0])
        layers = list(dict.fromkeys(part["layer"]))
        rows = []
        for method, lines in part.groupby("method", sort=False):
            by_layer = {line["layer"]: line for line in records(lines)}
            rows.append(((str(method),), *(_geometry_cell(by_layer.get(layer)) for layer in layers)))
        few = not math.isnan(labels)
        caption = capital(f"{teacher_name(kind)}{f', {labels:,.0f} labelled images' if few else ''}")
        # where all students have few labels, the tables are what the section is about
        fold = few and bool(table["labels"].isna().any())
        yield Table(caption, ("method", *layers), tuple(rows), folded=fold)


def _geometry_cell(line: Mapping[str, Any] | None) -> tuple[str, ...]:
    if line is None:
        return ("",)
    lines = [f"{line['e_aux']:#.3g}" + (" ▼" if line["below"] else "")]
    if line["arm"] != "plain" and not math.isnan(line["ratio"]):
        lines.append(f"{share(line['ratio'])}, {line['n_below']} of {count(line['n_shared'], 'seed')}")
    return (*lines, f"r {number(line['correlation'])}")


def print_key(networks: pd.DataFrame, arms: ArmWords = PAPER_ARMS) -> Iterator[Table]:
    """Say what the methods of a study's runs are; then its kinds of teacher, where there are any."""
    rows = tuple(((word.label,), (word.about,)) for arm, word in arms.items() if (networks["arm"] == arm).any())
    yield Table("Methods", ("method", "what it is"), rows)
    kinds = [kind for kind in kinds_of(networks) if kind in ABOUT_TEACHERS]
    if kinds:
        yield Table("Teachers", ("teacher", "what it is"), tuple(((k,), (ABOUT_TEACHERS[k],)) for k in kinds))


def print_manifest(study: StudyFiles) -> Iterator[Table]:
    """Print the calls of the command, where they are known; then manifest and runs, folded."""
    if study.calls:
        columns = list(dict.fromkeys(str(column) for call in study.calls for column in call))
        yield Table(
            "Calls of the command",
            ("", *("time" if _is_time(column) else column.replace("_", " ") for column in columns)),
            tuple(
                ((str(k + 1),), *((_call_cell(call.get(column), column),) for column in columns))
                for k, call in enumerate(study.calls)
            ),
        )
    apart = ("notes", "classes", "title", "calls", "arms")  # shown elsewhere, or below in one line
    fields = [(field, value) for field, value in flat(study.manifest) if field.split(".")[0] not in apart]
    classes = ", ".join(str(name) for name in study.manifest.get("classes", ()))
    rows = [*fields, *([("classes", classes)] if classes else [])]
    yield Table("Manifest", ("field", "value"), tuple(((k,), (v,)) for k, v in rows), folded=True)
    columns = ["row", "train_size", "labels", "teacher_size", "teacher_seed", "alpha0", "epochs", "updates"]
    columns += ["validation_error", "test_error", "device", "precision"]
    yield Table(
        f"All {count(len(study.results), 'run')}",
        (*(column.replace("_", " ").replace("alpha0", "α₀") for column in columns), "time"),
        tuple(
            (*((as_text(line[column]),) for column in columns), (duration(line["seconds"]),))
            for line in records(study.results)
        ),
        folded=True,
    )


def _call_cell(value: Any, column: str) -> str:
    """A field of a call; durations in the unit that suits them."""
    if value is None:
        return ""
    if isinstance(value, float | int) and _is_time(column):
        return duration(float(value))
    return as_text(value) if not isinstance(value, list | dict) else ", ".join(text for _, text in flat(value))


def _is_time(column: str) -> bool:
    return "seconds" in column or "duration" in column
