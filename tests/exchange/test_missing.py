"""What files of RDMs do not say: asked for all at once, but for names, which a file has itself."""

import numpy as np
import pytest
import rsatoolbox
import scipy.io

import brainrdl as rdl
from brainrdl.exchange.files import read_given
from brainrdl.exchange.parts import Given

METRICS = "mse, sqeuclidean, euclidean, correlation, cosine, mahalanobis, crossnobis, undeclared"
NO_IDS = "does not hold the stimulus ids; give stimuli=, 4 strings in the file's order"
NO_METRIC = (
    f"does not say by a known name what the distances are; give metric=, one of {METRICS} ('undeclared' where it is "
    "not known)"
)
NO_ORDER = (
    "holds vectors of 6 pairs, but not their order; give order=: 'row-major' for SciPy's and MATLAB's squareform, "
    "'column-major' for MATLAB's rdm(triu(true(n), 1)) and nilearn's lower triangles"
)


def test_all_that_is_missing_is_told_at_once(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.random.default_rng(0).random((2, 6)))
    for given, missing in (
        ({}, (NO_IDS, NO_METRIC, NO_ORDER)),
        ({"order": "row-major"}, (NO_IDS, NO_METRIC)),
        ({"stimuli": list("abcd")}, (NO_METRIC, NO_ORDER)),
        ({"stimuli": list("abcd"), "metric": "mse"}, (NO_ORDER,)),
    ):
        with pytest.raises(ValueError) as error:
            rdl.read_rdms(path, **given)
        assert str(error.value) == f"{path}: {'; and it '.join(missing)}"


def test_with_the_variable_ids_and_metric_are_asked_for(tmp_path):
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"V1": np.random.default_rng(0).random((2, 6)), "IT": np.ones((4, 4)) - np.eye(4)})
    asked = (
        f"{path} holds no struct array with a field 'RDM', as the RSA toolbox writes them; its variables are 'V1', "
        "'IT'; choose a plain array by variable=, of 'V1' (2 × 6), 'IT' (4 × 4)"
    )
    for given, more in (
        ({}, "; with it give stimuli= and metric=, which it does not say"),
        ({"metric": "mse"}, "; with it give stimuli=, which it does not say"),
        ({"metric": "mse", "stimuli": list("abcd")}, ""),
    ):
        with pytest.raises(ValueError) as error:
            rdl.read_rdms(path, **given)
        assert str(error.value) == asked + more


def test_rdms_in_memory_have_no_file_to_be_named_after():
    theirs = rsatoolbox.rdm.RDMs(np.random.default_rng(0).random((1, 6)))
    with pytest.raises(ValueError) as error:
        rdl.from_rsatoolbox(theirs)
    names = "does not hold the names of the RDMs; give names=, 1 strings in the file's order"
    assert str(error.value) == f"rsatoolbox's RDMs: {NO_IDS}; and it {names}; and it {NO_METRIC}"


@pytest.mark.parametrize("count", [1, 3])
def test_rdms_without_names_are_called_as_their_file(tmp_path, count):
    rng = np.random.default_rng(0)
    data = [rsatoolbox.data.Dataset(rng.normal(size=(4, 5)), obs_descriptors={"conds": list("dcba")})] * count
    rsatoolbox.rdm.calc_rdm(data if count > 1 else data[0]).save(tmp_path / "sub-01.h5")
    squares = rsatoolbox.rdm.calc_rdm(data).get_matrices()
    structs = np.empty((1, count), dtype=[("RDM", object)])
    structs["RDM"][0] = list(squares)
    scipy.io.savemat(tmp_path / "sub-01.mat", {"RDMs": structs})
    np.savez(tmp_path / "sub-01.npz", arr_0=squares)
    expected = ["sub-01"] if count == 1 else ["sub-01-1", "sub-01-2", "sub-01-3"]
    rdms = rdl.read_rdms(tmp_path / "sub-01.h5")
    assert rdms["rdm"].values.tolist() == expected
    assert rdms["stimulus"].values.tolist() == list("dcba")
    for other in ("sub-01.mat", "sub-01.npz"):
        read = rdl.read_rdms(tmp_path / other, stimuli=list("dcba"), metric="mse")
        assert read["rdm"].values.tolist() == expected


@pytest.mark.parametrize("others", [{}, {"model": ["a", "a"]}])
def test_rdms_are_called_by_the_descriptor_that_names_them(tmp_path, others):
    labels = {"pattern_descriptors": {"conds": list("abcd")}, "dissimilarity_measure": "correlation"}
    values = np.random.default_rng(0).random((2, 6))
    theirs = rsatoolbox.rdm.RDMs(values, rdm_descriptors={"name": ["conv1", "fc"], **others}, **labels)
    theirs.save(tmp_path / "net.h5")
    rdms = rdl.read_rdms(tmp_path / "net.h5")
    assert rdms["rdm"].values.tolist() == rdms["name"].values.tolist() == ["conv1", "fc"]
    assert rdl.exchange.describe(tmp_path / "net.h5")["names"] == ["conv1", "fc"]
    assert rdl.from_rsatoolbox(theirs)["rdm"].values.tolist() == ["conv1", "fc"]
    assert rdl.read_rdms(tmp_path / "net.h5", names=["x", "y"])["rdm"].values.tolist() == ["x", "y"]
    twice = rsatoolbox.rdm.RDMs(values, rdm_descriptors={"name": ["fc", "fc"], **others}, **labels)
    twice.save(tmp_path / "twice.h5")  # a descriptor that does not tell them apart names none
    assert rdl.read_rdms(tmp_path / "twice.h5")["rdm"].values.tolist() == ["twice-1", "twice-2"]


def test_a_cell_array_of_structs_is_a_struct_array(tmp_path):
    squares = rsatoolbox.rdm.RDMs(np.random.default_rng(0).random((2, 6))).get_matrices()
    structs = [{"RDM": square, "name": name, "color": [1, 0, 0]} for square, name in zip(squares, "xy", strict=True)]
    scipy.io.savemat(tmp_path / "a.mat", {"RDMs": structs})
    rdms = rdl.read_rdms(tmp_path / "a.mat", stimuli=list("abcd"), metric="mse")
    assert rdms["rdm"].values.tolist() == ["x", "y"]
    np.testing.assert_array_equal(rdms.values, squares)


def test_a_meadows_file_of_one_person_is_its_name(tmp_path):
    scipy.io.savemat(tmp_path / "calm-otter.mat", {"rdmutv": np.arange(1.0, 7), "stimuli": np.array(list("abcd"))})
    assert rdl.read_rdms(tmp_path / "calm-otter.mat", metric="undeclared")["rdm"].values.tolist() == ["calm-otter"]


def test_subjects_are_added_to_what_a_file_says(tmp_path):
    path = tmp_path / "a.nc"
    values = np.random.default_rng(0).random((2, 6))
    rdl.write_rdms(rdl.label_rdms(values, list("abcd"), ["x", "y"], "mse"), path)
    assert read_given(path, Given(subjects=2))["subject"].values.tolist() == ["S1", "S2"]
    with pytest.raises(ValueError) as error:
        read_given(path, Given(subjects=["ann"]))
    assert str(error.value) == (
        f"{path}: holds 2 RDMs, but subjects names 1; give one for each RDM, in the file's order"
    )
    found = rdl.exchange.describe(path, subjects=2)
    assert found["coords"] == ["subject"]
