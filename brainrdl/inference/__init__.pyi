from .bootstrap import Resamples as Resamples, resample_scores as resample_scores
from .ceiling import NoiseCeiling as NoiseCeiling, noise_ceiling as noise_ceiling, subject_rdms as subject_rdms
from .controls import (
    category_rdm as category_rdm,
    partition_variance as partition_variance,
    remove_block_means as remove_block_means,
)
from .fold_scores import FoldScores as FoldScores, score_folds as score_folds
from .held_out import (
    HeldOut as HeldOut,
    Predicted as Predicted,
    Prediction as Prediction,
    held_out_scores as held_out_scores,
)
from .model_comparison import ModelComparison as ModelComparison, compare_models as compare_models
from .models import ModelScores as ModelScores, score_models as score_models
from .multiplicity import fdr as fdr, holm as holm
from .permutation import PermutationTest as PermutationTest, permutation_test as permutation_test
from .reweighting import (
    FittedHead as FittedHead,
    HeadSettings as HeadSettings,
    fit_frrsa as fit_frrsa,
    fit_head as fit_head,
    fit_rdms as fit_rdms,
)
from .splits import (
    Split as Split,
    category_splits as category_splits,
    inner_splits as inner_splits,
    random_splits as random_splits,
    stratified_splits as stratified_splits,
)
from .trainings import (
    Interval as Interval,
    McNemar as McNemar,
    binomial_standard_error as binomial_standard_error,
    crossed_bootstrap as crossed_bootstrap,
    mcnemar as mcnemar,
    paired_t_interval as paired_t_interval,
    t_interval as t_interval,
)
