"""α balanced against the task: a weight that means the same whatever a term's units."""

from collections.abc import Callable
from copy import deepcopy
from math import inf
from typing import Any

import torch
from torch import Tensor, nn

from brainrdl.features.recorder import Recorder, run_model
from brainrdl.terms.alpha import check_alpha
from brainrdl.terms.base import Batch, Term


def balanced_alpha(
    alpha0: float,
    term: Term,
    student: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    task_loss: Callable[[Any, Tensor], Tensor] = nn.functional.cross_entropy,
    seed: int = 0,
) -> dict[str, float]:
    """Balance a term against the task at the start: ``α_m = α_0 · E_task/E_m``, both of one batch.

    With α_0 = 1 every layer m then adds as much to the loss as the task does before the first update. A raw distance of
    an untrained student may be hundreds of times its teacher's, so that no α_0 relative to the teacher's distances
    (`relative_alpha`) suits both the first updates and the last.

    Parameters
    ----------
    alpha0 : float
        Share of a layer in the loss, in units of the task's.
    term : Term
        Term, with whatever α; one with a head of its own to train has no value yet.
    student : nn.Module
        Untrained student, in the mode in which it will be trained. It is copied: nothing in it changes.
    images : Tensor (n, ...)
        First batch of training images, or one like it, on the student's device.
    labels : Tensor (n,)
        Their labels, as the task's loss takes them.
    task_loss : callable (output, labels) -> Tensor ()
        E_task.
    seed : int
        Seed of the student's dropout and of the pairs drawn.

    Returns
    -------
    dict of float
        Student layer → α.

    Raises
    ------
    ValueError
        If `alpha0` is negative or not finite, or the task's loss or the term's value in a layer is not a finite number
        above 0.

    Examples
    --------
    >>> import torch, brainrdl as rdl
    >>> from torch import nn
    >>> teacher = rdl.NetworkTeacher(nn.Sequential(nn.Linear(2, 3)), ["0"])
    >>> student, images, labels = nn.Sequential(nn.Linear(2, 3)), torch.eye(2), torch.tensor([0, 1])
    >>> alpha = rdl.balanced_alpha(0.5, rdl.RDLTerm(teacher, {"0": "0"}), student, images, labels)
    >>> list(alpha)
    ['0']
    >>> term = rdl.RDLTerm(teacher, {"0": "0"}, alpha=rdl.linear_decay(alpha))
    """
    check_alpha(alpha0)
    student = deepcopy(student)
    devices = [images.device] if images.is_cuda else []
    # dropout draws: the student's first update must find the random numbers as they were
    with torch.random.fork_rng(devices), torch.no_grad(), Recorder(student, term.layers, flatten=False) as recorder:
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(seed)
        output = run_model(student, images, "the student")
        features = recorder.features()
        e_task = float(task_loss(output, labels))
        values = term(features, Batch(images, labels, output=output, generator=generator, _watched=True), generator)
    if not 0 < e_task < inf:
        raise ValueError(f"the task's loss is {e_task:g} before the first update, and no α balances a term with it")
    for layer, e_m in values.items():
        if not 0 < float(e_m) < inf:
            raise ValueError(
                f"the {term.name} term is {float(e_m):g} in layer {layer!r} before the first update, and no α balances "
                "it with the task; give other images, or leave the layer out"
            )
    # α_m = α_0 · E_task/E_m
    return {layer: alpha0 * e_task / float(e_m) for layer, e_m in values.items()}
