"""Checks before the first update: a mistake should cost seconds, not the first epoch."""

import inspect
import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torch.utils.data import Dataset

from brainrdl.arguments import name_some
from brainrdl.features.networks import copy_of, train_as_set
from brainrdl.features.recorder import run_model
from brainrdl.terms.base import Term
from brainrdl.training.finite import Value
from brainrdl.training.streams import StimulusStream, first_batch, last_batch_size, refuse_one_pass, task_batch


def check_terms(terms: Sequence[Term]) -> None:
    """Refuse anything that is not a term, and the same term twice, which would share its heads."""
    if not isinstance(terms, Sequence):
        raise TypeError(f"terms must be a sequence of Terms, got a {type(terms).__name__}; write [RDLTerm(…)]")
    for i, term in enumerate(terms):
        if not isinstance(term, Term):
            raise TypeError(f"terms[{i}] is a {type(term).__name__}; expected a Term (RDLTerm, Hint, KD, …)")
        if any(term is other for other in terms[:i]):
            raise ValueError(
                f"terms names the same {term.name!r} term twice, which would share its heads and state; make two, or "
                "double its alpha"
            )


def check_student(student: Any) -> None:
    """Refuse what is no network."""
    if not isinstance(student, nn.Module):
        made = ", not yet made: call it" if isinstance(student, type) and issubclass(student, nn.Module) else ""
        raise TypeError(f"student is {_called(student)}; expected a network, a torch.nn.Module{made}")


def check_task_loss(task_loss: Any) -> None:
    """Refuse a loss that is no function, or a class of losses."""
    if task_loss is not None and (isinstance(task_loss, type) or not callable(task_loss)):
        made = ", not yet made: call it" if isinstance(task_loss, type) else ""
        raise TypeError(
            f"task_loss is {_called(task_loss)}; expected a function (output, label) -> mean, such as "
            f"torch.nn.functional.cross_entropy, or None{made}"
        )


def check_fabric(fabric: Any) -> None:
    """Refuse what is no Fabric, such as a device's name."""
    # not by its class: the `lightning` package has another one of the same abilities
    if fabric is not None and not (hasattr(fabric, "setup") and hasattr(fabric, "world_size")):
        raise TypeError(
            f"fabric is {_called(fabric)}; expected a lightning_fabric.Fabric, such as Fabric(accelerator='cpu', "
            "devices=1)"
        )


