"""The report, made from a synthetic study whose files are laid out as a real one's."""

import base64
import io
import json
import re
from decimal import ROUND_HALF_UP, Decimal
from html.parser import HTMLParser
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from PIL import Image
from scipy import stats
from scipy.spatial.distance import pdist

from brainrdl.data import LabelledImages
from brainrdl.inference import crossed_bootstrap
from brainrdl.rdms.labelled import label_rdms
from brainrdl.studies.paper import runs as runs_module, score
from brainrdl.studies.paper.digits import digits_study
from brainrdl.studies.paper.published import PAPER
from brainrdl.studies.paper.recipe import override
from brainrdl.studies.paper.reproduce import reproduce
from brainrdl.studies.paper.study import Request
from brainrdl.studies.reports.paper import write_report
from brainrdl.studies.reports.paper_figures import Shown, curve_figure, map_figure
from brainrdl.studies.reports.paper_files import read_study
from brainrdl.studies.reports.paper_findings import at_chance, constant_layers

# error of one network in percent, and how near its geometry is to the teacher's (1: as far as plain's)
ARMS = {
    "plain": (3.4, 1.0),
    "teacher": (2.6, 0.0),
    "finetuning": (2.5, 0.5),
    "deep_supervision": (3.1, 1.2),
    "hints": (3.0, 0.9),
    "rdl": (2.4, 0.2),
    "rdl_corr": (2.2, 0.6),
    "kd": (2.8, 0.9),
    "rkd": (2.9, 0.7),
    "sp": (3.0, 0.8),
    "cka": (2.9, 0.8),
    "plain_readout": (3.3, 1.0),
}
PAPER_ARMS = tuple(arm for arm in ARMS if arm != "plain_readout")
UNTAUGHT = ("plain", "plain_readout", "deep_supervision")
LAYERS = ("pool1", "pool2", "fc")


def methods(arms, teachers):
    return [(arm, teacher) for arm in arms for teacher in (("",) if arm in UNTAUGHT else teachers)]


def make_study(
    folder,
    *,
    study="mnist",
    seeds=3,
    arms=PAPER_ARMS,
    teachers=("paper", "clean"),
    labels=(100, 1000),
    n_images=2000,
    one_teacher=False,
    rdms=True,
    notes=(),
):
    """Write every file that a study leaves behind."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    hardness = rng.standard_normal(n_images)
    results, histories, geometry = [], [], []
    correctness = {"ids": np.array([f"test/{i:05d}" for i in range(n_images)])}
    for count in (None, *labels):
        few = ("plain", "rdl", "kd") if count else arms
        for arm, teacher in methods([arm for arm in few if arm in arms], teachers):
            for seed in range(seeds):
                row = "-".join(filter(None, (arm, teacher, f"labels{count}" if count else "", f"seed{seed}")))
                percent = ARMS[arm][0] * (12 / np.sqrt(count) if count else 1) + rng.normal(0, 0.1)
                score = hardness + rng.normal(0, 0.3, n_images)
                correctness[row] = score < np.quantile(score, 1 - percent / 100)
                validation = percent + rng.normal(0, 0.1)
                identity = {"row": row, "arm": arm, "teacher": teacher, "labels": count, "seed": seed}
                results.append(
                    identity
                    | {
                        "dataset": study,
                        "train_size": 120_000 if arm == "teacher" else count or 50_000,
                        "teacher_size": 120_000 if teacher else None,
                        "teacher_seed": (0 if one_teacher else seed) if teacher else None,
                        "validation_error": validation,
                        "test_error": 100 * float((~correctness[row]).mean()),
                        "alpha0": 2.0 if arm == "rdl" else None,
                        "epochs": 20,
                        "updates": 10_000,
                        "device": "cpu",
                        "precision": "32-true",
                        "seconds": 61.0,
                    }
                )
                histories.append(history(identity, validation, rng))
                if arm != "teacher":
                    geometry += distances(identity, teacher, teachers, rng)
    pd.DataFrame(results).to_csv(folder / "results.csv", index=False)
    np.savez_compressed(folder / "correctness.npz", **correctness)
    pd.concat(histories).to_csv(folder / "histories.csv", index=False)
    pd.DataFrame(geometry).to_csv(folder / "geometry.csv", index=False)
    tries(arms, rng).to_csv(folder / "tries.csv", index=False)
    if rdms:
        write_rdms(folder, methods([arm for arm in arms if arm not in ("rkd", "sp", "cka")], teachers), rng)
    manifest = {
        "study": study,
        "title": f"Representational distance learning on {study.upper()}",
        "command": f"brainrdl reproduce {study} --seeds {seeds} --out {folder.name}",
        "created": "2026-11-22T18:00:00+00:00",
        "duration_seconds": 5400.0,
        "versions": {"python": "3.11.7", "torch": "2.10.0"},
        "hardware": {"trained_on": {"cpu": 2}, "processor": "a processor", "threads": 2},
        "configuration": {"recipe": {"epochs": 20, "layers": list(LAYERS), "n_pairs": 500}},
        "data": {"train-images-idx3-ubyte.gz": "sha256:440fcabf"},
        "notes": list(notes),
        "one_teacher": one_teacher,
        "classes": [str(digit) for digit in range(10)],
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def history(identity, end, rng, epochs=20):
    epoch = np.arange(epochs)
    fall = np.exp(-epoch / 4)
    frame = pd.DataFrame(
        {
            "epoch": epoch,
            "task_loss": 0.01 + fall,
            "task_error": 0.3 + 12 * fall * rng.uniform(0.9, 1.1, epochs),
            "lr": 0.05 * (1 - epoch / epochs),
            "validation_loss": 0.02 + fall,
            "validation_error": end + 8 * fall * rng.uniform(0.9, 1.1, epochs),
            "seconds": 3.0,
        }
    )
    if identity["arm"] == "hints":  # a stage without a task
        frame.loc[:3, ["task_loss", "task_error", "validation_loss", "validation_error"]] = np.nan
    for place, (name, value) in enumerate(identity.items()):
        frame.insert(place, name, value)
    return frame


def distances(identity, teacher, teachers, rng):
    return [
        {
            **{name: identity[name] for name in ("row", "arm", "labels", "seed")},
            "teacher": kind,
            "layer": layer,
            "e_aux": scale * ARMS[identity["arm"]][1] * rng.uniform(0.95, 1.05),
            "correlation": 1 - 0.3 * ARMS[identity["arm"]][1] * rng.uniform(0.9, 1.1),
        }
        for kind in ([teacher] if teacher else teachers)
        for layer, scale in zip(LAYERS, (0.004, 0.03, 2.5), strict=True)
    ]


def tries(arms, rng):
    lines = []
    for arm in arms:
        n = 1 if arm == "kd" else 3
        for number in range(n):
            failed = arm == "rdl" and number == 2
            lines.append(
                {
                    "arm": arm,
                    "labels": None,
                    "teacher": "" if arm in UNTAUGHT else "clean",
                    "try": number,
                    "setting": json.dumps({"alpha0": [2.0, 1.0, 300.0][number]} if arm != "plain" else {}),
                    "validation_error": None if n == 1 or failed else 3 + 0.1 * number,
                    "validation_loss": None if n == 1 or failed else 0.1 + 0.01 * number,
                    "chosen": number == 0,
                    "seconds": None if n == 1 else 130.0,
                }
            )
    return pd.DataFrame(lines)


def write_rdms(folder, named, rng, per_class=10):
    classes = np.repeat(np.arange(10), per_class)
    n = len(classes)
    centres, own = rng.standard_normal((10, 20)), rng.standard_normal((n, 20))

    def patterns(depth, twist):
        return depth * centres[classes] + (1 - depth) * own + 0.15 * twist

    def euclidean(x):
        square = ((x[:, None] - x[None]) ** 2).sum(axis=-1) ** 0.5
        return square[np.triu_indices(n, 1)]

    layers = ("pixels", *LAYERS, "softmax", "labels")
    vectors, models, where = [], [], []
    twists = {"pixels": 0.0, "labels": 0.0}
    for arm, teacher in named:
        model = f"{arm} ({teacher})" if teacher else arm
        for depth, layer in zip(np.linspace(0.1, 1, len(layers)), layers, strict=True):
            twist = twists[layer] if layer in twists else rng.standard_normal((n, 20))
            vectors.append(euclidean(patterns(depth, twist)))
            models.append(model)
            where.append(layer)
    order = rng.permutation(n)  # classes stand together only once the report has sorted them
    names = [f"{model}/{layer}" for model, layer in zip(models, where, strict=True)]
    rdms = label_rdms(
        np.array(vectors), [f"test/{k:05d}" for k in range(n)], names, "euclidean", {"model": models, "layer": where}
    )
    rdms = rdms.isel(stimulus=order, stimulus_=order)
    rdms.attrs["provenance"] = json.dumps({"classes": [str(classes[k]) for k in order]})
    rdms.to_netcdf(folder / "rdms.nc", engine="h5netcdf")

    kept = [k for k, layer in enumerate(where) if layer not in ("pixels", "labels")]
    points = [where.index("pixels"), *kept, where.index("labels")]
    coords = {
        "model": ("point", ["pixels", *(models[k] for k in kept), "labels"]),
        "layer": ("point", [where[k] for k in points]),
    }
    distance = 1 - np.corrcoef(np.array(vectors)[points])
    attrs = {"n_samples": 20, "n_images": 100, "metric": "euclidean"}
    xr.DataArray(distance, dims=("point", "point_"), coords=coords, name="distance", attrs=attrs).to_netcdf(
        folder / "mds.nc", engine="h5netcdf"
    )


class Page(HTMLParser):
    """A page's sections, tables and images; complains about tags that do not match."""

    VOID = ("meta", "img", "br", "link")

    def __init__(self, html):
        super().__init__()
        self.open, self.tables, self.images, self.links, self.ids = [], {}, {}, [], []
        self.section, self.texts = "", {"": ""}
        self.caption, self.cell, self.row = "", None, None
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag not in self.VOID:
            self.open.append((tag, attrs.get("class")))
        if "id" in attrs:
            self.ids.append(attrs["id"])
        if tag == "section":
            self.section = attrs["id"]
            self.texts[self.section] = ""
        if tag == "img":
            self.images[self.ids[-1].removeprefix("figure-")] = attrs
        if (tag, attrs.get("class")) == ("p", "caption") or tag == "summary":
            self.caption = ""
        if tag == "table":
            self.tables[self.section, self.caption] = []
        if tag == "tr":
            self.row = []
        if tag in ("td", "th"):
            self.cell = []
        if tag == "span" or tag == "th":
            self.cell.append("")
        self.links += [value for name, value in attrs.items() if name in ("href", "src", "action", "data", "srcset")]

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag
        if tag in ("td", "th"):
            self.row.append(tuple(self.cell))
        if tag == "tr":
            self.tables[self.section, self.caption].append(self.row)

    def handle_data(self, data):
        inside = [tag for tag, _ in self.open]
        if "style" in inside:
            return
        self.texts[self.section] += data.replace("\u00a0", " ")
        if ("p", "caption") in self.open or "summary" in inside:
            self.caption += data
        if self.cell is not None and ("th" in inside or "span" in inside) and "table" in inside:
            self.cell[-1] += data.replace("\u00a0", " ")

    def table(self, section, caption=None):
        """Rows by the name at their start, cells by the name at their head; of the first table without a caption."""
        found = next(
            rows for (where, what), rows in self.tables.items() if where == section and caption in (None, what)
        )
        head = [cell[0] for cell in found[0]]
        return {row[0][0]: dict(zip(head, row, strict=True)) for row in found[1:]}


