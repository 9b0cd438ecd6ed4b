"""Names that callers choose among, where commands can list them before anything that computes is loaded."""

from collections.abc import Mapping

METRICS = ("mse", "sqeuclidean", "euclidean", "correlation", "cosine")
"""The metrics that are computed from features, see `brainrdl.rdms.distances`."""

METHODS: Mapping[str, str] = {
    "cosine": "cosine",
    "corr": "Pearson r",
    "cosine_cov": "whitened cosine",
    "corr_cov": "whitened Pearson r",
    "spearman": "Spearman's ρ",
    "rho-a": "Spearman's ρ-a",
    "tau-a": "Kendall's τ-a",
    "tau-b": "Kendall's τ-b",
    "mse": "− mean squared difference",
}
"""The comparisons: rsatoolbox's name → what figures and pages call it; ``mse`` is returned negated."""

HEADS = ("frrsa", "gains", "low_rank", "readout")
"""The kinds of heads, see `brainrdl.inference.reweighting.fit_heads`."""

CARD_HEADS = ("frrsa", "gains")
"""Those of a card, unless it is asked for others."""

GRADIENTS = ("auto", "per-stimulus", "mean")
"""The gradients of RDL, see `brainrdl.terms.losses`."""

OPTIMIZERS = ("linear_sgd", "halving_sgd")
"""The optimisers of the paper's studies, functions of `brainrdl.studies.optimizers`."""

PRECISIONS = ("auto", "32-true", "bf16-mixed")
"""The precisions of a training, see `brainrdl.training.machine`."""

RANDOM_WEIGHTS = "random weights"
"""Words of titles, tables and figures for a network that was never trained."""


def check_metric(metric: str) -> None:
    """Raise a ValueError that lists the known metrics, unless `metric` is one of them."""
    if metric not in METRICS:
        raise ValueError(f"unknown metric {metric!r}; computed from features are: {', '.join(METRICS)}")
