"""Relational distillation: distances, similarities and kernels of a batch."""

from typing import final

import torch
from torch import Tensor
from torch.nn import functional

from brainrdl.rdms.distances import full_precision, training_rdm
from brainrdl.terms.distillation import FromNetwork


@final
class RKD(FromNetwork):
    """Relational knowledge distillation by distance: Huber error of distances divided by their mean.

    Parameters
    ----------
    teacher : NetworkTeacher
        Teacher, whose features the term reads.
    layers : dict of str
        Student layer → teacher layer.
    alpha : float, dict of float or schedule
        Weight α of the error in Eq. 5.
    stream : {"task", "stimuli"}
        Stream on whose batches the term is computed.

    Raises
    ------
    TypeError
        If `teacher` is not a NetworkTeacher, or `layers` not a mapping.
    ValueError
        If a teacher layer is ambiguous, an α negative, or the stream unknown.

    References
    ----------
    Park et al. (2019), Relational knowledge distillation.

    Examples
    --------
    >>> import torch, brainrdl as rdl
    >>> teacher = rdl.NetworkTeacher(torch.nn.Sequential(torch.nn.Linear(4, 3)), ["0"])
    >>> rdl.RKD(teacher, {"fc": "0"}, alpha=10.0).alpha
    10.0
    """

    name = "rkd"
    fewest = 3  # of two, the one distance over its mean is 1

    def relate(self, layer: str, student: Tensor, teacher: Tensor) -> Tensor:
        """Huber error, δ = 1, over all pairs."""
        # Σ_{i<j} ℓ_δ(ψ_ij(student), ψ_ij(teacher)) over the number of pairs, ψ_ij = |f_i − f_j| / mean
        return functional.smooth_l1_loss(_relative_distances(student), _relative_distances(teacher))


@final
class SP(FromNetwork):
    """Similarity-preserving distillation: squared difference of row-normalised Gram matrices, over n².

    Takes ``teacher, layers, alpha, stream`` as `RKD`.

    References
    ----------
    Tung & Mori (2019), Similarity-preserving knowledge distillation.

    Examples
    --------
    >>> import torch, brainrdl as rdl
    >>> teacher = rdl.NetworkTeacher(torch.nn.Sequential(torch.nn.Linear(4, 3)), ["0"])
    >>> rdl.SP(teacher, {"fc": "0"}).targets
    {'fc': '0'}
    """

    name = "sp"
    fewest = 2

    def relate(self, layer: str, student: Tensor, teacher: Tensor) -> Tensor:
        """‖G_S − G_T‖²_F / n², rows of both Gram matrices at unit length."""
        with full_precision(student.device):
            ours, theirs = (functional.normalize(_gram(_near_one(f)), dim=1) for f in (student, teacher))
            # the mean over n² entries is the norm over n²
            return (ours - theirs).square().mean()


@final
class CKA(FromNetwork):
    """1 − linear centred kernel alignment.

    Takes ``teacher, layers, alpha, stream`` as `RKD`.

    References
    ----------
    Kornblith et al. (2019), Similarity of neural network representations revisited.

    Examples
    --------
    >>> import torch, brainrdl as rdl
    >>> teacher = rdl.NetworkTeacher(torch.nn.Sequential(torch.nn.Linear(4, 3)), ["0"])
    >>> rdl.CKA(teacher, {"fc": "0"}, stream="stimuli").stream
    'stimuli'
    """

    name = "cka"
    fewest = 3  # two, centred, are each other's negative

    def relate(self, layer: str, student: Tensor, teacher: Tensor) -> Tensor:
        """1 − ⟨K, L⟩ / (‖K‖ ‖L‖), K and L the Gram matrices of centred features."""
        with full_precision(student.device):
            # scaled before they are centred: what rounding leaves of a constant layer stays small
            k, l = (_gram(f - f.mean(dim=0)) for f in (_near_one(student), _near_one(teacher)))  # noqa: E741 - source's
            # 1 − tr(KL)/(‖K‖ ‖L‖)
            return 1 - functional.cosine_similarity(k.flatten(), l.flatten(), dim=0)


def _relative_distances(features: Tensor) -> Tensor:
    distances = training_rdm(features, "euclidean")
    return distances / distances.mean().clamp_min(torch.finfo(distances.dtype).tiny)


def _near_one(features: Tensor) -> Tensor:
    """Features divided by a power of two, which rounds nothing, so that the largest is near 1."""
    # for what is blind to scale: norms of a Gram matrix hold fourth powers of features, which would vanish or overflow
    flat = features.flatten(1).to(torch.promote_types(features.dtype, torch.float32))
    limits = torch.finfo(flat.dtype)
    largest = flat.detach().abs().max()
    mantissa, _ = torch.frexp(largest)
    return flat * (mantissa / largest.clamp(limits.tiny, limits.max / 8))


def _gram(features: Tensor) -> Tensor:
    return features @ features.T
