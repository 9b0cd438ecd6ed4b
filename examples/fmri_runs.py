"""How many runs does a study need? Recovery of a planted RDM against the number of runs, as simulated and in theory.

    python examples/fmri_runs.py --out runs.png

Twenty stimuli in four clusters, 100 voxels, noise whose SD in one run's pattern estimate is that of the patterns, twice
and four times it. In theory, with distances of variance σ²_d and standard errors SE (Diedrichsen & Kriegeskorte 2017),
r = sqrt(σ²_d / (σ²_d + mean SE²)).
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import brainrdl as rdl
from brainrdl.rdms.labelled import condense

N, VOXELS = 20, 100
COLORS = ("#0072B2", "#D55E00", "#009E73")


def recovery(true: np.ndarray, n_runs: int, noise: float, rng: np.random.Generator) -> tuple[float, float]:
    """Correlation of the crossnobis RDM with the planted distances, and the one expected of its standard errors."""
    i, j = np.triu_indices(N, 1)
    distances = np.square(true[i] - true[j]).mean(axis=1)
    values = np.tile(true, (n_runs, 1)) + noise * true.std() * rng.normal(size=(n_runs * N, VOXELS))
    patterns = rdl.fmri.make_patterns(values, [f"s{k}" for k in range(N)] * n_runs, np.repeat(range(n_runs), N))
    errors = rdl.fmri.standard_errors(patterns).values[0][i, j]
    r = np.corrcoef(condense(rdl.fmri.crossnobis(patterns))[0], distances)[0, 1]
    return float(r), float(np.sqrt(distances.var() / (distances.var() + np.square(errors).mean())))


def main(arguments: list[str] | None = None) -> list[tuple[float, int, float, float]]:
    """Draw the figure; return rows of noise, runs, r as simulated, r in theory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the figure")
    parser.add_argument("--repeats", type=int, default=20, help="data sets per point")
    options = parser.parse_args(arguments)
    rng = np.random.default_rng(0)
    points = np.repeat(rng.normal(0, 1.5, (4, 10)), N // 4, axis=0) + rng.normal(0, 0.5, (N, 10))
    i, j = np.triu_indices(N, 1)
    planted = rdl.label_rdms(
        np.square(points[i] - points[j]).mean(axis=1)[None], [f"s{k}" for k in range(N)], ["IT"], "mse"
    )
    true = rdl.fmri.plant_patterns(planted, VOXELS, rng)
    figure = Figure(figsize=(4.6, 3.0), layout="constrained")
    ax = figure.subplots()
    rows = []
    for noise, color in zip((1.0, 2.0, 4.0), COLORS, strict=True):
        counts = (3, 4, 6, 8, 12, 16, 24)
        found = np.array([[recovery(true, n_runs, noise, rng) for _ in range(options.repeats)] for n_runs in counts])
        mean, spread = found.mean(axis=1), found[..., 0].std(axis=1)
        ax.errorbar(
            counts, mean[:, 0], spread, fmt="o", color=color, markersize=4, linewidth=0.8, label=f"noise ×{noise:g}"
        )
        ax.plot(counts, mean[:, 1], color=color, linewidth=1)
        rows += [(noise, n_runs, float(r), float(theory)) for n_runs, (r, theory) in zip(counts, mean, strict=True)]
    ax.set(xscale="log", xlabel="runs", ylabel="r with the planted distances", ylim=(None, 1.01))
    ax.set_xticks((3, 4, 6, 8, 12, 16, 24), ["3", "4", "6", "8", "12", "16", "24"])
    ax.minorticks_off()
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize=8, title="dots: simulated (SD); lines: theory", title_fontsize=8)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.out, dpi=150)
    for noise, n_runs, r, theory in rows:
        print(f"noise ×{noise:g}, {n_runs:2d} runs: r {r:.3f}, theory {theory:.3f}")
    return rows


if __name__ == "__main__":
    main()