def read(report):
    return Page(report.read_text(encoding="utf-8"))


def small(folder, **changes):
    """Make a study of few arms, without pictures of RDMs."""
    return make_study(
        folder, **({"arms": ("plain", "rdl"), "teachers": ("clean",), "labels": (), "rdms": False} | changes)
    )


def edit(folder, **changes):
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | changes))


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """All arms, two teachers, three seeds, few labels: the folder, its page, its results and its correctness."""
    folder = make_study(tmp_path_factory.mktemp("study") / "full", n_images=1000)
    page = read(write_report(folder))
    with np.load(folder / "correctness.npz") as file:
        correctness = {name: file[name] for name in file.files}
    return folder, page, pd.read_csv(folder / "results.csv").fillna({"teacher": ""}), correctness


def stack(correctness, name):
    return np.stack([correctness[f"{name}-seed{seed}"] for seed in range(3)])


def number(value):
    # ties away from zero, as one reads them: 2.625 is 2.63
    return str(Decimal(f"{value:.9f}").quantize(Decimal("0.01"), ROUND_HALF_UP)).replace("-", "−")


def signed(value):
    text = number(value)
    return text.removeprefix("−") if text in ("0.00", "−0.00") else text if value < 0 else f"+{text}"


def t_limits(values):
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return np.mean(values) - half, np.mean(values) + half


class TestErrors:
    CAPTION = "Test error of each method, all training images labelled"

    def test_lists_every_method_in_order(self, full):
        names = list(full[1].table("errors", self.CAPTION))
        assert names[:4] == ["plain", "teacher (paper)", "teacher (clean)", "fine-tuning (paper)"]
        assert len(names) == 20
        assert names[-1] == "CKA (clean)"

    @pytest.mark.parametrize(
        ("name", "row"), [("plain", "plain"), ("RDL (paper)", "rdl-paper"), ("hints (clean)", "hints-clean")]
    )
    def test_errors_and_their_intervals(self, full, name, row):
        _, page, results, correctness = full
        line = page.table("errors", self.CAPTION)[name]
        errors = 100 * (1 - stack(correctness, row).mean(axis=1))
        low, high = t_limits(errors)
        assert line["test error, %"] == (number(errors.mean()), f"[{number(low)}, {number(high)}]")
        assert line["seeds"] == ("3",)
        p = errors.mean() / 100
        assert line["binomial SE"] == (number(100 * np.sqrt(p * (1 - p) / 1000)),)
        validation = results.loc[results["row"].isin([f"{row}-seed{k}" for k in range(3)]), "validation_error"]
        assert line["validation error, %"] == (number(validation.mean()),)

    @pytest.mark.parametrize(("name", "row"), [("RDL (paper)", "rdl-paper"), ("KD (clean)", "kd-clean")])
    def test_differences_to_plain(self, full, name, row):
        _, page, _, correctness = full
        line = page.table("errors", self.CAPTION)[name]
        ours, plain = stack(correctness, row), stack(correctness, "plain")
        each = 100 * (plain.mean(axis=1) - ours.mean(axis=1))
        _, low, high = crossed_bootstrap(ours, plain)
        assert line["difference to plain, points"] == (signed(each.mean()), f"[{signed(low)}, {signed(high)}]")
        low, high = t_limits(each)
        assert line["paired t over seeds"] == (f"[{signed(low)}, {signed(high)}]",)

    def test_plain_is_not_compared_with_itself(self, full):
        line = full[1].table("errors", self.CAPTION)["plain"]
        assert line["difference to plain, points"] == line["paired t over seeds"] == ("",)

    def test_the_papers_numbers_stand_beside_its_own_methods(self, full):
        table = full[1].table("errors", self.CAPTION)
        theirs = {name: line["paper, %"] for name, line in table.items() if line["paper, %"] != ("",)}
        assert theirs == {
            "plain": ("0.63",),
            "teacher (paper)": ("0.56",),
            "fine-tuning (paper)": ("0.48",),
            "deep supervision": ("0.55",),
            "hints (paper)": ("0.56",),
            "RDL (paper)": ("0.49",),
        }

    def test_few_seeds_are_pointed_out(self, full):
        assert "With fewer than 10 seeds the bootstrap interval is somewhat too narrow" in full[1].texts["errors"]


