"""A fit's page, made from a synthetic study folder whose files are laid out as a real one's."""

import base64
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from brainrdl.plots import learning_curves, score_dots, trade_off
from brainrdl.studies.reports.fit import write_report
from brainrdl.studies.reports.fit_figures import alpha_tries, mds_figure, rdm_figure, score_figure, trade_off_figure
from brainrdl.studies.reports.fit_files import read_fit
from brainrdl.studies.reports.fit_findings import findings
from brainrdl.studies.reports.methods import fit_arm_name
from brainrdl.studies.reports.verdict import judge, verdict_sentence
from fitted_study import ARMS, CONTRASTS, PRIMARY, SCORES, make_fit


class Page(HTMLParser):
    """The tables, pictures and text of a page."""

    def __init__(self, text):
        super().__init__()
        self.text, self.tables, self.images, self.ids, self.tags, self._cell = "", {}, [], [], set(), None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.add(tag)
        if "id" in attrs:
            self.ids.append(attrs["id"])
        if tag == "div" and attrs.get("role") == "region":
            self._rows = self.tables.setdefault(attrs["aria-label"], [])
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("th", "td"):
            self._rows[-1].append("")
            self._cell = True
        elif tag == "span" and self._cell:
            self._rows[-1][-1] += "|"
        elif tag == "img":
            self.images.append(attrs["src"])

    def handle_endtag(self, tag):
        if tag in ("th", "td"):
            self._cell = None

    def handle_data(self, data):
        self.text += data
        if self._cell:
            self._rows[-1][-1] += data


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_fit(tmp_path_factory.mktemp("fit") / "human_it", notes=("A note of the study.",))


@pytest.fixture(scope="module")
def page(folder):
    return Page(write_report(folder).read_text(encoding="utf-8"))


def contrasts(**intervals):
    """Rows of one setting: ``raw=(low, high)`` of RDL − task only; ``raw_category`` against a control."""
    rivals = {"": "task_only", "_category": "rdl_category", "_shuffle": "rdl_within_shuffle"}
    rows = []
    for name, (low, high) in intervals.items():
        score = next(score for score in SCORES if name.startswith(score))
        other = rivals[name.removeprefix(score)]
        ends = {"difference": (low + high) / 2, "low": low, "high": high}
        rows.append({"a": "rdl", "b": other, "score": score, **ends})
    return pd.DataFrame(rows)


UP, DOWN, ACROSS = (0.01, 0.05), (-0.05, -0.01), (-0.01, 0.05)
ABOVE = {"partial_category": UP, "partial_shuffle": UP}


