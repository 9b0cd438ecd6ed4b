"""What is killed: trainings, and small studies. Each is resumed by doing the same again, and says how it ended."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import brainrdl as rdl
from brainrdl.cli import main
from small_network import brain_term, data, network_teacher, stimuli
from small_study import write_study


@dataclass(frozen=True)
class Killable:
    """A piece of work that leaves everything in a folder."""

    name: str
    work: Callable[[Path, Callable[[], None]], int]  # (folder, called behind each update) → exit status
    end: Callable[[Path], Any]  # of a finished folder, comparable
    updates: Callable[[Path], int] | None = None  # that are in the checkpoint, where all of them are counted


# trainings

EPOCHS, STEPS = 4, 8


def _student() -> nn.Module:
    torch.manual_seed(0)
    one = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Dropout(0.3))
    return nn.Sequential(one, nn.Linear(16, 5), nn.Linear(5, 3))


class _Noisy(TensorDataset):
    """Images with noise that is drawn as they are read."""

    def __getitem__(self, k: int) -> tuple[torch.Tensor, ...]:
        image, label = super().__getitem__(k)
        return image + 0.1 * torch.randn(4), label


def _train(folder: Path, update: Callable[[], None], workers: int) -> int:
    student = _student()

    def optimizer(parameters: Any) -> Any:
        adam = torch.optim.Adam(parameters, lr=0.01)
        adam.register_step_post_hook(lambda *_: update())
        return adam, torch.optim.lr_scheduler.OneCycleLR(adam, max_lr=0.05, total_steps=EPOCHS * STEPS)

    terms = [rdl.RDLTerm(network_teacher(), {"1": "two"}, n_pairs=9), rdl.Hint(network_teacher(), {"0": "one"})]
    terms += [rdl.RDLTerm(brain_term().teachers()[0], {"1": "IT"}, n_pairs=4, stream="stimuli")]
    loader = DataLoader(_Noisy(*data(6 * STEPS)), batch_size=6, shuffle=True, num_workers=workers)
    history = rdl.Trainer(student, terms, optimizer=optimizer).fit(
        loader,
        epochs=EPOCHS,
        stimuli=rdl.StimulusStream(stimuli(), batch_size=3, every=2),
        validation=DataLoader(TensorDataset(*data(12, seed=1)), batch_size=6),
        checkpoint=folder / "run.ckpt",
        checkpoint_every=1,
    )
    digest = hashlib.sha256()
    for name, value in student.state_dict().items():
        digest.update(name.encode() + value.numpy().tobytes())
    ended = {"weights": digest.hexdigest(), "history": history.drop(columns="seconds").to_json(double_precision=15)}
    (folder / "end.json").write_text(json.dumps(ended))
    return 0


def _updates(folder: Path) -> int:
    if not (folder / "run.ckpt").exists():
        return 0
    state = torch.load(folder / "run.ckpt", weights_only=True)
    return STEPS * len(state["history"]) + (state["progress"]["updates"] if state["progress"] else 0)


def _trained(folder: Path) -> Any:
    left = sorted(path.name for path in folder.iterdir() if path.name not in ("run.ckpt", "run.ckpt.previous"))
    return {"files": left, **json.loads((folder / "end.json").read_text())}


# studies


def _reproduce(folder: Path, update: Callable[[], None]) -> int:
    asked = "reproduce digits --limit-train 100 --limit-teacher 100 --test-limit 50 --alphas 0.1 --seeds 1 --epochs 3"
    more = "--teacher-epochs 2 --arms plain,rdl,hints --device cpu --set batch_size=20 --checkpoint-every 1"
    return main([*asked.split(), *more.split(), "--out", str(folder / "out")])


def _reproduced(folder: Path) -> Any:
    out = folder / "out"
    records = {str(path.relative_to(out)): json.loads(path.read_text()) for path in sorted(out.rglob("run.json"))}
    return {
        "files": _files(out),
        "weights": {name: (record["weights"], record["setting"]) for name, record in records.items()},
        "results": pd.read_csv(out / "results.csv").drop(columns="seconds").to_json(double_precision=15),
    }


def _fit(folder: Path, update: Callable[[], None]) -> int:
    if not (folder / "data").exists():
        shutil.rmtree(folder / "being made", ignore_errors=True)
        (folder / "being made").mkdir()
        study = write_study(folder / "being made")
        text = yaml.safe_dump(study | {"seeds": 1, "arms": ["size", "untrained", "task_only", "rdl"]})
        text = text.replace("being made", "data")
        (folder / "being made" / "small.yaml").write_text(text)
        os.rename(folder / "being made", folder / "data")
    return main(["fit", str(folder / "data" / "small.yaml"), "--device", "cpu", "--out", str(folder / "out")])


def _fitted(folder: Path) -> Any:
    out = folder / "out"
    names = ("scores.csv", "summary.csv", "contrasts.csv", "choices.csv", "histories.csv", "thumbnails.npz")
    return {"files": _files(out), **{name: hashlib.sha256((out / name).read_bytes()).hexdigest() for name in names}}


def _files(out: Path) -> list[str]:
    # but for what a command that came to its end keeps, unless a file was just written
    found = (path for path in out.rglob("*") if path.is_file() and path.name != ".answer.json")
    return sorted(str(path.relative_to(out)) for path in found)


TRAINING = Killable("training", lambda folder, update: _train(folder, update, 0), _trained, _updates)
WITH_WORKERS = Killable("training with workers", lambda folder, update: _train(folder, update, 2), _trained, _updates)
REPRODUCE = Killable("reproduce digits", _reproduce, _reproduced)
FIT = Killable("fit", _fit, _fitted)
EVERYTHING = (TRAINING, WITH_WORKERS, REPRODUCE, FIT)