class TestSummary:
    def test_says_what_was_run(self, full):
        opening = full[1].texts[""]
        assert (
            "84 student networks (18 methods, 3 seeds), each trained on 50,000 MNIST images or on 100–1,000 labelled "
            "MNIST images beside unlabelled ones for 20 epochs and scored once on 1,000 test images"
        ) in opening
        assert (
            "Fine-tuning, hints, RDL, scale-free RDL, KD, RKD, SP and CKA had the paper's teacher (trained on 120,000 "
            "images) or, in networks of their own, the clean teacher (trained on 120,000 images). Plain and deep "
            "supervision had no teacher."
        ) in opening
        assert "yardstick" not in opening

    def test_tells_the_difference_with_its_interval(self, full):
        _, page, _, correctness = full
        ours, plain = stack(correctness, "rdl-paper"), stack(correctness, "plain")
        estimate, low, high = crossed_bootstrap(ours, plain)
        assert (
            f"RDL with the paper's teacher: test error {number(100 * (1 - ours.mean()))} % against "
            f"{number(100 * (1 - plain.mean()))} % of plain, a difference of {signed(estimate)} points "
            f"[{signed(low)}, {signed(high)}]."
        ) in page.texts[""]
        assert "The paper: 0.49 % against 0.63 %, −0.14 points." in page.texts[""]

    def test_few_labels(self, full):
        _, page, _, correctness = full
        estimate, low, high = crossed_bootstrap(
            stack(correctness, "rdl-clean-labels100"), stack(correctness, "plain-labels100")
        )
        assert (
            f"With few labels, RDL with the clean teacher against plain: {signed(estimate)} points "
            f"[{signed(low)}, {signed(high)}] with 100 labelled images; "
        ) in page.texts[""]

    def test_an_interval_that_includes_0_shows_no_gain(self, tmp_path, monkeypatch):
        monkeypatch.setitem(ARMS, "rdl", (3.35, 0.2))
        folder = small(tmp_path)
        opening = read(write_report(folder)).texts[""]
        with np.load(folder / "correctness.npz") as file:
            _, low, high = crossed_bootstrap(stack(file, "rdl-clean"), stack(file, "plain"))
        assert low < 0 < high
        assert (
            f"No gain shown: the interval includes 0, and does not exclude a gain of up to {number(-low)} points or a "
            f"loss of up to {number(high)} points."
        ) in opening

    def test_intervals_that_disagree(self, tmp_path):
        """Where the seeds scatter widely, the bootstrap alone does not settle it."""
        folder = small(tmp_path)
        with np.load(folder / "correctness.npz") as file:
            correctness = {name: file[name] for name in file.files}
        results = pd.read_csv(folder / "results.csv")
        for seed, percent in enumerate((0.2, 3.2, 0.3)):
            right = np.arange(2000) >= percent * 20
            correctness[f"rdl-clean-seed{seed}"] = right
            results.loc[results["row"] == f"rdl-clean-seed{seed}", "test_error"] = 100 * (1 - right.mean())
        np.savez(folder / "correctness.npz", **correctness)
        results.to_csv(folder / "results.csv", index=False)
        opening = read(write_report(folder)).texts[""]
        assert "RDL has a lower error than plain. But the paired t interval over the 3 seeds, [" in opening
        assert "includes 0: these seeds do not settle the matter." in opening


class TestMcNemar:
    def test_above_the_diagonal_is_ours_and_below_the_papers(self, full):
        _, page, _, correctness = full
        arms = ["plain", "teacher", "finetuning", "deep_supervision", "hints", "rdl"]
        names = ["plain", "teacher", "fine-tuning", "deep supervision", "hints", "RDL"]
        rows = [f"{arm}-seed0" if arm in UNTAUGHT else f"{arm}-paper-seed0" for arm in arms]
        table = page.table(
            "tests", "The paper's methods, trained with the paper's teacher: networks of seed 0, 15 tests"
        )
        assert list(table) == names
        pairs = [(i, j) for i in range(6) for j in range(i + 1, 6)]
        counts = {
            (i, j): (
                int((correctness[rows[i]] & ~correctness[rows[j]]).sum()),
                int((correctness[rows[j]] & ~correctness[rows[i]]).sum()),
            )
            for i, j in pairs
        }
        p = {pair: stats.binomtest(b, b + c).pvalue if b + c else 1.0 for pair, (b, c) in counts.items()}
        adjusted, highest = {}, 0.0
        for rank, pair in enumerate(sorted(p, key=p.__getitem__)):
            highest = max(highest, min(1.0, (15 - rank) * p[pair]))
            adjusted[pair] = highest
        arrows = 0
        for i, j in pairs:
            value, holm, split = table[names[i]][names[j]]
            b, c = counts[i, j]
            arrow = "" if p[i, j] >= 0.05 else " ←" if b > c else " ↑"
            arrows += bool(arrow)
            assert value == (f"{p[i, j]:.3f}".removeprefix("0") if p[i, j] >= 0.001 else "<.001") + arrow
            assert holm == "Holm " + (f"{adjusted[i, j]:.3f}".removeprefix("0") if adjusted[i, j] >= 0.001 else "<.001")
            assert split == f"{b} : {c}"
        assert arrows
        assert table["RDL"]["plain"] == (".01 ←",)
        assert table["hints"]["fine-tuning"] == (".04 ↑",)
        assert table["hints"]["teacher"] == (".89",)
        assert table["hints"]["hints"] == ("–",)

    def test_other_tables_have_no_published_p(self, full):
        caption = "RDL and further methods, trained with the clean teacher: networks of seed 0, 21 tests"
        table = full[1].table("tests", caption)
        assert list(table) == ["plain", "RDL", "scale-free RDL", "KD", "RKD", "SP", "CKA"]
        assert table["RDL"]["plain"] == ("",)

    def test_a_study_of_the_other_paper_table(self, tmp_path):
        folder = small(tmp_path, study="cifar100", teachers=("cifar10",), seeds=2)
        page = read(write_report(folder))
        assert "the paper's Table 5" in page.texts["tests"]
        assert "the paper's Figure 5" in page.texts["curves"]
        table = page.table("tests")
        assert table["RDL"]["plain"] == (".00 ←",)
        errors = page.table("errors")
        assert errors["plain"]["paper, %"] == ("30.68",)
        assert errors["RDL (cifar10)"]["paper, %"] == ("28.77",)
        assert "RDL with the CIFAR-10 teacher: test error" in page.texts[""]
        assert "The paper: 28.77 % against 30.68 %, −1.91 points." in page.texts[""]