class TestVerdict:
    def test_brain_specific_needs_one_strict_score_above_both_controls(self):
        assert judge(contrasts(raw=UP, partial=UP, **ABOVE)).words == "The gain is brain-specific"
        strict = {"within_category": UP, "within_category_category": UP, "within_category_shuffle": UP}
        found = judge(contrasts(raw=UP, partial=ACROSS, **strict))
        assert (found.kind, found.reasons) == ("brain-specific", ())

    @pytest.mark.parametrize("missing", ["raw", "partial", "partial_category", "partial_shuffle"])
    @pytest.mark.parametrize("instead", [ACROSS, DOWN, (0.0, 0.05)])
    def test_any_interval_that_is_not_above_zero_takes_the_word_away(self, missing, instead):
        within = {"within_category": ACROSS}
        given = {"raw": UP, "partial": UP, **ABOVE, **within, missing: instead}
        found = judge(contrasts(**given))
        assert found.kind != "brain-specific"
        assert "brain-specific" not in found.words

    def test_controls_of_one_score_do_not_serve_another(self):
        crossed = {"partial": UP, "within_category": ACROSS, "within_category_category": UP}
        found = judge(
            contrasts(raw=UP, **crossed, within_category_shuffle=UP, partial_category=UP, partial_shuffle=DOWN)
        )
        assert found.kind == "category"

    def test_category_structure_says_why(self):
        given = {"partial": ACROSS, "within_category": UP, "within_category_category": ACROSS}
        found = judge(contrasts(raw=UP, **given, within_category_shuffle=UP))
        assert found.words == "A gain, not shown to be more than category structure"
        assert found.reasons == (
            "the interval of the partial gain is not above 0",
            "in the within-category score it is not above the network trained on the category RDM",
        )

    def test_without_controls_the_kind_is_open(self):
        found = judge(contrasts(raw=UP, partial=UP, within_category=ACROSS))
        assert found.kind == "open"
        assert found.reasons[0] == (
            "in the partial score it was not compared with the networks trained on the category RDM and on the "
            "RDM shuffled within categories"
        )

    def test_no_gain_and_loss(self):
        assert judge(contrasts(raw=ACROSS, partial=UP, **ABOVE)).kind == "none"
        assert judge(contrasts(raw=DOWN)).kind == "loss"
        assert judge(contrasts(partial=UP)).kind == "unknown"
        assert judge(contrasts(raw=(np.nan, np.nan))).kind == "unknown"

    @pytest.mark.parametrize(
        ("ends", "smallest", "words", "reason"),
        [
            (
                (-0.0432, 0.0489),
                None,
                "No gain shown",
                "in the raw score the interval [−0.043,\u00a0+0.049] includes 0; a gain of up to 0.049 is not excluded",
            ),
            (
                (-0.0432, 0.0489),
                0.02,
                "No gain shown",
                "in the raw score the interval [−0.043,\u00a0+0.049] includes 0; a gain of up to 0.049 is not excluded "
                "(the smallest that was stated beforehand: 0.02)",
            ),
            (
                (-0.0432, 0.0489),
                0.05,
                "No gain",
                "in the raw score the interval [−0.043,\u00a0+0.049] includes 0 and excludes the smallest gain stated "
                "beforehand, 0.05",
            ),
            (
                (-0.05, 0.0),
                None,
                "No gain shown",
                "in the raw score the interval [−0.050,\u00a00.000] includes 0; a gain of less than 0.001 is not "
                "excluded",
            ),
            (
                (0.0, 0.0),
                None,
                "No gain shown",
                "in the raw score the difference does not vary: it is 0 in every resample",
            ),
        ],
    )
    def test_an_interval_that_includes_0_shows_no_gain_and_says_which_it_leaves_open(
        self, ends, smallest, words, reason
    ):
        found = judge(contrasts(raw=ends), smallest=smallest)
        assert (found.kind, found.words, found.reasons) == ("none", words, (reason,))

    def test_either_order_of_the_arms_will_do(self):
        given = contrasts(raw=UP, partial=UP, **ABOVE)
        turned = given.assign(a=given["b"], b=given["a"], low=-given["high"], high=-given["low"])
        assert judge(turned).kind == "brain-specific"


