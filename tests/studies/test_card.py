"""The card of a network: its table, figure and page, on a tiny made-up set of stimuli."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import brainrdl as rdl
from brainrdl.cli import main
from brainrdl.exchange import write_rdms
from brainrdl.inference.held_out import Predicted, held_out_scores
from brainrdl.inference.reweighting.fit_heads import HeadSettings, fit_head
from brainrdl.inference.splits import inner_splits, stratified_splits
from brainrdl.studies.card import CardOptions, make_card
from brainrdl.studies.inputs import CardInputs, CardRequest, read_inputs
from brainrdl.studies.reports.card import write_card
from card_networks import tiny
from real_data import data_dir

CATEGORIES = {f"{kind}/{k:02d}": kind for kind in ("animal", "tool") for k in range(15)}
IDS = tuple(CATEGORIES)
QUICK = CardOptions(heads=("frrsa",), n_folds=3, n_inner=2, n_resamples=60)


def brains(noise=0.3, subjects=4, seed=0):
    """Subjects who see the same two dimensions: category, and one within it."""
    rng = np.random.default_rng(seed)
    features = FEATURES["fc"].numpy()
    distances = torch.cat([rdl.rdm(torch.from_numpy(features), "correlation")[None]] * subjects).numpy()
    noisy = np.clip(distances + noise * rng.standard_normal(distances.shape), 0, None)
    people = [f"sub-{k}" for k in range(subjects)]
    return rdl.label_rdms(noisy, IDS, people, "undeclared", {"subject": people})


def _features():
    generator = torch.Generator().manual_seed(0)
    side = torch.tensor([1.0 if kind == "animal" else -1.0 for kind in CATEGORIES.values()])
    fc = torch.randn(30, 6, generator=generator, dtype=torch.float64)
    fc[:, 0] += side
    conv = torch.randn(30, 4, 3, 3, generator=generator, dtype=torch.float64)
    return {"conv": conv, "fc": fc}


FEATURES = _features()


def controls():
    category = rdl.category_rdm(CATEGORIES, "animacy")
    rng = np.random.default_rng(1)
    other = rdl.label_rdms(rng.random((1, 435)), IDS, ["pixels"], "undeclared")
    return rdl.concat_rdms([category, other])


@pytest.fixture(scope="module")
def card():
    return make_card(FEATURES, IDS, brains(), categories=CATEGORIES, controls=controls(), options=QUICK)


class TestScores:
    def test_rows_are_layers_then_controls_then_heads(self, card):
        order = ["layer conv", "layer fc", "animacy", "pixels", "mixture", "frrsa"]
        assert list(dict.fromkeys(card.summary["arm"])) == order
        assert dict(card.groups) == dict(zip(order, ["layers"] * 2 + ["controls"] * 3 + ["heads"], strict=True))
        assert set(card.scores["score"]) == {"raw", "partial", "within_category"}
        assert len(card.scores) == 6 * 3 * 3

    def test_a_layers_scores_are_those_of_its_rdm(self, card):
        split = stratified_splits(CATEGORIES, 3)[1]
        values = rdl.rdm(FEATURES["fc"], "correlation")[None]
        model = rdl.label_rdms(values, IDS, ["fc"], "correlation", {"arm": ["fc"], "seed": [0]})
        alone = held_out_scores([Predicted(model, ())], brains(), split, categories=CATEGORIES, controls=controls())
        found = card.scores[(card.scores["arm"] == "layer fc") & (card.scores["split"] == split.name)]
        expected = alone.table.set_index("score")["value"]
        assert np.allclose(found.set_index("score")["value"][expected.index], expected, atol=1e-12)

    def test_the_layer_that_the_brains_were_made_of_wins_at_its_ceiling(self, card):
        raw = card.summary[card.summary["score"] == "raw"].set_index("arm")
        assert raw["value"].drop(["layer fc", "frrsa"]).max() < raw.loc["layer fc", "ceiling_lower"]
        assert raw.loc["layer fc", "value"] > raw.loc["layer fc", "ceiling_lower"]

    def test_what_is_removed_has_no_score(self, card):
        values = card.summary.set_index(["arm", "score"])["value"]
        for arm in ("animacy", "pixels", "mixture"):
            assert np.isnan(values[arm, "partial"])
        assert np.isnan(values["animacy", "within_category"])

    def test_a_layer_with_constant_patterns_is_named(self):
        dead = torch.ones(30, 6, dtype=torch.float64)
        message = (
            f"layer 'dead': correlation distances of {', '.join(map(repr, IDS[:5]))} and 25 more are not defined, as "
            "the patterns are constant over units; they count as 1"
        )
        options = CardOptions(heads=(), n_folds=2, n_resamples=20)
        with pytest.warns(UserWarning, match=f"^{re.escape(message)}$"):
            made = make_card({"dead": dead, "fc": FEATURES["fc"]}, IDS, brains(), options=options)
        raw = made.summary.set_index("arm")["value"]
        assert np.isnan(raw["layer dead"])
        assert raw["layer fc"] > 0.5
        assert re.search(r"^layer dead +–$", str(made), re.MULTILINE)

    def test_a_head_sees_nothing_of_what_is_held_out(self, card):
        changed = brains()
        split = stratified_splits(CATEGORIES, 3)[0]
        out = [IDS.index(stimulus) for stimulus in split.held_out]
        rng = np.random.default_rng(5)
        noise = rng.random((4, 30, 30))
        values = changed.values.copy()
        touched = np.zeros((30, 30), dtype=bool)
        touched[out] = touched[:, out] = True
        np.fill_diagonal(touched, False)
        values[:, touched] = (noise + noise.transpose(0, 2, 1))[:, touched]
        again = make_card(
            FEATURES, IDS, changed.copy(data=values), categories=CATEGORIES, controls=controls(), options=QUICK
        )
        for table in (card, again):
            assert set(table.choices["arm"]) == {"frrsa"}
        fold = [table.choices[table.choices["split"] == split.name].reset_index(drop=True) for table in (card, again)]
        pd.testing.assert_frame_equal(*fold)

    def test_head_rows_are_those_of_a_head_fitted_alone(self, card):
        split = stratified_splits(CATEGORIES, 3)[0]
        chosen = card.choices[card.choices["chosen"] & (card.choices["split"] == split.name)].iloc[0]
        how = json.loads(chosen["setting"])
        settings = HeadSettings(
            ridges=(how["ridge"],), standardize=(how["standardize"],), positions=(how["positions"],)
        )
        target = rdl.select_stimuli(brains(), split.training)
        inner = inner_splits(split, CATEGORIES, 2)
        layer = {chosen["layer"]: FEATURES[chosen["layer"]]}
        head = fit_head("frrsa", layer, IDS, target, inner, settings=settings)
        coords = {"arm": ["frrsa"], "seed": [0]}
        predicted = rdl.label_rdms(head.rdm(layer, IDS)[None], IDS, ["frrsa"], "undeclared", coords)
        alone = held_out_scores(
            [Predicted(predicted, head.fitted_to)], brains(), split, categories=CATEGORIES, controls=controls()
        )
        rows = card.scores[(card.scores["arm"] == "frrsa") & (card.scores["split"] == split.name)]
        assert np.allclose(rows["value"], alone.table["value"], atol=1e-9)
        assert rows["layer"].tolist() == [chosen["layer"]] * 3

    def test_without_categories_and_controls_there_is_the_raw_score_alone(self):
        options = CardOptions(heads=(), n_folds=2, n_resamples=50)
        found = make_card(FEATURES, IDS, brains(), options=options)
        assert found.summary["score"].tolist() == ["raw", "raw"]
        assert found.choices.empty

    def test_rdms_without_subjects_are_a_subject_each(self):
        options = CardOptions(heads=(), n_folds=2, n_resamples=50)
        found = make_card(FEATURES, IDS, brains().drop_vars("subject"), categories=CATEGORIES, options=options)
        assert found.summary["n_subjects"].tolist() == [4] * 4

    def test_the_order_of_the_measured_stimuli_does_not_matter(self):
        options = CardOptions(heads=(), n_folds=2, n_resamples=50)
        turned = rdl.select_stimuli(brains(), IDS[::-1])
        first, second = (
            make_card(FEATURES, IDS, rdms, categories=CATEGORIES, controls=controls(), options=options).summary
            for rdms in (brains(), turned)
        )
        pd.testing.assert_frame_equal(first, second)


class TestFaults:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"features": {}}, "features holds no layer; name at least one"),
            (
                {"subjects": rdl.select_stimuli(brains(), IDS[2:])},
                "the measured RDMs lack 2 of 30 stimuli: 'animal/00', 'animal/01'",
            ),
            (
                {"ids": IDS[1:], "features": {"fc": FEATURES["fc"][1:]}},
                "the measured RDMs have 1 stimuli that have no features: 'animal/00'; select those of the card",
            ),
            (
                {"categories": {stimulus: CATEGORIES[stimulus] for stimulus in IDS[:-1]}},
                "categories has none for 1 of 30 stimuli: 'tool/14'",
            ),
            (
                {"controls": rdl.category_rdm(CATEGORIES, "frrsa")},
                "a control is called 'frrsa', as another row of the card is; give it another name",
            ),
        ],
    )
    def test_make_card(self, change, message):
        given = {"features": FEATURES, "ids": IDS, "subjects": brains(), "categories": CATEGORIES, **change}
        with pytest.raises(ValueError) as error:
            make_card(given.pop("features"), given.pop("ids"), given.pop("subjects"), options=QUICK, **given)
        assert str(error.value) == message

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"method": "spearman"}, "unknown method 'spearman'; a card is made with corr or cosine"),
            ({"n_folds": 1}, "n_folds must be at least 2, but is 1"),
        ],
    )
    def test_options(self, options, message):
        with pytest.raises(ValueError) as error:
            CardOptions(**options)
        assert str(error.value) == message


class TestFiles:
    def test_what_is_written(self, card, tmp_path):
        written = write_card(card, tmp_path / "out", title="Tiny", notes=["<b>A note.</b>"])
        assert [path.name for path in written] == [
            "scores.csv",
            "summary.csv",
            "choices.csv",
            "card.png",
            "card.html",
        ]
        assert {path.name for path in (tmp_path / "out").iterdir()} == {path.name for path in written}
        page = (tmp_path / "out" / "card.html").read_text(encoding="utf-8")
        assert "<script" not in page
        assert "&lt;b&gt;A note.&lt;/b&gt;" in page
        assert re.search(r"<h1>Tiny</h1>", page)
        raw = card.summary[(card.summary["arm"] == "layer fc") & (card.summary["score"] == "raw")].iloc[0]
        assert f"<span>{raw['value']:.3f}</span><span>[{raw['low']:.3f},\u00a0{raw['high']:.3f}]</span>" in page
        assert "Brackets are 95 % intervals over stimuli, drawn with replacement within each split" in page
        read = pd.read_csv(tmp_path / "out" / "scores.csv")
        assert read.columns.tolist() == [
            *("arm", "scheme", "split", "fold", "seed", "layer", "score", "method", "value"),
            *("ceiling_lower", "ceiling_upper", "n_pairs"),
        ]
        with Image.open(tmp_path / "out" / "card.png") as picture:
            assert min(picture.size) > 300


class TestCommand:
    @pytest.fixture
    def folder(self, tmp_path):
        rng = np.random.default_rng(0)
        for stimulus in IDS:
            path = tmp_path / "images" / f"{stimulus}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(path)
        write_rdms(brains(), tmp_path / "brain.nc")
        write_rdms(controls(), tmp_path / "controls.nc")
        lines = [f"{stimulus},{kind}" for stimulus, kind in CATEGORIES.items()]
        (tmp_path / "categories.csv").write_text("\n".join(["stimulus,category", *lines]))
        return tmp_path

    def call(self, folder, *more, layers="0,3", stimuli=None):
        images = stimuli or str(folder / "images")
        named = ["card", "card_networks:tiny", "--stimuli", images, "--rdms", str(folder / "brain.nc")]
        return main([*named, "--layers", layers, "--resamples", "20", "-o", str(folder / "out"), *map(str, more)])

    def test_the_whole_card(self, folder, monkeypatch, capsys):
        monkeypatch.syspath_prepend(str(folder))
        given = ("--categories", folder / "categories.csv", "--controls", folder / "controls.nc", "--heads", "frrsa")
        assert self.call(folder, *given) == 0
        out, warned = capsys.readouterr()
        assert out.splitlines()[0].split() == ["raw", "partial", "within_category"]
        assert "noise ceiling" in out
        assert out.rstrip().endswith("card.html")
        assert warned.startswith("no --weights were given")
        page = (folder / "out" / "card.html").read_text(encoding="utf-8")
        assert "card_networks:tiny against brain.nc" in page
        summary = pd.read_csv(folder / "out" / "summary.csv")
        order = ["layer 0", "layer 3", "animacy", "pixels", "mixture", "frrsa"]
        assert list(dict.fromkeys(summary["arm"])) == order

    def test_features_are_the_networks(self, folder):
        torch.manual_seed(0)
        request = CardRequest("card_networks:tiny", ("0", "3"), folder / "images", folder / "brain.nc")
        inputs = read_inputs(request)
        assert isinstance(inputs, CardInputs)
        assert inputs.ids == IDS
        assert inputs.features["0"].shape == (30, 6, 3, 3)
        assert inputs.categories is None
        assert inputs.notes == ("The network: card_networks:tiny, weights: none loaded.",)
        model = tiny()
        assert inputs.features["3"].shape == (30, model[3].out_features)

    def test_images_of_which_nothing_was_measured_are_named(self, folder):
        write_rdms(rdl.select_stimuli(brains(), IDS[1:]), folder / "brain.nc")
        inputs = read_inputs(CardRequest("card_networks:tiny", ("3",), folder / "images", folder / "brain.nc"))
        assert inputs.notes[0] == "Not used, since nothing was measured of them: 1 images ('animal/00')."

    def fault(self, capsys, *call, **named):
        assert self.call(*call, **named) == 2
        return capsys.readouterr().err.strip().replace(f"{call[0]}/", "")

    def test_faults_name_what_to_mend(self, folder, capsys):
        (folder / "images" / "animal" / "00.png").unlink()
        assert self.fault(capsys, folder) == (
            "brainrdl: images has no image of 1 of 30 measured stimuli: 'animal/00'; an image's id is its path without "
            "the suffix"
        )

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (None, "categories: there is no file categories.csv; expected a table (.csv) of stimulus,category"),
            ("a,b\n", "categories.csv has the columns a, b; expected stimulus and category"),
            ("stimulus,category\nanimal/00,x\n", "categories.csv has no category for 29 of 30 stimuli: "),
            ("stimulus,category\nanimal/00,\n", "categories.csv: line 2 lacks a stimulus or its category"),
            (
                "stimulus,category\nanimal/00,x\nanimal/00,y\n",
                "categories.csv: line 3 names 'animal/00' a second time; keep one of them",
            ),
        ],
    )
    def test_categories(self, folder, capsys, text, message):
        path = folder / "categories.csv"
        path.unlink() if text is None else path.write_text(text)
        found = self.fault(capsys, folder, "--categories", path)
        assert found.startswith(f"brainrdl: {message}") if message.endswith(" ") else found == f"brainrdl: {message}"

    def test_regions_are_chosen(self, folder, capsys):
        both = rdl.concat_rdms(
            [
                brains().assign_coords(roi=("rdm", [roi] * 4), rdm=[f"{name}/{roi}" for name in brains()["rdm"].values])
                for roi in ("EVC", "IT")
            ]
        )
        write_rdms(both, folder / "brain.nc")
        assert self.fault(capsys, folder) == ("brainrdl: brain.nc holds several regions, EVC, IT; name one: --roi")
        assert self.fault(capsys, folder, "--roi", "V4") == "brainrdl: brain.nc has no region 'V4'; it has EVC, IT"
        inputs = read_inputs(
            CardRequest("card_networks:tiny", ("3",), folder / "images", folder / "brain.nc", roi="IT")
        )
        assert inputs.subjects["rdm"].values.tolist() == [f"sub-{k}/IT" for k in range(4)]

    def test_controls_of_other_stimuli(self, folder, capsys):
        write_rdms(rdl.select_stimuli(controls(), IDS[:-1]), folder / "controls.nc")
        assert self.fault(capsys, folder, "--controls", folder / "controls.nc") == (
            "brainrdl: the controls lack 1 of 30 measured stimuli: 'tool/14'; give RDMs of the same stimuli"
        )

    def test_images_of_another_size(self, folder, capsys):
        for number, path in enumerate((folder / "images").rglob("*.png")):
            Image.new("RGB", (12, 12), (8 * number, 0, 0)).save(path)
        # torch 2.15 begins its part with the name of the operation, 2.14 does not
        assert self.fault(capsys, folder).replace("addmm: ", "") == (
            "brainrdl: card_networks:tiny cannot be run on images of shape (3, 12, 12): mat1 and mat2 shapes "
            "cannot be multiplied (30x150 and 54x5); if they are of the wrong size, let package.module:factory return "
            "the network and its transform"
        )

    def test_an_unknown_set_of_the_92_images(self, folder, capsys):
        named = ["--stimuli", "objects92", "--rdms", "objects92:humans", "--layers", "3", "-o", str(folder / "out")]
        assert main(["card", "card_networks:tiny", *named]) == 2
        assert capsys.readouterr().err.strip() == (
            "brainrdl: unknown set of RDMs 'humans'; known are human, primates, models, judgements, second-study; did "
            "you mean 'human' or 'judgements'?"
        )


def test_the_92_images_come_with_categories_and_controls():
    request = CardRequest("card_networks:any_size", ("0",), "objects92", "objects92:human", data_dir=data_dir())
    inputs = read_inputs(request)
    assert inputs.features["0"].shape == (92, 6, 87, 87)
    assert inputs.subjects.sizes["rdm"] == 8
    assert len(set(inputs.categories.values())) == 6
    assert inputs.controls["rdm"].values.tolist() == ["pixels", "animacy", "four_category", "silhouette", "hmax"]


def test_a_single_subject_has_no_ceiling_and_is_told_so(tmp_path):
    one = brains().isel(rdm=[0])
    card = make_card(FEATURES, IDS, one, categories=CATEGORIES, controls=None, options=QUICK)
    assert str(card).splitlines()[-1].split() == ["noise", "ceiling", *"none of a single subject".split() * 2]
    write_card(card, tmp_path)
    assert "none of a single subject" in (tmp_path / "card.html").read_text(encoding="utf-8")