def _called(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"


def check_ranks(student: nn.Module) -> None:
    """Refuse a student that is distributed over several ranks: each would see the pairs of its share alone."""
    wrapped = any(isinstance(module, nn.parallel.DistributedDataParallel) for module in student.modules())
    if wrapped and torch.distributed.is_initialized() and (ranks := torch.distributed.get_world_size()) > 1:
        raise ValueError(
            f"the student is a DistributedDataParallel of {ranks} ranks, and training runs on one device: the pairs of "
            "a batch must be together; give the network within it (.module), and train on one rank"
        )


def check_request(
    task_loader: Any, stimuli: Any, terms: Sequence[Term], task_loss: Any, epochs: int, log_every: int
) -> None:
    """Refuse streams and terms that do not fit together."""
    terms_of = {stream: [term.name for term in terms if term.stream == stream] for stream in ("task", "stimuli")}
    if epochs < 1 or log_every < 1:
        raise ValueError(f"epochs and log_every must be at least 1, got {epochs} and {log_every}")
    if task_loader is None and stimuli is None:
        raise ValueError("there is nothing to train on: give a task loader, stimuli, or both")
    if task_loader is None and terms_of["task"]:
        raise ValueError(
            f"{', '.join(terms_of['task'])} is computed on the task stream, and there is no task loader; "
            "give one, or the term stream='stimuli'"
        )
    if stimuli is None and terms_of["stimuli"]:
        raise ValueError(f"{', '.join(terms_of['stimuli'])} is computed on the stimulus stream: give fit(…, stimuli=…)")
    if stimuli is not None and not terms_of["stimuli"]:
        raise ValueError("stimuli are given, but no term has stream='stimuli'")
    if task_loader is None and isinstance(stimuli, StimulusStream) and stimuli.every > 1:
        raise ValueError(
            f"every={stimuli.every} leaves updates without stimuli, and there is no task loader to fill them; "
            "give one, or every=1"
        )
    if task_loader is not None and isinstance(stimuli, StimulusStream) and stimuli.steps is not None:
        raise ValueError(
            f"steps={stimuli.steps} of the stimuli is the length of an epoch without a task, and the task loader has "
            "one of its own; leave steps out"
        )
    if task_loader is not None and task_loss is None and not terms_of["task"]:
        raise ValueError("task_loss=None and no term on the task stream: the task loader would serve nothing")
    if not torch.is_grad_enabled():
        raise ValueError(
            "gradients are switched off here (torch.no_grad or torch.inference_mode), and training needs them; call "
            "fit outside"
        )
    refuse_one_pass(task_loader, "the task loader")
    refuse_unbatched(task_loader, "the task loader")
    refuse_one_pass(stimuli, "the loader of the stimuli")


def check_validation(loader: Iterable[Any]) -> None:
    """Read the first validation batch, so that a loader of another form is refused before an epoch is spent."""
    refuse_one_pass(loader, "the validation loader")
    refuse_unbatched(loader, "the validation loader")
    try:
        task_batch(first_batch(loader, "the validation loader"))
    except (TypeError, ValueError) as error:
        raise type(error)(f"validation: {error}") from error


def refuse_unbatched(loader: Any, what: str) -> None:
    """Raise a ValueError for a data set in the place of a loader: its channels would be taken for images."""
    if not isinstance(loader, Dataset):
        return
    batch = first_batch(cast(Iterable[Any], loader), what)  # by place: a Dataset's own way of being read
    if isinstance(batch, Sequence) and len(batch) > 1 and np.ndim(batch[1]) == 0:
        raise ValueError(
            f"{what} is a {type(loader).__name__}, which gives one image at a time; make batches of it: "
            "DataLoader(dataset, batch_size=…, shuffle=True)"
        )


def validation_scores(returned: Any) -> dict[str, float]:
    """Check what a validation function returned, and make it numbers by name."""
    if not isinstance(returned, Mapping):
        raise TypeError(
            f"the validation function returned a {type(returned).__name__}; expected numbers by name, such as "
            "{'score': 0.5}, or {} for none"
        )
    scores = {}
    for name, value in returned.items():
        if not isinstance(name, str):
            raise TypeError(f"the validation function returned a score called {name!r}; expected a string")
        try:
            if isinstance(value, str):  # of which float() would take some
                raise TypeError("it is a string")
            # as a number: a tensor would keep its graph as long as the history
            scores[name] = float(value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise TypeError(
                f"the validation function returned {value!r} as {name!r}, which is not a number: {error}"
            ) from error
    return scores


def check_writable(checkpoint: str | Path) -> None:
    """Write and remove a file where the checkpoint will be; OSError with a remedy where that fails."""
    folder = Path(checkpoint).parent
    # tried out: permissions, read-only mounts and quotas are the system's to judge
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise type(error)(
            f"no checkpoint can be written in {folder} ({os.strerror(error.errno or 0)}); name another path, or make "
            "that folder writable"
        ) from error


def check_last_batch(
    student: nn.Module, task_loader: Any, terms: Sequence[Term], to_device: Callable[..., Any]
) -> None:
    """Refuse a last batch of one image, where it can be known and the student or a term cannot take it."""
    relates = any(term.fewest > 1 and term.stream == "task" for term in terms)
    if relates and isinstance(task_loader, list | tuple) and any(len(task_batch(b)[0]) == 1 for b in task_loader):
        raise ValueError(
            "a batch of 1 stimulus has no distances; choose another batch size, or drop the incomplete last batch"
        )
    if (
        last_batch_size(task_loader) != 1
    ):  # unknown (None) included: terms leave it out, the student's normalisation fails
        return
    advice = "choose another batch size, or leave the incomplete last batch out (drop_last=True)"
    if relates:
        raise ValueError(f"the task loader's last batch holds 1 image, which has no distances; {advice}")
    if not any(isinstance(module, _BatchNorm) for module in student.modules()):
        return
    # tried out, not guessed from the layers: behind a convolution BatchNorm has a spread within one image
    images = to_device(task_batch(first_batch(task_loader, "the task loader"))[0])
    tried = copy_of(student)  # its running statistics are not the student's
    train_as_set(tried)
    with torch.no_grad(), torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        try:
            run_model(tried, images[:1], "the student")
        except ValueError as error:
            raise ValueError(f"the task loader's last batch holds 1 image, and {error}") from error


def check_optimizer(made: Any, trained: Mapping[str, nn.Parameter]) -> tuple[torch.optim.Optimizer, LRScheduler | None]:
    """Take apart what the optimizer function returned; refuse what the loop cannot drive, or what trains nothing."""
    # a third part, a word, says how often the scheduler steps
    parted = isinstance(made, tuple) and (len(made) == 2 or (len(made) == 3 and isinstance(made[2], str)))
    optimizer, scheduler = made[:2] if parted else (made, None)
    if not isinstance(optimizer, torch.optim.Optimizer) or not isinstance(scheduler, LRScheduler | None):
        what = f"a tuple of {', '.join(type(m).__name__ for m in made)}" if isinstance(made, tuple) else None
        raise ValueError(
            "optimizer must be a function parameters -> Optimizer or (Optimizer, LRScheduler), and it returned "
            f"{what or f'a {type(made).__name__}'}"
        )
    if isinstance(scheduler, ReduceLROnPlateau):
        raise ValueError(
            "ReduceLROnPlateau needs a metric at every step, and the trainer steps a scheduler by epochs alone; use "
            "another scheduler, such as CosineAnnealingLR"
        )
    # a wrapper shares the groups of the optimiser within it
    steered = getattr(scheduler, "optimizer", optimizer).param_groups
    if not any(group is own for group in steered for own in optimizer.param_groups):
        raise ValueError(
            f"{type(scheduler).__name__} changes the learning rate of another optimiser than the one that trains; make "
            "it from the optimiser that the function returns"
        )
    # LBFGS is the one of torch's that needs one
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise ValueError(
            f"{type(optimizer).__name__} evaluates the loss several times a step (closure), and the trainer does so "
            "once; use another optimiser, such as SGD or Adam"
        )
    # by identity: equality of tensors is elementwise
    given = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    missing = [name for name, parameter in trained.items() if id(parameter) not in given]
    if missing:
        raise ValueError(
            f"the optimiser lacks {len(missing)} of {len(trained)} parameters that require a gradient, which would "
            f"never be trained: {name_some(missing)}; make it from the parameters that the function is called with "
            "(they include the heads'), and freeze what is not to be trained with requires_grad_(False)"
        )
    return optimizer, scheduler


def scalar_loss(loss: Callable[[Any, Tensor], Tensor], output: Any, labels: Tensor) -> Tensor:
    """Compute the task loss of a batch (); TypeError or ValueError unless it is a tensor of a single number."""
    name = getattr(loss, "__name__", type(loss).__name__)
    try:
        value = loss(output, labels)
    except (IndexError, TypeError, ValueError, RuntimeError) as error:
        if isinstance(error, torch.OutOfMemoryError):  # a RuntimeError too, and no fault of the labels
            raise
        if not isinstance(output, Tensor):
            raise TypeError(
                f"the task loss {name} failed on an output that is a {type(output).__name__}, not a Tensor: {error}; "
                "give task_loss= a function (output, labels) that takes the part that is meant, in training and in "
                "eval mode (some networks return something else)"
            ) from error
        answered = f"{tuple(output.shape)} values"
        raise ValueError(
            f"the task loss {name} failed on an output of {answered} and labels of shape {tuple(labels.shape)} and "
            f"type {labels.dtype}: {error}; for classes, labels are integers (torch.int64) from 0 to the number of "
            "classes less 1"
        ) from error
    if not isinstance(value, Tensor):
        raise TypeError(
            f"the task loss {name} returned a {type(value).__name__}; expected a Tensor that carries the gradient"
        )
    if value.numel() != 1:
        raise ValueError(
            f"the task loss {name} returned shape {tuple(value.shape)}; expected a single number, the mean over the "
            "batch (reduction='mean')"
        )
    # a loss that keeps its dimensions gives (1,)
    return value.reshape(()) if value.ndim else value


def check_value(part: Value, layer: str) -> Value:
    """Return a term's value for a layer; TypeError or ValueError unless it can train something."""
    if not isinstance(part.value, Tensor):
        raise TypeError(
            f"{part.column} is a {type(part.value).__name__}; a term returns a Tensor of a single number for each "
            "layer, computed from the features so that it carries their gradient"
        )
    if part.value.ndim:
        raise ValueError(f"{part.column} has shape {tuple(part.value.shape)}; a term returns a single number a layer")
    # α = 0 is for watching: such a term may well have no gradient
    if part.alpha > 0 and not part.value.requires_grad:
        raise ValueError(
            f"{part.column} has no gradient, so that it trains nothing: no parameter before {layer!r} requires one, "
            "or the term detached it; unfreeze one, leave the layer out, or watch it with alpha=0"
        )
    return part


def check_reached(part: Value, layer: str, features: Tensor, *, look: bool) -> None:
    """Raise a ValueError for a term of a teacher that teaches its own head alone, not the student's layer.

    `look`: the gradient is followed back to the features, which costs a pass through the head.
    """
    if part.alpha == 0:
        return
    reached = features.requires_grad
    if reached and look:
        reached = torch.autograd.grad(part.value, features, retain_graph=True, allow_unused=True)[0] is not None
    if not reached:
        raise ValueError(
            f"{part.column} reaches no parameter of the student, so that it trains nothing but its own head: no "
            f"parameter before {layer!r} requires a gradient, or the term detached it; unfreeze one, leave the layer "
            "out, or watch it with alpha=0"
        )


def warn_nothing_compared(columns: Sequence[str], epoch: int) -> None:
    """Warn of terms that compared nothing in a whole epoch."""
    for column in columns:
        warnings.warn(
            f"{column} compared nothing in epoch {epoch + 1}, and is NaN in the history: in every update "
            "too few of its pairs were measured, or the student's or the teacher's distances were all alike, as a dead "
            "layer's are",
            stacklevel=2,
        )