class TestWords:
    def test_the_verdict_stands_first(self, page):
        assert page.ids[:3] == ["verdict", "summary", "findings"]
        assert "The gain is brain-specific." in page.text

    def test_the_summary_names_the_contrast_and_the_unit_of_its_intervals(self, page):
        assert (
            "The primary contrast, fixed before anything was scored: RDL minus task only, fitted to kriegeskorte2008, "
            "scored on held-out stimuli in another study, cichy2014 (15 subjects), stratified folds (5), Pearson r, "
            "3 seeds. Brackets are 95\u00a0% intervals over stimuli and subjects, both drawn with replacement. Scores "
            "are averaged over seeds first, so the intervals are conditional on the fitted networks."
        ) in page.text

    def test_each_score_is_told_beside_its_controls_whatever_its_sign(self, tmp_path):
        worse = {**ARMS, "rdl": (0.1, 0.02, 0.03)}
        study = read_fit(make_fit(tmp_path, arms=worse, rdms=False, thumbnails=False))
        assert verdict_sentence(study) == "A loss: fitting to the brain lowered the score."
        told = findings(study)
        for score, sentence in zip(("Raw", "Partial", "Within-category"), told, strict=False):
            assert re.match(
                rf"{score}: RDL 0\.\d{{3}}, task only 0\.\d{{3}}, difference −0\.\d{{3}} \[−0\.\d{{3}},\s−0\.\d{{3}}\]"
                r"; noise ceiling 0\.\d{3} to 0\.\d{3}\. RDL minus the network trained on the category RDM −0\.\d{3} "
                r"\[.*\], on the RDM shuffled within categories −0\.\d{3} \[.*\]\.$",
                sentence,
            ), sentence

    def test_without_controls_there_is_no_partial_score_and_no_rival(self, folder):
        study = read_fit(folder)
        rivals = ["rdl_category", "rdl_within_shuffle"]
        contrasts = study.contrasts[(study.contrasts["score"] != "partial") & ~study.contrasts["b"].isin(rivals)]
        told = findings(replace(study, summary=study.summary[study.summary["score"] != "partial"], contrasts=contrasts))
        assert told[0].endswith(". No network was trained on a control RDM.")
        assert told[1] == "Partial: not scored, since the study has no control RDMs."

    def test_the_word_is_not_used_of_category_structure(self, tmp_path):
        controls = {**ARMS, "rdl_category": (0.29, 0.13, 0.15)}
        text = verdict_sentence(read_fit(make_fit(tmp_path, arms=controls, rdms=False, thumbnails=False)))
        assert text.startswith(
            "A gain, not shown to be more than category structure: in the partial score it is not above the network"
        )

    def test_what_fitting_did_to_the_task_and_who_scores_higher(self, folder):
        told = findings(read_fit(folder))
        assert told[3] == (
            "Task error: 15.00 % start network (as scored with its heads), 15.00 % task only, 17.00 % RDL (means over "
            "seeds and splits)."
        )
        assert told[4].startswith("Raw scores above that of RDL (0.")
        assert "behaviour 0." in told[4]

    def test_dropped_controls_notes_and_hash_are_there(self, page):
        (dropped,) = [rows for name, rows in page.tables.items() if name.startswith("Controls that are constant")]
        assert dropped[1] == ["leave one category out", "|natural", "|animacy, four categories"]
        assert "A note of the study." in page.text
        assert ["configuration_hash", "|abc123"] in page.tables["Manifest"]


