"""The tables of a report, as functions of what a study leaves behind.

All take and return DataFrames and read no files. Errors are in percent, differences in percentage points. What the data
cannot say is NaN: a study with one seed has no interval over trainings.
"""

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainrdl.experiments import paper
from brainrdl.inference import (
    binomial_standard_error,
    crossed_bootstrap,
    holm,
    mcnemar,
    paired_t_interval,
    t_interval,
)

Correctness = Mapping[str, NDArray[np.bool_]]
"""By name of a row of the results: whether the network is right, (test images,)."""

ARM_NAMES: Mapping[str, str] = {
    "plain": "plain",
    "plain_readout": "plain with readout",
    "teacher": "teacher",
    "finetuning": "fine-tuning",
    "finetuning_replaced": "fine-tuning, new last layer",
    "deep_supervision": "deep supervision",
    "hints": "hints",
    "rdl": "RDL",
    "rdl_corr": "scale-free RDL",
    "kd": "KD",
    "rkd": "RKD",
    "sp": "SP",
    "cka": "CKA",
}
"""What a report calls each arm, in the order in which it lists them."""

TEACHERS = ("paper", "clean", "labels")
"""Kinds of teacher, in the order in which a report lists them."""

METHOD = ("arm", "teacher")
"""What a method is: an arm, and the kind of teacher behind it (empty where there is none)."""

_SIGNIFICANT = 0.05


class Difference(NamedTuple):
    """How much more one method errs than another, in percentage points (negative: the first errs less).

    Attributes
    ----------
    n_seeds : int
        Seeds that both have.
    first, second : float
        Mean test error of each over those seeds, in percent; NaN without any.
    estimate : float
        Their difference.
    low, high : float
        95 % crossed bootstrap over seeds and images; NaN below two seeds.
    paired_low, paired_high : float
        95 % paired t interval over seeds, for this very test set; NaN below two seeds.
    """

    n_seeds: int
    first: float
    second: float
    estimate: float
    low: float
    high: float
    paired_low: float
    paired_high: float


_NO_DIFFERENCE = Difference(0, *[np.nan] * 7)


def arm_name(arm: str) -> str:
    """What a report calls an arm.

    Parameters
    ----------
    arm : str
        As in the results; an unknown one keeps its name, without underscores.

    Returns
    -------
    str

    Examples
    --------
    >>> from brainrdl.experiments.tables import arm_name
    >>> arm_name("deep_supervision"), arm_name("my_arm")
    ('deep supervision', 'my arm')
    """
    return ARM_NAMES.get(arm, arm.replace("_", " "))


def method_name(arm: str, teacher: str) -> str:
    """What a report calls a method.

    Parameters
    ----------
    arm, teacher : str
        As in the results.

    Returns
    -------
    str

    Examples
    --------
    >>> from brainrdl.experiments.tables import method_name
    >>> method_name("rdl", "clean"), method_name("plain", "")
    ('RDL (clean)', 'plain')
    """
    return f"{arm_name(arm)} ({teacher})" if teacher else arm_name(arm)


