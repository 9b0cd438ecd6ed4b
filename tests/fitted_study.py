"""A study folder as a fit leaves it, of made-up numbers."""

import json

import numpy as np
import pandas as pd

from brainrdl.rdms.labelled import label_rdms

SCORES = ("raw", "partial", "within_category")
CATEGORIES = ("human face", "animal body", "natural", "artificial")
SETTING = ("scheme", "fitted_study", "scored_study", "method")
PRIMARY = {
    "a": "rdl",
    "b": "task_only",
    "fitted_study": "kriegeskorte2008",
    "scored_study": "cichy2014",
    "scheme": "stratified",
    "method": "corr",
}
# raw, partial and within-category score; None: not defined
ARMS = {
    "pixels": (0.05, 0.02, 0.02),
    "animacy": (0.28, None, None),
    "four_category": (0.30, None, None),
    "silhouette": (0.08, None, 0.03),
    "hmax": (0.10, None, 0.04),
    "mixture": (0.33, None, 0.05),
    "monkey_it": (0.31, 0.12, 0.14),
    "behaviour": (0.34, 0.13, 0.12),
    "untrained": (0.06, 0.01, 0.02),
    "task_only": (0.20, 0.08, 0.10),
    "frrsa": (0.25, 0.09, 0.11),
    "gains": (0.23, 0.09, 0.11),
    "low_rank": (0.22, 0.07, 0.09),
    "readout": (0.12, 0.03, 0.04),
    "rdl": (0.29, 0.13, 0.15),
    "rdl_category": (0.27, 0.08, 0.10),
    "rdl_within_shuffle": (0.26, 0.08, 0.10),
    "rdl_global_shuffle": (0.10, 0.02, 0.03),
    "rdl_early_visual": (0.15, 0.06, 0.07),
}
UNTRAINED = (
    "pixels",
    "animacy",
    "four_category",
    "silhouette",
    "hmax",
    "mixture",
    "monkey_it",
    "behaviour",
    "untrained",
)
CONTRASTS = (
    ("rdl", "task_only"),
    ("rdl", "rdl_category"),
    ("rdl", "rdl_within_shuffle"),
    ("rdl", "rdl_global_shuffle"),
    ("rdl", "frrsa"),
)
SCHEMES = {
    "stratified": [f"fold-{k}" for k in range(1, 6)],
    "leave_one_category_out": list(CATEGORIES),
    "random": [f"split-{k:02d}" for k in range(1, 7)],
}
STUDIES = ("kriegeskorte2008", "cichy2014")


def make_fit(folder, *, arms=None, half_width=0.02, seeds=3, n_stimuli=24, notes=(), thumbnails=True, rdms=True):
    """Write every file that a fit leaves behind; `half_width` is that of all intervals of differences."""
    arms = ARMS if arms is None else arms
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    scores, summary, contrasts = [], [], []
    for scheme, splits in SCHEMES.items():
        for fitted in STUDIES:
            for scored in STUDIES if scheme == "stratified" else (PRIMARY["scored_study"],):
                setting = dict(zip(SETTING, (scheme, fitted, scored, "corr"), strict=True))
                shift = 0.0 if (fitted, scored) == STUDIES else 0.02
                means = {}
                for arm, values in arms.items():
                    for score, value in zip(SCORES, values, strict=True):
                        rows = _rows(rng, arm, score, value if value is None else value + shift, setting, splits, seeds)
                        means[arm, score] = np.mean([row["value"] for row in rows])
                        scores += rows
                        summary.append(_summary(arm, score, means[arm, score], rows[0], setting, splits, seeds))
                for a, b in CONTRASTS:
                    for score in SCORES if a in arms and b in arms else ():
                        difference = means[a, score] - means[b, score]
                        ends = {"low": difference - half_width, "high": difference + half_width}
                        line = {"a": a, "b": b, "score": score, "difference": difference, "se": half_width / 2, **ends}
                        primary = all(PRIMARY[key] == value for key, value in {**setting, "a": a, "b": b}.items())
                        contrasts.append({**setting, **line, "p": 0.002, "p_holm": 0.01, "primary": primary})
    pd.DataFrame(scores).to_csv(folder / "scores.csv", index=False)
    pd.DataFrame(summary).to_csv(folder / "summary.csv", index=False)
    pd.DataFrame(contrasts).to_csv(folder / "contrasts.csv", index=False)
    _choices().to_csv(folder / "choices.csv", index=False)
    _histories(rng, arms, seeds).to_csv(folder / "histories.csv", index=False)
    manifest = {
        "brainrdl": "0.1",
        "created": "2026-01-02T03:04:05",
        "command": "brainrdl fit human_it.yaml",
        "title": "Fitting to human IT",
        "name": "human_it",
        "configuration": {"seeds": [0, 1, 2], "fit": {"layers": ["pool2"], "alphas": [0, 0.1, 1]}},
        "configuration_hash": "abc123",
        "hardware": "two cores",
        "threads": 1,
        "versions": {"torch": "2.10"},
        "notes": list(notes),
        "primary": PRIMARY,
        "dropped_controls": [
            {"scheme": "leave_one_category_out", "split": "natural", "controls": ["animacy", "four_category"]}
        ],
    }
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    if rdms:
        _rdms(rng, n_stimuli).to_netcdf(folder / "rdms.nc", engine="h5netcdf")
    if thumbnails:
        images = rng.integers(0, 255, (n_stimuli, 4, 4, 3), dtype=np.uint8).repeat(8, axis=1).repeat(8, axis=2)
        np.savez(folder / "thumbnails.npz", ids=np.array(_ids(n_stimuli)), images=images)
    return folder


