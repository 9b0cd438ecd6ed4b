"""Coverage of 95 % intervals of a model's score: simulated subjects and stimuli.

    python benchmarks/coverage.py                       # 1,000 simulations, some minutes
    python benchmarks/coverage.py --simulations 100

A stimulus has a true pattern of 12 features and a model that holds half of its variance (and as much of its own): a
model that is wrong, but correlated. A subject's pattern is the true one, a deviation of its own of the same size, and
measurement noise per stimulus. RDMs hold squared Euclidean distances; the score is the mean over subjects of the
correlation with the model.

- "subjects": the 30 stimuli are fixed and the subjects drawn anew in each simulation; the truth is the mean score of
  10,000 subjects with these stimuli. Ten sets of stimuli take turns.
- "both": subjects and stimuli are drawn anew; the truth is the mean score of 20,000 such draws of one subject with 30
  stimuli, which is what the expected score of an experiment of this size is.

For each: Student's t with the bootstrap's (corrected) standard error, the percentile interval, and for both factors the
uncorrected bootstrap over both (naive) and over one factor only.
"""

import argparse
import time
from collections.abc import Iterator

import numpy as np
from scipy import stats
from scipy.spatial.distance import pdist

from brainrdl.inference import Resamples, resample_scores

FEATURES = 12
STIMULI = 30


class World:
    """Draws stimuli, and subjects that see them."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def stimuli(self) -> tuple[np.ndarray, np.ndarray]:
        """True patterns and the model's RDM (1, pairs)."""
        true, own = self.rng.normal(size=(2, STIMULI, FEATURES))
        return true, pdist((true + own) / np.sqrt(2), "sqeuclidean")[None]

    def subjects(self, true: np.ndarray, count: int) -> np.ndarray:
        """RDMs (count, pairs) of subjects that share the true pattern."""
        patterns = true + self.rng.normal(size=(count, STIMULI, FEATURES))
        # a subject weighs the features in its own way, and its measurements are noisy
        patterns *= np.exp(0.5 * self.rng.normal(size=(count, 1, FEATURES)))
        patterns += self.rng.normal(size=patterns.shape)
        return np.stack([pdist(pattern, "sqeuclidean") for pattern in patterns])


def correlations(model: np.ndarray, subjects: np.ndarray) -> np.ndarray:
    """Of one model with each subject."""
    a = model[0] - model.mean()
    b = subjects - subjects.mean(axis=1, keepdims=True)
    return (b @ a) / np.sqrt((a @ a) * np.square(b).sum(axis=1))


def held(resamples: Resamples, truth: float) -> dict[str, bool]:
    """Find the 95 % intervals of the first model's score that hold the truth."""
    score = np.zeros(len(resamples.estimate))
    score[0] = 1
    estimate = resamples.estimate[0]

    def by_t(se: float, degrees: int) -> bool:
        return bool(abs(estimate - truth) <= stats.t.ppf(0.975, degrees) * se)

    def by_percentile(draws: np.ndarray) -> bool:
        low, high = np.nanquantile(draws[:, 0], [0.025, 0.975])
        return bool(low <= truth <= high)

    degrees = resamples.degrees_of_freedom
    corrected = "t, corrected" if resamples.both is not None else "t, SD × √(n/(n−1))"
    found = {corrected: by_t(resamples.standard_error(score), degrees)}
    found["percentile"] = by_percentile(resamples.draws())
    if resamples.both is not None and resamples.subjects is not None and resamples.stimuli is not None:
        found["naive: t, both uncorrected"] = by_t(float(np.nanstd(resamples.both[:, 0], ddof=1)), degrees)
        found["naive: t, subjects only"] = by_t(
            float(np.std(resamples.subjects[:, 0], ddof=1)), resamples.n_subjects - 1
        )
        found["naive: t, stimuli only"] = by_t(
            float(np.nanstd(resamples.stimuli[:, 0], ddof=1)), resamples.n_stimuli - 1
        )
    return found


def over_subjects(simulations: int, n_subjects: int, n_resamples: int) -> Iterator[dict[str, bool]]:
    """Fixed stimuli, subjects drawn anew."""
    world = World(1)
    sets = [world.stimuli() for _ in range(10)]
    truths = [correlations(model, world.subjects(true, 10_000)).mean() for true, model in sets]
    for k in range(simulations):
        true, model = sets[k % len(sets)]
        subjects = world.subjects(true, n_subjects)
        yield held(
            resample_scores(model, subjects, "corr", "subjects", n_resamples=n_resamples, seed=k), truths[k % len(sets)]
        )


def over_both(simulations: int, n_subjects: int, n_resamples: int) -> Iterator[dict[str, bool]]:
    """Stimuli and subjects drawn anew."""
    world = World(2)
    scores = []
    for _ in range(20_000):
        true, model = world.stimuli()
        scores.append(correlations(model, world.subjects(true, 1)))
    truth = float(np.mean(scores))
    for k in range(simulations):
        true, model = world.stimuli()
        subjects = world.subjects(true, n_subjects)
        yield held(resample_scores(model, subjects, "corr", "both", n_resamples=n_resamples, seed=k), truth)


def coverage(which: str, simulations: int, n_subjects: int = 20, n_resamples: int = 500) -> dict[str, float]:
    """Share of simulations, in percent, in which each interval holds the truth."""
    simulate = over_subjects if which == "subjects" else over_both
    rows = list(simulate(simulations, n_subjects, n_resamples))
    return {name: 100 * float(np.mean([row[name] for row in rows])) for name in rows[0]}


def main() -> None:
    """Parse the options and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=1000)
    parser.add_argument("--resamples", type=int, default=500)
    options = parser.parse_args()
    error = 100 * np.sqrt(0.05 * 0.95 / options.simulations)
    print(f"{options.simulations} simulations, {options.resamples} resamples; standard error of 95 %: {error:.1f} %")
    print(f"{'over':10}{'subjects':>9}  {'interval':32}{'coverage (%)':>12}")
    for which in ("subjects", "both"):
        for n_subjects in (20, 4):
            start = time.perf_counter()
            for name, percent in coverage(which, options.simulations, n_subjects, options.resamples).items():
                print(f"{which:10}{n_subjects:9}  {name:32}{percent:12.1f}")
            print(f"{'':10}{time.perf_counter() - start:9.0f} s", flush=True)


if __name__ == "__main__":
    main()