class TestNumbers:
    def test_the_table_of_scores_is_the_summary(self, page, folder):
        summary = pd.read_csv(folder / "summary.csv")
        for field in ("scheme", "fitted_study", "scored_study"):
            summary = summary[summary[field] == PRIMARY[field]]
        name = "All scores, fitted to kriegeskorte2008, scored in cichy2014, stratified folds, Pearson r"
        rows = page.tables[name]
        assert rows[0] == ["arm", "raw", "partial", "within-category", "task error, %"]
        assert [row[0] for row in rows[1:]] == [*map(fit_arm_name, ARMS), "noise ceiling"]
        by = summary.set_index(["arm", "score"])
        for arm, row in zip(ARMS, rows[1:], strict=False):
            for score, cell in zip(SCORES, row[1:4], strict=True):
                line = by.loc[(arm, score)]
                told = f"|{line['value']:.3f}|[{line['low']:.3f},\u00a0{line['high']:.3f}]".replace("-", "−")
                assert cell == ("|–" if np.isnan(line["value"]) else told)
        assert rows[-1][1:4] == ["|0.350 to 0.550", "|0.200 to 0.400", "|0.220 to 0.420"]

    def test_every_setting_has_its_tables(self, page):
        for told in (
            "Fitted to cichy2014, scored in kriegeskorte2008, stratified folds, Pearson r",
            "Fitted to kriegeskorte2008, scored in cichy2014, leave one category out, Pearson r",
            "Fitted to kriegeskorte2008, scored in cichy2014, random splits, Pearson r",
        ):
            assert [row[0] for row in page.tables[told][1:]] == [
                f"{fit_arm_name(a)} − {fit_arm_name(b)}" for a, b in CONTRASTS
            ]
            assert any(name.startswith(f"{told}: scores of all arms") for name in page.tables)

    def test_choices_are_averaged_over_inner_splits(self, page, folder):
        choices = pd.read_csv(folder / "choices.csv")
        chosen = choices[
            choices["chosen"] & (choices["arm"] == "rdl") & (choices["fitted_study"] == "kriegeskorte2008")
        ]
        rows = page.tables["Selected when fitted to kriegeskorte2008, stratified folds"]
        of_rdl = [row for row in rows[1:] if row[0] == "RDL"]
        assert {row[1] for row in of_rdl} == {"|0, for all"}
        assert [row[4] for row in of_rdl] == [f"|α {alpha:g}, 300 updates" for alpha in (1, 1, 0.1, 1, 1)]
        assert of_rdl[0][5] == f"|{chosen[chosen['split'] == 'fold-1']['value'].mean():.3f}"

    def test_the_trade_off_has_a_point_for_each_weight(self, folder):
        study = read_fit(folder)
        tries = alpha_tries(study)
        assert tries["updates"].tolist() == [300] * 4 + [1000] * 4
        assert tries["alpha0"].tolist() == [0, 0.1, 1, 10] * 2
        assert tries["n_chosen"].tolist() == [0, 1, 4, 0, 0, 0, 0, 0]
        assert np.allclose(tries["value"][:4], 0.2 + 0.06 * np.log1p(tries["alpha0"][:4]) - 0.01 * tries["alpha0"][:4])
        (ax,) = trade_off_figure(study).axes
        assert [text.get_text() for text in ax.texts] == [
            "0",
            "0.1 (selected 1×)",
            "1 (selected 4×)",
            "10",
            "0",
            "0.1",
            "1",
            "10",
        ]


class TestPage:
    def test_it_needs_no_other_file_and_no_script(self, page, folder):
        text = (folder / "report.html").read_text(encoding="utf-8")
        assert "script" not in page.tags
        assert "link" not in page.tags
        assert "http" not in re.sub(r"data:[^\"]*", "", text).replace("Content-Security-Policy", "").replace(
            "http-equiv", ""
        )
        assert len(page.images) == 5
        for source in page.images:
            assert len(base64.b64decode(source.split(",", 1)[1])) > 1000

    def test_figures_are_left_beside_it(self, folder, page):
        left = {path.name for path in (folder / "figures").iterdir()}
        assert left == {"rdms.png", "map.png", "scores.svg", "trade-off.svg", "curves.svg"}

    def test_the_same_files_make_the_same_page(self, folder, page):
        before = (folder / "report.html").read_bytes()
        assert write_report(folder).read_bytes() == before

    def test_what_is_missing_is_said(self, tmp_path):
        make_fit(tmp_path, rdms=False, thumbnails=False)
        (tmp_path / "choices.csv").unlink()
        (tmp_path / "histories.csv").unlink()
        text = Page(write_report(tmp_path).read_text(encoding="utf-8")).text
        assert "The study left no rdms.nc, so there are no RDMs to show." in text
        assert "The task error of at least two weights α is not known (no task, one weight, or no choices.csv)" in text
        assert "so there are no curves." in text

    def test_what_a_user_wrote_is_escaped(self, tmp_path):
        make_fit(tmp_path, notes=("<script>1</script>",), rdms=False, thumbnails=False)
        assert "&lt;script&gt;1" in write_report(tmp_path).read_text(encoding="utf-8")

    def test_maps_and_panels_are_ordered_by_category_and_named(self, folder):
        study = read_fit(folder)
        figure, left_out = mds_figure(study.rdms, study.thumbnails)
        titles = ["brain: kriegeskorte2008", "brain: cichy2014", "before: task only", "after: RDL"]
        assert [ax.get_title() for ax in figure.axes] == titles
        assert left_out == []
        assert [ax.get_title() for ax in rdm_figure(study.rdms).axes[:4]] == titles

    def test_an_rdm_with_unmeasured_pairs_has_no_map(self, folder):
        rdms = read_fit(folder).rdms.copy(deep=True)
        rdms.values[1, 0, 2] = rdms.values[1, 2, 0] = np.nan
        figure, left_out = mds_figure(rdms, None)
        assert len(figure.axes) == 3
        assert left_out == ["brain: cichy2014"]

    def test_both_studies_are_drawn_with_their_ceilings(self, folder):
        axes = score_figure(read_fit(folder)).axes
        assert [ax.get_title() for ax in axes] == ["raw", "partial", "within-category"]
        assert len(axes[0].collections) == len(ARMS) * 2 * 3  # band, its ends, interval
        assert [text.get_text() for text in axes[1].texts] == ["–"] * 2 * 5