def check_results(results: pd.DataFrame, correctness: Correctness, *, one_teacher: bool = False) -> None:
    """Check that results and correctness speak of the same networks.

    Parameters
    ----------
    results : DataFrame
        One row per run: at least ``row, arm, teacher, labels, seed, test_error``; a run without a test error died in
        training.
    correctness : mapping of str to ndarray of bool, shape (test images,)
        By row.
    one_teacher : bool
        Whether one teacher serves all seeds, so that its row may be there for each of them.

    Raises
    ------
    ValueError
        If a row or a run occurs twice or has no correctness, if lengths differ, or if the correctness gives an error
        rate other than that of the results.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from brainrdl.experiments.tables import check_results
    >>> run = {"row": "plain-seed0", "arm": "plain", "teacher": "", "labels": np.nan, "seed": 0, "test_error": 25.0}
    >>> check_results(pd.DataFrame([run]), {"plain-seed0": np.array([True, True, False, False])})
    Traceback (most recent call last):
    ValueError: the test error of 'plain-seed0' is 25 % in the results, but 50 % by its correctness; score it again
    """
    twice = results[results.duplicated("row")]
    if len(twice):
        raise ValueError(f"the results hold more than one row {twice['row'].iloc[0]!r}; keep one of them")
    runs = results[results["arm"] != "teacher"] if one_teacher else results
    twice = runs[runs.duplicated([*METHOD, "labels", "seed"])]
    if len(twice):
        run = twice.iloc[0]
        labels = "" if pd.isna(run["labels"]) else f"{run['labels']:.0f} labels and "
        raise ValueError(
            f"the results hold more than one run of {method_name(run['arm'], run['teacher'])} with {labels}seed "
            f"{run['seed']}; keep one of them"
        )
    scored = results[results["test_error"].notna()]
    lacking = [row for row in scored["row"] if row not in correctness]
    if lacking:
        raise ValueError(
            f"there is no correctness for {len(lacking)} of {len(scored)} runs, {lacking[0]!r} first; score them again"
        )
    sizes = {row: len(correctness[row]) for row in scored["row"]}
    if len(set(sizes.values())) > 1:
        small, large = min(sizes, key=sizes.__getitem__), max(sizes, key=sizes.__getitem__)
        raise ValueError(
            f"{small!r} was scored on {sizes[small]} test images, but {large!r} on {sizes[large]}; score all runs on "
            "the same images"
        )
    for row, error in zip(scored["row"], scored["test_error"], strict=True):
        counted = 100 * (1 - float(np.mean(correctness[row])))
        if abs(counted - error) > 0.006:  # results may be rounded to two decimals
            raise ValueError(
                f"the test error of {row!r} is {error:g} % in the results, but {counted:g} % by its correctness; "
                "score it again"
            )


def distinct_networks(results: pd.DataFrame, *, one_teacher: bool) -> pd.DataFrame:
    """Leave out runs that died and, where one teacher serves all seeds, its repetitions.

    Parameters
    ----------
    results : DataFrame
        One row per run.
    one_teacher : bool
        Whether the first seed's teacher serves all seeds, so that further teacher rows are the same network again.

    Returns
    -------
    DataFrame
        The rows that count, methods in the order of a report, seeds ascending.

    Examples
    --------
    >>> import pandas as pd
    >>> from brainrdl.experiments.tables import distinct_networks
    >>> runs = {"arm": "teacher", "teacher": "clean", "labels": float("nan"), "seed": [0, 1], "test_error": [2.0, 2.0]}
    >>> len(distinct_networks(pd.DataFrame(runs), one_teacher=True))
    1
    """
    kept = results[results["test_error"].notna()].sort_values("seed", kind="stable")
    if one_teacher:
        repeated = (kept["arm"] == "teacher") & kept.duplicated(["arm", "teacher", "labels"])
        kept = kept[~repeated]
    return in_order(kept)


def in_order(frame: pd.DataFrame) -> pd.DataFrame:
    """Sort rows by method, in the order of a report; rows of one method keep theirs.

    Parameters
    ----------
    frame : DataFrame
        With columns ``arm`` and ``teacher``. Unknown ones come last, in order of first appearance.

    Returns
    -------
    DataFrame

    Examples
    --------
    >>> import pandas as pd
    >>> from brainrdl.experiments.tables import in_order
    >>> in_order(pd.DataFrame({"arm": ["rdl", "plain"], "teacher": ["clean", ""]}))["arm"].tolist()
    ['plain', 'rdl']
    """

    def places(values: pd.Series) -> pd.Series:
        order = list(dict.fromkeys([*(ARM_NAMES if values.name == "arm" else ("", *TEACHERS)), *values]))
        return values.map(order.index)

    return frame.sort_values(list(METHOD), key=places, kind="stable")


