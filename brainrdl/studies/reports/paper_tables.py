"""The tables of a report that are made of errors, geometries and tries.

All take and return DataFrames and read no files. Errors are in percent, differences in percentage points. What the data
cannot say is NaN: a study with one seed has no interval over trainings.
"""

import json
from collections.abc import Mapping

import numpy as np
import pandas as pd

from brainrdl.inference import binomial_standard_error, t_interval
from brainrdl.studies.paper import published as paper
from brainrdl.studies.reports.differences import NO_DIFFERENCE, Correctness, difference, mcnemar_table
from brainrdl.studies.reports.methods import METHOD, arm_name, baseline_of, in_order, method_name

UNTRIED = "the only candidate, not tried"
"""What stands in place of a validation error where there was nothing to choose from."""


def error_table(
    results: pd.DataFrame,
    correctness: Correctness,
    *,
    study: str = "",
    baselines: Mapping[str, str] | None = None,
    n_resamples: int = 10_000,
) -> pd.DataFrame:
    """Table 3: the test error of each method, and how far it is from that of its baseline.

    Parameters
    ----------
    results : DataFrame
        Runs with the same number of labels, as `distinct_networks` leaves them.
    correctness : mapping of str to ndarray of bool, shape (test images,)
        By row.
    study : str
        Name of the study, for the paper's numbers.
    baselines : mapping of str to str, optional
        See `baseline_of`.
    n_resamples : int
        Of the crossed bootstrap.

    Returns
    -------
    DataFrame
        One row per method: ``arm, teacher, method, n_seeds``; ``baseline``: the arm that it is compared with, empty for
        ``plain``; ``test_error, low, high``: mean and 95 % t interval over
        seeds; ``standard_error``: binomial, of one network with that error, NaN at 0 and 100 %, where its formula gives
        a certainty that no test set can; ``validation_error``: mean;
        ``n_shared, difference, crossed_low, crossed_high, paired_low, paired_high``: see `Difference`, NaN for
        ``plain``; ``paper``: the published test error.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from brainrdl.studies.reports.paper_tables import error_table
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
        baseline = baseline_of(method[0], baselines or {})
        compared = NO_DIFFERENCE
        if baseline is not None:
            compared = difference(results, correctness, method, (baseline, ""), n_resamples=n_resamples)
        lines.append(
            {
                "arm": arm,
                "teacher": teacher,
                "method": method_name(*method),
                "n_seeds": len(runs),
                "baseline": baseline or "",
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
    n_resamples: int = 10_000,
) -> pd.DataFrame:
    """Compare the methods at each number of labelled images.

    Parameters
    ----------
    results : DataFrame
        As `distinct_networks` leaves them; runs with all labels are passed over.
    correctness : mapping of str to ndarray of bool, shape (test images,)
        By row.
    baselines : mapping of str to str, optional
        See `baseline_of`.
    n_resamples : int
        Of the crossed bootstrap.

    Returns
    -------
    DataFrame
        What `error_table` says, for ``labels`` ascending, and ``p, b, c``: McNemar's exact test against the baseline
        for the networks of the first seed; b is the number of images that only the method gets right, c that only the
        baseline gets right. Not corrected for the number of tests.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from brainrdl.studies.reports.paper_tables import labels_table
    >>> runs = {"row": ["a", "b"], "arm": ["rdl", "plain"], "teacher": ["clean", ""], "labels": [9, 9], "seed": [0, 0]}
    >>> runs |= {"test_error": [0.0, 50.0], "validation_error": [1.0, 40.0]}
    >>> correctness = {"a": np.array([True, True]), "b": np.array([True, False])}
    >>> labels_table(pd.DataFrame(runs), correctness)[["labels", "method", "p", "b", "c"]].values.tolist()
    [[9, 'plain', nan, nan, nan], [9, 'RDL (clean)', 1.0, 1.0, 0.0]]
    """
    parts = []
    for labels in sorted(results["labels"].dropna().unique()):
        runs = results[results["labels"] == labels]
        part = error_table(runs, correctness, baselines=baselines, n_resamples=n_resamples).drop(columns="paper")
        part.insert(0, "labels", int(labels))
        tests = mcnemar_table(runs, correctness).rename(columns={"first": "against", "second": "method"})
        # as printed there, b counts the images that only the first, here the baseline, gets right
        swapped = tests[["against", "method", "p", "b", "c"]].rename(columns={"b": "c", "c": "b"})
        against = [arm_name(arm) for arm in part["baseline"]]
        joined = part.assign(against=against).merge(swapped, on=["against", "method"], how="left")
        parts.append(joined.drop(columns="against"))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def geometry_table(geometry: pd.DataFrame, baselines: Mapping[str, str] | None = None) -> pd.DataFrame:
    """How far each method's geometry is from the teacher's, layer by layer.

    Parameters
    ----------
    geometry : DataFrame
        One row per run, teacher and layer: ``arm, labels, seed, teacher, layer, e_aux, correlation``.
    baselines : mapping of str to str, optional
        See `baseline_of`.

    Returns
    -------
    DataFrame
        One row per number of labels (NaN: all), method, teacher and layer: ``labels, arm, teacher, method, layer``;
        ``n_seeds``; ``e_aux, correlation``: means over seeds; ``baseline_e_aux``: its baseline's mean against the same
        teachers (plain's own for plain); ``ratio``: e_aux over it; ``n_shared, n_below``: seeds that both have, and in
        how many of them e_aux is below the baseline's; ``below``: whether the mean is. Methods in the order of a
        report, layers in that of the input.

    Examples
    --------
    >>> import pandas as pd
    >>> from brainrdl.studies.reports.paper_tables import geometry_table
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
        baseline = baseline_of(str(arm), baselines or {}) or "plain"
        its = ordered[
            same & (ordered["arm"] == baseline) & (ordered["teacher"] == teacher) & (ordered["layer"] == layer)
        ]
        of_it = its.set_index("seed")["e_aux"]
        shared = runs.set_index("seed")["e_aux"].to_frame("e_aux").join(of_it.rename("baseline"), how="inner")
        e_aux, baseline_e_aux = float(runs["e_aux"].mean()), float(of_it.mean()) if len(of_it) else np.nan
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
                "baseline_e_aux": baseline_e_aux,
                "ratio": e_aux / baseline_e_aux if baseline_e_aux else np.nan,
                "n_shared": len(shared),
                "n_below": int((shared["e_aux"] < shared["baseline"]).sum()),
                "below": e_aux < baseline_e_aux,
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
    >>> from brainrdl.studies.reports.paper_tables import tries_table
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
        np.where(candidates == 1, UNTRIED, "failed"),
    )
    names = [method_name(str(a), str(t)) for a, t in zip(ordered["arm"], ordered["teacher"], strict=True)]
    settings = [format_setting(str(setting)) for setting in ordered["setting"]]
    columns = ["labels", "try", "setting", "validation_error", "validation_loss", "chosen", "seconds"]
    table = ordered[columns].assign(setting=settings, note=notes)
    table.insert(0, "method", names)
    return table.reset_index(drop=True)


def format_setting(setting: str) -> str:
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
    >>> from brainrdl.studies.reports.paper_tables import spell_setting
    >>> spell_setting('{"alpha0": 3.0, "learning_rate": 0.1}'), spell_setting("{}")
    ('α₀ 3, learning rate 0.1', 'as in the recipe')
    """
    try:
        knobs = json.loads(setting)
    except json.JSONDecodeError:
        knobs = None
    if not isinstance(knobs, dict):
        raise ValueError(f'a setting is a JSON object, such as {{"alpha0": 2.0}}, got {setting!r}')
    format_overrides = [
        f"{_knob(name)} {value:g}" if isinstance(value, float | int) else f"{_knob(name)} {value}"
        for name, value in knobs.items()
    ]
    return ", ".join(format_overrides) or "as in the recipe"


def _knob(name: str) -> str:
    return "α₀" if name == "alpha0" else name.replace("_", " ")
