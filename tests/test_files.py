from hashlib import sha256 as hashlib_sha256

import pandas as pd
import pytest

from brainrdl.files import sha256, write_table


def test_a_table_is_written_whole(tmp_path):
    path = tmp_path / "new" / "table.csv"
    write_table(pd.DataFrame({"a": [1, 2], "b": [0.5, None]}, index=[7, 8]), path)
    assert path.read_bytes() == b"a,b\n1,0.5\n2,\n"
    assert list(path.parent.iterdir()) == [path]


def test_a_table_is_written_with_its_index_where_asked(tmp_path):
    write_table(pd.DataFrame({"a": [1]}, index=pd.Index(["x"], name="id")), tmp_path / "t.csv", index=True)
    assert (tmp_path / "t.csv").read_bytes() == b"id,a\nx,1\n"


@pytest.mark.parametrize("content", [b"", b"abc", bytes(range(256)) * 9000])
def test_bytes_have_one_digest_in_however_many_parts_they_come(content):
    assert sha256(content) == sha256(content[:5], content[5:]) == hashlib_sha256(content).hexdigest()
