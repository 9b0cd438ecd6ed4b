"""Figures: RDM panels, training curves, maps of RDMs, test errors as dots, models' scores, the course of a fit.

Every function returns a `matplotlib.figure.Figure` (or the axes that it drew on) and shows nothing: a
notebook displays what a cell returns, a script calls ``figure.savefig(path)``. pyplot and its global state
stay untouched.
"""

from brainrdl.plots._groups import Groups
from brainrdl.plots.dots import score_dots
from brainrdl.plots.errors import error_curves, error_dots, label_curve, learning_curves, trade_off
from brainrdl.plots.mds import mds_map, plot_mds, save_plot
from brainrdl.plots.rdms import plot_rdms, rdm_grid, rdm_panel
from brainrdl.plots.scores import align_scores, score_panel, similarity_matrix

__all__ = [
    "Groups",
    "align_scores",
    "error_curves",
    "error_dots",
    "label_curve",
    "learning_curves",
    "mds_map",
    "plot_mds",
    "plot_rdms",
    "rdm_grid",
    "rdm_panel",
    "save_plot",
    "score_dots",
    "score_panel",
    "similarity_matrix",
    "trade_off",
]