def difference(
    results: pd.DataFrame,
    correctness: Correctness,
    first: tuple[str, str],
    second: tuple[str, str],
    *,
    n_resamples: int = 10_000,
) -> Difference:
    """Compare two methods over the seeds that both have.

    Parameters
    ----------
    results : DataFrame
        Runs with the same number of labels.
    correctness : mapping of str to ndarray of bool, shape (test images,)
        By row.
    first, second : (str, str)
        Arm and kind of teacher.
    n_resamples : int
        Of the crossed bootstrap.

    Returns
    -------
    Difference
        Test error of the first minus that of the second. A run is paired with the run of the same seed.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from brainrdl.experiments.tables import difference
    >>> runs = pd.DataFrame({"row": ["a", "b"], "arm": ["rdl", "plain"], "teacher": ["clean", ""], "seed": [0, 0]})
    >>> correctness = {"a": np.array([True, True]), "b": np.array([True, False])}
    >>> difference(runs, correctness, ("rdl", "clean"), ("plain", ""))[:5]
    (1, 0.0, 50.0, -50.0, nan)
    """
    rows = [_by_seed(results, method) for method in (first, second)]
    seeds = sorted(rows[0].keys() & rows[1].keys())
    if not seeds:
        return _NO_DIFFERENCE
    a, b = (np.stack([correctness[names[seed]] for seed in seeds]) for names in rows)
    errors_a, errors_b = (100 * (1 - right.mean(axis=1)) for right in (a, b))
    estimate, paired_low, paired_high = paired_t_interval(errors_a, errors_b)
    low = high = np.nan
    if len(seeds) > 1:  # of one seed, the bootstrap would speak of images only
        _, low, high = crossed_bootstrap(a, b, n_resamples=n_resamples)
    means = float(errors_a.mean()), float(errors_b.mean())
    return Difference(len(seeds), *means, estimate, low, high, paired_low, paired_high)


