"""Files as spreadsheets and scripts leave them: what they say of themselves, and how they are mended."""

import re

import h5py
import numpy as np
import pytest
import scipy.io

import brainrdl as rdl
from brainrdl import cli

IDS = ["cup", "dog", "oak", "sun"]
VALUES = np.array([0.2, 1.3, 1.1, 0.4, 0.9, 0.7])
SQUARE = np.zeros((4, 4))
SQUARE[np.triu_indices(4, 1)] = VALUES
SQUARE += SQUARE.T


def raises(error, message):
    return pytest.raises(error, match=f"^{re.escape(message)}$")


def read(path, **options):
    return rdl.read_rdms(path, metric="correlation", **options)


@pytest.mark.parametrize(
    ("text", "separators"),
    [
        ("rdm;stimulus;stimulus_;dissimilarity\nIT;cup;dog;0,2\n", "semicolons"),
        ("sep=;\nrdm;stimulus;stimulus_;dissimilarity\nIT;cup;dog;0.2\n", "semicolons"),
        ("rdm\tstimulus\tstimulus_\tdissimilarity\nIT\tcup\tdog\t0.2\n", "tabs"),
    ],
)
def test_other_separators_than_commas(tmp_path, text, separators):
    path = tmp_path / "it.csv"
    path.write_text(text, encoding="utf-8-sig")
    mark = {"semicolons": "';'", "tabs": r"'\t'"}[separators]
    with raises(
        ValueError,
        f"{path} separates its cells by {separators}; expected commas, and points in numbers: write it again, in "
        f"Python pandas.read_csv(path, sep={mark}, decimal=…).to_csv(path, index=False)",
    ):
        read(path)


@pytest.mark.parametrize("corner", ["", "stimulus"])
def test_a_square_matrix_with_ids_as_a_table(tmp_path, corner):
    path = tmp_path / "it.csv"
    rows = [",".join(map(str, row)) for row in SQUARE.tolist()]
    rows = [",".join([corner, *IDS]), *(f"{name},{row}" for name, row in zip(IDS, rows, strict=True))]
    path.write_text("\n".join(rows) + "\n")
    found = rdl.read_rdms(path, metric="correlation")
    assert (found["rdm"].item(), found["stimulus"].values.tolist()) == ("it", IDS)
    np.testing.assert_array_equal(found.values[0], SQUARE)
    path.write_text("\n".join([",".join(IDS), *(",".join(map(str, row)) for row in SQUARE.tolist())]) + "\n")
    assert rdl.read_rdms(path, metric="correlation").identical(found)  # ids above the columns alone


@pytest.mark.parametrize("numbered", [False, True])
@pytest.mark.parametrize("diagonal", ["0.0", "", "nan"])
def test_a_square_matrix_without_ids_as_a_table(tmp_path, diagonal, numbered):
    path = tmp_path / "it.csv"
    cells = [[str(value) for value in row] for row in SQUARE.tolist()]
    for place in range(len(cells)):
        cells[place][place] = diagonal
    if numbered:  # by pandas, of an array
        count = [str(place) for place in range(len(cells))]
        cells = [["", *count], *([name, *row] for name, row in zip(count, cells, strict=True))]
    path.write_text("\n".join(map(",".join, cells)) + "\n")
    with raises(
        ValueError,
        f"{path}: does not hold the stimulus ids; give stimuli=, {len(IDS)} strings in the file's order; and it does "
        "not say by a known name what the distances are; give metric=, one of mse, sqeuclidean, euclidean, "
        "correlation, cosine, mahalanobis, crossnobis, undeclared ('undeclared' where it is not known)",
    ):
        rdl.read_rdms(path)
    found = rdl.read_rdms(path, stimuli=IDS, metric="correlation")
    np.testing.assert_array_equal(found.values[0], SQUARE)


def test_a_square_table_is_not_replaced(tmp_path):
    path = tmp_path / "correlations.csv"
    rows = [f"{name},{','.join(map(str, row))}" for name, row in zip(IDS, SQUARE.tolist(), strict=True)]
    text = "\n".join([",".join(["", *IDS]), *rows])
    path.write_text(text)
    rdms = rdl.label_rdms(SQUARE[None], IDS, ["it"], "correlation")
    with raises(
        ValueError,
        f"{path} exists and is not a file of RDMs, so it is not replaced; name another file, or remove it first",
    ):
        rdl.write_rdms(rdms, path)
    assert path.read_text() == text


def write_mat(path):
    scipy.io.savemat(path, {"rdm": SQUARE, "labels": np.array(IDS, dtype=object)})


def write_char_mat(path):
    scipy.io.savemat(path, {"rdm": SQUARE, "labels": np.array(IDS)})


def write_npz(path):
    np.savez(path, rdm=SQUARE, labels=np.array(IDS))


def write_h5(path):
    with h5py.File(path, "w") as file:
        file["rdm"] = SQUARE
        file["labels"] = IDS


@pytest.mark.parametrize(
    ("name", "write"),
    [("d.h5", write_h5), ("a.mat", write_mat), ("b.mat", write_char_mat), ("c.npz", write_npz)],
    ids=["h5", "mat", "characters", "npz"],
)
def test_ids_in_another_order_than_a_list_beside_the_array(tmp_path, name, write):
    path = tmp_path / name
    write(path)
    assert read(path, variable="rdm", stimuli=IDS)["stimulus"].values.tolist() == IDS
    # ids of one's own say nothing of the order
    own = ["a", "b", "c", "d"]
    assert read(path, variable="rdm", stimuli=own)["stimulus"].values.tolist() == own
    other = ["sun", "dog", "oak", "cup"]
    for given in (other, dict(enumerate(other))):
        with raises(
            ValueError,
            f"{path}: stimuli are given in another order than the file's variable 'labels' lists them in, first at "
            "position 0: 'sun' was given, the file has 'cup'; give them in its order",
        ):
            read(path, variable="rdm", stimuli=given)


def test_a_path_that_is_none():
    with raises(TypeError, "path is a list; expected one path, a string or a pathlib.Path"):
        rdl.read_rdms(["a.nc"])
    with raises(TypeError, "path is a list; expected one path, a string or a pathlib.Path"):
        rdl.StimulusSet.from_folder(["a.png"])


def test_a_file_of_ids_that_is_not_there(tmp_path, capsys):
    np.save(tmp_path / "a.npy", SQUARE)
    missing = tmp_path / "ids.txt"
    assert cli.main(["convert", str(tmp_path / "a.npy"), str(tmp_path / "b.nc"), "--stimuli", str(missing)]) == 2
    assert capsys.readouterr().err == (
        f"brainrdl: there is no file {missing}; name a text file with one id a line, or a field\n"
    )
