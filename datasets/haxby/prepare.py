"""Verify the Haxby slice in a folder: checksums, runs, events and mask."""

import argparse
import os
import re
from pathlib import Path

from brainrdl.fmri.images import checksums
from brainrdl.studies.scans import describe

MASK = "derivatives/motioncorrected/sub-{subject}/sub-{subject}_space-native_label-posterior_mask.nii.gz"


def main() -> None:
    """Check the files that README.md lists, and print what the pipeline finds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, help="the folder (default: the environment variable BRAINRDL_DATA)")
    folder = parser.parse_args().data_dir or os.environ.get("BRAINRDL_DATA")
    if not folder:
        raise SystemExit("name the folder that holds haxby_bids: --data-dir DIR, or set BRAINRDL_DATA")
    root = Path(folder) / "haxby_bids"
    readme = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
    expected = dict(re.findall(r"^\| `(\S+)` \| `(\w{64})` \|$", readme, re.MULTILINE))
    try:
        found = checksums([root / name for name in expected], root)
        differing = [name for name, digest in expected.items() if found[name] != digest]
        if differing:
            raise SystemExit(f"{root / differing[0]} has another checksum than README.md lists; fetch it again")
        print(describe(root, "objectviewing", {"posterior": str(root / MASK)}))
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(str(error)) from error
    print(f"{len(expected)} checksums agree")


if __name__ == "__main__":
    main()
