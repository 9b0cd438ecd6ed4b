from .combine import average_rdms as average_rdms, concat_rdms as concat_rdms
from .compare import compare_rdms as compare_rdms
from .condensed import sample_pairs as sample_pairs, to_condensed as to_condensed, to_square as to_square
from .distances import rdm as rdm
from .labelled import condense as condense, label_rdms as label_rdms, select_stimuli as select_stimuli
from .layers import layer_rdms as layer_rdms
from .layout import check_rdms as check_rdms
