"""Learning curves of what `Trainer.fit` returns."""

from io import StringIO

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

import brainrdl as rdl
from brainrdl.plots import error_curves, learning_curves, trade_off
from small_network import loader, network, network_teacher, raises


def history(epochs=3, *, term=True, **options):
    terms = [rdl.RDLTerm(network_teacher(), {"two": "two"}, alpha=rdl.linear_decay(1.0))] if term else []
    return rdl.Trainer(network(), terms).fit(loader(), epochs=epochs, **options)


def labels(figure):
    return [ax.get_ylabel() for ax in figure.axes]


def test_a_history_is_drawn_whole_and_its_epochs_are_counted_from_one():
    one = history(validation=loader(12))
    figure = learning_curves(one)
    columns = ["task_loss", "task_error", "rdl/two", "validation_loss", "validation_error"]
    assert labels(figure) == [
        "task loss",
        "error on training images (%)",
        "rdl/two",
        "loss on validation images",
        "error on validation images (%)",
    ]
    for ax, column in zip(figure.axes, columns, strict=True):
        (line,) = ax.lines
        np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3])
        np.testing.assert_array_equal(line.get_ydata(), one[column])
        assert ax.get_xlabel() == "epoch"
    assert figure.legends == []


def test_scores_of_a_validation_function_are_drawn_too():
    one = history(term=False, validation=lambda student: {"held-out r": 0.5})
    assert labels(learning_curves(one))[-1] == "validation_held-out r"


def test_several_trainings_of_several_arms():
    runs = {"plain": history(term=False), "RDL": [history(seed=0), history(4, seed=1)]}
    figure = learning_curves(runs)
    assert labels(figure) == ["task loss", "error on training images (%)", "rdl/two"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["plain", "RDL"]
    of_plain, first, second, mean = figure.axes[0].lines
    assert [list(line.get_xdata()) for line in (of_plain, first, second, mean)] == [
        [1, 2, 3],
        [1, 2, 3],
        [1, 2, 3, 4],
        [1, 2, 3],
    ]
    assert len(figure.axes[2].lines) == 3  # plain has no distances to learn


def test_one_that_was_read_from_a_file_is_counted_from_one_too():
    one = pd.read_csv(StringIO(history(validation=loader(12)).to_csv(index=False)))
    for figure in (learning_curves(one), learning_curves([one, one]), error_curves(one), error_curves({"RDL": one})):
        assert [list(line.get_xdata()) for ax in figure.axes for line in ax.lines] == [[1, 2, 3]] * sum(
            len(ax.lines) for ax in figure.axes
        )


def test_epochs_that_are_counted_from_one_already_stay():
    one = history()
    one = one.assign(epoch=one["epoch"] + 1)
    for figure in (error_curves({"RDL": one}, columns=["task_error"]), learning_curves(one)):
        assert list(figure.axes[0].lines[0].get_xdata()) == [1, 2, 3]


def test_columns_can_be_chosen_and_named():
    one = history()
    assert labels(learning_curves(one, columns=["task_error"])) == ["error on training images (%)"]
    assert labels(learning_curves(one, columns={"lr": "learning rate"})) == ["learning rate"]
    assert labels(learning_curves({"RDL": one}, columns=["alpha/two"])) == ["alpha/two"]


def test_updates_are_drawn_along_where_there_are_any():
    one = pd.DataFrame({"epoch": [0, 0], "update": [0, 100], "task_loss": [2.0, 1.0], "seconds": [1.0, 2.0]})
    figure = learning_curves(one)
    assert labels(figure) == ["task loss"]
    assert figure.axes[0].get_xlabel() == "update"
    assert list(figure.axes[0].lines[0].get_xdata()) == [0, 100]


def test_the_history_given_is_not_changed():
    one = history()
    before = one.copy()
    learning_curves({"RDL": one})
    error_curves(one, columns=["task_error"])
    pd.testing.assert_frame_equal(one, before)


@pytest.mark.parametrize(
    ("runs", "columns", "message"),
    [
        ([], None, "nothing to draw; give at least one training and one column"),
        ({"RDL": []}, None, "nothing to draw; give at least one training and one column"),
        (pd.DataFrame({"epoch": [0]}), None, "nothing to draw; give at least one training and one column"),
        (
            pd.DataFrame({"epoch": [0, 0], "task_loss": [1.0, 2.0]}),
            None,
            "runs has an epoch twice; give the history of one training per DataFrame",
        ),
        (
            {"RDL": pd.DataFrame({"update": [0, 0], "task_loss": [1.0, 2.0]})},
            None,
            "runs['RDL'] has an update twice; give the history of one training per DataFrame",
        ),
    ],
)
def test_what_cannot_be_drawn(runs, columns, message):
    with raises(ValueError, message):
        learning_curves(runs, columns=columns)


@pytest.mark.parametrize(
    ("given", "of"),
    [
        ([{"epoch": 0, "task_loss": 1.0}], "dict"),
        ([1.0, 0.5], "float"),
        ({"RDL": [1.0, 0.5]}, "float for 'RDL'"),
        ({"RDL": 3}, "int for 'RDL'"),
        (None, "NoneType"),
    ],
)
@pytest.mark.parametrize(("draw", "argument"), [(learning_curves, "runs"), (error_curves, "histories")])
def test_what_is_no_history_is_refused_in_words(draw, argument, given, of):
    with raises(
        TypeError,
        f"{argument} must be DataFrames, as Trainer.fit returns them, or lists of these, got a {of}; "
        "pandas.DataFrame(rows) makes one of a dict for each epoch, with columns such as 'epoch' and 'task_loss'",
    ):
        draw(given)


def test_the_legend_shows_a_dot_for_runs_that_are_known_at_their_ends_only() -> None:
    course = pd.DataFrame({"update": [0, 10], "score": [0.1, 0.2]})
    figure = learning_curves({"along": [course], "held out": [course[-1:]]}, columns={"score": "r"})
    handles = figure.legends[0].legend_handles
    assert [(handle.get_linestyle(), handle.get_marker()) for handle in handles] == [("-", "None"), ("None", ".")]


def test_the_label_of_a_panel_does_not_touch_the_panel_before_it() -> None:
    runs = {"RDL": pd.DataFrame({"update": [0, 10], "score": [0.1, 0.2], "task_error": [20.0, 36.0]})}
    figure = learning_curves(runs, columns={"score": "Pearson r", "task_error": "task error (%)"})
    FigureCanvasAgg(figure).draw()
    first, second = figure.axes
    assert second.yaxis.label.get_window_extent().x0 - first.get_window_extent().x1 > 0.1 * figure.dpi


def test_weights_of_lines_that_cross_stand_on_different_sides_of_their_points() -> None:
    tries = pd.DataFrame({"alpha0": [1.0], "task_error": [20.0], "value": [0.3]})
    figure = trade_off({f"{n} updates": tries for n in (20, 40, 80, 160)})
    FigureCanvasAgg(figure).draw()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert not any(a.overlaps(b) for k, a in enumerate(boxes) for b in boxes[:k])
