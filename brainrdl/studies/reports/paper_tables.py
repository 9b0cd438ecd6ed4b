"""The tables of a paper's report that are made of errors, tests and geometries: numbers (DataFrames), and as cells.

Errors are in percent, differences in percentage points. What the data cannot say is NaN: one or two seeds have no
interval over training runs. Nothing here reads a file.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from brainrdl.inference.intervals import PERCENT
from brainrdl.inference.trainings import binomial_standard_error, t_interval
from brainrdl.studies.paper import published as paper
from brainrdl.studies.reports.differences import NO_DIFFERENCE, Correctness, difference, mcnemar_table
from brainrdl.studies.reports.methods import (
    METHOD,
    PAPER_ARMS,
    TEACHERS,
    ArmWords,
    arm_name,
    baseline_of,
    in_order,
    kinds_of,
    method_name,
    teacher_name,
)
from brainrdl.studies.reports.page import Cell, Table
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

    `results` are runs with the same number of labels, as `distinct_networks` leaves them. Intervals of errors are t
    over seeds; ``n_shared, difference, crossed_low, …`` are as in `Difference`.
    """
    lines: list[dict[str, Any]] = []
    for (arm, teacher), runs in in_order(results, arms).groupby(list(METHOD), sort=False):
        method = (str(arm), str(teacher))
        line: dict[str, Any] = {"arm": arm, "teacher": teacher, "method": method_name(*method, arms)}
        mean, low, high = t_interval(runs["test_error"].to_numpy(float), bounds=PERCENT)
        line |= {"n_seeds": len(runs), "test_error": mean, "low": low, "high": high}
        # of one network with that error; at 0 and 100 % the formula gives a certainty that no test set can
        error = binomial_standard_error(mean, len(correctness[runs["row"].iloc[0]])) or np.nan
        line |= {"standard_error": error, "validation_error": runs["validation_error"].mean()}
        line |= {"paper": paper.published_error(study, *method)}
        baseline = baseline_of(method[0], baselines or {})
        # plain has nobody to be compared with
        compared = NO_DIFFERENCE
        if baseline is not None:
            compared = difference(results, correctness, method, (baseline, ""), n_resamples=n_resamples)
        line |= {"baseline": baseline or "", "against": "" if baseline is None else arm_name(baseline, arms)}
        line |= {"n_shared": compared.n_seeds, "difference": compared.estimate}
        line |= {"crossed_low": compared.low, "crossed_high": compared.high}
        lines.append(line | {"paired_low": compared.paired_low, "paired_high": compared.paired_high})
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
    """Compare the methods at each number of labelled images, ascending; runs with all labels are passed over.

    What `error_table` says, and ``p, b, c`` of McNemar's test against the baseline, for the networks of the first seed,
    not corrected: b images only the method gets right, c only the baseline.
    """
    parts = []
    for labels in sorted(results["labels"].dropna().unique()):
        runs = results[results["labels"] == labels]
        part = error_table(runs, correctness, baselines=baselines, arms=arms, n_resamples=n_resamples)
        part = part.drop(columns="paper").assign(labels=int(labels))
        tests = mcnemar_table(runs, correctness, arms=arms).rename(columns={"first": "against", "second": "method"})
        # as printed there, b counts the images that only the first, here the baseline, gets right
        swapped = tests[["against", "method", "p", "b", "c"]].rename(columns={"b": "c", "c": "b"})
        parts.append(part.merge(swapped, on=["against", "method"], how="left"))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def error_cells(table: pd.DataFrame, caption: str, note: str = "", *, tested: bool = False) -> Table:
    """Print what `error_table` says, or `labels_table` of one number of labels, then `tested` against the baseline."""
    # one column cannot be headed "to plain" then: each difference names its own baseline
    several = bool(set(table["baseline"]) - {"", "plain"})
    to = f"difference to {'the baseline' if several else 'plain'}, points"
    rows: list[dict[str, Cell]] = []
    for line in records(table):
        crossed, paired = ((line[f"{kind}_low"], line[f"{kind}_high"]) for kind in ("crossed", "paired"))
        compared = with_interval(signed_number(line["difference"]), *crossed, signed=True, flat="the same images")
        row: dict[str, Cell] = {"method": line["method"], "seeds": str(line["n_seeds"])}
        error = number(line["test_error"])
        row["test error, %"] = with_interval(error, line["low"], line["high"], flat="all seeds equal")
        row[to] = (*compared, *([f"to {line['against']}"] if several and line["against"] else []))
        row["paired t over seeds"] = with_interval("", *paired, signed=True, flat="the same in each")
        if tested:
            # the baseline is not tested against itself
            untested = math.isnan(line["p"])
            row["McNemar p"] = "" if untested else (p_value(line["p"]), f"{line['b']:.0f} : {line['c']:.0f}")
        row |= {"binomial SE": number(line["standard_error"]), "validation error, %": number(line["validation_error"])}
        rows.append(row | {"paper, %": number(line.get("paper"))})
    return Table.of(caption, rows, note, optional=("paired t over seeds", "validation error, %", "paper, %"))


