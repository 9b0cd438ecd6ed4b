"""Published files, known by their MD5."""

from pathlib import Path

from brainrdl.files.store import file_md5

_MOST = 256 * 2**20  # the largest of them has 155 MB


def published_md5(path: Path) -> str:
    """The MD5 of a file that may be a published one; ValueError if it is too large to be one."""
    if (size := path.stat().st_size) > _MOST:
        raise ValueError(f"{path} has {size:,} bytes, more than any published file of this data set; fetch it again")
    return file_md5(path)
