"""Events: what is missing, twice, out of time or spelled in two ways."""

import json
import re
import shutil

import nibabel
import numpy as np
import pandas as pd
import pytest

from brainrdl.fmri import GLM, Settings, fit_patterns, rdms_from_bids
from brainrdl.fmri.events import read_events
from brainrdl.studies.scans import make_rdms
from small_bids import change_table, events, facts_of_runs, make_bids

ROWS = {"onset": [0.0, 20, 40, 60, 80, 100], "duration": [4.0] * 6, "trial_type": list("abcabc")}


def raises(error, message):
    return pytest.raises(error, match=f"^{re.escape(message)}$")


def table(**changes):
    return pd.DataFrame({**ROWS, **changes})


def read(given, **settings):
    return read_events(given, n_scans=60, t_r=2.0, name="run-1.tsv", **settings)


def scans(seed):
    image = nibabel.Nifti1Image(
        (100 + np.random.default_rng(seed).standard_normal((3, 3, 1, 80))).astype(np.float32), np.eye(4)
    )
    image.header.set_zooms((1, 1, 1, 2.0))
    return image


MASK = nibabel.Nifti1Image(np.ones((3, 3, 1), dtype=np.uint8), np.eye(4))


def fit(*tables, **settings):
    return fit_patterns([scans(k) for k in range(len(tables))], list(tables), MASK, t_r=2.0, **settings)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder, make_bids(folder)


@pytest.fixture
def bids(whole, tmp_path):
    folder, masks = whole
    shutil.copytree(folder, tmp_path / "bids")
    return tmp_path / "bids", {name: mask.replace(str(folder), str(tmp_path / "bids")) for name, mask in masks.items()}


# rows without an entry


@pytest.mark.parametrize("column", ["onset", "duration", "trial_type"])
@pytest.mark.parametrize("empty", [None, "n/a", " n/a ", ""])
def test_rows_without_an_entry_are_left_out_on_request(column, empty):
    given = table().astype(object)
    given.loc[2, column] = empty
    with pytest.raises(ValueError, match=f"^run-1.tsv has .*{column} .*in row 3"):
        read(given)
    left = read(given, skip_empty=True)
    assert left["trial_type"].tolist() == list("ababc")
    assert left.attrs["skipped"] == 1
    # what is written, but no time, is no missing entry
    given.loc[2, column] = "soon"
    if column != "trial_type":
        with raises(ValueError, f"run-1.tsv has {column} 'soon' in row 3; expected seconds as a number"):
            read(given, skip_empty=True)


def test_left_out_rows_are_counted(bids, tmp_path):
    folder, masks = bids
    change_table(events(folder, 2), trial_type=lambda t: t["trial_type"].where(np.arange(len(t)) > 0))
    with pytest.raises(ValueError, match=f"^{re.escape(str(events(folder, 2)))} has an empty trial_type in row 1 "):
        rdms_from_bids(folder, "sim", masks)
    settings = Settings(glm=GLM(skip_empty_events=True))
    report = make_rdms(folder, "sim", masks, tmp_path / "rdms.nc", settings=settings, log=lambda line: None)
    page = report.read_text(encoding="utf-8")
    assert "1 event with an empty entry left out." in page
    assert "skip_empty_events" in page
    counted = facts_of_runs(rdms_from_bids(folder, "sim", masks, settings=settings))
    assert [run["skipped_events"] for run in counted] == [0, 1, 0]
    gap = table(trial_type=["a", None, *"cabc"])
    assert fit(gap, table(), glm=settings.glm).attrs["skipped_events"] == 1
    assert "skipped_events" not in fit(table(), table(), glm=settings.glm).attrs


def test_no_row_is_left():
    with raises(
        ValueError, "run-1.tsv holds no event; its 6 rows all lack an entry; leave the run out, or mend the file"
    ):
        read(table(trial_type=None), skip_empty=True)


# one event twice


def test_one_event_twice():
    with raises(
        ValueError,
        "run-1.tsv has the event 'b' at 20 s twice (1 in all), which would double its regressor; take one out",
    ):
        read(pd.concat([table(), table()[1:2]]))
    # also without duration, and with another one
    with raises(
        ValueError,
        "run-1.tsv has the event 'a' at 0 s twice (1 in all), which would double its regressor; take one out",
    ):
        read(table(onset=[0, 20, 40, 0, 80, 100], duration=[0, 1, 1, 2, 1, 1.0]))
    # two stimuli at once are two
    assert len(read(table(onset=[0, 0, 40, 60, 80, 80]))) == 6


def test_an_event_while_another_of_its_type_goes_on():
    with raises(
        ValueError,
        "run-1.tsv has an event 'a' at 60 s while that from 0 s lasts to 70 s (1 in all), so that its regressor would "
        "count twice; mend the durations, or name the events apart",
    ):
        read(table(duration=[70.0, 4, 4, 4, 4, 4]))
    # nominal durations, measured onsets; and other types within a block
    assert len(read(table(duration=[62.0, 4, 4, 4, 4, 4]))) == 6
    assert len(read(table(trial_type=list("abcdef"), duration=[110.0, 4, 4, 4, 4, 4]))) == 6


# times


