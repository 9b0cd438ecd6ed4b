from ._groups import Groups as Groups
from .curves import error_curves as error_curves, learning_curves as learning_curves
from .dots import score_dots as score_dots
from .embedding import classical_mds as classical_mds, mds as mds
from .errors import error_dots as error_dots, label_curve as label_curve, trade_off as trade_off
from .mds import mds_map as mds_map, plot_mds as plot_mds, save_plot as save_plot
from .rdms import plot_rdms as plot_rdms, rdm_grid as rdm_grid, rdm_panel as rdm_panel
from .scores import align_scores as align_scores, score_panel as score_panel, similarity_matrix as similarity_matrix
