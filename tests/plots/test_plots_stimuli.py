"""Figures of stimuli: thumbnails, percentiles, maps."""

import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.offsetbox import AnnotationBbox
from scipy.stats import rankdata

import brainrdl as rdl
from brainrdl.plots import save_plot
from brainrdl.plots._thumbnails import strip_shape, thumbnails_of

N = 6
IDS = [f"object-{k}" for k in range(N)]
GROUPS = ["animal"] * 2 + ["tool"] * 4


def raises(message, error=ValueError):
    return pytest.raises(error, match=f"^{re.escape(message)}$")


def rdms(n_rdms=2, metric="euclidean"):
    points = torch.randn(n_rdms, N, 4, generator=torch.Generator().manual_seed(0))
    values = torch.stack([rdl.rdm(one, "euclidean") for one in points])
    return rdl.label_rdms(values, IDS, [f"rdm-{k}" for k in range(n_rdms)], metric)


def pictures():
    # in another order than the RDM's, each of its own grey
    return {stimulus: np.full((8, 8), k / N) for k, stimulus in reversed(list(enumerate(IDS)))}


def strips(ax):
    return [[image.get_array()[0, 0, 0] for image in child.images] for child in ax.child_axes]


def test_thumbnails_follow_the_ids():
    figure = rdl.plot_rdms(rdms(), images=pictures(), groups=GROUPS)
    first, second = figure.axes[:2]
    wanted = [k / N for k in range(N)]
    assert strips(first) == [wanted, wanted]  # left and below
    assert strips(second) == [wanted]
    left, bottom = first.child_axes
    for k, image in enumerate(left.images):
        _, _, high, low = image.get_extent()
        assert (low + high) / 2 == k  # at its row
    for k, image in enumerate(bottom.images):
        assert sum(image.get_extent()[:2]) / 2 == k
    figure.canvas.draw()
    assert not plt.get_fignums()


def test_many_thumbnails_stand_in_staggered_columns():
    assert strip_shape(6, 1.3) == (1, 1.3 / 6)
    columns, inches = strip_shape(92, 1.3)
    assert columns == 7
    assert columns * 1.3 / 92 >= 0.09
    assert inches == pytest.approx(columns**2 * 1.3 / 92)


def test_thumbnails_take_images_as_they_come():
    color = torch.rand(N, 3, 200, 100, generator=torch.Generator().manual_seed(0))
    stimuli = rdl.StimulusSet.from_arrays(color.flip(0), IDS[::-1])
    found = thumbnails_of(stimuli, IDS)
    assert found[2].shape == (50, 25, 3)
    np.testing.assert_allclose(found[2], color[2].permute(1, 2, 0)[::4, ::4])
    bytes_ = {stimulus: np.full((4, 4, 3), 51 * k, np.uint8) for k, stimulus in enumerate(IDS)}
    assert [picture[0, 0, 0] for picture in thumbnails_of(bytes_, IDS)] == pytest.approx([k / 5 for k in range(N)])
    normalised = {stimulus: np.full((4, 4), k - 2.5) for k, stimulus in enumerate(IDS)}
    assert [picture[0, 0, 0] for picture in thumbnails_of(normalised, IDS)] == pytest.approx([k / 5 for k in range(N)])


def test_thumbnails_that_are_missing_or_no_images_are_refused():
    with raises("not among the 5 stimuli of the images: 'object-5'; did you mean 'object-4' or 'object-3' or "
                "'object-2'?"):  # fmt: skip
        rdl.plot_rdms(rdms(), images={stimulus: np.zeros((4, 4)) for stimulus in IDS[:5]})
    message = (
        "the image of stimulus 'object-0' has shape (4,); expected (height, width), (height, width, 3) or "
        "(3, height, width)"
    )
    with raises(message):
        rdl.plot_mds(rdms(), images=dict.fromkeys(IDS, np.zeros(4)))


def test_ranks_are_percentiles_and_said_to_be():
    table = rdms()
    table.values[0, 1, 4] = table.values[0, 4, 1] = np.nan
    figure = rdl.plot_rdms(table, rank=True, scale="all")
    shown = np.ma.filled(figure.axes[0].images[0].get_array(), np.nan)
    i, j = np.triu_indices(N, 1)
    values = table.values[0, i, j]
    measured = np.isfinite(values)
    np.testing.assert_allclose(shown[i, j][measured], 100 * (rankdata(values[measured]) - 0.5) / 14)
    assert np.isnan(shown[1, 4])
    np.testing.assert_array_equal(shown, shown.T)
    assert [text.get_text() for text in figure.texts] == ["percentile of Euclidean distance (one scale)"]
    assert [ax.images[0].get_clim() for ax in figure.axes[:2]] == [(0, 100)] * 2
    assert [label.get_text() for label in figure.axes[2].get_xticklabels()] == ["0", "100"]


def test_each_stimulus_is_labelled_by_its_id():
    ax = rdl.plot_rdms(rdms(1), groups="stimulus").axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == IDS