class TestFewLabels:
    def test_each_number_of_labels_has_a_table(self, full):
        _, page, _, correctness = full
        for labels, caption in ((100, "100 labelled images"), (1000, "1,000 labelled images")):
            line = page.table("labels", caption)["KD (paper)"]
            ours, plain = (stack(correctness, f"{name}-labels{labels}") for name in ("kd-paper", "plain"))
            estimate, low, high = crossed_bootstrap(ours, plain)
            assert line["difference to plain, points"] == (signed(estimate), f"[{signed(low)}, {signed(high)}]")
            b, c = int((ours[0] & ~plain[0]).sum()), int((plain[0] & ~ours[0]).sum())
            p = stats.binomtest(b, b + c).pvalue
            assert line["McNemar p"] == (f"{p:.3f}".removeprefix("0") if p >= 0.001 else "<.001", f"{b} : {c}")
        assert {"labels-paper", "labels-clean"} <= set(page.images)

    def test_a_study_of_few_labels_only(self, tmp_path):
        folder = make_study(tmp_path, arms=("plain", "rdl", "kd", "teacher"), labels=(100, 1000), rdms=False, seeds=2)
        results = pd.read_csv(folder / "results.csv")
        results[results["labels"].notna() | (results["arm"] == "teacher")].to_csv(folder / "results.csv", index=False)
        page = read(write_report(folder))
        assert list(page.table("errors")) == ["teacher (paper)", "teacher (clean)"]
        assert "students with 1,000 labelled images: networks of seed 0, 3 tests" in page.texts["tests"]
        assert "With few labels, RDL with the clean teacher against plain: " in page.texts[""]
        assert "Scored, but not among the results and not used: kd-clean-seed0" in page.texts[""]

    def test_a_study_of_all_labels_has_no_such_section(self, tmp_path):
        assert "labels" not in read(write_report(small(tmp_path))).texts


class TestGeometry:
    def test_means_and_flags(self, full):
        folder, page, _, _ = full
        geometry = pd.read_csv(folder / "geometry.csv").fillna({"teacher": ""})
        geometry = geometry[(geometry["teacher"] == "clean") & geometry["labels"].isna() & (geometry["layer"] == "fc")]
        table = page.table("geometry", "The clean teacher")
        ours, plain, worse = (geometry[geometry["arm"] == arm] for arm in ("rdl", "plain", "deep_supervision"))
        share = 100 * ours["e_aux"].mean() / plain["e_aux"].mean()
        assert table["RDL"]["fc"] == (
            f"{ours['e_aux'].mean():#.3g} ▼",
            f"{share:.0f} %, 3 of 3 seeds",
            f"r {ours['correlation'].mean():.2f}",
        )
        assert table["plain"]["fc"] == (f"{plain['e_aux'].mean():#.3g}", f"r {plain['correlation'].mean():.2f}")
        assert table["deep supervision"]["fc"][0] == f"{worse['e_aux'].mean():#.3g}"


class TestTries:
    def test_chosen_and_failed_and_untried(self, full):
        page = full[1]
        chosen = page.table("tries", "Hyperparameters selected on validation images")
        assert chosen["RDL (clean)"]["setting"] == ("α₀ 2",)
        assert chosen["RDL (clean)"]["validation error, %"] == ("3.00",)
        assert chosen["plain"]["setting"] == ("as in the recipe",)
        assert chosen["KD (clean)"]["validation error, %"] == ("the only candidate, not tried",)
        every = page.tables["tries", "All 31 candidates"]
        (failed,) = [row for row in every if ("failed",) in row]
        assert failed[:2] == [("RDL (clean)",), ("α₀ 300",)]


class TestPage:
    def test_needs_no_other_file(self, full):
        folder, page, _, _ = full
        assert page.links
        for link in page.links:
            assert link.startswith(("#", "data:image/svg+xml;base64,", "data:image/png;base64,"))
        text = (folder / "report.html").read_text()
        outside = re.sub(r"data:image/[^\"]+", "", text)
        assert not re.search(r"https?:|url\(|@import|<script|<link|<iframe", outside)
        assert "default-src 'none'" in outside

    def test_links_lead_somewhere_and_ids_are_unique(self, full):
        page = full[1]
        assert len(set(page.ids)) == len(page.ids)
        assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)

    def test_images_decode_and_are_left_as_files(self, full):
        folder, page, _, _ = full
        for name, attrs in page.images.items():
            head, _, body = attrs["src"].partition(",")
            content = base64.b64decode(body, validate=True)
            kind = "svg" if "svg" in head else "png"
            assert (folder / "figures" / f"{name}.{kind}").read_bytes() == content
            assert attrs["alt"]
            if kind == "svg":
                assert ElementTree.fromstring(content).tag == "{http://www.w3.org/2000/svg}svg"
            else:
                with Image.open(io.BytesIO(content)) as image:
                    image.verify()
                    assert image.width / 200 == pytest.approx(int(attrs["width"]) / 115, abs=0.02)
        assert set(page.images) == {path.stem for path in (folder / "figures").iterdir()}

    def test_has_every_figure_of_the_paper(self, full):
        assert set(full[1].images) == {
            "test-errors",
            *(
                f"{what}-{family}-{kind}"
                for what in ("curves", "map")
                for family in ("paper-methods", "further-methods")
                for kind in ("paper", "clean")
            ),
            *(f"{what}-{kind}" for what in ("rdms", "labels") for kind in ("paper", "clean")),
            "output-rdm",
        }
        assert "the paper's Figure 3" in full[1].texts["rdms"]
        assert "errors on training and on validation images" in full[1].texts["curves"]
        assert "averaged over 20 samples of 100 distinct test images" in full[1].texts["map"]

    def test_manifest_is_spelled_out(self, full):
        page = full[1]
        manifest = page.table("manifest", "Manifest")
        assert manifest["configuration.recipe.layers"]["value"] == ("pool1, pool2, fc",)
        assert manifest["versions.torch"]["value"] == ("2.10.0",)
        runs = page.table("manifest", f"All {len(full[2])} runs")
        assert runs["rdl-clean-labels100-seed1"]["train size"] == ("100",)
        assert runs["rdl-clean-labels100-seed1"]["time"] == ("61 s",)

    def test_is_the_same_when_remade(self, tmp_path):
        folder = small(tmp_path, seeds=2)
        first = write_report(folder).read_bytes()
        assert write_report(folder).read_bytes() == first
        assert sorted(path.name for path in folder.iterdir() if path.name.startswith(".")) == []

    def test_strange_names_stay_text(self, tmp_path):
        hostile = "<script>alert('1 & 2')</script>"
        folder = small(tmp_path, seeds=1, notes=(hostile,))
        edit(folder, title=hostile, hardware={hostile: hostile})
        page = read(write_report(folder))
        text = (folder / "report.html").read_text()
        assert "<script" not in text
        assert "&lt;script&gt;alert(&#39;1 &amp; 2&#39;)&lt;/script&gt;" in text
        assert hostile in page.texts["manifest"]
        assert hostile in page.texts[""]

    def test_a_strange_teacher_names_no_file_elsewhere(self, tmp_path):
        folder = small(tmp_path / "study", seeds=1)
        for name in ("results.csv", "histories.csv"):
            text = (folder / name).read_text()
            (folder / name).write_text(text.replace(",clean,", ",../../up,"))
        page = read(write_report(folder))
        assert "curves-paper-methods-up" in page.images
        assert [path.name for path in tmp_path.iterdir()] == ["study"]


class TestFigures:
    def test_a_method_has_one_colour_whatever_is_shown_beside_it(self, full):
        histories = pd.read_csv(full[0] / "histories.csv").fillna({"teacher": ""})
        distances = xr.load_dataarray(full[0] / "mds.nc", engine="h5netcdf")
        styles = {}
        for arms in (("plain", "rdl"), ("plain", "hints", "rdl", "kd"), ("rdl_corr", "rdl", "mine")):
            shown = Shown(arms, "clean")
            for figure in (curve_figure(histories, shown), map_figure(distances, shown)[0]):
                for line, text in zip(figure.legends[0].legend_handles, figure.legends[0].texts, strict=True):
                    if text.get_text() in ("plain", "RDL", "hints", "KD", "scale-free RDL"):
                        styles.setdefault(text.get_text(), set()).add((line.get_color(), line.get_linestyle()))
        assert all(len(seen) == 1 for seen in styles.values())
        assert len({next(iter(seen)) for seen in styles.values()}) == len(styles) == 5

    def test_few_labels_have_their_own_networks(self):
        names = ["plain", "rdl (clean)", "teacher (clean)", "plain 100 labels", "rdl (clean) 100 labels", "pixels"]
        assert Shown(("plain", "rdl", "teacher"), "clean", 100).models(names) == [
            "plain 100 labels",
            "teacher (clean)",
            "rdl (clean) 100 labels",
        ]
        assert Shown(("plain", "rdl"), "clean").models(names) == ["plain", "rdl (clean)"]


