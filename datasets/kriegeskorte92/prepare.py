"""Make labelled RDMs and a folder of stimuli from the files of the 92 object images."""

import argparse
from pathlib import Path

from PIL import Image

from brainrdl import write_rdms
from brainrdl.data.objects92 import RDMSet, load_objects92, load_objects92_images

SETS: tuple[RDMSet, ...] = ("human", "primates", "models", "judgements")


def main() -> None:
    """Check the files' MD5, write ``stimuli/<id>.png`` and one netCDF file per set of RDMs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, help="the folder (default: the environment variable BRAINRDL_DATA)")
    parser.add_argument("--out", type=Path, required=True, help="where to put stimuli/ and the RDMs (.nc)")
    arguments = parser.parse_args()
    try:
        stimuli = load_objects92_images(arguments.data_dir)
        rdms = {name: load_objects92(name, arguments.data_dir) for name in SETS}
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(str(error)) from error
    folder = arguments.out / "stimuli"
    folder.mkdir(parents=True, exist_ok=True)
    for at in range(len(stimuli)):
        image, stimulus = stimuli[at]
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"{stimulus}.png")
    print(f"{folder}: {len(stimuli)} images")
    for name, array in rdms.items():
        write_rdms(array, arguments.out / f"{name}.nc")
        print(f"{arguments.out / f'{name}.nc'}: {array.sizes['rdm']} RDMs ({array.attrs['metric']})")


if __name__ == "__main__":
    main()
