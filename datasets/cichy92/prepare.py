"""Make labelled RDMs from the second fMRI study of the 92 object images."""

import argparse
from pathlib import Path

from brainrdl import write_rdms
from brainrdl.data.objects92 import load_objects92


def main() -> None:
    """Check the file's MD5 and write the RDMs as netCDF."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, help="the folder (default: the environment variable BRAINRDL_DATA)")
    parser.add_argument("--out", type=Path, required=True, help="where to put second-study.nc")
    arguments = parser.parse_args()
    try:
        rdms = load_objects92("second-study", arguments.data_dir)
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(str(error)) from error
    write_rdms(rdms, arguments.out / "second-study.nc")
    print(f"{arguments.out / 'second-study.nc'}: {rdms.sizes['rdm']} RDMs ({rdms.attrs['metric']})")


if __name__ == "__main__":
    main()