class TestPartsOfAStudy:
    def test_one_seed_has_no_interval(self, tmp_path):
        page = read(write_report(small(tmp_path, seeds=1, labels=(100,))))
        line = page.table("errors")["RDL (clean)"]
        assert len(line["test error, %"]) == len(line["difference to plain, points"]) == 1
        assert "paired t over seeds" not in line
        for section in ("", "errors", "labels"):
            assert "[" not in page.texts[section]
        assert "There is one seed, hence no interval over training runs" in page.texts[""]
        assert re.search(r"McNemar's exact test over images gives p [=<]", page.texts[""])
        assert "(one seed) with 100 labelled images" in page.texts[""]
        assert "One or two seeds have no interval: they say nothing about other training runs." in page.texts["errors"]
        assert "There is one seed here: nothing is said about other training runs." in page.texts["statistics"]
        assert "Seeds are few here" not in page.texts["statistics"]

    def test_two_seeds_have_no_interval(self, tmp_path):
        page = read(write_report(small(tmp_path, seeds=2, labels=(100,))))
        line = page.table("errors")["RDL (clean)"]
        assert len(line["test error, %"]) == len(line["difference to plain, points"]) == 1
        assert "paired t over seeds" not in line
        for section in ("", "errors", "labels"):
            assert "[" not in page.texts[section]
        assert "Two seeds are too few for an interval over training runs." in page.texts[""]
        assert "(two seeds) with 100 labelled images" in page.texts[""]
        assert "There are two seeds here: nothing is said about other training runs." in page.texts["statistics"]

    def test_an_error_is_not_said_to_be_below_zero(self, tmp_path):
        folder = small(tmp_path)
        results = pd.read_csv(folder / "results.csv")
        with np.load(folder / "correctness.npz") as file:
            correctness = {name: file[name] for name in file.files}
        for seed, percent in enumerate((5, 6, 20)):
            right = np.arange(2000) >= percent * 20
            correctness[f"plain-seed{seed}"] = right
            results.loc[results["row"] == f"plain-seed{seed}", "test_error"] = percent
        np.savez(folder / "correctness.npz", **correctness)
        results.to_csv(folder / "results.csv", index=False)
        page = read(write_report(folder))
        # t would begin at -10.5; by the logit: test_an_error_rate_has_no_impossible_interval
        assert page.table("errors")["plain"]["test error, %"] == ("10.33", "[1.20, 52.19]")
        assert (
            "Where the t interval of an error would leave 0 to 100 %, it is computed on the logit scale."
            in (page.texts["errors"])
        )

    def test_nothing_was_chosen(self, tmp_path):
        folder = small(tmp_path)
        tried = pd.read_csv(folder / "tries.csv")
        tried[tried["try"] == 0].assign(validation_error=None, validation_loss=None).to_csv(
            folder / "tries.csv", index=False
        )
        results = pd.read_csv(folder / "results.csv").assign(epochs=1)
        results.to_csv(folder / "results.csv", index=False)
        page = read(write_report(folder))
        told = "Each method had one candidate setting, so that nothing was selected."
        assert "for 1 epoch and scored once on" in page.texts[""]
        assert told in page.texts[""]
        assert told in page.texts["statistics"]
        assert "hoices were made on validation images" not in page.texts[""] + page.texts["statistics"]
        taken = page.table("tries", "Hyperparameters that were not selected")
        assert taken["RDL (clean)"]["validation error, %"] == ("the only candidate, not tried",)
        assert "Nothing was selected: each method had one candidate." in page.texts["tries"]

    def test_an_error_of_nought_has_no_binomial_standard_error(self, tmp_path):
        folder = small(tmp_path, seeds=1)
        with np.load(folder / "correctness.npz") as file:
            correctness = {name: file[name] for name in file.files}
        correctness["rdl-clean-seed0"][:] = True
        np.savez(folder / "correctness.npz", **correctness)
        results = pd.read_csv(folder / "results.csv")
        results.loc[results["row"] == "rdl-clean-seed0", "test_error"] = 0.0
        results.to_csv(folder / "results.csv", index=False)
        page = read(write_report(folder))
        assert page.table("errors")["RDL (clean)"]["binomial SE"] == ("",)
        assert page.table("errors")["plain"]["binomial SE"] != ("",)

    @pytest.mark.parametrize(
        ("n_images", "asked", "samples"), [(20, 100, (1, 20)), (20, 20, (1, 20)), (21, 20, (20, 20))]
    )
    def test_the_map_says_of_how_many_images_it_is(self, tmp_path, monkeypatch, n_images, asked, samples):
        pixels = torch.randint(0, 256, (n_images, 1, 4, 4), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
        labels = torch.arange(n_images) % 2
        test = LabelledImages(pixels, labels, tuple(f"test/{k}" for k in range(n_images)), ("a", "b"))
        monkeypatch.setattr(score, "_networks", lambda *_: [])
        of_study = SimpleNamespace(
            splits=SimpleNamespace(test=lambda: test),
            recipe=SimpleNamespace(layers=()),
            study=SimpleNamespace(batches=SimpleNamespace(tensor=lambda images: images.images)),
            request=SimpleNamespace(out=tmp_path),
        )
        score.write_mds(of_study, [], n_images=asked)
        found = xr.load_dataarray(tmp_path / "mds.nc", engine="h5netcdf")
        assert (found.attrs["n_samples"], found.attrs["n_images"]) == samples
        whole = 1 - np.corrcoef(
            [pdist(pixels.flatten(1).double() / 255), pdist(torch.nn.functional.one_hot(labels).double())]
        )
        same = np.allclose(found.values, whole, rtol=1e-5, atol=1e-7)
        assert same == (samples[0] == 1)

        folder = make_study(tmp_path / "study", arms=("plain", "rdl"), teachers=("clean",), labels=(), n_images=50)
        kept = xr.load_dataarray(folder / "mds.nc", engine="h5netcdf").assign_attrs(found.attrs)
        kept.to_netcdf(folder / "mds.nc", engine="h5netcdf")
        told = "of the 20 test images." if samples[0] == 1 else ", averaged over 20 samples of 20 distinct test images."
        assert f"1 − Pearson r between RDMs{' ' * (samples[0] == 1)}{told}" in read(write_report(folder)).texts["map"]

    def test_a_study_that_is_not_in_the_paper(self, tmp_path):
        page = read(write_report(small(tmp_path, study="digits", seeds=2, n_images=360)))
        assert "paper, %" not in page.table("errors")["plain"]
        assert "the paper's Table" not in page.texts["errors"]
        assert "The paper:" not in page.texts[""]
        assert "360 test images" in page.texts[""]

    def test_one_teacher_conditions_every_claim(self, tmp_path):
        folder = small(tmp_path, arms=("plain", "teacher", "rdl"), one_teacher=True)
        results = pd.read_csv(folder / "results.csv")
        with np.load(folder / "correctness.npz") as file:
            correctness = {name: file[name] for name in file.files}
        of_teacher = results["arm"] == "teacher"
        results.loc[of_teacher, "test_error"] = results.loc[of_teacher, "test_error"].iloc[0]
        results.loc[of_teacher, "seed"] = 0  # the same network in the row of each seed
        for seed in (1, 2):
            correctness[f"teacher-clean-seed{seed}"] = correctness["teacher-clean-seed0"]
        results.to_csv(folder / "results.csv", index=False)
        np.savez(folder / "correctness.npz", **correctness)
        page = read(write_report(folder))
        assert "every claim about a method with a teacher is conditional on that one teacher" in page.texts[""]
        assert "Conditional on one teacher of each kind." in page.texts["errors"]
        assert "every interval over seeds is conditional on it" in page.texts["statistics"]
        line = page.table("errors")["teacher (clean)"]
        assert line["seeds"] == ("1",)
        assert line["paired t over seeds"] == ("",)

    def test_the_teacher_of_few_labels_saw_deformations_of_its_students_images(self, tmp_path):
        folder = small(tmp_path)
        results = pd.read_csv(folder / "results.csv")
        results.loc[results["teacher"] == "clean", "teacher"] = "labels"
        results.to_csv(folder / "results.csv", index=False)
        assert (
            "RDL had the teacher trained on the labelled images alone (trained on 120,000 deformations of them)."
        ) in read(write_report(folder)).texts[""]

    def test_runs_of_two_devices_are_told(self, tmp_path):
        folder = small(tmp_path)
        assert "Trained on" not in read(write_report(folder)).texts[""]
        results = pd.read_csv(folder / "results.csv")
        results.loc[results["row"] != "rdl-clean-seed1", "device"] = "NVIDIA H200"
        results.to_csv(folder / "results.csv", index=False)
        assert (
            f"Trained on NVIDIA H200 ({len(results) - 1} networks) and cpu (1 network), whose rounding differs: the "
            "same seed gives another training run there."
        ) in read(write_report(folder)).texts[""]

    def test_runs_that_died_are_named(self, tmp_path):
        folder = small(tmp_path)
        results = pd.read_csv(folder / "results.csv")
        results.loc[results["row"] == "rdl-clean-seed1", ["test_error", "validation_error"]] = np.nan
        results.to_csv(folder / "results.csv", index=False)
        with np.load(folder / "correctness.npz") as file:
            kept = {name: file[name] for name in file.files if name != "rdl-clean-seed1"}
        np.savez(folder / "correctness.npz", **kept)
        page = read(write_report(folder))
        assert "1 run diverged in training, left out of every mean: rdl-clean-seed1." in page.texts[""]
        assert page.table("errors")["RDL (clean)"]["seeds"] == ("2",)

    def test_methods_that_share_one_seed_only(self, tmp_path):
        folder = small(tmp_path)
        results = pd.read_csv(folder / "results.csv")
        results[~results["row"].isin(["rdl-clean-seed0", "rdl-clean-seed1"])].to_csv(
            folder / "results.csv", index=False
        )
        opening = read(write_report(folder)).texts[""]
        assert "between two networks. There is one seed, hence no interval over training runs" in opening

    def test_fewer_training_images_than_the_paper(self, tmp_path):
        folder = small(tmp_path, seeds=1)
        results = pd.read_csv(folder / "results.csv").assign(train_size=5000)
        results.to_csv(folder / "results.csv", index=False)
        assert "The paper's students had 50,000 training images" in read(write_report(folder)).texts[""]

    def test_missing_pieces_are_told_in_a_sentence(self, tmp_path):
        folder = small(tmp_path, seeds=1)
        for name in ("histories", "geometry", "tries"):
            (folder / f"{name}.csv").unlink()
        page = read(write_report(folder))
        assert "The study left no histories.csv, so there are no curves." in page.texts["curves"]
        assert "The study left no rdms.nc, so there are no RDMs to show." in page.texts["rdms"]
        assert "The study left no mds.nc, so there is no map." in page.texts["map"]
        assert "The study left no geometry.csv" in page.texts["geometry"]
        assert "The study left neither results.json nor tries.csv" in page.texts["tries"]
        assert set(page.images) == {"test-errors"}

    def test_plain_alone(self, tmp_path):
        page = read(write_report(small(tmp_path, arms=("plain",))))
        assert "There is no pair of RDL and plain runs to compare." in page.texts[""]
        assert "There is only one method." in page.texts["tests"]


class TestFaults:
    def test_a_collapsed_network_is_named_and_leaves_the_map(self, tmp_path, monkeypatch):
        """A real network of which one layer is dead, through the whole pipeline."""
        train = runs_module.train

        def kill(*args):
            model, history = train(*args)
            with runs_module.torch.no_grad():
                for parameter in model.fc.parameters():
                    parameter.zero_()
            return model, history

        monkeypatch.setattr(runs_module, "train", kill)
        request = Request(tmp_path / "out", arms=("plain",), limit_train=100, tries=1, device="cpu")
        study = digits_study()
        report = reproduce(study, request, override(study.recipe, ["epochs=1"]), log=lambda line: None)
        distances = xr.load_dataarray(tmp_path / "out" / "mds.nc", engine="h5netcdf")
        assert distances["layer"].values.tolist() == ["pixels", "pool1", "pool2", "labels"]
        page = read(report)
        assert (
            "At chance, with about the 90 % error of guessing among 10 classes: plain-seed0. They are included in "
            "every mean."
        ) in page.texts[""]
        assert (
            "Collapsed, all images being equally far apart in a layer: plain (fc, softmax). A constant RDM has no "
            "correlation, so the maps omit it."
        ) in page.texts[""]
        assert "Left out, their RDMs being constant: plain (fc, softmax)." in page.texts["map"]

    def test_a_sound_study_has_none(self, full):
        assert "faults" not in full[1].ids
        assert "Left out" not in full[1].texts["map"]

    def test_chance_depends_on_the_classes(self):
        runs = pd.DataFrame({"row": ["one", "two"], "test_error": [97.0, 98.8]})
        assert at_chance(runs, 100, 10_000) == ["two"]
        assert at_chance(runs, 10, 10_000) == ["one", "two"]
        assert at_chance(runs, 0, 10_000) == []

    def test_layers_that_only_the_map_lacks(self, full):
        rdms = xr.load_dataarray(full[0] / "rdms.nc", engine="h5netcdf")
        distances = xr.load_dataarray(full[0] / "mds.nc", engine="h5netcdf")
        lost = (distances["model"] == "rdl (clean)") & (distances["layer"] == "fc")
        kept = np.flatnonzero(~lost.to_numpy())
        assert constant_layers(rdms, distances) == []
        assert constant_layers(rdms, distances.isel(point=kept, point_=kept)) == [("rdl (clean)", "fc")]


class TestIntervalsWithoutWidth:
    def set_errors(self, folder, **wrong):
        """Let the first images of each run be wrong, a number per seed."""
        results = pd.read_csv(folder / "results.csv")
        with np.load(folder / "correctness.npz") as file:
            correctness = {name: file[name] for name in file.files}
        for name, counts in wrong.items():
            for seed, count in enumerate(counts):
                row = f"{name.replace('_', '-')}-seed{seed}"
                correctness[row] = np.arange(2000) >= count
                results.loc[results["row"] == row, "test_error"] = 100 * count / 2000
        results.to_csv(folder / "results.csv", index=False)
        np.savez(folder / "correctness.npz", **correctness)

    def test_equal_seeds(self, tmp_path):
        folder = small(tmp_path)
        self.set_errors(folder, plain=(60, 60, 60), rdl_clean=(40, 40, 40))
        page = read(write_report(folder))
        table = page.table("errors")
        assert table["plain"]["test error, %"] == ("3.00", "all seeds equal")
        assert table["RDL (clean)"]["paired t over seeds"] == ("the same in each",)
        assert "Where all seeds have the same error there is no t interval" in page.texts["errors"]
        assert "[3.00" not in page.texts["errors"]
        assert "[−1.00, −1.00]" not in page.texts[""] + page.texts["errors"]

    def test_the_same_answers(self, tmp_path):
        folder = small(tmp_path)
        self.set_errors(folder, plain=(60, 50, 70), rdl_clean=(60, 50, 70))
        page = read(write_report(folder))
        line = page.table("errors")["RDL (clean)"]
        assert line["difference to plain, points"] == ("0.00", "the same images")
        assert (
            "a difference of 0.00 points. In every seed both are right on the same images: nothing tells them apart, "
            "and there is no interval."
        ) in page.texts[""]


@pytest.fixture(scope="module")
def settings_page(tmp_path_factory):
    folder = small(tmp_path_factory.mktemp("settings"), arms=("plain", "hints", "rdl", "kd"), labels=(100,))
    recipe = {"learning_rate": 0.05, "weight_decay": 0.0005, "relative": True, "choice_epochs": 10, "epochs": 20}
    edit(folder, configuration={"recipe": recipe})
    results = pd.read_csv(folder / "results.csv")
    own = {"plain": {}, "hints": {"learning_rate_factor": 0.3}, "rdl": {"alpha0": 2.0}, "kd": {"alpha0": 0.1}}
    runs = zip(results["row"], results["arm"], strict=True)
    rows = [{"row": row, "setting": {"learning_rate": 0.1} | own[arm]} for row, arm in runs]
    (folder / "results.json").write_text(json.dumps({"rows": rows}))
    histories = pd.read_csv(folder / "histories.csv")
    of_rdl = histories["arm"] == "rdl"
    for layer, alpha in (("pool1", 161.5), ("fc", 2.5)):
        histories.loc[of_rdl, f"alpha/{layer}"] = alpha * (1 - histories["epoch"] / 20)
    histories.to_csv(folder / "histories.csv", index=False)
    columns = ["arm", "labels", "teacher", "try", "setting", "validation_error", "chosen", "seconds"]
    tried = [
        ("plain", None, "", 0, "{}", 3.2, False, 9.0),
        ("plain", None, "", 1, '{"learning_rate": 0.1}', 3.1, True, 9.0),
        ("plain", 100, "", 0, '{"learning_rate": 0.1}', 9.1, True, 9.0),
        ("rdl", None, "clean", 0, '{"alpha0": 2.0}', 3.1, True, 9.0),
        ("rdl", None, "clean", 1, '{"alpha0": 1.0}', 3.3, False, 9.0),
        ("rdl", 500, "clean", 0, '{"alpha0": 7.0}', 3.1, True, 9.0),
        ("rdl", 100, "clean", 0, '{"alpha0": 2.0}', 9.1, True, 9.0),
        ("rdl", 100, "clean", 1, '{"alpha0": 1.0}', 9.3, False, 9.0),
        ("kd", None, "clean", 0, '{"alpha0": 0.1}', None, True, 0.0),
    ]
    tries = pd.DataFrame(tried, columns=columns).assign(validation_loss=0.1)
    tries.to_csv(folder / "tries.csv", index=False)
    return read(write_report(folder))


class TestSettings:
    def rows(self, page):
        found = page.tables["tries", "Hyperparameters of each method"]
        head = [cell[0] for cell in found[0]]
        return {(row[0][0], row[1][0]): dict(zip(head, row, strict=True)) for row in found[1:]}

    def test_learning_rate_and_weight_decay_and_whose_choice_they_are(self, settings_page):
        rows = self.rows(settings_page)
        assert rows["plain", "all"]["learning rate"] == ("0.1",)
        assert rows["plain", "all"]["weight decay"] == ("0.0005",)
        assert rows["RDL (clean)", "all"]["learning rate"] == ("0.1", "as plain")
        assert rows["RDL (clean)", "all"]["weight decay"] == ("0.0005", "as plain")
        assert rows["hints (clean)", "all"]["learning rate"] == ("0.03", "as plain × 0.3")

    def test_alpha_and_what_it_is_relative_to(self, settings_page):
        rows = self.rows(settings_page)
        assert rows["RDL (clean)", "all"]["α₀"] == ("2, relative", "pool1 162", "fc 2.5")
        assert rows["KD (clean)", "all"]["α₀"] == ("0.1",)
        assert "divided by the squared mean distance of the teacher's RDM" in settings_page.texts["tries"]

    def test_where_it_was_chosen_and_for_how_long_it_was_trained(self, settings_page):
        rows = self.rows(settings_page)
        assert rows["plain", "all"]["selected among"] == ("2 candidates", "10 epochs each")
        assert rows["RDL (clean)", "all"]["selected among"] == (
            "2 candidates",
            "with the clean teacher",
            "10 epochs each",
        )
        assert rows["RDL (clean)", "100"]["selected among"][2:] == ("at 100 labels", "10 epochs each")
        assert rows["KD (clean)", "all"]["selected among"] == ("not tried",)
        assert rows["hints (clean)", "all"]["epochs"] == ("20", "4 of them for the hint")
        assert "Candidates were trained for fewer epochs than the runs." in settings_page.texts["tries"]

    def test_updates_are_told_where_labels_are_few(self, settings_page):
        rows = self.rows(settings_page)
        assert rows["plain", "100"]["updates"] == ("10,000",)
        assert rows["plain", "all"]["updates"] == ("",)


class TestCalls:
    @pytest.mark.parametrize("numbered", [False, True])
    def test_each_call_has_a_row(self, tmp_path, numbered):
        folder = small(tmp_path, seeds=1)
        calls = [
            {"command": "brainrdl reproduce mnist --seeds 1", "threads": 2, "duration_seconds": 5400.0},
            {"command": "brainrdl reproduce mnist --seeds 2", "threads": 1, "duration_seconds": 30.0},
        ]
        edit(folder, calls={str(k): call for k, call in enumerate(calls, 1)} if numbered else calls)
        page = read(write_report(folder))
        assert page.tables["manifest", "Calls of the command"] == [
            [("",), ("command",), ("threads",), ("time",)],
            [("1",), ("brainrdl reproduce mnist --seeds 1",), ("2",), ("90 min",)],
            [("2",), ("brainrdl reproduce mnist --seeds 2",), ("1",), ("30 s",)],
        ]
        assert not [field for field in page.table("manifest", "Manifest") if field.startswith("calls")]

    def test_a_manifest_without_them(self, full):
        assert ("manifest", "Calls of the command") not in full[1].tables
        assert full[1].table("manifest", "Manifest")["command"]["value"][0].startswith("brainrdl reproduce mnist")


@pytest.fixture(scope="module")
def transfer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("transfer")
    arms = ("plain", "plain_readout", "teacher", "finetuning", "hints", "rdl", "rdl_corr")
    small(folder, study="cifar100", arms=arms, teachers=("cifar10",), rdms=True, seeds=3)
    baselines = {"rdl": "plain_readout", "rdl_corr": "plain_readout", "plain": None}
    edit(folder, baselines=baselines, classes=[str(k) for k in range(100)])
    results = pd.read_csv(folder / "results.csv").assign(validation_error=np.nan)  # all images are trained on
    of_teacher = results["arm"] == "teacher"
    results.loc[of_teacher, "dataset"] = "cifar10"
    results.to_csv(folder / "results.csv", index=False)
    histories = pd.read_csv(folder / "histories.csv").drop(columns=["validation_error", "validation_loss"])
    histories.to_csv(folder / "histories.csv", index=False)
    with np.load(folder / "correctness.npz") as file:
        correctness = {name: file[name] for name in file.files}
    own = {row: correctness.pop(row) for row in results.loc[of_teacher, "row"]}
    np.savez(folder / "correctness.npz", **correctness)
    np.savez(folder / "correctness-teachers.npz", ids=correctness["ids"], **own)
    return read(write_report(folder)), correctness, results


class TestTransfer:
    """A study like the CIFAR-100 one: teachers with other classes, and RDL paired with a network with a readout."""

    def test_each_method_is_compared_with_its_own_baseline(self, transfer):
        page, correctness, _ = transfer
        table = page.table("errors")
        for name, row, baseline, told in (
            ("RDL (cifar10)", "rdl-cifar10", "plain_readout", "to plain with readout"),
            ("hints (cifar10)", "hints-cifar10", "plain", "to plain"),
        ):
            ours, its = (np.stack([correctness[f"{n}-seed{k}"] for k in range(3)]) for n in (row, baseline))
            estimate, low, high = crossed_bootstrap(ours, its)
            expected = (signed(estimate), f"[{signed(low)}, {signed(high)}]", told)
            assert table[name]["difference to the baseline, points"] == expected
        assert "A negative difference: a lower error than the method named below it." in page.texts["errors"]
        opening = page.texts[""]
        assert opening.index("% of plain with readout, a difference") < opening.index("% of plain, a difference")
        assert "all pairs of held-out images" in page.texts["geometry"]
        assert "▼ marks a mean below its baseline's" in page.texts["geometry"]

    def test_the_teacher_stands_outside_the_students_tables(self, transfer):
        page, _, results = transfer
        assert "teacher (cifar10)" not in page.table("errors")
        assert "teacher" not in page.table("tests")
        error = results.loc[results["arm"] == "teacher", "test_error"].mean()
        assert (
            f"The CIFAR-10 teacher has other classes and hence no row: its test error is {number(error)} % of 2,000 "
            "CIFAR-10 images, mean of 3 seeds (the paper's: 8.0 %)."
        ) in page.texts["errors"]
        assert "each trained on 50,000 CIFAR-100 images for 20 epochs" in page.texts[""]

    def test_nothing_was_held_out(self, transfer):
        page, _, _ = transfer
        assert "validation error, %" not in page.table("errors")["plain"]
        assert "errors on training images; none were held out in the final training." in page.texts["curves"]

    def test_it_shows_the_papers_other_half(self, transfer):
        page, _, _ = transfer
        places = {key: f"the paper's {place}" for key, place in PAPER["cifar100"].places.items()}
        assert places["tests"] == "the paper's Table 5"
        for key, place in places.items():
            assert place in page.texts[key]
        assert "the paper's Figure" not in page.texts["rdms"]
        assert page.table("tests")["RDL"]["plain"] == (".00 ←",)


class TestRefusals:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            (
                {"calls": {"command": "x"}},
                "has calls {'command': 'x'}; expected objects, one per call of the command, in order",
            ),
            ({"baselines": ["plain"]}, "has baselines ['plain']; expected an object of arm and arm"),
        ],
    )
    def test_a_manifest_of_another_form(self, tmp_path, changes, message):
        folder = small(tmp_path, seeds=1)
        edit(folder, **changes)
        with pytest.raises(ValueError, match="expected") as caught:
            write_report(folder)
        assert str(caught.value) == f"{folder / 'manifest.json'} {message}"

    def test_settings_of_another_form(self, tmp_path):
        folder = small(tmp_path, seeds=1)
        (folder / "results.json").write_text('{"rows": [{"row": "plain-seed0"}]}')
        with pytest.raises(ValueError, match="setting") as caught:
            write_report(folder)
        assert str(caught.value) == (
            f"{folder / 'results.json'} has no list of rows with a setting each; resume the study to write it again"
        )

    def test_missing_files_are_named(self, tmp_path):
        folder = small(tmp_path / "study", seeds=1)
        (folder / "manifest.json").unlink()
        (folder / "results.csv").unlink()
        with pytest.raises(FileNotFoundError) as caught:
            write_report(folder)
        assert str(caught.value) == (
            f"{folder} lacks results.csv, manifest.json; a report is made from what a study leaves in its folder: name "
            "the folder that brainrdl reproduce wrote into"
        )

    def test_a_missing_column(self, tmp_path):
        folder = small(tmp_path, seeds=1)
        geometry = pd.read_csv(folder / "geometry.csv").drop(columns=["e_aux", "seed"])
        geometry.to_csv(folder / "geometry.csv", index=False)
        with pytest.raises(ValueError, match="lacks") as caught:
            write_report(folder)
        assert str(caught.value) == (
            f"{folder / 'geometry.csv'} lacks the columns seed, e_aux; it has row, arm, labels, teacher, layer, "
            "correlation"
        )

    def test_scores_of_other_networks(self, tmp_path):
        folder = small(tmp_path, seeds=1)
        results = pd.read_csv(folder / "results.csv").assign(test_error=50.0)
        results.to_csv(folder / "results.csv", index=False)
        with pytest.raises(ValueError, match="score it again") as caught:
            write_report(folder)
        with np.load(folder / "correctness.npz") as file:
            error = 100 * (1 - file["plain-seed0"].mean())
        assert str(caught.value) == (
            f"{folder}: the test error of 'plain-seed0' is 50 % in the results, but {error:g} % by its correctness; "
            "score it again"
        )

    def test_pickles_are_not_opened(self, tmp_path):
        folder = small(tmp_path, seeds=1)
        np.savez(folder / "correctness.npz", ids=np.array([{}], dtype=object))
        with pytest.raises(ValueError, match="is not a file of arrays, or is damaged: Object arrays cannot be loaded"):
            write_report(folder)

    def test_correctness_of_another_form(self, tmp_path):
        folder = small(tmp_path, seeds=1)
        path = folder / "correctness.npz"
        np.savez(path, ids=np.array(["a", "b"]), plain=np.array([0.5, 1.0]))
        with pytest.raises(ValueError, match="one per test image") as caught:
            write_report(folder)
        assert str(caught.value) == (
            f"{path} holds float64 of shape (2,) for 'plain'; expected bool of shape (2,), one per test image"
        )
        np.savez(path, plain=np.array([True]))
        with pytest.raises(ValueError, match="lacks") as caught:
            write_report(folder)
        assert str(caught.value) == f"{path} lacks 'ids', the test images' ids; score the runs again"

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("manifest.json", "{", "{path} is not a JSON file, or is damaged: "),
            ("manifest.json", "[]", "{path} names no study; expected an object with the key 'study'"),
            ("results.csv", "", "{path} is not a CSV file, or is damaged: "),
            ("rdms.nc", "no", "{path} is not a netCDF file with one array, or is damaged: "),
        ],
    )
    def test_damaged_files(self, tmp_path, name, content, message):
        folder = small(tmp_path, seeds=1)
        (folder / name).write_text(content)
        with pytest.raises(ValueError, match=re.escape(message.format(path=folder / name))):
            write_report(folder)

    def test_nothing_to_report(self, tmp_path):
        folder = small(tmp_path, seeds=1)
        results = pd.read_csv(folder / "results.csv").assign(test_error=np.nan)
        results.to_csv(folder / "results.csv", index=False)
        with pytest.raises(ValueError, match="nothing") as caught:
            write_report(folder)
        assert str(caught.value) == (
            f"{folder / 'results.csv'} has no run with a test error; there is nothing to report"
        )

    def test_a_failure_leaves_the_old_report(self, tmp_path):
        folder = small(tmp_path, seeds=1)
        old = write_report(folder).read_bytes()
        (folder / "tries.csv").write_text("arm\nplain\n")
        with pytest.raises(ValueError, match="lacks the columns"):
            write_report(folder)
        assert (folder / "report.html").read_bytes() == old

    def test_study_files_are_read_once_and_checked(self, tmp_path):
        study = read_study(small(tmp_path, seeds=1, n_images=50))
        assert study.n_images == 50
        assert set(study.correctness) == {"plain-seed0", "rdl-clean-seed0"}
        assert study.results["teacher"].tolist() == ["", "clean"]
        assert study.rdms is None