def mcnemar_cells(table: pd.DataFrame, runs: pd.DataFrame, caption: str, arms: ArmWords = PAPER_ARMS) -> Table:
    """Print what `mcnemar_table` says of `runs`, one per method: ours above the diagonal, the paper's below."""
    methods = list(zip(runs["arm"], runs["teacher"], strict=True))
    # the arm alone would not do where two kinds of teacher stand in one table
    place = {method_name(*method, arms): k for k, method in enumerate(methods)}
    cells: list[list[Cell]] = [["–" if i == j else "" for j in place.values()] for i in place.values()]
    for line in records(table):
        i, j = place[line["first"]], place[line["second"]]
        arrow = {"": "", line["first"]: " ←", line["second"]: " ↑"}[line["better"]]
        cells[i][j] = (p_value(line["p"]) + arrow, f"Holm {p_value(line['holm'])}", f"{line['b']} : {line['c']}")
        if not math.isnan(line["paper_p"]):
            # below the diagonal rows and columns are swapped, and so are the arrows
            back = {"": "", line["first"]: " ↑", line["second"]: " ←"}[line["paper_better"]]
            # two digits, as in the paper, whose .00 is what was printed
            cells[j][i] = number(line["paper_p"]).removeprefix("0") + back
    names = [arm_name(arm, arms) for arm, _ in methods]
    return Table(caption, ("", *names), [[name, *row] for name, row in zip(names, cells, strict=True)])


def geometry_table(
    geometry: pd.DataFrame, baselines: Mapping[str, str] | None = None, arms: ArmWords = PAPER_ARMS
) -> pd.DataFrame:
    """Measure how far each method's geometry is from the teacher's, layer by layer: means over seeds.

    `geometry` has a row per run, teacher and layer: ``arm, labels, seed, teacher, layer, e_aux, correlation``. Compared
    with its baseline's mean against the same teachers (plain's own for plain), and seed by seed where both have one.
    """
    by = ["labels", "arm", "teacher", "layer"]
    runs = in_order(geometry.assign(labels=geometry["labels"].astype(float)), arms)
    runs["baseline"] = [baseline_of(str(arm), baselines or {}) or "plain" for arm in runs["arm"]]
    groups = runs.groupby([*by, "baseline"], sort=False, dropna=False)
    table = groups.agg(n_seeds=("seed", "size"), e_aux=("e_aux", "mean"), correlation=("correlation", "mean"))
    table = _with_baseline(table.reset_index(), by)
    shared = _with_baseline(runs, [*by, "seed"]).dropna(subset="baseline_e_aux")
    shared = shared.assign(is_below=shared["e_aux"] < shared["baseline_e_aux"])
    counts = shared.groupby(by, dropna=False).agg(n_shared=("is_below", "size"), n_below=("is_below", "sum"))
    table = table.merge(counts.reset_index(), on=by, how="left").fillna({"n_shared": 0, "n_below": 0})
    # of a baseline that is the teacher's very geometry there is no share
    ratio = table["e_aux"] / table["baseline_e_aux"].where(table["baseline_e_aux"] != 0)
    return table.assign(
        ratio=ratio,
        below=table["e_aux"] < table["baseline_e_aux"],
        method=[arm_name(str(arm), arms) for arm in table["arm"]],
    ).astype({"n_shared": int, "n_below": int})


