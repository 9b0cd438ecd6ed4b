"""The result of `brainrdl compare`, and its figures."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

import brainrdl as rdl
from brainrdl.cli import main
from brainrdl.inference import NoiseCeiling, fdr, holm, score_models
from brainrdl.inference.model_comparison import compare_models
from brainrdl.plots import score_panel, similarity_matrix
from brainrdl.plots._style import shortened, wrapped
from brainrdl.studies.reports.comparison import comparison_caption, comparison_figure, comparison_text, write_comparison

IDS = [f"s{k:02}" for k in range(10)]
RNG = np.random.default_rng(0)
SHARED = {roi: RNG.random(45) for roi in ("EVC", "IT")}


def data(n_subjects=8, rois=("EVC", "IT")):
    subjects = [f"sub-{k}" for k in range(n_subjects)]
    rng = np.random.default_rng(1)
    return rdl.label_rdms(
        np.concatenate([SHARED[roi] + 0.5 * rng.random((n_subjects, 45)) for roi in rois]),
        IDS,
        [f"{s}/{roi}" for roi in rois for s in subjects],
        "correlation",
        {"roi": [roi for roi in rois for _ in subjects], "subject": subjects * len(rois)},
    )


def models():
    rng = np.random.default_rng(2)
    early = rdl.label_rdms((SHARED["EVC"] + rng.random(45))[None], IDS, ["early"], "mse", {"layer": "conv1"})
    late = rdl.label_rdms(np.stack([SHARED["IT"] + rng.random(45), rng.random(45)]), IDS, ["late", "none"], "cosine")
    return [early, late]


def test_each_region_is_scored_and_tests_are_corrected_over_the_table():
    result = compare_models(models(), data(), n_resamples=50)
    assert list(result.scores) == ["EVC", "IT"]
    assert result.table[["roi", "model"]].to_numpy().tolist() == [
        [roi, model] for roi in ("EVC", "IT") for model in ("early", "late", "none")
    ]
    pooled = rdl.concat_rdms(
        [m.drop_vars("layer", errors="ignore").assign_attrs(metric="undeclared") for m in models()]
    )
    alone = score_models(pooled, data(rois=("EVC",)), n_resamples=50)
    pd.testing.assert_series_equal(
        result.table["score"][:3], alone.table["score"].reset_index(drop=True), check_names=False
    )
    assert (result.table["ceiling_lower"][:3] == alone.ceiling.lower).all()
    np.testing.assert_allclose(result.table["p_fdr"], fdr(result.table["p"]))
    np.testing.assert_allclose(result.contrasts["p_holm"], holm(result.contrasts["p"]))
    assert len(result.contrasts) == 6
    assert set(result.table["over"]) == {"both"}
    assert result.notes == []
    best = result.table.loc[result.table.groupby("roi")["score"].idxmax()]
    assert best["model"].tolist() == ["early", "late"]


def test_declared_contrasts_and_few_subjects():
    result = compare_models(models(), data(4), n_resamples=20, contrasts=[("early", "late")])
    assert result.contrasts[["roi", "a", "b"]].to_numpy().tolist() == [
        ["EVC", "early", "late"],
        ["IT", "early", "late"],
    ]
    assert len(result.notes) == 1
    text = comparison_text(result)
    significant = (result.contrasts["p_holm"] < 0.05).sum()
    assert text.splitlines()[7:] == [
        "p_fdr: score above 0, one-sided t with the bootstrap's standard error, FDR over 6 rows",
        "p_ceiling: score different from the noise ceiling's lower bound, two-sided t, uncorrected",
        f"contrasts: {significant} of 2 significant (two-sided t, Holm .05)",
        result.notes[0],
    ]
    assert text.splitlines()[0].split() == [
        *("roi", "model", "score", "low", "high", "p_fdr", "p_ceiling", "ceiling_lower", "ceiling_upper"),
        *("over", "n_subjects", "n_stimuli"),
    ]


def test_the_files_hold_the_result(tmp_path):
    result = compare_models(models(), data(), n_resamples=20)
    written = write_comparison(result, tmp_path / "out")
    assert [path.name for path in written] == ["scores.csv", "contrasts.csv", "scores.png"]
    pd.testing.assert_frame_equal(pd.read_csv(written[0]), result.table)
    pd.testing.assert_frame_equal(pd.read_csv(written[1]), result.contrasts)
    assert imread(written[2]).shape[2] == 4
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["contrasts.csv", "scores.csv", "scores.png"]


def many_models(n=6):
    steps = np.linspace(0, 1, n)
    values = np.stack([(1 - step) * SHARED["IT"] + step * np.random.default_rng(5).random(45) for step in steps])
    return rdl.label_rdms(values, IDS, [f"m{k}" for k in range(n)], "mse")


def caption(figure):
    return figure.get_supxlabel().replace("\n", " ")


def joins(ax):
    """The lines above the bars, as pairs of places."""
    return [tuple(line.get_xdata()) for line in ax.lines if line.get_marker() == "None" and line.get_xdata()[1] != 1]


def test_the_caption_says_what_is_drawn():
    result = compare_models(many_models(), data(4), n_resamples=50)
    figure = comparison_figure(result)
    n = int((result.contrasts["p_holm"] < 0.05).sum())
    assert n > 0
    assert caption(figure) == (
        "Bars: mean Pearson r between a model's RDM and those of 4 subjects (dots), 10 stimuli. Whiskers: 95 % t "
        "interval, standard error by the bootstrap over stimuli, for these subjects. Grey: noise ceiling, from its "
        "lower to its upper bound. *: above 0 (one-sided t, FDR .05 over 12 scores). "
        f"{n} contrasts between models are significant (two-sided t, Holm .05 over 30 contrasts): too many for lines. "
        "4 subjects are too few to generalise over subjects, which takes 8: intervals and tests generalise over "
        "stimuli, for these subjects only."
    )
    figure.canvas.draw()
    for line in figure.texts:
        assert figure.bbox.fully_containsx(line.get_window_extent().x1)
    alone = compare_models(many_models(1), data(1, ("IT",)).drop_vars(["roi", "subject"]), n_resamples=50)
    assert caption(comparison_figure(alone)) == (
        "Bars: Pearson r between a model's RDM and the one measured RDM, 10 stimuli. Whiskers: 95 % t interval, "
        "standard error by the bootstrap over stimuli. *: above 0 (one-sided t, FDR .05 over 1 "
        "score). 1 subject is too few to generalise over subjects, which takes 8: intervals and tests generalise over "
        "stimuli, for these subjects only."
    )


def test_lines_join_few_models_or_declared_contrasts():
    brains = data(8, ("IT",))
    for models_, declared, drawn in ((6, None, False), (5, None, True), (6, [("m0", "m5")], True)):
        result = compare_models(many_models(models_), brains, n_resamples=50, contrasts=declared)
        (ax,) = comparison_figure(result).axes
        differ = result.contrasts[result.contrasts["p_holm"] < 0.05]
        assert len(differ)
        assert len(joins(ax)) == (len(differ) if drawn else 0)
        assert ("Lines join models that differ" in comparison_caption(result)) == drawn


def test_panels_share_a_scale_that_ends_where_scores_and_ceiling_do():
    result = compare_models(many_models(), data(8), n_resamples=50)
    evc, it = comparison_figure(result).axes[:2]
    assert evc.get_ylim() == it.get_ylim()
    assert evc.spines["left"].get_bounds() == it.spines["left"].get_bounds()
    highest = max(
        *result.table["high"], *result.table["ceiling_upper"], *(s.subjects.max().max() for s in result.scores.values())
    )
    assert it.spines["left"].get_bounds()[1] == highest
    assert max(it.get_yticks()) <= highest
    assert [ax.get_ylabel() for ax in (evc, it)] == ["Pearson r", ""]


def test_each_subject_is_a_dot():
    subjects = pd.DataFrame([[0.2, 0.4], [0.0, 0.2], [0.1, 0.3]], list("abc"), ["s1", "s2"])
    (dots,) = [line for line in score_panel(TABLE, subjects=subjects).lines if line.get_marker() == "o"]
    np.testing.assert_allclose(dots.get_ydata(), [0.2, 0.4, 0.0, 0.2, 0.1, 0.3])
    assert np.round(dots.get_xdata()).tolist() == [0, 0, 1, 1, 2, 2]


def test_long_names_are_shortened_but_stay_apart():
    long = [f"a-model-with-a-long-name/features.{k}.block" for k in range(2)]
    assert shortened(["short", long[0]]) == ["short", "a-model-with-…tures.0.block"]
    assert shortened([f"resnet/{'x' * 20}{k}{'y' * 20}" for k in (1, 2)]) == [
        f"resnet/{'x' * 20}{k}{'y' * 20}" for k in (1, 2)
    ]
    assert shortened([f"{'n' * 20}/{k}{'y' * 20}" for k in (1, 2)]) == [f"…{k}{'y' * 20}" for k in (1, 2)]
    assert [text.get_text() for text in score_panel(TABLE.set_axis([*long, "c"])).get_xticklabels()] == [
        *("a-model-with-…tures.0.block", "a-model-with-…tures.1.block", "c")
    ]
    assert " ".join(wrapped("some words in a row", 0.7)) == "some words in a row"
    assert len(wrapped("some words in a row", 0.7)) == 2


def test_small_p_values_are_bounds():
    result = compare_models(many_models(6)[:2], data(8, ("IT",)), n_resamples=50)
    assert result.table["p_fdr"].iloc[0] < 0.0005
    assert comparison_text(result).splitlines()[1].split()[5] == "<.001"


def test_a_single_model_and_a_single_rdm():
    one = data(1, ("IT",)).drop_vars(["roi", "subject"])
    result = compare_models(models()[0], one, n_resamples=20)
    assert len(result.contrasts) == 0
    assert "roi" not in comparison_text(result).splitlines()[0]
    assert comparison_text(result).splitlines()[1].split()[5:8] == ["–", "–", "–"]
    assert "contrasts:" not in comparison_text(result)
    assert len(comparison_figure(result).axes) == 1


def test_models_of_different_units_are_not_compared_by_mse():
    with pytest.raises(ValueError) as error:
        compare_models(models(), data(), "mse")
    assert str(error.value) == "mse compares units, so that the models must have one metric; take corr or cosine"


TABLE = pd.DataFrame(
    {"score": [0.3, 0.1, 0.2], "low": [0.2, -0.1, 0.1], "high": [0.4, 0.3, 0.3], "p": [0.001, 0.2, 0.02]}, list("abc")
)


def test_bars_ceiling_and_marks():
    contrasts = pd.DataFrame({"a": ["a", "b", "a"], "b": ["b", "c", "c"], "p_holm": [0.01, 0.3, 0.04]})
    ax = score_panel(TABLE, ceiling=NoiseCeiling(0.35, 0.5), contrasts=contrasts, label="r", title="IT")
    assert [bar.get_height() for bar in ax.containers[0]] == [0.3, 0.1, 0.2]
    (band,) = [patch for patch in ax.patches if patch not in list(ax.containers[0])]
    assert (band.get_y(), band.get_y() + band.get_height()) == pytest.approx((0.35, 0.5))
    assert [text.xy[0] for text in ax.texts] == [0, 2]
    assert [text.get_text() for text in ax.texts] == ["*", "*"]
    lines = [line.get_xdata() for line in ax.lines if len(set(line.get_ydata())) == 1 and line.get_ydata()[0] > 0.4]
    assert [tuple(line) for line in lines] == [(0, 1), (0, 2)]
    assert ax.get_ylabel() == "r"
    assert ax.get_title() == "IT"


def test_corrected_values_mark_where_there_are_any():
    ax = score_panel(TABLE.assign(p_fdr=[0.003, 0.2, 0.06]))
    assert [text.xy[0] for text in ax.texts] == [0]
    assert len(ax.patches) == 3  # no ceiling, no band


def test_the_matrix_shows_numbers_and_marks():
    similarities = rdl.compare_rdms(models()[1], data(2))
    ax = similarity_matrix(similarities)
    assert [text.get_text() for text in ax.get_xticklabels()] == similarities["rdm_b"].values.tolist()
    assert [text.get_text() for text in ax.get_yticklabels()] == ["late", "none"]
    assert len(ax.texts) == 8
    table = pd.DataFrame([[0.5, -0.12], [np.nan, 1.0]], ["x", "y"], ["u", "v"])
    marked = pd.DataFrame([[True, False], [False, False]], ["x", "y"], ["u", "v"])
    ax = similarity_matrix(table, significant=marked)
    assert [text.get_text() for text in ax.texts] == [".50*", "−.12", "1.00"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: score_panel(TABLE.drop(columns=["low", "p"])),
            "table has no column 'low', 'p'; score_models gives them",
        ),
        (lambda: score_panel(TABLE.iloc[:0]), "table holds no model; give at least one"),
        (
            lambda: score_panel(TABLE, contrasts=pd.DataFrame({"a": ["a"], "b": ["d"], "p_holm": [0.5]})),
            "contrasts name 'd', which the table lacks; it has 'a', 'b', 'c'",
        ),
        (lambda: similarity_matrix(TABLE.iloc[:0]), "there is nothing to draw; give at least one row and one column"),
        (
            lambda: similarity_matrix(TABLE, significant=TABLE.iloc[:2] > 0),
            "significant has other rows or columns than the similarities; label it like them",
        ),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError) as error:
        call()
    assert str(error.value) == message


def test_scores_that_are_not_defined_are_said_in_the_figure():
    table = TABLE.copy()
    table.iloc[1] = np.nan
    ax = score_panel(table, subjects=pd.DataFrame([[0.3, 0.4], [np.nan, np.nan], [0.1, 0.2]], table.index))
    assert [(text.get_position()[0], text.get_text().strip()) for text in ax.texts if "not" in text.get_text()] == [
        (1, "not defined")
    ]
    assert np.isfinite(ax.get_ylim()).all()
    matrix = similarity_matrix(pd.DataFrame([[0.1, np.nan]], ["a"], ["x", "y"]))
    assert matrix.images[0].to_rgba(np.ma.masked_invalid([[np.nan]]))[0, 0].tolist() == pytest.approx(
        [0.8, 0.8, 0.8, 1]
    )
    for call, message in (
        (lambda: score_panel(table.iloc[1:2]), "table holds no score but NaN, of which there is nothing to draw"),
        (
            lambda: similarity_matrix(pd.DataFrame([[np.nan]])),
            "no similarity is defined: all are NaN, of which there is nothing to draw",
        ),
    ):
        with pytest.raises(ValueError) as error:
            call()
        assert str(error.value) == message


def test_a_constant_model_is_named_on_the_command_line(tmp_path, capsys):
    rng = np.random.default_rng(0)
    ids = [f"s{k}" for k in range(8)]
    models = rdl.label_rdms(np.stack([rng.random(28), np.full(28, 0.3)]), ids, ["good", "dead"], "correlation")
    brain = rdl.label_rdms(rng.random((1, 28)), ids, ["IT"], "correlation")
    for rdms, name in ((models, "models"), (models[1:], "dead"), (brain, "brain")):
        rdl.write_rdms(rdms, tmp_path / f"{name}.nc")
    said = "models that have nothing to compare by 'corr', so that their scores are NaN: 'dead', which is constant"
    with pytest.warns(UserWarning, match=said):
        assert main(["compare", f"{tmp_path}/models.nc", f"{tmp_path}/brain.nc", "--resamples", "20"]) == 0
    assert said in capsys.readouterr().out
    assert main(["compare", f"{tmp_path}/dead.nc", f"{tmp_path}/brain.nc"]) == 2
    assert capsys.readouterr().err == (
        "brainrdl: models without a geometry to compare by 'corr': 'dead', which is constant (every distance is 0.3); "
        "leave these out\n"
    )
    assert main(["plot", f"{tmp_path}/dead.nc", "-o", f"{tmp_path}/dead.png", "--kind", "mds"]) == 2
    assert capsys.readouterr().err == (
        "brainrdl: RDM 'dead' is constant (every distance is 0.3), so that no map tells its stimuli apart; leave it "
        "out\n"
    )
