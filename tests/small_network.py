"""A small network, its data and its teachers, for the tests that train."""

import re
from collections import OrderedDict

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import brainrdl as rdl


def raises(error, message):
    return pytest.raises(error, match=f"^{re.escape(message)}$")


IDS = tuple("abcdefgh")


def network(seed=0, dropout=0.5, width=6):
    torch.manual_seed(seed)
    return nn.Sequential(
        OrderedDict(
            one=nn.Linear(4, width),
            act=nn.Tanh(),
            drop=nn.Dropout(dropout),
            two=nn.Linear(width, 5),
            out=nn.Linear(5, 3),
        )
    )


def data(n=24, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 4, generator=generator), torch.randint(3, (n,), generator=generator)


def loader(n=24, batch_size=6, shuffle=True, **options):
    return DataLoader(TensorDataset(*data(n)), batch_size=batch_size, shuffle=shuffle, **options)


def stimuli():
    return rdl.StimulusSet.from_arrays(torch.randn(8, 4, generator=torch.Generator().manual_seed(5)), IDS)


def network_teacher():
    return rdl.NetworkTeacher(network(7, dropout=0.0), ["one", "two"])


def brain(**options):
    values = np.random.default_rng(0).uniform(0.1, 2, (1, 28))
    return rdl.MeasuredTeacher(rdl.label_rdms(values, IDS, ["IT"], "correlation"), **options)


def brain_term(**options):
    return rdl.RDLTerm(brain(), {"two": "IT"}, stream="stimuli", **options)


def weights(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def assert_same(a, b):
    assert a.keys() == b.keys()
    differing = [name for name in a if not torch.equal(a[name], b[name])]
    assert differing == []


def assert_same_history(a, b):
    pd.testing.assert_frame_equal(a.drop(columns="seconds"), b.drop(columns="seconds"), check_exact=True)
