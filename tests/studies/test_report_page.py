"""All reports have one page, one style, one spelling of numbers and names."""

import json
import re
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from jinja2 import UndefinedError
from matplotlib.figure import Figure
from PIL import Image
from test_card import CATEGORIES, FEATURES, IDS, brains, controls
from test_paper_report import edit, small

import brainrdl
from brainrdl.rdms.labelled import label_rdms
from brainrdl.studies.card import CardOptions, make_card
from brainrdl.studies.reports import card as card_report, methods, words
from brainrdl.studies.reports.card import write_card
from brainrdl.studies.reports.fit import write_report as write_fit_report
from brainrdl.studies.reports.fit_figures import held_out_of
from brainrdl.studies.reports.fit_files import Setting, in_setting
from brainrdl.studies.reports.fit_findings import format_drawn, format_setting
from brainrdl.studies.reports.fmri import _noise as fmri_noise, write_report as write_fmri_report
from brainrdl.studies.reports.page import Page, Picture, Section, Table, present, render, write_page
from brainrdl.studies.reports.paper import write_report as write_paper_report
from brainrdl.studies.reports.paper_figures import format_model
from brainrdl.studies.reports.paper_findings import format_layers
from fitted_study import make_fit

REPORTS = Path(methods.__file__).parent
PACKAGE = Path(brainrdl.__file__).parent
SUFFIXES = {"paper": "report.html", "fit": "report.html", "card": "card.html", "fmri": "rdms.html"}


def write(kind, folder):
    """Write a small report of one kind."""
    if kind == "paper":
        return write_paper_report(small(folder, seeds=1, n_images=50))
    if kind == "fit":
        return write_fit_report(make_fit(folder, rdms=False, thumbnails=False))
    if kind == "card":
        options = CardOptions(heads=(), n_folds=2, n_resamples=20)
        card = make_card(FEATURES, IDS, brains(), categories=CATEGORIES, controls=controls(), options=options)
        return write_card(card, folder)[-1]
    run = {"run": "run-01", "scans": 9, "t_r": 2.0, "dof": 5, "drift_model": None, "confounds": []}
    facts = {
        "runs": [run | {"trial_types": ["a", "b", "c"]}],
        "voxels": {"used": 4, "mask": 5},
        "shrinkage": None,
        "tsnr_median": 40.4,
        "split_half": {"r": -0.125, "interval_95": [-0.5, 0.5], "spearman_brown_lower_bound": None},
        "order": {"correlation": 0.9, "warning": "the order of trials tells stimuli apart"},
        "settings": {"glm": {"high_pass": 0.01, "hrf_model": "spm"}, "noise": None},
        "inputs": {"sub-01_bold.nii.gz": "12ab"},
        "mask": {},
        "versions": {"numpy": "2.0"},
    }
    coords = {"subject": ["01"], "roi": ["IT"]}
    rdms = label_rdms(np.array([[1.0, 2.0, 3.0]]), ["a", "b", "c"], ["sub-01/IT"], "crossnobis", coords)
    rdms = rdms.assign_attrs(provenance=json.dumps(facts))
    sources = SimpleNamespace(design=pd.DataFrame({"a": [0.0, 1.0]}), tsnr={"IT": np.arange(9.0)})
    return write_fmri_report(rdms, {"sub-01": sources}, folder / "rdms.html", findings=["A finding."])


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    return {kind: write(kind, tmp_path_factory.mktemp(kind)).read_text(encoding="utf-8") for kind in SUFFIXES}