class TestFaults:
    def test_all_missing_files_are_named(self, tmp_path):
        (tmp_path / "scores.csv").write_text("arm\n")
        with pytest.raises(FileNotFoundError) as error:
            read_fit(tmp_path)
        assert str(error.value) == (
            f"{tmp_path} lacks manifest.json, summary.csv, contrasts.csv; a report is made from what a fit leaves in "
            "its folder: name the folder that brainrdl fit wrote into"
        )

    @pytest.fixture
    def fit(self, tmp_path):
        return make_fit(tmp_path)

    def fault(self, folder):
        with pytest.raises(ValueError) as error:
            write_report(folder)
        assert not (folder / "report.html").exists()
        return str(error.value).replace(f"{folder}/", "")

    def change(self, path, **columns):
        table = pd.read_csv(path)
        table.assign(**columns).to_csv(path, index=False)

    def test_a_lacking_column(self, fit):
        table = pd.read_csv(fit / "summary.csv")
        table[["arm", "score", "value"]].to_csv(fit / "summary.csv", index=False)
        assert self.fault(fit) == (
            "summary.csv lacks the columns scheme, fitted_study, scored_study, method, se, low, high, ceiling_lower, "
            "ceiling_upper, n_folds, n_seeds, n_subjects, n_stimuli, over, task_error; it has arm, score, value"
        )

    def test_a_summary_that_is_not_the_scores(self, fit):
        table = pd.read_csv(fit / "summary.csv")
        table.loc[0, "value"] = 0.9
        table.to_csv(fit / "summary.csv", index=False)
        assert re.fullmatch(
            r"summary.csv has 0.9000 for arm pixels, score raw \(stratified, kriegeskorte2008, kriegeskorte2008, corr\)"
            r", but the mean of scores.csv over seeds and splits is 0\.0\d{3}; write both again",
            self.fault(fit),
        )

    def test_rows_of_the_summary_that_scores_lacks(self, fit):
        scores = pd.read_csv(fit / "scores.csv")
        scores[scores["arm"] != "rdl"].to_csv(fit / "scores.csv", index=False)
        assert self.fault(fit) == (
            "summary.csv has arm rdl, score raw (stratified, kriegeskorte2008, kriegeskorte2008, corr), of which "
            "scores.csv has no row; write both again"
        )

    def test_a_primary_contrast_that_was_not_made(self, fit):
        table = pd.read_csv(fit / "contrasts.csv")
        table[~table["primary"]].to_csv(fit / "contrasts.csv", index=False)
        assert self.fault(fit) == (
            "contrasts.csv has no row of the primary contrast that manifest.json names (a rdl, b task_only, scheme "
            "stratified, fitted_study kriegeskorte2008, scored_study cichy2014, method corr); a page cannot say what "
            "came out: finish the study"
        )

    def test_another_primary_contrast_than_was_fixed(self, fit):
        self.change(fit / "contrasts.csv", primary=True)
        assert self.fault(fit) == (
            "contrasts.csv has primary True for rdl − task_only (stratified, kriegeskorte2008, kriegeskorte2008, corr)"
            ", but manifest.json names as primary: a rdl, b task_only, scheme stratified, fitted_study "
            "kriegeskorte2008, scored_study cichy2014, method corr; the contrast is fixed before scoring, so write "
            "both again"
        )

    def test_an_unknown_score(self, fit):
        self.change(fit / "summary.csv", score="cooked")
        table = pd.read_csv(fit / "summary.csv").drop_duplicates(["scheme", "fitted_study", "scored_study", "arm"])
        table.to_csv(fit / "summary.csv", index=False)
        assert self.fault(fit) == (
            "summary.csv has the score 'cooked'; expected raw, partial, within_category: write it again"
        )

    def test_a_row_that_is_there_twice(self, fit):
        table = pd.read_csv(fit / "summary.csv")
        pd.concat([table, table.iloc[:1]]).to_csv(fit / "summary.csv", index=False)
        assert self.fault(fit) == (
            "summary.csv has more than one row for arm pixels, score raw (stratified, kriegeskorte2008, "
            "kriegeskorte2008, corr); keep one of them"
        )

    def test_words_among_numbers(self, fit):
        table = pd.read_csv(fit / "contrasts.csv").astype({"low": object})
        table.loc[3, "low"] = "much"
        table.to_csv(fit / "contrasts.csv", index=False)
        assert self.fault(fit) == "contrasts.csv: column low has 'much'; expected numbers: write it again"

    def test_a_flag_that_is_none(self, fit):
        self.change(fit / "contrasts.csv", primary="yes")
        assert self.fault(fit) == "contrasts.csv: column primary has 'yes'; expected True or False"

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (
                {"primary": {"a": "rdl"}},
                'manifest.json has primary {"a": "rdl"}; expected an object with the fields a, b, scheme, '
                "fitted_study, scored_study, method",
            ),
            (
                {"dropped_controls": [{"split": "x"}]},
                'manifest.json has dropped_controls [{"split": "x"}]; expected a list of objects with the fields '
                "scheme, split, controls",
            ),
            ({"notes": "one"}, 'manifest.json has notes "one"; expected a list of sentences'),
        ],
    )
    def test_a_manifest_of_another_form(self, fit, change, message):
        manifest = json.loads((fit / "manifest.json").read_text())
        (fit / "manifest.json").write_text(json.dumps(manifest | change))
        assert self.fault(fit) == message

    def test_damaged_files_are_named(self, fit):
        whole = (fit / "thumbnails.npz").read_bytes()
        (fit / "thumbnails.npz").write_bytes(whole[: len(whole) // 2])
        assert self.fault(fit).startswith("thumbnails.npz is not a file of arrays, or is damaged: ")
        (fit / "rdms.nc").write_bytes(b"nothing")
        assert self.fault(fit).startswith("rdms.nc is not a netCDF file with one array, or is damaged: ")
        (fit / "scores.csv").write_bytes(b"")
        assert self.fault(fit).startswith("scores.csv is not a CSV file, or is damaged: ")
        (fit / "manifest.json").write_text("{")
        assert self.fault(fit).startswith("manifest.json is not a JSON file, or is damaged: ")

    def test_thumbnails_of_other_stimuli(self, fit):
        with np.load(fit / "thumbnails.npz") as file:
            ids, images = file["ids"], file["images"]
        np.savez(fit / "thumbnails.npz", ids=ids[1:], images=images[1:])
        assert self.fault(fit) == "thumbnails.npz has no image of 1 stimuli of rdms.nc: 'human-face-00'"
        np.savez(fit / "thumbnails.npz", ids=ids, images=images[..., 0])
        assert self.fault(fit) == (
            "thumbnails.npz has 24 ids and images uint8 of shape (24, 32, 32); expected uint8 of shape "
            "(24, height, width, 3)"
        )

    def test_rdms_that_do_not_say_what_they_are(self, fit):
        rdms = xr.load_dataarray(fit / "rdms.nc", engine="h5netcdf")
        rdms.drop_vars("what").to_netcdf(fit / "rdms.nc", engine="h5netcdf")
        assert self.fault(fit) == (
            "rdms.nc has no coordinate 'what' along 'rdm'; expected brain, before, after for each RDM"
        )
        rdms.assign_coords(what=("rdm", ["brain", "brain", "before", "later"])).to_netcdf(
            fit / "rdms.nc", engine="h5netcdf"
        )
        assert self.fault(fit) == "rdms.nc has an RDM whose 'what' is 'later'; expected one of brain, before, after"


class TestPlots:
    def test_faults_of_score_dots(self):
        line = {"arm": "a", "score": "raw", "value": 0.1, "low": 0.0, "high": 0.2}
        with pytest.raises(ValueError) as error:
            score_dots(pd.DataFrame([line]), scores={"raw": "raw"})
        assert str(error.value) == (
            "table lacks the column(s) 'ceiling_lower', 'ceiling_upper'; it has 'arm', 'score', 'value', 'low', 'high'"
        )
        whole = pd.DataFrame([line | {"ceiling_lower": 0.3, "ceiling_upper": 0.4}])
        with pytest.raises(ValueError) as error:
            score_dots(whole, scores={"partial": "partial"})
        assert str(error.value) == "table has none of the scores 'partial'; it has 'raw'"
        with pytest.raises(ValueError) as error:
            score_dots(pd.concat([whole, whole]), scores={"raw": "raw"})
        assert str(error.value) == (
            "table has more than one row for arm 'a' and score 'raw'; select the rows to draw, one each"
        )

    def test_faults_of_trade_off_and_learning_curves(self):
        tries = pd.DataFrame({"alpha0": [1, 1], "task_error": [1.0, 2.0], "value": [0.1, 0.2]})
        for given, message in (
            ({}, "nothing to draw; give at least one line of tries"),
            ({"x": tries}, "tries['x'] has a weight twice; average its tries first"),
            ({"x": tries[["value"]]}, "tries['x'] lacks the column(s) 'alpha0', 'task_error'; it has 'value'"),
        ):
            with pytest.raises(ValueError) as error:
                trade_off(given)
            assert str(error.value) == message
        history = pd.DataFrame({"update": [0, 0], "task_loss": [1.0, 2.0]})
        for runs, message in (
            ({}, "nothing to draw; give at least one training and one column"),
            (
                {"a": [history]},
                "runs['a'] has an update twice; give the history of one training per DataFrame",
            ),
            ({"a": [history[["update"]]]}, "runs['a'] lacks the column(s) 'task_loss'; it has 'update'"),
        ):
            with pytest.raises(ValueError) as error:
                learning_curves(runs, columns={"task_loss": "task loss"})
            assert str(error.value) == message

    def test_a_curve_is_the_mean_of_trainings(self):
        runs = [pd.DataFrame({"update": [0, 1], "task_loss": [value, 2 * value]}) for value in (1.0, 3.0)]
        (ax,) = learning_curves({"RDL": runs}, columns={"task_loss": "task loss"}).axes
        assert ax.lines[-1].get_ydata().tolist() == [2.0, 4.0]
        assert len(ax.lines) == 3

    def test_trainings_known_at_their_ends_alone_are_dots(self):
        ends = [(40, 1.0), (40, 2.0), (80, 0.5)]
        runs = [pd.DataFrame({"update": [update], "task_loss": [value]}) for update, value in ends]
        (ax,) = learning_curves({"RDL": runs}, columns={"task_loss": "task loss"}).axes
        dots = ax.lines[-1]
        assert (dots.get_xdata().tolist(), dots.get_ydata().tolist()) == ([40, 80], [1.5, 0.5])
        assert (dots.get_marker(), dots.get_linestyle()) == (".", "None")
