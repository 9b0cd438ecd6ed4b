"""A disk that fills up while RDMs are written is an OSError that names the file, and leaves the old file."""

import errno
import os
import resource
import signal

import numpy as np
import pytest

import brainrdl as rdl
from labelled_rdms import one, several

SUFFIXES = ("nc", "h5", "npz", "mat", "json", "csv")


def write_within(size, rdms, path):
    """Write in a child process whose files may not be longer than `size`; how that ended."""
    incoming, outgoing = os.pipe()
    child = os.fork()
    if not child:
        answer = "written"
        try:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
            rdl.write_rdms(rdms, path)
        except BaseException as error:
            answer = f"{type(error).__name__} {getattr(error, 'errno', None)} {getattr(error, 'filename', None)}"
        finally:
            os.write(outgoing, answer.encode())
            os._exit(0)
    os.close(outgoing)
    with os.fdopen(incoming, "rb") as pipe:
        answer = pipe.read().decode()
    return answer, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    rdl.write_rdms(one(), path)
    rdms = several(3, n=60)
    for size in np.linspace(0, 20_000, 5).astype(int).tolist():
        answer, status = write_within(size, rdms, path)
        assert status == 0
        assert answer.startswith(f"OSError {errno.EFBIG} ")
        assert path.name in answer
        assert rdl.read_rdms(path).identical(one())
        assert [each.name for each in tmp_path.iterdir()] == [path.name]