def _with_baseline(table: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Put each row's ``baseline_e_aux`` beside it, the ``e_aux`` of its baseline's row; NaN without one."""
    its = table[[*by, "e_aux"]].rename(columns={"arm": "baseline", "e_aux": "baseline_e_aux"})
    return table.merge(its, on=["baseline", *(name for name in by if name != "arm")], how="left")


def geometry_cells(table: pd.DataFrame) -> Iterator[Table]:
    """Print what `geometry_table` says, a table for each number of labels and kind of teacher."""
    for (labels, kind), part in table.groupby(["labels", "teacher"], dropna=False, sort=False):
        layers = list(dict.fromkeys(part["layer"]))
        rows: list[list[Cell]] = []
        for method, lines in part.groupby("method", sort=False):
            by_layer = {line["layer"]: _geometry_cell(line) for line in records(lines)}
            rows.append([str(method), *(by_layer.get(layer, "") for layer in layers)])
        few = bool(part["labels"].notna().any())
        caption = capital(f"{teacher_name(str(kind))}{f', {labels:,.0f} labelled images' if few else ''}")
        # where all students have few labels, the tables are what the section is about
        yield Table(caption, ("method", *layers), rows, folded=few and bool(table["labels"].isna().any()))


def _geometry_cell(line: Mapping[str, Any]) -> tuple[str, ...]:
    lines = [f"{line['e_aux']:#.3g}" + (" ▼" if line["below"] else "")]
    if line["arm"] != "plain" and not math.isnan(line["ratio"]):
        lines.append(f"{share(line['ratio'])}, {line['n_below']} of {count(line['n_shared'], 'seed')}")
    return (*lines, f"r {number(line['correlation'])}")


def key_tables(networks: pd.DataFrame, arms: ArmWords = PAPER_ARMS) -> Iterator[Table]:
    """Say what the methods of a study's runs are; then its kinds of teacher, where there are any."""
    rows = [(words.label, words.about) for arm, words in arms.items() if (networks["arm"] == arm).any()]
    yield Table("Methods", ("method", "what it is"), rows)
    kinds = [(kind, TEACHERS[kind][1]) for kind in kinds_of(networks) if kind in TEACHERS]
    if kinds:
        yield Table("Teachers", ("teacher", "what it is"), kinds)


def manifest_tables(study: StudyFiles) -> Iterator[Table]:
    """Print the calls of the command, where they are known; then manifest and runs, folded."""
    if study.calls:
        columns = list(dict.fromkeys(str(column) for call in study.calls for column in call))
        head = ("", *("time" if _is_time(column) else column.replace("_", " ") for column in columns))
        cells = [[_call_cell(call.get(column), column) for column in columns] for call in study.calls]
        yield Table("Calls of the command", head, [[str(k), *row] for k, row in enumerate(cells, 1)])
    apart = ("notes", "classes", "title", "calls", "arms")  # shown elsewhere, or below in one line
    rows = [pair for pair in flat(study.manifest) if pair[0].split(".")[0] not in apart]
    classes = ", ".join(str(name) for name in study.manifest.get("classes", ()))
    rows += [("classes", classes)] if classes else []
    yield Table("Manifest", ("field", "value"), rows, folded=True)
    columns = ["row", "train_size", "labels", "teacher_size", "teacher_seed", "alpha0", "epochs", "updates"]
    columns += ["validation_error", "test_error", "device", "precision"]
    head = (*(column.replace("_", " ").replace("alpha0", "α₀") for column in columns), "time")
    runs = [
        [*(as_text(line[column]) for column in columns), duration(line["seconds"])] for line in records(study.results)
    ]
    yield Table(f"All {count(len(runs), 'run')}", head, runs, folded=True)


def _call_cell(value: Any, column: str) -> str:
    """A field of a call; durations in the unit that suits them."""
    if value is None:
        return ""
    if isinstance(value, float | int) and _is_time(column):
        return duration(float(value))
    return as_text(value) if not isinstance(value, list | dict) else ", ".join(text for _, text in flat(value))


def _is_time(column: str) -> bool:
    return "seconds" in column or "duration" in column
