import re
from itertools import pairwise

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib._pylab_helpers import Gcf
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgba
from matplotlib.figure import Figure
from scipy.spatial.distance import pdist, squareform

from brainrdl.inference import t_interval
from brainrdl.plots import (
    error_curves,
    error_dots,
    label_curve,
    mds_map,
    plot_rdms,
    rdm_grid,
    rdm_panel,
)
from brainrdl.rdms.labelled import label_rdms

IDS = [f"digit-{k}" for k in range(6)]
DIGITS = ["0", "0", "1", "1", "1", "7"]
LAYERS = ["pixels", "fc"]
MODELS = ["plain", "RDL", "teacher"]


def raises(message, error=ValueError):
    return pytest.raises(error, match=f"^{re.escape(message)}$")


def table(cells, *, metric="euclidean", seed=0, **coords):
    """Labelled RDMs of the given (model, layer) cells, each with a scale of its own."""
    values = np.random.default_rng(seed).uniform(1, 2, (len(cells), 15)) * np.arange(1, len(cells) + 1)[:, None]
    names = [f"{model}/{layer}" for model, layer in cells]
    models, layers = ([str(cell[k]) for cell in cells] for k in (0, 1))
    rdms = label_rdms(values, IDS, names, metric, {"model": models, "layer": layers})
    return rdms.assign_coords(coords)


def full_table():
    return table([(model, layer) for model in MODELS for layer in LAYERS])


def off_diagonal(rdms):
    return rdms.to_numpy()[..., ~np.eye(rdms.shape[-1], dtype=bool)]


def panels(figure):
    return [ax for ax in figure.axes if ax.images]


def bars(figure):
    return [ax for ax in figure.axes if not ax.images]