class TestOnePage:
    def test_every_page_begins_alike(self, pages):
        heads = {page.partition("</style>")[0] for page in pages.values()}
        assert len(heads) == 1
        (head,) = heads
        assert head.startswith("<!doctype html>")
        assert (REPORTS / "style.css").read_text(encoding="utf-8").strip() in head
        policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
        assert f'<meta http-equiv="Content-Security-Policy" content="{policy}">' in head
        for page in pages.values():
            assert page.count("Content-Security-Policy") == page.count("<style>") == page.count("<h1>") == 1
            assert not re.search(r"<script|<link|https?:|style=", re.sub(r"data:[^\"]*", "", page))

    def test_every_page_has_contents_and_sections(self, pages):
        for page in pages.values():
            links = re.findall(r'<a href="#([\w-]+)">', page)
            assert links == re.findall(r'<section id="([\w-]+)">', page)
            ids = re.findall(r' id="([^"]+)"', page)
            assert len(ids) == len(set(ids))

    def test_there_is_one_table_one_section_one_picture_and_one_style(self):
        sources = {path.name: path.read_text(encoding="utf-8") for path in REPORTS.glob("*.py")}
        for name in ("Table", "Section", "Picture", "Page"):
            pattern = re.compile(rf"^class {name}\b|^{name} = ", re.MULTILINE)
            assert [file for file, text in sources.items() if pattern.search(text)] == ["page.py"]
        assert [file for file, text in sources.items() if "jinja2" in text] == ["page.py"]
        assert [path.name for path in PACKAGE.rglob("*.css")] == ["style.css"]
        templates = {path.name: path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.jinja")}
        base = templates.pop("base.html.jinja")
        assert set(templates) == {f"{kind}.html.jinja" for kind in SUFFIXES}
        for text in templates.values():
            assert text.startswith('{% extends "base.html.jinja" %}')
            assert not re.search("<head|<style|<table|<figure|<h1|<nav", text)
        assert base.count("<head>") == base.count("<style>") == base.count("<table>") == 1

    def test_the_page_of_scans(self, pages):
        page = pages["fmri"]
        assert "1 RDM of 3 stimuli, metric crossnobis: a, b, c." in page
        assert re.search(r'<ul id="faults">\s*<li>sub-01/IT: the order of trials tells stimuli apart</li>', page)
        assert '<ul id="findings">\n<li>A finding.</li>' in page
        cells = ("1", "4 of 5", "5", "", "40", "−0.13", "[−0.50,\u00a00.50]", "", "0.90")
        row = "".join(f"<td><span>{cell}</span></td>" for cell in cells)
        assert f'<th scope="row">sub-01/IT</th>{row}' in page
        assert '<th scope="row">glm.high_pass</th><td><span>0.01</span></td>' in page
        assert '<th scope="row">noise</th><td><span>none</span></td>' in page
        assert "<summary>sub-01/IT: 1 files, SHA-256</summary>" in page
        assert "<footer>Computed with numpy 2.0.</footer>" in page

    def test_a_name_that_nobody_gave_is_an_error_and_leaves_the_old_page(self, tmp_path):
        page = Page("<i>Title</i>", "", "", "Summary", (), (Section("statistics", "How", ()),), ("A note.",))
        path = tmp_path / "page.html"
        write_page(page, path, "base.html.jinja", {})
        before = path.read_text(encoding="utf-8")
        assert "<h1>&lt;i&gt;Title&lt;/i&gt;</h1>" in before
        assert before.index("<h2>How</h2>") < before.index("<p>A note.</p>")
        with pytest.raises(UndefinedError, match="'metric' is undefined"):
            write_page(page, path, "card.html.jinja", {})
        assert path.read_text(encoding="utf-8") == before

    def test_sections_without_anything_are_left_out(self):
        table = Table("Caption", ("a",), ((("1",),),))
        given = [Section("empty", "E", ()), Section("said", "S", (), "None."), Section("full", "F", (table,))]
        assert [section.id for section in present([*given, Section("statistics", "T", ())])] == [
            "said",
            "full",
            "statistics",
        ]

    def test_pictures_are_the_same_each_time_and_left_where_asked(self, tmp_path):
        figure = Figure(figsize=(2, 1))
        assert render(figure, "png")[1:4] == b"PNG"
        assert render(figure, "svg") == render(figure, "svg")
        page = Page("T", "", "", "S", (), (Section("one", "O", (Picture("dot", figure, "alt", ""),)),), ())
        write_page(page, tmp_path / "page.html", "base.html.jinja", {}, figures=tmp_path / "figures")
        assert (tmp_path / "figures" / "dot.svg").read_bytes() == render(figure, "svg")
        assert ' width="230" alt="alt"' in (tmp_path / "page.html").read_text(encoding="utf-8")


class TestOneSpelling:
    def test_decimals_and_minus_signs_are_made_in_one_place(self):
        for path in REPORTS.glob("*.py"):
            text = path.read_text(encoding="utf-8")
            if path.name != "words.py":
                assert not re.search(r":[+,]?\.[1-9]f\b|:\.\{digits\}f", text), path
            assert '.replace("-", "−")' not in text, path

    @pytest.mark.parametrize(
        ("ends", "text"),
        [
            ((-0.118, -0.0004), "[−0.118,\u00a0−0.000]"),
            ((0.0004, 0.2), "[+0.000,\u00a0+0.200]"),
            ((-0.2, 0.0), "[−0.200,\u00a00.000]"),
            ((-0.2, 1e-17), "[−0.200,\u00a00.000]"),
        ],
    )
    def test_the_sign_of_a_rounded_end_tells_whether_an_interval_includes_0(self, ends, text):
        assert words.interval(*ends, signed=True, digits=3) == text

    def test_each_comparison_has_one_name(self):
        for name in ("whitened Pearson r", "Kendall's τ-a", "− mean squared difference"):
            assert len([path for path in PACKAGE.rglob("*.py") if f'"{name}"' in path.read_text("utf-8")]) == 1
        for other in ("Spearman ρ", "Kendall τ"):
            assert not [path for path in PACKAGE.rglob("*.py") if f'"{other}' in path.read_text("utf-8")]
        setting = Setting("random", "first", "second", "spearman")
        assert format_setting(setting) == "fitted to first, scored in second, random splits, Spearman's ρ"
        same = setting._replace(scored_study="first", scheme="my_own", method="other")
        assert format_setting(same) == "fitted to first, scored in the same study, my own, other"

    @pytest.mark.parametrize(
        ("function", "arguments", "text"),
        [
            ("number", (3.14159,), "3.14"),
            ("number", (None,), ""),
            ("number", (float("nan"),), ""),
            ("number", (-0.125, 2), "−0.13"),
            ("signed_number", (3.14159,), "+3.14"),
            ("signed_number", (-3.14159,), "−3.14"),
            ("signed_number", (-0.001,), "0.00"),
            ("interval", (1, 2), "[1.00,\u00a02.00]"),
            ("interval", (1, 1 + 1e-12), ""),
            ("interval", (-0.118, -0.0004), "[−0.12,\u00a0−0.00]"),
            ("interval", (None, None), ""),
            ("span_of", (0.35, 0.55, 3), "0.350 to 0.550"),
            ("span_of", (float("nan"), float("nan")), ""),
            ("p_value", (0.0124,), ".012"),
            ("p_value", (0.0004,), "<.001"),
            ("p_value", (1.0,), "1.000"),
            ("p_value", (None,), ""),
            ("p_equals", (0.0124,), "= .012"),
            ("p_equals", (0.0004,), "<.001"),
            ("unbroken", ("5 % of 2 points",), "5\u00a0% of 2\u00a0points"),
            ("capital", ("the CIFAR teacher",), "The CIFAR teacher"),
            ("share", (0.25,), "25 %"),
            ("share", (0.0002,), "<1 %"),
            ("share", (0.0,), "0 %"),
            ("share", (12.0,), "12 ×"),
            ("share", (4207.0,), "4,207 ×"),
            ("count", (1, "seed"), "1 seed"),
            ("count", (1000, "seed"), "1,000 seeds"),
            ("labels_cell", (1000.0,), "1,000"),
            ("labels_cell", (float("nan"),), "all"),
            ("span", (pd.Series([1000, 100, np.nan]),), "100–1,000"),
            ("span", (pd.Series([np.nan]),), "an unknown number of"),
            ("duration", (61.0,), "61 s"),
            ("duration", (1800.0,), "30 min"),
            ("duration", (9000.0,), "2.5 h"),
            ("duration", (float("nan"),), ""),
            ("date", ("2026-11-22T18:00:00+00:00",), "2026-11-22"),
            ("as_text", (10_000.0,), "10,000"),
            ("as_text", (0.123456,), "0.1235"),
            ("as_text", (10_000,), "10,000"),
            ("as_text", (float("nan"),), ""),
        ],
    )
    def test_words(self, function, arguments, text):
        assert getattr(words, function)(*arguments) == text

    def test_nested_objects_are_dotted_fields(self):
        told = list(words.flat({"a": {"b": 1, "c": [1, 2]}, "d": None}))
        assert told == [("a.b", "1"), ("a.c", "1, 2"), ("d", "None")]


class TestNames:
    def test_the_words_of_a_study_s_own_arms_are_those_of_its_manifest(self, tmp_path):
        folder = small(tmp_path, arms=("plain", "rdl", "kd"), seeds=1, n_images=50)
        edit(folder, arms={"kd": {"label": "my KD", "about": "Another one.", "family": "further"}})
        page = write_paper_report(folder).read_text(encoding="utf-8")
        assert '<th scope="row">my KD</th><td><span>Another one.</span></td>' in page
        assert '<th scope="row">my KD (clean)</th>' in page
        assert "RDL and my KD had the clean teacher" in page
        assert not re.search(r"(?<!my )\bKD\b", page)
        assert methods.words_of({}, methods.PAPER_ARMS) == methods.PAPER_ARMS

    def test_of_arms_and_teachers(self):
        assert methods.method_name("rdl", "clean") == "RDL (clean)"
        assert methods.teacher_name("clean") == "the clean teacher"
        assert methods.teacher_name("my_kind") == "my_kind"
        assert methods.fit_arm_name("task_only") == "task only"
        assert methods.fit_arm_name("my_arm") == "my_arm"
        assert methods.fit_arm_family("gains") == "heads"
        assert methods.fit_arm_family("my_arm") == "fixed RDMs"
        assert methods.about_fit_arm("my_arm") == "A control RDM that the study's file names."

    def test_order_of_a_fit_s_arms(self):
        assert methods.order_fit_arms(["mine", "rdl", "pixels", "mixture", "rdl"]) == [
            "pixels",
            "mine",
            "mixture",
            "rdl",
        ]
        table = pd.DataFrame({"arm": ["mine", "rdl", "pixels", "rdl"], "k": range(4)})
        assert methods.sort_fit_arms(table)["k"].tolist() == [2, 0, 1, 3]

    def test_baselines(self):
        baselines = {"rdl": "plain_readout"}
        found = [methods.baseline_of(arm, baselines) for arm in ("rdl", "hints", "plain")]
        assert found == ["plain_readout", "plain", None]

    def test_of_networks(self):
        assert format_model("rdl_corr (clean)") == "scale-free RDL (clean)"
        assert format_model("rdl (clean) 1000 labels") == "RDL (clean) with 1,000 labels"
        layers = [("plain", "fc"), ("rdl (clean)", "pool2"), ("rdl (clean)", "fc")]
        assert format_layers(layers) == "plain (fc), RDL (clean) (pool2, fc)"

    def test_selections(self):
        runs = pd.DataFrame({"teacher": ["clean", "", "paper"], "labels": [np.nan, 100, 1000], "arm": "rdl"})
        assert methods.kinds_of(runs) == ["paper", "clean"]
        assert methods.with_labels(runs, 100).index.tolist() == [1]
        assert methods.with_labels(runs, None).index.tolist() == [0]
        assert methods.runs_of(runs, ("rdl", "clean")).index.tolist() == [0]
        setting = Setting("stratified", "first", "second", "corr")
        table = pd.DataFrame([setting._asdict() | {"fitted_study": study} for study in ("first", "", "second")])
        assert len(in_setting(table, setting)) == 2

    def test_of_what_was_drawn_and_held_out(self):
        both = format_drawn(pd.DataFrame({"over": ["both"]}))
        assert both == "stimuli and subjects, both drawn with replacement"
        rdms = label_rdms(np.ones((1, 3)), ["a", "b", "c"], ["after"], "undeclared")
        assert held_out_of(rdms.assign_attrs(held_out='["a", "b"]')) == ["a", "b"]
        assert held_out_of(rdms.assign_attrs(held_out="a, b")) == ["a", "b"]
        assert held_out_of(rdms) == []


def test_pictures_of_few_colours_have_a_palette_and_photographs_have_not():
    values = np.random.default_rng(0).random((200, 200))
    modes = []
    for picture in (values, np.stack([values, values.T, values[::-1]], axis=-1)):
        figure = Figure(figsize=(2, 2))
        figure.subplots().imshow(picture, interpolation="nearest")
        drawn = render(figure, "png")
        assert drawn == render(figure, "png")
        modes.append(Image.open(BytesIO(drawn)).mode)
    assert modes == ["P", "RGBA"]


def test_a_card_of_random_weights_says_so_in_title_figure_and_first_line(tmp_path):
    options = CardOptions(heads=(), n_folds=2, n_resamples=20)
    card = make_card(FEATURES, IDS, brains(), categories=CATEGORIES, controls=controls(), options=options)
    page = write_card(card, tmp_path, title="resnet18 against IT", weights="random weights")[-1].read_text("utf-8")
    assert "<title>resnet18 against IT (random weights)</title>" in page
    assert '<p id="summary">Random weights. Comparison of each layer' in page
    plain = write_card(card, tmp_path / "other", title="resnet18 against IT")[-1].read_text("utf-8")
    assert "andom weights" not in plain
    # the figure, too, is another
    assert (tmp_path / "card.png").read_bytes() != (tmp_path / "other" / "card.png").read_bytes()


def test_the_words_for_random_weights_are_not_drawn_over_the_legend(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(card_report, "render", lambda figure, kind: drawn.append(figure) or render(figure, kind))
    options = CardOptions(heads=(), n_folds=2, n_resamples=20)
    card = make_card(FEATURES, IDS, brains(), categories=CATEGORIES, controls=controls(), options=options)
    write_card(card, tmp_path, weights="random weights")
    (legend,) = drawn[0].legends
    title, *texts = (text.get_window_extent() for text in (legend.get_title(), *legend.get_texts()))
    assert legend.get_title().get_text() == "Random weights"
    assert not any(title.overlaps(box) for box in texts)


@pytest.mark.parametrize(
    ("noise", "model", "said"),
    [
        ("shrinkage_diag", "ar1", "residuals that the GLM's AR(1) model whitens in time, since the amplitudes are"),
        ("shrinkage_diag", "ols", "residuals of ordinary least squares, which are not whitened in time"),
        (None, "ar1", "Without noise normalisation"),
    ],
)
def test_a_report_of_scans_says_of_which_residuals_the_noise_is(noise, model, said):
    assert said in fmri_noise({"noise": noise, "glm": {"noise_model": model}})
