"""A stand-in for CUDA graphs on the CPU: what is done to tensors is recorded once and done again on the same memory.

As on a GPU, Python code runs at the recording only, and the recording itself changes nothing.
"""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def tensors(values):
    return [value for value in tree_leaves(values) if isinstance(value, torch.Tensor)]


def memory(tensor):
    return tensor.untyped_storage()._cdata


class Tape(TorchDispatchMode):
    """Keeps every operation with its arguments and results, and what tensors from outside held before it."""

    def __init__(self):
        self.operations, self.made, self.before = [], set(), {}

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        for place, argument in enumerate(operation._schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                given = args[place] if place < len(args) else kwargs.get(argument.name)
                for tensor in tensors(given):
                    if memory(tensor) not in self.made:
                        self.before.setdefault(memory(tensor), (tensor, tensor.detach().clone()))
        given = {memory(tensor) for tensor in tensors((args, kwargs))}
        results = operation(*args, **kwargs)
        self.made |= {memory(tensor) for tensor in tensors(results)} - given
        self.operations.append((operation, args, kwargs, results))
        return results

    @torch.no_grad()
    def undo(self):
        for tensor, old in self.before.values():
            tensor.copy_(old)

    @torch.no_grad()
    def play(self):
        for operation, args, kwargs, results in self.operations:
            again = operation(*args, **kwargs)
            for result, now in zip(tree_leaves(results), tree_leaves(again), strict=True):
                if isinstance(result, torch.Tensor) and memory(result) != memory(now):
                    result.copy_(now)


def record(function):
    """As `brainrdl.training.cuda_graphs.cuda_graphs` does."""
    tape = Tape()
    # dropout draws on the host here; on a GPU it does not
    state = torch.get_rng_state()
    with tape:
        function()
    torch.set_rng_state(state)
    tape.undo()
    return tape.play
