"""Method against method: paired differences over seeds, and McNemar's test over images.

Differences are in percentage points. What the data cannot say is NaN: one or two seeds have no interval over
training runs.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainrdl.inference.intervals import PERCENT
from brainrdl.inference.multiplicity import holm
from brainrdl.inference.trainings import MIN_SEEDS, crossed_bootstrap, mcnemar, paired_t_interval
from brainrdl.studies.paper import published as paper
from brainrdl.studies.reports.methods import PAPER_ARMS, ArmWords, in_order, method_name, runs_of
from brainrdl.studies.reports.words import records

Correctness = Mapping[str, NDArray[np.bool_]]
"""By name of a row of the results: whether the network is right, (test images,)."""

SIGNIFICANT = 0.05
"""Below it, p shows that one network has a lower error than another."""


class Difference(NamedTuple):
    """The test error of one method minus that of another, in percentage points, over the ``n_seeds`` both have.

    Means ``first, second`` in percent; ``low, high`` 95 % crossed bootstrap over seeds and images, ``paired_…`` 95 %
    paired t interval over seeds, for this very test set; NaN below three seeds.
    """

    n_seeds: int
    first: float
    second: float
    estimate: float
    low: float
    high: float
    paired_low: float
    paired_high: float


NO_DIFFERENCE = Difference(0, *[np.nan] * 7)
"""Of two methods that share no seed."""


def difference(
    results: pd.DataFrame,
    correctness: Correctness,
    first: tuple[str, str],
    second: tuple[str, str],
    *,
    n_resamples: int = 10_000,
) -> Difference:
    """Compare two methods, each an arm and a kind of teacher, over the seeds that both have.

    `results` are runs with the same number of labels; a run is paired with the run of the same seed.
    """
    runs = [runs_of(results, method) for method in (first, second)]
    rows = [dict(zip(part["seed"].astype(int), part["row"], strict=True)) for part in runs]
    # a run that died leaves its seed without a partner
    seeds = sorted(rows[0].keys() & rows[1].keys())
    if not seeds:
        return NO_DIFFERENCE
    a, b = (np.stack([correctness[names[seed]] for seed in seeds]) for names in rows)
    errors_a, errors_b = (100 * (1 - right.mean(axis=1)) for right in (a, b))
    estimate, paired_low, paired_high = paired_t_interval(errors_a, errors_b, bounds=PERCENT)
    low = high = np.nan
    if len(seeds) >= MIN_SEEDS:  # of one seed, the bootstrap would speak of images only
        _, low, high = crossed_bootstrap(a, b, n_resamples=n_resamples)
    means = float(errors_a.mean()), float(errors_b.mean())
    return Difference(len(seeds), *means, estimate, low, high, paired_low, paired_high)


def mcnemar_table(
    results: pd.DataFrame,
    correctness: Correctness,
    *,
    seed: int | None = None,
    study: str = "",
    arms: ArmWords = PAPER_ARMS,
) -> pd.DataFrame:
    """Tables 2 and 5: McNemar's exact test between each two methods, for the networks of one seed (the lowest one).

    A row per pair: ``p``, two-sided, not corrected; ``b`` images only the first gets right, ``c`` only the second;
    ``better``, the method with the lower error, where p < .05; ``paper_p, paper_better`` as published for `study`.
    """
    runs = in_order(results[results["seed"] == (results["seed"].min() if seed is None else seed)], arms)
    named = [(str(run["arm"]), str(run["teacher"]), correctness[run["row"]]) for run in records(runs)]
    lines = []
    for k, (arm_a, teacher_a, right_a) in enumerate(named):
        for arm_b, teacher_b, right_b in named[k + 1 :]:
            first, second = method_name(arm_a, teacher_a, arms), method_name(arm_b, teacher_b, arms)
            # two-sided: neither method was expected to win
            p, b, c = mcnemar(right_a, right_b)
            better = "" if p >= SIGNIFICANT else first if b > c else second
            published = None
            # its teachers' numbers are of its own teacher alone
            if study in paper.PAPER and all(map(paper.PAPER[study].taught_by, (teacher_a, teacher_b))):
                published = paper.PAPER[study].test(arm_a, arm_b)
            paper_p, arrow = (published.p, published.better) if published else (np.nan, "")
            paper_better = {arm_a: first, arm_b: second}.get(arrow, "")
            lines.append((first, second, p, np.nan, b, c, better, paper_p, paper_better))
    columns = ["first", "second", "p", "holm", "b", "c", "better", "paper_p", "paper_better"]
    table = pd.DataFrame(lines, columns=columns)
    table["holm"] = holm(table["p"].to_numpy(float))
    return table