def error_table(
    results: pd.DataFrame,
    correctness: Correctness,
    *,
    study: str = "",
    control: tuple[str, str] = ("plain", ""),
    n_resamples: int = 10_000,
) -> pd.DataFrame:
    """Table 3: the test error of each method, and how far it is from that of the control.

    Parameters
    ----------
    results : DataFrame
        Runs with the same number of labels, as `distinct_networks` leaves them.
    correctness : mapping of str to ndarray of bool, shape (test images,)
        By row.
    study : str
        Name of the study, for the paper's numbers.
    control : (str, str)
        The method that the others are compared with.
    n_resamples : int
        Of the crossed bootstrap.

    Returns
    -------
    DataFrame
        One row per method: ``arm, teacher, method, n_seeds``; ``test_error, low, high``: mean and 95 % t interval over
        seeds; ``standard_error``: binomial, of one network with that error; ``validation_error``: mean;
        ``n_shared, difference, crossed_low, crossed_high, paired_low, paired_high``: see `Difference`, NaN for the
        control itself; ``paper``: the published test error.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from brainrdl.experiments.tables import error_table
    >>> runs = {"row": ["a", "b"], "arm": ["rdl", "plain"], "teacher": ["paper", ""], "seed": [0, 0]}
    >>> runs |= {"test_error": [0.0, 50.0], "validation_error": [1.0, 40.0]}
    >>> correctness = {"a": np.array([True, True]), "b": np.array([True, False])}
    >>> table = error_table(pd.DataFrame(runs), correctness, study="mnist")
    >>> table[["method", "test_error", "difference", "paper"]].values.tolist()
    [['plain', 50.0, nan, 0.63], ['RDL (paper)', 0.0, -50.0, 0.49]]
    """
    lines = []
    for (arm, teacher), runs in in_order(results).groupby(list(METHOD), sort=False):
        method = (str(arm), str(teacher))
        mean, low, high = t_interval(runs["test_error"].to_numpy(float))
        compared = _NO_DIFFERENCE
        if method != control:
            compared = difference(results, correctness, method, control, n_resamples=n_resamples)
        lines.append(
            {
                "arm": arm,
                "teacher": teacher,
                "method": method_name(*method),
                "n_seeds": len(runs),
                "test_error": mean,
                "low": low,
                "high": high,
                "standard_error": binomial_standard_error(mean, len(correctness[runs["row"].iloc[0]])),
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


def labels_table(results: pd.DataFrame, correctness: Correctness, *, n_resamples: int = 10_000) -> pd.DataFrame:
    """Compare the methods at each number of labelled images.

    Parameters
    ----------
    results : DataFrame
        As `distinct_networks` leaves them; runs with all labels are passed over.
    correctness : mapping of str to ndarray of bool, shape (test images,)
        By row.
    n_resamples : int
        Of the crossed bootstrap.

    Returns
    -------
    DataFrame
        What `error_table` says, for ``labels`` ascending, and ``p, b, c``: McNemar's exact test against the control
        for the networks of the first seed; b is the number of images that only the method gets right, c that only the
        control gets right. Not corrected for the number of tests.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from brainrdl.experiments.tables import labels_table
    >>> runs = {"row": ["a", "b"], "arm": ["rdl", "plain"], "teacher": ["clean", ""], "labels": [9, 9], "seed": [0, 0]}
    >>> runs |= {"test_error": [0.0, 50.0], "validation_error": [1.0, 40.0]}
    >>> correctness = {"a": np.array([True, True]), "b": np.array([True, False])}
    >>> labels_table(pd.DataFrame(runs), correctness)[["labels", "method", "p", "b", "c"]].values.tolist()
    [[9, 'plain', nan, nan, nan], [9, 'RDL (clean)', 1.0, 1.0, 0.0]]
    """
    parts = []
    for labels in sorted(results["labels"].dropna().unique()):
        runs = results[results["labels"] == labels]
        part = error_table(runs, correctness, n_resamples=n_resamples).drop(columns="paper")
        part.insert(0, "labels", int(labels))
        tests = mcnemar_table(runs, correctness)
        tests = tests[tests["first"] == method_name("plain", "")].rename(columns={"second": "method"})
        # as printed there, b counts the images that only the control gets right
        swapped = tests[["method", "p", "b", "c"]].rename(columns={"b": "c", "c": "b"})
        parts.append(part.merge(swapped, on="method", how="left"))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def mcnemar_table(
    results: pd.DataFrame, correctness: Correctness, *, seed: int | None = None, study: str = ""
) -> pd.DataFrame:
    """Tables 2 and 5: McNemar's exact test between each two methods, for the networks of one seed.

    Parameters
    ----------
    results : DataFrame
        Runs with the same number of labels, of the methods to compare.
    correctness : mapping of str to ndarray of bool, shape (test images,)
        By row.
    seed : int, optional
        By default the lowest. A method without it is left out.
    study : str
        Name of the study, for the paper's numbers.

    Returns
    -------
    DataFrame
        One row per pair: ``first, second``: methods, in the order of a report; ``p``: two-sided, not corrected;
        ``holm``: adjusted for the number of pairs here; ``b``: images that only the first gets right, ``c``: only the
        second; ``better``: the method that errs less, where p < .05; ``paper_p, paper_better``: as published, NaN and
        empty where the paper has none.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from brainrdl.experiments.tables import mcnemar_table
    >>> runs = pd.DataFrame({"row": ["a", "b"], "arm": ["rdl", "plain"], "teacher": ["paper", ""], "seed": [0, 0]})
    >>> correctness = {"a": np.ones(8, bool), "b": np.array([1, 1, 0, 0, 0, 0, 0, 0], bool)}
    >>> mcnemar_table(runs, correctness, study="mnist").values.tolist()
    [['plain', 'RDL (paper)', 0.03125, 0.03125, 0, 6, 'RDL (paper)', 0.01, 'RDL (paper)']]
    """
    columns = ["first", "second", "p", "holm", "b", "c", "better", "paper_p", "paper_better"]
    runs = in_order(results[results["seed"] == (results["seed"].min() if seed is None else seed)])
    named = [
        (str(arm), str(teacher), correctness[row])
        for arm, teacher, row in zip(runs["arm"], runs["teacher"], runs["row"], strict=True)
    ]
    lines = []
    for k, (arm_a, teacher_a, right_a) in enumerate(named):
        for arm_b, teacher_b, right_b in named[k + 1 :]:
            first, second = method_name(arm_a, teacher_a), method_name(arm_b, teacher_b)
            p, b, c = mcnemar(right_a, right_b)
            better = "" if p >= _SIGNIFICANT else first if b > c else second
            published = None
            if study in paper.PAPER and {teacher_a, teacher_b} <= {"", "paper"}:
                published = paper.PAPER[study].test(arm_a, arm_b)
            paper_p, arrow = (published.p, published.better) if published else (np.nan, "")
            paper_better = {arm_a: first, arm_b: second}.get(arrow, "")
            lines.append((first, second, p, np.nan, b, c, better, paper_p, paper_better))
    table = pd.DataFrame(lines, columns=columns)
    table["holm"] = holm(table["p"].to_numpy(float))
    return table


def geometry_table(geometry: pd.DataFrame) -> pd.DataFrame:
    """How far each method's geometry is from the teacher's, layer by layer.

    Parameters
    ----------
    geometry : DataFrame
        One row per run, teacher and layer: ``arm, labels, seed, teacher, layer, e_aux, correlation``.

    Returns
    -------
    DataFrame
        One row per number of labels (NaN: all), method, teacher and layer: ``labels, arm, teacher, method, layer``;
        ``n_seeds``; ``e_aux, correlation``: means over seeds; ``plain_e_aux``: plain's mean against the same teachers;
        ``ratio``: e_aux over it; ``n_shared, n_below``: seeds that both have, and in how many of them e_aux is below
        plain's; ``below``: whether the mean is. Methods in the order of a report, layers in that of the input.

    Examples
    --------
    >>> import pandas as pd
    >>> from brainrdl.experiments.tables import geometry_table
    >>> lines = {"arm": ["plain", "rdl"], "labels": None, "seed": 0, "teacher": "clean", "layer": "fc"}
    >>> lines |= {"e_aux": [4.0, 1.0], "correlation": [0.5, 0.9]}
    >>> geometry_table(pd.DataFrame(lines))[["method", "ratio", "n_below", "below"]].values.tolist()
    [['plain', 1.0, 0, False], ['RDL', 0.25, 1, True]]
    """
    lines = []
    ordered = in_order(geometry.assign(labels=geometry["labels"].astype(float)))
    for (labels, arm, teacher, layer), runs in ordered.groupby(
        ["labels", "arm", "teacher", "layer"], sort=False, dropna=False
    ):
        same = ordered["labels"].isin([labels])
        plain = ordered[
            same & (ordered["arm"] == "plain") & (ordered["teacher"] == teacher) & (ordered["layer"] == layer)
        ]
        of_plain = plain.set_index("seed")["e_aux"]
        shared = runs.set_index("seed")["e_aux"].to_frame("e_aux").join(of_plain.rename("plain"), how="inner")
        e_aux, plain_e_aux = float(runs["e_aux"].mean()), float(of_plain.mean()) if len(of_plain) else np.nan
        lines.append(
            {
                "labels": labels,
                "arm": arm,
                "teacher": teacher,
                "method": arm_name(str(arm)),
                "layer": layer,
                "n_seeds": len(runs),
                "e_aux": e_aux,
                "correlation": float(runs["correlation"].mean()),
                "plain_e_aux": plain_e_aux,
                "ratio": e_aux / plain_e_aux if plain_e_aux else np.nan,
                "n_shared": len(shared),
                "n_below": int((shared["e_aux"] < shared["plain"]).sum()),
                "below": e_aux < plain_e_aux,
            }
        )
    return pd.DataFrame(lines)


def tries_table(tries: pd.DataFrame) -> pd.DataFrame:
    """What was tried on validation, and what was chosen.

    Parameters
    ----------
    tries : DataFrame
        One row per candidate: ``arm, labels, teacher, try, setting`` (a JSON object), ``validation_error,
        validation_loss, chosen, seconds``.

    Returns
    -------
    DataFrame
        ``method, labels, try, setting, validation_error, validation_loss, chosen, seconds, note``, in the order of a
        report. ``setting`` is spelled out; ``note`` says why there is no validation error: a single candidate was not
        tried, one of several failed.

    Raises
    ------
    ValueError
        If a setting is no JSON object.

    Examples
    --------
    >>> import pandas as pd
    >>> from brainrdl.experiments.tables import tries_table
    >>> tried = {"arm": "rdl", "labels": None, "teacher": "clean", "try": [0], "setting": ['{"alpha0": 2.0}']}
    >>> tried |= {"validation_error": None, "validation_loss": None, "chosen": True, "seconds": None}
    >>> tries_table(pd.DataFrame(tried))[["method", "setting", "note"]].values.tolist()
    [['RDL (clean)', 'α₀ 2', 'the only candidate, not tried']]
    """
    ordered = in_order(tries.sort_values("try", kind="stable")).sort_values(
        "labels", kind="stable", na_position="first"
    )
    candidates = ordered.groupby(["arm", "teacher", "labels"], dropna=False)["try"].transform("size")
    notes = np.where(
        ordered["validation_error"].notna(),
        "",
        np.where(candidates == 1, "the only candidate, not tried", "failed"),
    )
    names = [method_name(str(a), str(t)) for a, t in zip(ordered["arm"], ordered["teacher"], strict=True)]
    settings = [spell_setting(str(setting)) for setting in ordered["setting"]]
    columns = ["labels", "try", "setting", "validation_error", "validation_loss", "chosen", "seconds"]
    table = ordered[columns].assign(setting=settings, note=notes)
    table.insert(0, "method", names)
    return table.reset_index(drop=True)


def spell_setting(setting: str) -> str:
    """Read an arm's setting out.

    Parameters
    ----------
    setting : str
        A JSON object of numbers.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        If it is none.

    Examples
    --------
    >>> from brainrdl.experiments.tables import spell_setting
    >>> spell_setting('{"alpha0": 3.0, "learning_rate": 0.1}'), spell_setting("{}")
    ('α₀ 3, learning rate 0.1', 'as in the recipe')
    """
    try:
        knobs = json.loads(setting)
    except json.JSONDecodeError:
        knobs = None
    if not isinstance(knobs, dict):
        raise ValueError(f'a setting is a JSON object, such as {{"alpha0": 2.0}}, got {setting!r}')
    spelled = [
        f"{_knob(name)} {value:g}" if isinstance(value, float | int) else f"{_knob(name)} {value}"
        for name, value in knobs.items()
    ]
    return ", ".join(spelled) or "as in the recipe"


def families(arms: Sequence[str]) -> list[tuple[str, ...]]:
    """Part arms into groups small enough to be shown together.

    Parameters
    ----------
    arms : sequence of str
        Those of a study.

    Returns
    -------
    list of tuple of str
        The paper's methods (and variants of them); then plain and RDL with the arms that the paper does not have,
        where there are any. Each in the order of a report.

    Examples
    --------
    >>> from brainrdl.experiments.tables import families
    >>> families(["plain", "rdl", "hints", "kd"])
    [('plain', 'hints', 'rdl'), ('plain', 'rdl', 'kd')]
    """
    known = [*ARM_NAMES, *(arm for arm in dict.fromkeys(arms) if arm not in ARM_NAMES)]
    present = [arm for arm in known if arm in arms]
    of_paper = {*paper.ARMS, "plain_readout", "finetuning_replaced"}
    further = [arm for arm in present if arm not in of_paper]
    groups = [tuple(arm for arm in present if arm in of_paper)]
    if further:
        groups.append(tuple(arm for arm in present if arm in ("plain", "plain_readout", "rdl", *further)))
    return [group for group in groups if group]


def _by_seed(results: pd.DataFrame, method: tuple[str, str]) -> dict[int, str]:
    runs = results[(results["arm"] == method[0]) & (results["teacher"] == method[1])]
    return {int(seed): str(row) for seed, row in zip(runs["seed"], runs["row"], strict=True)}


def _knob(name: str) -> str:
    return "α₀" if name == "alpha0" else name.replace("_", " ")
