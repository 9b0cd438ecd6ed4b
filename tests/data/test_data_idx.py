"""IDX files: what is written is read, and nothing hostile or damaged gets through."""

import errno
import gzip
import os
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as arrays

from brainrdl.data import read_idx, write_idx
from brainrdl.files.budget import allowed_bytes


def _content(*sizes: int, values: bytes = b"", kind: int = 8) -> bytes:
    return bytes([0, 0, kind, len(sizes)]) + struct.pack(f">{len(sizes)}I", *sizes) + values


def _error(path: Path) -> str:
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: ") as caught:
        read_idx(path)
    return str(caught.value)


@given(
    array=arrays.arrays(
        dtype=st.sampled_from(["u1", "i1", "<i2", ">i2", "<i4", ">i4", "<f4", ">f4", "<f8", ">f8"]),
        shape=arrays.array_shapes(max_dims=4, min_side=0, max_side=4),
    ),
    suffix=st.sampled_from(["", ".gz"]),
)
def test_what_is_written_is_read(tmp_path_factory, array, suffix):
    path = tmp_path_factory.mktemp("idx") / f"array{suffix}"
    write_idx(array, path)
    read = read_idx(path)
    assert read.dtype == array.dtype.newbyteorder("=")
    np.testing.assert_array_equal(read, array)
    assert (path.read_bytes()[:2] == b"\x1f\x8b") == (suffix == ".gz")


def test_values_are_big_endian_and_row_major(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(_content(2, 2, values=struct.pack(">4h", 1, -2, 300, 4), kind=0x0B))
    assert read_idx(path).tolist() == [[1, -2], [300, 4]]


def test_gzip_is_told_from_the_content_not_the_name(tmp_path):
    path = tmp_path / "no-suffix"
    path.write_bytes(gzip.compress(_content(3, values=b"abc")))
    assert read_idx(path).tolist() == [97, 98, 99]


def test_equal_arrays_give_equal_gzipped_files(tmp_path):
    write_idx(np.arange(5, dtype=np.uint8), tmp_path / "a.gz")
    write_idx(np.arange(5, dtype=np.uint8), tmp_path / "b.gz")
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


@pytest.mark.parametrize("zipped", [False, True])
def test_claims_more_than_it_holds(tmp_path, zipped):
    path = tmp_path / "x"
    content = _content(4, values=b"abc")
    path.write_bytes(gzip.compress(content) if zipped else content)
    assert _error(path) == (
        f"{path}: the header claims 4 bytes (shape (4,)), the file holds 3; it is cut off: fetch it again"
    )


@pytest.mark.parametrize("zipped", [False, True])
def test_a_hostile_size_is_refused_before_memory_is_taken(tmp_path, zipped):
    path = tmp_path / "x"
    content = _content(2**32 - 1, 2**32 - 1, 2**32 - 1, values=b"abc")
    path.write_bytes(gzip.compress(content) if zipped else content)
    side = 2**32 - 1
    assert _error(path) == (
        f"{path}: the header claims {side**3} bytes (shape ({side}, {side}, {side})), more than the file "
        "can hold; it is damaged or not IDX: fetch it again"
    )


def test_terabytes_of_nothing_are_refused_before_they_are_read(tmp_path):
    path = tmp_path / "x"
    with path.open("wb") as file:
        file.write(_content(1_000_000, 1_264, 1_264))
        file.truncate(16 + 1_000_000 * 1_264**2)  # a hole, which takes no room on disk
    message = f"{path} claims 1597696000000 bytes (shape (1000000, 1264, 1264)), more than the {allowed_bytes()}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}, a quarter of this machine's memory, that one file "):
        read_idx(path)


def test_a_compressed_file_is_held_to_the_budget(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(gzip.compress(_content(10_000_000, values=bytes(10_000_000))))
    message = (
        f"{path} claims 10000000 bytes (shape (10000000,)), more than the 1000000 that one file may take; if it is "
        "what you expect, give a larger max_bytes="
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        read_idx(path, max_bytes=1_000_000)
    assert read_idx(path, max_bytes=10_000_000).shape == (10_000_000,)


@pytest.mark.parametrize("sizes", [(0, *[2**32 - 1] * 3), (1,) * 100])
def test_a_shape_that_no_array_has(tmp_path, sizes):
    path = tmp_path / "x"
    path.write_bytes(_content(*sizes, values=b"" if 0 in sizes else b"a"))
    assert re.fullmatch(
        re.escape(f"{path}: the header's shape {sizes} is none of an array (")
        + r"[^()]*\); it is damaged or not IDX: fetch it again",
        _error(path),
    )


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "x.gz"
    write_idx(np.arange(5, dtype=np.uint8), path)

    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device"):
        write_idx(np.arange(9, dtype=np.uint8), path)
    monkeypatch.undo()
    assert read_idx(path).tolist() == [0, 1, 2, 3, 4]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("zipped", [False, True])
def test_bytes_behind_the_last_value(tmp_path, zipped):
    path = tmp_path / "x"
    content = _content(2, values=b"abc")
    path.write_bytes(gzip.compress(content) if zipped else content)
    assert _error(path) == (
        f"{path}: bytes follow the 2 that the header announces (shape (2,)); it is damaged or not IDX: fetch it again"
    )


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        (b"", "(none)"),
        (b"\0\0\x08", "00 00 08"),
        (b"\x89PNG\r\n", "89 50 4e 47"),
        (b"\0\0\x0a\x01\0\0\0\0", "00 00 0a 01"),
        (b"\0\0\x08\0", "00 00 08 00"),
    ],
)
def test_wrong_magic(tmp_path, content, shown):
    path = tmp_path / "x"
    path.write_bytes(content)
    assert _error(path) == (
        f"{path}: starts with the bytes {shown}, expected an IDX header "
        "(00 00, a type code 08 to 0e, the number of dimensions); is it the right file?"
    )


def test_header_cut_off(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(_content(3, 4)[:9])
    assert _error(path) == f"{path}: the header ends within its 2 sizes; the file is cut off: fetch it again"


@pytest.mark.parametrize("kept", [5, 15, -9, -1])
def test_gzip_cut_off(tmp_path, kept):
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(_content(2_000, values=np.random.default_rng(0).bytes(2_000)))[:kept])
    reason = "Compressed file ended before the end-of-stream marker was reached"
    assert _error(path) == f"{path}: the gzip data are cut off or damaged ({reason}); fetch the file again"


def test_gzip_damaged(tmp_path):
    path = tmp_path / "x.gz"
    content = bytearray(gzip.compress(_content(3, values=b"abc"), mtime=0))
    content[-5] ^= 1  # the checksum of the content
    path.write_bytes(content)
    message = _error(path)
    assert message.startswith(f"{path}: the gzip data are cut off or damaged (CRC check failed ")
    assert message.endswith("); fetch the file again")


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_idx(tmp_path / "none")


def test_what_idx_cannot_hold(tmp_path):
    path = tmp_path / "x"
    message = f"{path}: IDX cannot hold int64; convert the array to one of uint8, int8, int16, int32, float32, float64"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        write_idx(np.zeros(3, dtype=np.int64), path)
    message = f"{path}: IDX cannot hold shape (); it takes 1 to 255 dimensions, each below 2³²"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        write_idx(np.array(3, dtype=np.uint8), path)
    assert not path.exists()