def test_durations_in_milliseconds():
    with raises(
        ValueError,
        "run-1.tsv has duration 4000 s in row 1 and events every 20 s; the durations look like milliseconds, expected "
        "seconds",
    ):
        read(table(duration=4000.0))
    # within the run, and each of another type: six at once
    with raises(
        ValueError,
        "run-1.tsv has duration 400 s in row 1 and events every 20 s; the durations look like milliseconds, expected "
        "seconds",
    ):
        read_events(table(duration=400.0, trial_type=list("abcdef")), n_scans=300, t_r=2.0, name="run-1.tsv")
    with raises(ValueError, "run-1.tsv has duration 500 s in row 3 in a run of 120 s; expected seconds"):
        read(table(duration=[4, 4, 500, 4, 4, 4.0]))


def test_events_that_outlast_the_scans_are_warned_of_and_kept_in_the_file(bids):
    folder, masks = bids
    n = facts_of_runs(rdms_from_bids(folder, "sim", masks))[0]["scans"]
    change_table(events(folder), duration=lambda t: np.where(np.arange(len(t)) == len(t) - 1, 30.0, 2.0))
    onset = pd.read_csv(events(folder), sep="\t")["onset"].iloc[-1]
    message = (
        f"{events(folder)} has an event in row 8 that lasts from {onset:g} to {onset + 30:g} s, past the last scan at "
        f"{2 * n} s (1 in all); the model ends with the scans, so mend the duration if the stimulus ended before"
    )
    with pytest.warns(UserWarning, match=f"^sub-01: {re.escape(message)}$"):
        rdms = rdms_from_bids(folder, "sim", masks)
    assert json.loads(rdms.attrs["provenance"])["warnings"] == [f"sub-01: {message}"]


# durations of 0


def test_impulses_beside_blocks_are_warned_of(bids, tmp_path):
    message = (
        "events of 'c' have duration 0, and those of 'a', 'b' have one: the former are impulses, whose amplitudes are "
        "on another scale, so that distances between the two are distances of scales; give all events their duration, "
        "or all 0"
    )
    impulses = table(duration=[4, 4, 0, 4, 4, 0.0])
    with pytest.warns(UserWarning, match=f"^{re.escape(message)}$"):
        fit(impulses, impulses)
    # in one run all, in the other none
    with pytest.warns(UserWarning, match="have duration 0"):
        fit(table(duration=0.0), table())
    fit(table(duration=0.0), table(duration=0.0))
    # shorter than the model's steps
    with pytest.warns(UserWarning, match="have duration 0"):
        fit(table(duration=[4, 4, 0.001, 4, 4, 4]), table())
    folder, masks = bids
    change_table(events(folder), duration=lambda t: np.where(t["trial_type"] == "cat", 0.0, 2.0))
    with pytest.warns(UserWarning, match="^sub-01: events of 'cat' have duration 0"):
        report = make_rdms(folder, "sim", masks, tmp_path / "rdms.nc", log=lambda line: None)
    assert "sub-01: events of &#39;cat&#39; have duration 0" in report.read_text(encoding="utf-8")


# spelling


def test_one_name_in_two_spellings():
    other = table(trial_type=list("Abcabc"))
    with raises(
        ValueError,
        "the trial types 'a' and 'A' differ in case only (run 1 has only one of them); spell one stimulus alike in all "
        "runs, and name two apart",
    ):
        fit(table(), other)
    # in every run: two stimuli, if that is meant
    message = "the trial types 'A' and 'a' differ in case only, and are two stimuli; spell them alike if they are one"
    with pytest.warns(UserWarning, match=f"^{re.escape(message)}$"):
        both = fit(other, other)
    assert set(both["stimulus"].values.tolist()) == {"A", "a", "b", "c"}
    three = table(trial_type=["face", "Face", "FACE", "b", "b", "b"])
    message = (
        "the trial types 'face', 'Face' and 'FACE' differ in case only, and are 3 stimuli; spell them alike if they"
    )
    with pytest.warns(UserWarning, match=f"^{message} are one$"):
        fit(three, three)
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    alike = table(trial_type=[composed, *"bca", decomposed, "c"])
    with raises(
        ValueError,
        f"the trial types {composed!r} and {decomposed!r} differ in characters that look alike only; spell one "
        "stimulus alike in all runs, and name two apart",
    ):
        fit(alike, alike)


def test_spaces_around_a_name_are_no_part_of_it():
    spaced = fit(table(trial_type=["a ", " b", "c\u00a0", "a", "b", "c"]), table())
    assert list(dict.fromkeys(spaced["stimulus"].values.tolist())) == ["a", "b", "c"]
    with pytest.raises(
        ValueError, match=r"^the trial types 'a  x' and 'a x' differ in characters that look alike only"
    ):
        fit(table(trial_type=["a  x", *"bcabc"]), table(trial_type=["a x", *"bcabc"]))


# tables


def test_a_column_twice(tmp_path):
    path = tmp_path / "events.tsv"
    path.write_text("onset\tduration\ttrial_type\tonset\n0\t1\ta\t5\n")
    for given, name in ((path, str(path)), (pd.concat([table(), table()[["onset"]]], axis=1), "the events")):
        with raises(ValueError, f"{name} has the column 'onset' more than once; take one out, or rename it"):
            read_events(given, n_scans=60, t_r=2.0)


def test_a_table_of_a_million_columns_is_refused_at_once(tmp_path):
    path = tmp_path / "events.tsv"
    path.write_text("onset\tduration\ttrial_type" + "\t" * 10**6 + "\n")
    with raises(ValueError, f"{path} has 1000003 columns or more; expected at most 20000"):
        read_events(path, n_scans=60, t_r=2.0)