def test_a_map_of_stimuli_keeps_their_distances():
    points = torch.randn(N, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    table = rdl.label_rdms(rdl.rdm(points, "euclidean")[None], IDS, ["IT"], "euclidean")
    (ax,) = rdl.plot_mds(table).axes
    drawn = torch.from_numpy(np.array(ax.lines[0].get_xydata()))
    torch.testing.assert_close(rdl.rdm(drawn, "euclidean"), rdl.rdm(points, "euclidean"), rtol=1e-3, atol=1e-4)
    assert ax.get_xlabel() == "metric MDS, stress-1 = 0.000"
    assert [text.get_text() for text in ax.texts] == IDS
    assert ax.get_title() == "IT"


def test_a_map_of_stimuli_with_thumbnails_and_groups():
    figure = rdl.plot_mds(rdms(4), images=pictures(), groups=GROUPS)
    assert [ax.get_title() for ax in figure.axes] == [f"rdm-{k}" for k in range(4)]
    for ax in figure.axes:
        boxes = [artist for artist in ax.artists if isinstance(artist, AnnotationBbox)]
        assert [box.offsetbox.get_data()[0, 0, 0] for box in boxes] == [k / N for k in range(N)]
        at = np.concatenate([line.get_xydata() for line in ax.lines])
        np.testing.assert_allclose([box.xy for box in boxes], at)
        assert not ax.texts
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["animal", "tool"]
    figure.canvas.draw()
    assert not plt.get_fignums()


@pytest.mark.parametrize("images", [None, pictures()])
def test_maps_of_stimuli_have_panels_of_one_size(images):
    figure = rdl.plot_mds(rdms(4), images=images)
    figure.canvas.draw()
    sizes = [ax.get_window_extent().size for ax in figure.axes]
    np.testing.assert_allclose(sizes, [sizes[0]] * 4, atol=0.1)


def test_a_map_of_rdms():
    figure = rdl.plot_mds(rdms(3), of="rdms")
    assert [text.get_text() for text in figure.axes[0].texts][:3] == ["rdm-0", "rdm-1", "rdm-2"]
    values = rdl.to_condensed(torch.from_numpy(rdms(3).values)).numpy()
    assert figure.axes[0].get_xlabel() == (
        "1 − Pearson r between RDMs of Euclidean distance; metric MDS, stress-1 = 0.000"
    )
    lines = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 1]
    drawn = torch.tensor(np.array([line.get_xydata()[0] for line in lines]))
    wanted = 1 - np.corrcoef(values)[np.triu_indices(3, 1)]
    np.testing.assert_allclose(rdl.rdm(drawn, "euclidean").numpy(), wanted, rtol=1e-2)


def test_maps_that_cannot_be_drawn_are_refused():
    table = rdms()
    table.values[0, 1, 4] = table.values[0, 4, 1] = np.nan
    message = (
        "RDM 'rdm-0' has 1 pairs that were not measured; a map needs all: select the stimuli whose pairs are complete"
    )
    with raises(message):
        rdl.plot_mds(table)
    with raises("unknown of 'layers'; choose 'stimuli' or 'rdms'"):
        rdl.plot_mds(rdms(), of="layers")
    with raises("a map of RDMs needs at least 2 of at least 3 stimuli, got 1"):
        rdl.plot_mds(rdms(1), of="rdms")
    flat = rdms()
    flat.values[1] = 1 - np.eye(N)
    with raises("RDM 'rdm-1' is constant, and correlates with none; leave it out"):
        rdl.plot_mds(flat, of="rdms")


@pytest.mark.parametrize("kind", ["rdms", "mds", "rdm-mds"])
def test_plots_are_saved(kind, tmp_path):
    save_plot(rdms(3), tmp_path / "plot.png", kind=kind, images=pictures())
    assert plt.imread(tmp_path / "plot.png").std() > 0
    with raises("unknown kind 'dots'; choose 'rdms', 'mds', 'rdm-mds'"):
        save_plot(rdms(), tmp_path / "plot.png", kind="dots")
    with raises(f"{tmp_path}/plot.txt does not end as a picture does; expected .png, .pdf, .svg"):
        save_plot(rdms(), tmp_path / "plot.txt")


def test_plots_are_public_names():
    assert rdl.plot_rdms.__module__ == "brainrdl.plots.rdms"
    assert {"plot_rdms", "plot_mds"} <= set(dir(rdl))
    with raises("module 'brainrdl' has no attribute 'plot_all'", AttributeError):
        _ = rdl.plot_all


@pytest.mark.parametrize("value", [0.0, 0.3])
def test_a_map_of_stimuli_that_are_equally_far_apart_is_refused(value):
    table = rdms()
    table.values[1] = value * (1 - np.eye(N))
    with raises(
        f"RDM 'rdm-1' is constant (every distance is {value:g}), so that no map tells its stimuli apart; leave it out"
    ):
        rdl.plot_mds(table)


def test_three_stimuli_may_be_equally_far_apart():
    table = rdl.label_rdms(np.full((1, 3), 0.3), list("abc"), ["x"], "correlation")
    assert [ax.get_title() for ax in rdl.plot_mds(table).axes] == ["x"]