def _rows(rng, arm, score, value, setting, splits, seeds):
    rows = []
    for fold, split in enumerate(splits):
        for seed in range(1 if arm in UNTRAINED else seeds):
            common = {
                "arm": arm,
                "split": split,
                "fold": fold,
                "seed": seed,
                "layer": "pool2",
                "roi": "IT",
                "score": score,
            }
            noisy = np.nan if value is None else value + 0.02 * rng.standard_normal()
            ends = {"raw": (0.35, 0.55), "partial": (0.2, 0.4), "within_category": (0.22, 0.42)}[score]
            rows.append(
                {
                    **common,
                    **setting,
                    "alpha0": 0.1 if arm.startswith("rdl") else np.nan,
                    "value": noisy,
                    "ceiling_lower": ends[0],
                    "ceiling_upper": ends[1],
                    "n_pairs": 153,
                    "task_error": np.nan if arm in UNTRAINED else 15.0 + 2.0 * arm.startswith("rdl"),
                }
            )
    return rows


def _summary(arm, score, value, row, setting, splits, seeds):
    return {
        **setting,
        "arm": arm,
        "score": score,
        "value": value,
        "se": 0.02,
        "low": value - 0.04,
        "high": value + 0.04,
        "ceiling_lower": row["ceiling_lower"],
        "ceiling_upper": row["ceiling_upper"],
        "n_folds": len(splits),
        "n_seeds": 1 if arm in UNTRAINED else seeds,
        "n_subjects": 15 if setting["scored_study"] == "cichy2014" else 4,
        "n_stimuli": 24,
        "over": "both" if setting["scored_study"] == "cichy2014" else "stimuli",
        "task_error": row["task_error"],
    }


def _choices():
    rows = []
    for fitted in STUDIES:
        for fold in SCHEMES["stratified"]:
            split = {"fitted_study": fitted, "scheme": "stratified", "split": fold}
            for inner in ("inner-1", "inner-2"):
                for alpha in (0.0, 0.1, 1.0, 10.0):
                    for updates in (300, 1000):
                        gain = 0.06 * np.log1p(alpha) * (1 if updates == 300 else 0.7)
                        tried = {"arm": "rdl", "layer": "pool2", "alpha0": alpha, "updates": updates}
                        found = {"value": 0.2 + gain - 0.01 * alpha, "task_error": 16 + 2 * np.log1p(alpha)}
                        chosen = alpha == (1.0 if fold != "fold-3" else 0.1) and updates == 300
                        rows.append({**split, **tried, "inner_split": inner, **found, "chosen": chosen})
                for ridge in (0.1, 1.0):
                    tried = {"arm": "frrsa", "layer": "pool2", "setting": json.dumps({"ridge": ridge})}
                    rows.append(
                        {**split, **tried, "inner_split": inner, "value": 0.2 + ridge / 50, "chosen": ridge == 1}
                    )
    return pd.DataFrame(rows)


def _histories(rng, arms, seeds):
    rows = []
    for arm in [arm for arm in arms if arm.startswith("rdl")]:
        for fold in SCHEMES["stratified"]:
            for seed in range(seeds):
                for update in range(0, 301, 50):
                    decay = np.exp(-update / 100)
                    where = {"arm": arm, "fitted_study": STUDIES[0], "scheme": "stratified", "split": fold}
                    losses = {"task_loss": 0.5 + decay + 0.05 * rng.random(), "rdm_loss": 0.3 + decay}
                    error = 15 + 3 * decay if update % 100 == 0 else np.nan
                    rows.append({**where, "seed": seed, "update": update, **losses, "task_error": error})
    return pd.DataFrame(rows)


def _ids(n):
    return [f"{CATEGORIES[k % len(CATEGORIES)].replace(' ', '-')}-{k // len(CATEGORIES):02d}" for k in range(n)]


def _rdms(rng, n):
    categories = [CATEGORIES[k % len(CATEGORIES)] for k in range(n)]
    places = {name: rng.standard_normal(5) for name in CATEGORIES}
    features = np.array([places[name] for name in categories]) + 0.7 * rng.standard_normal((n, 5))
    what = ["brain", "brain", "before", "after"]
    labels = ["kriegeskorte2008", "cichy2014", "task only", "RDL"]
    noise = (0.4, 0.8, 2.0, 0.7)
    squares = []
    for level in noise:
        noisy = features + level * rng.standard_normal(features.shape)
        squares.append(np.square(noisy[:, None] - noisy[None]).sum(axis=-1))
    made = label_rdms(np.array(squares), _ids(n), labels, "undeclared", {"what": what})
    made = made.assign_coords(category=("stimulus", categories))
    return made.assign_attrs(held_out=json.dumps(_ids(n)[:5]))