def ticks(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def texts(figure):
    return [text.get_text() for text in figure.texts]


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def drawn(figure):
    """The picture in pixels, which also shows that it can be drawn at all."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


class TestRDMPanel:
    def test_shows_the_rdm(self):
        square = squareform(np.arange(1.0, 16))
        ax = rdm_panel(square, title="IT", label="1 - r")
        (image,) = ax.images
        np.testing.assert_array_equal(image.get_array(), square)
        assert image.get_clim() == (1, 15)  # off the diagonal
        assert ax.get_title() == "IT"
        assert ax.get_aspect() == 1
        bar = ax.figure.axes[1]
        assert bar.get_ylabel() == "1 - r"
        drawn(ax.figure)

    def test_names_the_dissimilarity(self):
        for metric, name in [
            ("correlation", "1 − Pearson r"),
            ("crossnobis", "crossnobis distance"),
            ("undeclared", "dissimilarity"),
        ]:
            ax = rdm_panel(table([("a", "b")], metric=metric)[0])
            assert ax.figure.axes[1].get_ylabel() == name
        assert rdm_panel(1 - np.eye(3)).figure.axes[1].get_ylabel() == "dissimilarity"

    def test_unmeasured_is_grey(self):
        square = squareform([1.0, np.nan, 2.0])
        (image,) = rdm_panel(square).images
        assert image.get_clim() == (1, 2)
        grey = to_rgba("0.8")
        assert image.to_rgba(square)[0, 2] == pytest.approx(grey)
        assert not np.allclose(image.cmap(np.linspace(0, 1, 256)), grey, atol=0.1)

    @pytest.mark.parametrize("square", [1 - np.eye(3), np.full((3, 3), np.nan), np.zeros((2, 2))])
    def test_draws_what_has_no_range(self, square):
        ax = rdm_panel(square)
        low, high = ax.images[0].get_clim()
        assert low < high
        drawn(ax.figure)

    @pytest.mark.parametrize("metric", ["crossnobis", "mse", "sqeuclidean", "euclidean", "mahalanobis"])
    def test_zero_has_a_colour_of_its_own_where_it_means_something(self, metric):
        rdm = label_rdms(np.array([[2.0, 3.0, 4.0]]), list("abc"), ["x"], metric)[0]
        ax = rdm_panel(rdm)
        (image,) = ax.images
        assert image.get_clim()[1] == 4
        assert image.norm(0) == (0.5 if metric == "crossnobis" else 0)
        assert abs(image.norm(2.0) - image.norm(0)) >= 0.25
        assert ax.figure.axes[1].get_ylim() == (0, 4)

    def test_colours_part_at_zero_where_there_are_negative_values(self):
        for rdm in (
            squareform([-1.0, 3.0, 0.5]),
            label_rdms(np.array([[-1.0, 3, 0.5]]), list("abc"), ["x"], "undeclared")[0],
        ):
            ax = rdm_panel(rdm)
            (image,) = ax.images
            assert image.get_clim() == ax.figure.axes[1].get_ylim() == (-3, 3)
            assert image.cmap(0.5)[:3] == pytest.approx((0.97, 0.97, 0.97), abs=0.01)
        rounding = rdm_panel(squareform([-1e-9, 3.0, 0.5]))
        assert rounding.images[0].get_clim() == (-1e-9, 3)

    def test_a_constant_rdm_has_one_colour_and_one_tick(self):
        bar = rdm_panel(0.3 * (1 - np.eye(4))).figure.axes[1]
        assert list(bar.get_yticks()) == [0.3]
        assert ticks(bar.yaxis) == ["0.3"]
        assert bar.get_ylim() == pytest.approx((0.3, 0.3), abs=1e-3)

    def test_rounding_has_no_colours(self):
        noise = 0.3 * (1 + 1e-16 * np.arange(6))
        bar = rdm_panel(squareform(noise)).figure.axes[1]
        assert ticks(bar.yaxis) == ["0.3"]
        rdm = label_rdms(noise[None], list("abcd"), ["x"], "correlation")
        assert len(set(plot_rdms(rdm, rank=True).axes[0].images[0].get_array()[0, 1:].tolist())) == 1

    def test_takes_limits_and_axes(self):
        figure = Figure(layout="constrained")
        left, right = figure.subplots(1, 2)
        assert rdm_panel(1 - np.eye(3), ax=right, limits=(-1, 4)) is right
        assert right.images[0].get_clim() == (-1, 4)
        assert not left.images
        assert len(figure.axes) == 3

    def test_parts_groups(self):
        ax = rdm_panel(full_table()[0], groups=DIGITS)
        across = [line.get_ydata()[0] for line in ax.lines if line.get_ydata()[0] == line.get_ydata()[1]]
        assert across == [1.5, 4.5]
        assert len(ax.lines) == 4
        assert ticks(ax.yaxis) == ticks(ax.xaxis) == ["0", "1", "7"]
        assert list(ax.get_yticks()) == [0.5, 3, 5]

    def test_turns_names_that_do_not_fit(self):
        ax = rdm_panel(full_table()[0], groups=["airplane", "automobile", "bird", "cat", "deer", "dog"])
        assert {label.get_rotation() for label in ax.get_xticklabels()} == {90}
        assert {label.get_rotation() for label in ax.get_yticklabels()} == {0}

    def test_leaves_out_names_that_do_not_fit(self):
        ax = rdm_panel(np.ones((300, 300)), groups=[0] * 299 + [1])
        assert ticks(ax.yaxis) == ["0"]
        assert len(ax.lines) == 2

    def test_finds_groups_by_stimulus(self):
        rdms = full_table().assign_coords({"digit": ("stimulus", DIGITS)})
        by_id = dict(zip(reversed(IDS), reversed(DIGITS), strict=True))
        for groups in ("digit", by_id, DIGITS, [int(digit) for digit in DIGITS]):
            assert ticks(rdm_panel(rdms[0], groups=groups).yaxis) == ["0", "1", "7"]

    def test_refuses_groups_that_do_not_fit(self):
        rdm = full_table()[0]
        with raises("groups has 5 entries, but the RDM has 6 stimuli; give one per stimulus"):
            rdm_panel(rdm, groups=DIGITS[:5])
        with raises(
            "the stimuli of group '0' do not stand together (row 2 begins another stretch of it); order the "
            "RDM by group first, with select_stimuli"
        ):
            rdm_panel(rdm, groups=[0, 1, 0, 0, 1, 1])
        with raises(
            "groups has no entry for 4 of 6 stimuli: 'digit-2', 'digit-3', 'digit-4', 'digit-5'; name a group for each"
        ):
            rdm_panel(rdm, groups={"digit-0": 0, "digit-1": 0, "digit-9": 9})
        with raises("the RDMs have no coordinate 'class' along 'stimulus'; there is 'stimulus'"):
            rdm_panel(rdm, groups="class")
        with raises(
            "a bare array has no stimulus ids or coordinates to look groups up by; give a list of groups in "
            "the order of its rows, or a labelled RDM"
        ):
            rdm_panel(rdm.values, groups="class")

    @pytest.mark.parametrize("shape", [(3,), (2, 3), (1, 1), (2, 4, 4)])
    def test_refuses_what_is_no_rdm(self, shape):
        with raises(
            "an RDM to draw must be square, (stimuli, stimuli), with at least two stimuli, but its shape is "
            f"{shape}; to_square lays out a condensed one, and plot_rdms draws several"
        ):
            rdm_panel(np.zeros(shape))


class TestPlotRDMs:
    @pytest.mark.parametrize("n", [1, 4, 5])
    def test_draws_each_under_its_label(self, n):
        rdms = full_table()[:n]
        figure = plot_rdms(rdms)
        assert [ax.get_title() for ax in panels(figure)] == list(rdms["rdm"].values)
        for ax, rdm in zip(panels(figure), rdms, strict=True):
            np.testing.assert_array_equal(ax.images[0].get_array(), rdm)
            assert ax.images[0].get_clim() == (0, off_diagonal(rdm).max())
        assert len(bars(figure)) == n
        assert texts(figure) == ["Euclidean distance" + (" (one scale per panel)" if n > 1 else "")]
        drawn(figure)

    def test_shares_one_scale(self):
        rdms = full_table()
        figure = plot_rdms(rdms, scale="all")
        assert {ax.images[0].get_clim() for ax in panels(figure)} == {(0, off_diagonal(rdms).max())}
        assert len(bars(figure)) == 1
        assert texts(figure) == ["Euclidean distance (one scale)"]
        drawn(figure)

    def test_makes_room_for_long_labels(self):
        cells = [("a_model_with_quite_a_long_name", f"and.a.long.layer.{k}") for k in range(3)]
        figure = plot_rdms(table(cells))
        drawn(figure)
        boxes = [ax.title.get_window_extent() for ax in panels(figure)]
        assert all(a.x1 < b.x0 for a, b in pairwise(boxes))
        assert boxes[0].x0 > 0
        assert boxes[-1].x1 < figure.bbox.x1

    @pytest.mark.parametrize("n", [1, 3, 6])
    def test_nothing_is_cut_or_runs_into_another(self, n):
        values = np.random.default_rng(0).uniform(1, 2, (6, 15)) * np.array([[1e-5, 1e-4, 1, 1, 123456, 1]]).T
        figure = plot_rdms(label_rdms(values - values.mean(), IDS, list("abcdef"), "crossnobis")[:n])
        drawn(figure)
        boxes = [ax.get_tightbbox() for ax in figure.axes]
        boxes += [text.get_window_extent() for text in figure.texts]
        assert all(figure.bbox.fully_containsx(x) for box in boxes for x in (box.x0, box.x1))
        assert all(figure.bbox.fully_containsy(y) for box in boxes for y in (box.y0, box.y1))
        beside = {ax: ax.get_tightbbox() for ax in figure.axes}
        for bar in bars(figure):
            assert not any(beside[bar].overlaps(beside[panel]) for panel in panels(figure))

    def test_few_stimuli_are_named(self):
        few, many = (
            label_rdms(
                np.random.default_rng(0).random((1, n * (n - 1) // 2)), [f"s{k}" for k in range(n)], ["x"], "mse"
            )
            for n in (30, 31)
        )
        ax = panels(plot_rdms(few))[0]
        assert ticks(ax.yaxis) == ticks(ax.xaxis) == [f"s{k}" for k in range(30)]
        assert not ax.lines
        assert ticks(panels(plot_rdms(many))[0].yaxis) == []
        assert ticks(panels(plot_rdms(few, groups=["a"] * 15 + ["b"] * 15))[0].yaxis) == ["a", "b"]

    def test_refuses_an_unknown_scale(self):
        with raises("unknown scale 'column'; choose 'panel' or 'all'"):
            plot_rdms(full_table(), scale="column")

    def test_wants_labelled_rdms(self):
        with raises("the array is named 'd', expected 'dissimilarity': rdms.rename('dissimilarity')"):
            plot_rdms(full_table().rename("d"))


class TestRDMGrid:
    def test_has_a_panel_per_cell(self):
        rdms = full_table()
        figure = rdm_grid(rdms, rows="model", columns="layer")
        for ax, rdm in zip(panels(figure), rdms, strict=True):
            np.testing.assert_array_equal(ax.images[0].get_array(), rdm)
        corners = np.array([ax.get_position().p0 for ax in panels(figure)]).reshape(3, 2, 2)
        assert np.all(np.diff(corners[..., 0], axis=1) > 0)  # columns go right
        assert np.all(np.diff(corners[..., 1], axis=0) < 0)  # rows go down
        assert texts(figure)[:5] == [*MODELS, *LAYERS]
        drawn(figure)

    def test_keeps_the_order_of_first_appearance(self):
        figure = rdm_grid(table([("b", "z"), ("a", "z"), ("b", "x")]), rows="model", columns="layer")
        assert texts(figure)[:4] == ["b", "a", "z", "x"]
        assert len(panels(figure)) == 3  # (a, x) stays empty

    @pytest.mark.parametrize(("scale", "n_bars"), [("panel", 6), ("column", 2), ("all", 1)])
    def test_shares_scales(self, scale, n_bars):
        rdms = full_table()
        figure = rdm_grid(rdms, rows="model", columns="layer", scale=scale)
        values = off_diagonal(rdms).reshape(3, 2, -1)
        axes = {"panel": (2,), "column": (0, 2), "all": (0, 1, 2)}[scale]
        high = np.broadcast_to(values.max(axis=axes, keepdims=True), (3, 2, 1)).ravel()
        limits = [ax.images[0].get_clim() for ax in panels(figure)]
        assert limits == [(0, end) for end in high]
        assert len(bars(figure)) == n_bars
        drawn(figure)
        first = bars(figure)[0]
        assert ticks(first.yaxis if scale == "panel" else first.xaxis) == ["0", f"{high[0]:.3g}"]

    @pytest.mark.parametrize(("low", "told"), [(1e-8, "0"), (0.02, "0.02"), (0.0, "0")])
    def test_a_scale_ends_in_readable_numbers(self, low, told):
        rdms = label_rdms(np.array([[low, 0.7, 1.41421]]), ["a", "b", "c"], ["x"], "cosine", {"m": "x", "l": "fc"})
        (bar,) = bars(rdm_grid(rdms, rows="m", columns="l"))
        assert ticks(bar.xaxis) == [told, "1.41"]

    def test_a_scale_of_small_numbers_keeps_them(self):
        rdms = label_rdms(np.array([[1e-9, 2e-9, 3.4e-9]]), ["a", "b", "c"], ["x"], "cosine", {"m": "x", "l": "fc"})
        (bar,) = bars(rdm_grid(rdms, rows="m", columns="l"))
        assert ticks(bar.xaxis) == ["1e-9", "3.4e-9"]

    def test_names_groups_at_the_margins(self):
        figure = rdm_grid(full_table(), rows="model", columns="layer", groups=DIGITS)
        named = [(bool(ticks(ax.yaxis)), bool(ticks(ax.xaxis))) for ax in panels(figure)]
        assert named == [(True, False), (False, False)] * 2 + [(True, True), (False, True)]

    def test_twenty_by_six_stays_apart(self):
        cells = [(f"method {i}", f"layer{j}") for i in range(20) for j in range(6)]
        groups = ["airplane"] * 3 + ["automobile"] * 3
        figure = rdm_grid(table(cells), rows="model", columns="layer", groups=groups)
        assert len(panels(figure)) == 120
        assert figure.get_figwidth() < 9
        drawn(figure)
        boxes = [ax.get_tightbbox() for ax in figure.axes]
        boxes += [text.get_window_extent() for text in figure.texts]
        assert all(figure.bbox.fully_containsx(x) for box in boxes for x in (box.x0, box.x1))
        assert all(figure.bbox.fully_containsy(y) for box in boxes for y in (box.y0, box.y1))
        edges = np.array([box.extents for box in boxes]) + np.array([1, 1, -1, -1])
        x = np.minimum.outer(edges[:, 2], edges[:, 2]) - np.maximum.outer(edges[:, 0], edges[:, 0])
        y = np.minimum.outer(edges[:, 3], edges[:, 3]) - np.maximum.outer(edges[:, 1], edges[:, 1])
        overlap = (x > 0) & (y > 0) & ~np.eye(len(boxes), dtype=bool)
        assert not overlap.any()

    def test_refuses_two_rdms_in_a_cell(self):
        rdms = table([("plain", "fc"), ("RDL", "fc"), ("plain", "pool")])
        rdms = rdms.assign_coords(layer=("rdm", ["fc", "fc", "fc"]))
        with raises(
            "RDMs 'plain/fc', 'plain/pool' both have model 'plain' and layer 'fc'; select one of them, or "
            "average them first"
        ):
            rdm_grid(rdms, rows="model", columns="layer")

    def test_refuses_what_it_does_not_know(self):
        with raises("the RDMs have no coordinate 'roi' along 'rdm'; there is 'rdm', 'model', 'layer'"):
            rdm_grid(full_table(), rows="roi", columns="layer")
        with raises("unknown scale 'row'; choose 'panel', 'column' or 'all'"):
            rdm_grid(full_table(), rows="model", columns="layer", scale="row")


def history(final, *, epochs=10, column="validation_error"):
    epoch = np.arange(1, epochs + 1)
    return pd.DataFrame({"epoch": epoch, "task_error": final / epoch, column: final + 8.0 / epoch**2})


class TestErrorCurves:
    def test_has_a_panel_per_column_and_a_line_per_method(self):
        histories = {"plain": history(1.0), "RDL": history(0.5)}
        figure = error_curves(histories)
        assert [ax.get_title() for ax in figure.axes] == ["training images", "validation images"]
        assert figure.axes[0].get_ylabel() == "error (%)"
        for ax, column in zip(figure.axes, ["task_error", "validation_error"], strict=True):
            assert ax.get_xlabel() == "epoch"
            for line, frame in zip(ax.lines, histories.values(), strict=True):
                np.testing.assert_array_equal(line.get_xydata(), frame[["epoch", column]])
        drawn(figure)

    def test_means_over_the_epochs_that_all_seeds_have(self):
        seeds = [history(1.0), history(3.0, epochs=4)]
        (ax,) = error_curves({"RDL": seeds}, columns=["validation_error"]).axes
        first, second, mean = ax.lines
        np.testing.assert_array_equal(first.get_ydata(), seeds[0]["validation_error"])
        np.testing.assert_array_equal(second.get_ydata(), seeds[1]["validation_error"])
        np.testing.assert_array_equal(mean.get_xdata(), [1, 2, 3, 4])
        np.testing.assert_allclose(mean.get_ydata(), 2 + 8 / np.arange(1, 5) ** 2)
        assert first.get_alpha() < 0.5
        assert mean.get_alpha() is None

    def test_lists_methods_as_their_lines_end(self):
        figure = error_curves({"low": history(0.2), "high": history(2.0), "middle": history(1.0)})
        assert legend(figure) == ["high", "middle", "low"]
        handles = figure.legends[0].legend_handles
        lines = dict(zip(["low", "high", "middle"], figure.axes[0].lines, strict=True))
        assert [h.get_color() for h in handles] == [lines[name].get_color() for name in legend(figure)]

    def test_legend_stands_beside_the_panels(self):
        figure = error_curves({f"a method with a long name {k}": history(k + 1.0) for k in range(14)})
        drawn(figure)
        box = figure.legends[0].get_window_extent()
        assert all(ax.get_tightbbox().x1 <= box.x0 for ax in figure.axes)
        assert figure.bbox.x1 >= box.x1

    def test_axis_follows_the_errors(self):
        def scale(errors):
            frame = pd.DataFrame({"epoch": range(len(errors)), "test_error": errors})
            figure = error_curves({"plain": frame}, columns=["test_error"])
            drawn(figure)
            return figure.axes[0].get_yscale()

        assert scale([30.0, 20.0, 10.0]) == "linear"
        assert scale([30.0, 3.0, 0.3]) == "log"
        assert scale([30.0, 3.0, 0.0]) == "symlog"
        assert scale([0.0, 0.0]) == "linear"

    def test_passes_over_epochs_without_a_value(self):
        frame = pd.DataFrame({"epoch": [1, 2, 3], "validation_error": [5.0, np.nan, 4.0]})
        (ax,) = error_curves({"plain": frame}, columns=["validation_error"]).axes
        np.testing.assert_array_equal(ax.lines[0].get_xydata(), [[1, 5], [3, 4]])

    def test_epochs_are_whole(self):
        for epochs in (1, 2, 3):
            figure = error_curves({"RDL": history(1.0, epochs=epochs)})
            drawn(figure)
            low, high = figure.axes[0].get_xlim()
            shown = [tick for tick in figure.axes[0].get_xticks() if low <= tick <= high]
            assert shown == list(range(1, epochs + 1))

    def test_a_single_epoch_is_a_dot(self):
        (ax,) = error_curves({"plain": history(1.0, epochs=1)}, columns=["task_error"]).axes
        assert ax.lines[0].get_marker() == "."

    def test_epochs_of_the_trainers_history_are_drawn_from_one(self):
        counted = history(1.0, epochs=3)
        counted["epoch"] = [0, 1, 2]
        for ax in error_curves({"plain": counted}).axes:
            assert ax.lines[0].get_xdata().tolist() == [1, 2, 3]
        assert counted["epoch"].tolist() == [0, 1, 2]
        assert error_curves({"plain": history(1.0, epochs=3)}).axes[0].lines[0].get_xdata().tolist() == [1, 2, 3]

    def test_tells_twenty_one_methods_apart(self):
        figure = error_curves({str(k): history(k + 1.0) for k in range(21)})
        looks = {(line.get_color(), str(line._dash_pattern)) for line in figure.axes[0].lines}
        assert len(looks) == 21
        with raises("22 methods cannot be told apart by colour and dash; draw at most 21 at a time"):
            error_curves({str(k): history(k + 1.0) for k in range(22)})

    def test_refuses_what_it_cannot_draw(self):
        with raises("nothing to draw; give at least one method and one column"):
            error_curves({})
        with raises("histories['RDL'] is an empty list; give one DataFrame per seed"):
            error_curves({"RDL": []})
        with raises("histories['RDL'] lacks the column(s) 'validation_error'; it has 'epoch', 'task_error', 'error'"):
            error_curves({"RDL": [history(1.0), history(1.0, column="error")]})
        with raises(
            "histories['RDL'] holds epoch 1 more than once; give the history of one training per DataFrame, "
            "and several seeds as a list"
        ):
            error_curves({"RDL": pd.concat([history(1.0), history(2.0)])})


def network_map(**changes):
    """Two networks from the pixels to the labels, in a plane."""
    points = np.array([[0, 0], [1, 1], [2, 1], [1, -1], [2, -1], [3, 0]])
    arguments = {
        "labels": ["pixels", "pool", "fc", "pool", "fc", "labels"],
        "groups": [None, "plain", "plain", "RDL", "RDL", None],
        "paths": ["pixels", "pool", "fc"],
    }
    return mds_map(squareform(pdist(points)), **(arguments | changes))


class TestMDSMap:
    def test_places_points_at_their_distances(self):
        figure, stress = network_map(paths=None)
        (ax,) = figure.axes
        found = np.concatenate([line.get_xydata() for line in ax.lines])
        np.testing.assert_allclose(pdist(found), pdist([[0, 0], [1, 1], [2, 1], [1, -1], [2, -1], [3, 0]]), atol=1e-6)
        assert ax.get_aspect() == 1
        assert stress < 1e-6
        assert ax.get_xlabel() == "metric MDS, stress-1 = 0.000"
        drawn(figure)

    def test_prints_the_stress(self):
        distances = pdist(np.random.default_rng(0).normal(size=(8, 6)))
        figure, stress = mds_map(squareform(distances), labels=list("abcdefgh"), groups=["x"] * 8)
        assert figure.axes[0].get_xlabel() == f"metric MDS, stress-1 = {stress:.3f}"
        assert stress > 0.05

    def test_paths_run_through_the_layers_from_left_to_right(self):
        figure, _ = network_map()
        paths = [line for line in figure.axes[0].lines if len(line.get_xdata()) > 1]
        points = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 1]
        assert len(paths) == 2
        assert len(points) == 6
        xy = [tuple(line.get_xydata()[0]) for line in points]
        assert [tuple(p) for p in paths[0].get_xydata()] == [xy[0], xy[1], xy[2]]
        assert [tuple(p) for p in paths[1].get_xydata()] == [xy[0], xy[3], xy[4]]
        assert all(np.all(np.diff(path.get_xdata()) > 0) for path in paths)
        assert paths[0].get_color() == points[1].get_color() == points[2].get_color()
        assert paths[0].get_color() != paths[1].get_color()

    def test_reversed_paths_turn_the_map(self):
        figure, _ = network_map(paths=["fc", "pool", "pixels"])
        paths = [line for line in figure.axes[0].lines if len(line.get_xdata()) > 1]
        assert all(np.all(np.diff(path.get_xdata()) > 0) for path in paths)

    def test_paths_skip_what_a_group_lacks(self):
        figure, _ = network_map(labels=["pixels", "pool", "fc", "conv", "fc", "labels"])
        paths = [line for line in figure.axes[0].lines if len(line.get_xdata()) > 1]
        assert [len(path.get_xdata()) for path in paths] == [3, 2]

    def test_every_point_is_named(self):
        figure, _ = network_map()
        (ax,) = figure.axes
        assert [text.get_text() for text in ax.texts] == ["pixels", "labels"]
        assert legend(figure) == ["plain", "RDL", "", "pool", "fc"]
        markers = [line.get_marker() for line in ax.lines if len(line.get_xdata()) == 1]
        assert markers == ["o", "o", "s", "o", "s", "o"]
        assert [h.get_marker() for h in figure.legends[0].legend_handles][-2:] == ["o", "s"]
        drawn(figure)

    def test_names_stay_inside_and_apart(self):
        points = np.random.default_rng(3).normal(size=(15, 2))
        names = [f"sub-{k:02d}/IT" for k in range(15)]
        figure, _ = mds_map(squareform(pdist(points)), labels=names, groups=[None] * 15)
        drawn(figure)
        (ax,) = figure.axes
        assert not figure.legends
        boxes = [text.get_window_extent() for text in ax.texts]
        assert [text.get_text() for text in ax.texts] == names
        assert not any(a.overlaps(b) for k, a in enumerate(boxes) for b in boxes[:k])
        assert all(ax.bbox.x0 <= box.x0 and box.x1 <= ax.bbox.x1 for box in boxes)

    def test_bar_is_true_to_scale(self):
        figure, _ = network_map()
        drawn(figure)
        (ax,) = figure.axes
        (bar,) = ax.artists
        assert bar.txt_label.get_text() == "distance 0.5"
        start, end = ax.transData.transform([[0, 0], [0.5, 0]])[:, 0]
        assert bar.size_bar.get_window_extent(figure.canvas.get_renderer()).width == pytest.approx(
            end - start, rel=0.05
        )

    def test_fourteen_networks_can_be_told_apart(self):
        layers = ["pool1", "pool2", "fc", "softmax"]
        rng = np.random.default_rng(0)
        labels = ["pixels", *layers * 14, "labels"]
        groups = [None, *np.repeat([f"network {k}" for k in range(14)], 4).tolist(), None]
        points = rng.normal(size=(len(labels), 5))
        figure, _ = mds_map(squareform(pdist(points)), labels=labels, groups=groups, paths=["pixels", *layers])
        looks = {(h.get_color(), h.get_markerfacecolor(), h.get_marker()) for h in figure.legends[0].legend_handles}
        assert len(looks) == 14 + 1 + 4
        drawn(figure)
        box = figure.legends[0].get_window_extent()
        assert box.y0 >= 0
        assert figure.axes[0].get_tightbbox().x1 <= box.x0

    def test_the_same_figure_every_time(self):
        np.testing.assert_array_equal(drawn(network_map()[0]), drawn(network_map()[0]))

    def test_identical_rdms(self):
        figure, stress = mds_map(np.zeros((2, 2)), labels=["a", "b"], groups=[None, None])
        assert stress == 0
        drawn(figure)

    def test_refuses_what_it_cannot_draw(self):
        with raises("labels has 2 entries for 6 points; give one per point"):
            network_map(labels=["pixels", "pool"])
        with raises("groups has 1 entries for 6 points; give one per point"):
            network_map(groups=["plain"])
        with raises(
            "points 1 and 3 both have label 'pool' and group 'plain'; give each point of a group a label of its own"
        ):
            network_map(groups=[None, "plain", "plain", "plain", "RDL", None])
        with raises("paths names 'conv', but the labels are 'pixels', 'pool', 'fc', 'labels'"):
            network_map(paths=["pixels", "conv"])
        with raises("22 methods cannot be told apart by colour and dash; draw at most 21 at a time"):
            mds_map(1 - np.eye(22), labels=["fc"] * 22, groups=[str(k) for k in range(22)])
        with raises(
            "11 labels are shared by several points, but only 10 marker shapes can be told apart; show fewer of them"
        ):
            labels = [str(k) for k in range(11)] * 2
            mds_map(1 - np.eye(22), labels=labels, groups=["a"] * 11 + ["b"] * 11)


def trainings(arms=("plain", "RDL"), counts=(100, 1000), seeds=3):
    rng = np.random.default_rng(0)
    rows = [
        (arm, n, 200 / n**0.5 * (1 - 0.2 * k) + rng.normal(0, 0.1), seed)
        for k, arm in enumerate(arms)
        for n in counts
        for seed in range(seeds)
    ]
    return pd.DataFrame(rows, columns=["arm", "labels", "test_error", "seed"])


def segments(ax, k):
    return np.array(ax.collections[k].get_segments())


class TestLabelCurve:
    def test_draws_means_and_intervals(self):
        results = trainings(counts=(1000, 100, 50_000))
        figure = label_curve(results, level=0.9)
        (ax,) = figure.axes
        assert ax.get_xscale() == ax.get_yscale() == "log"
        assert ax.get_ylabel() == "test error (%)"
        assert ticks(ax.xaxis) == ["100", "1,000", "50,000"]
        assert legend(figure) == ["plain", "RDL"]
        means = [line for line in ax.lines if line.get_linestyle() != "None"]
        for k, (arm, line) in enumerate(zip(["plain", "RDL"], means, strict=True)):
            errors = results[results["arm"] == arm].set_index("labels")["test_error"]
            expected = [t_interval(errors[n], level=0.9) for n in (100, 1000, 50_000)]
            np.testing.assert_allclose(line.get_ydata(), [e.estimate for e in expected])
            np.testing.assert_allclose(segments(ax, k)[:, :, 1], [e[1:] for e in expected])
            np.testing.assert_allclose(line.get_xdata(), [100, 1000, 50_000], rtol=0.1)
        assert not np.allclose(means[0].get_xdata(), means[1].get_xdata())
        drawn(figure)

    def test_shows_every_training(self):
        results = trainings()
        (ax,) = label_curve(results).axes
        dots = np.concatenate([line.get_ydata() for line in ax.lines if line.get_linestyle() == "None"])
        np.testing.assert_array_equal(np.sort(dots), np.sort(results["test_error"]))

    def test_one_seed_has_no_interval(self):
        figure = label_curve(trainings(seeds=1))
        assert segments(figure.axes[0], 0).size == 0
        drawn(figure)

    def test_no_interval_reaches_below_zero(self):
        results = pd.DataFrame(
            {"arm": "RDL", "labels": [10] * 3 + [99] * 3, "test_error": [9, 1, 1, 0.5, 0.4, 0.4], "seed": [0, 1, 2] * 2}
        )
        figure = label_curve(results)
        assert segments(figure.axes[0], 0).min() > 0
        drawn(figure)

    def test_refuses_what_it_cannot_draw(self):
        results = trainings()
        with raises("results lacks the column(s) 'labels', 'seed'; it has 'arm', 'test_error'"):
            label_curve(results[["arm", "test_error"]])
        with raises("results has no rows; give one per training"):
            label_curve(results[:0])
        with raises(
            "labels must be positive counts, the axis being logarithmic, but one is 0; leave out the rows "
            "without labels"
        ):
            label_curve(results.replace({"labels": {100: 0}}))
        with raises(
            "results has more than one row for arm plain, labels 100, seed 0; select the rows to draw, one per training"
        ):
            label_curve(pd.concat([results, results]))
        results.loc[7, "test_error"] = np.nan
        with raises(
            "test_error is nan for arm RDL, labels 100, seed 1; leave out the training runs that failed, and say so"
        ):
            label_curve(results)


class TestErrorDots:
    def test_draws_means_intervals_and_seeds(self):
        results = trainings(counts=(100,), seeds=4)
        figure = error_dots(results, level=0.9)
        (ax,) = figure.axes
        assert ticks(ax.yaxis) == ["plain", "RDL"]
        assert ax.yaxis_inverted()
        assert ax.get_xlabel() == "test error (%)"
        assert legend(figure) == ["mean, 90 % interval", "one seed"]
        for k, arm in enumerate(["plain", "RDL"]):
            errors = results.loc[results["arm"] == arm, "test_error"]
            expected = t_interval(errors, level=0.9)
            np.testing.assert_allclose(segments(ax, k)[0], [[expected.low, k], [expected.high, k]])
            lines = [tuple(map(tuple, line.get_xydata())) for line in ax.lines]
            assert ((expected.estimate, k),) in lines
            assert tuple((error, k + 0.24) for error in errors) in lines
            numbers = f"{expected.estimate:.2f} [{expected.low:.2f}, {expected.high:.2f}]"
            assert ax.texts[k].get_text() == numbers
        drawn(figure)

    def test_draws_the_papers_numbers_open(self):
        figure = error_dots(trainings(counts=(100,)), paper={"RDL": 0.49})
        published = [line for line in figure.axes[0].lines if line.get_marker() == "D"]
        assert [line.get_xydata().tolist() for line in published] == [[[0.49, 1]]]
        assert published[0].get_fillstyle() == "none"
        assert legend(figure)[-1] == "paper"

    def test_one_seed_has_no_interval(self):
        figure = error_dots(trainings(counts=(100,), seeds=1))
        assert re.fullmatch(r"\d+\.\d\d", figure.axes[0].texts[0].get_text())
        drawn(figure)

    def test_equal_seeds_have_no_interval(self):
        figure = error_dots(trainings(counts=(100,)).assign(test_error=1.2))
        assert [text.get_text() for text in figure.axes[0].texts] == ["1.20 (seeds equal)"] * 2
        drawn(figure)

    def test_no_interval_of_two_seeds_and_none_below_zero(self):
        results = pd.DataFrame({"arm": "RDL", "test_error": [0.1, 4.0, 0.2], "seed": [0, 1, 2]})
        assert error_dots(results).axes[0].texts[0].get_text() == "1.43 [0.03, 42.03]"
        assert error_dots(results[:2]).axes[0].texts[0].get_text() == "2.05"

    def test_numbers_stand_beside_the_axes(self):
        figure = error_dots(trainings(arms=[f"method {k}" for k in range(12)], counts=(100,)))
        drawn(figure)
        (ax,) = figure.axes
        for text in ax.texts:
            assert ax.bbox.x1 < text.get_window_extent().x0
            assert text.get_window_extent().x1 <= figure.bbox.x1

    def test_refuses_what_it_cannot_draw(self):
        results = trainings(counts=(100,))
        with raises("paper names 'hints', but the arms in results are 'plain', 'RDL'"):
            error_dots(results, paper={"hints": 0.56, "RDL": 0.49})
        with raises("results has more than one row for arm plain, seed 0; select the rows to draw, one per training"):
            error_dots(trainings())


class TestPalette:
    def looks(self, handles):
        return [(handle.get_color(), handle.get_linestyle()) for handle in handles]

    def test_first_seven_differ_in_colour(self):
        figure = error_curves({str(k): history(k + 1.0) for k in range(7)})
        assert len({to_hex(line.get_color()) for line in figure.axes[0].lines}) == 7

    def test_figures_agree_on_a_method(self):
        palette = [f"method {k}" for k in range(9)]
        shown = {"RDL": palette[8], "plain": palette[2]}
        curves = error_curves({shown["RDL"]: history(2.0), shown["plain"]: history(1.0)}, palette=palette)
        labels = label_curve(trainings(arms=[shown["RDL"], shown["plain"]]), palette=palette)
        groups = [None, shown["plain"], shown["plain"], shown["RDL"], shown["RDL"], None]
        figure, _ = network_map(groups=groups, palette=palette)
        rdl, plain = self.looks(curves.legends[0].legend_handles)
        assert (rdl, plain) == tuple(self.looks(labels.legends[0].legend_handles))
        colours = [handle.get_color() for handle in figure.legends[0].legend_handles[:2]]
        assert colours == [plain[0], rdl[0]]
        everyone = error_curves({name: history(9.0 - k) for k, name in enumerate(palette)})
        assert [rdl, plain] == [self.looks(everyone.legends[0].legend_handles)[k] for k in (8, 2)]

    def test_must_hold_every_method(self):
        with raises("palette lacks 'RDL'; it has 'plain', 'KD'"):
            error_curves({"plain": history(1.0), "RDL": history(2.0)}, palette=["plain", "KD"])


def test_pyplot_and_settings_stay_untouched():
    before = dict(matplotlib.rcParams)
    rdm_panel(1 - np.eye(3))
    plot_rdms(full_table())
    rdm_grid(full_table(), rows="model", columns="layer")
    error_curves({"plain": history(1.0)})
    network_map()
    label_curve(trainings())
    error_dots(trainings(counts=(100,)))
    assert Gcf.get_num_fig_managers() == 0
    assert dict(matplotlib.rcParams) == before


def test_figures_can_be_saved(tmp_path):
    ax = rdm_panel(full_table()[0], groups=DIGITS)
    assert isinstance(ax, Axes)
    for suffix in ("png", "pdf", "svg"):
        path = tmp_path / f"rdm.{suffix}"
        ax.figure.savefig(path)
        assert path.stat().st_size > 1000
