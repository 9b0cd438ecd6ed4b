"""Files and folders that a caller names, looked for before anything is loaded that reads them."""

import os
from pathlib import Path

Place = str | os.PathLike[str]


def check_rdms_file(path: Place) -> None:
    """Raise a FileNotFoundError unless there is a file at the path of a file of RDMs."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"no file {path}; give the path of a file of RDMs")


def check_measured(name: Place) -> None:
    """Raise a FileNotFoundError unless measured RDMs are a known set (``objects92:human``), or there is such a file."""
    source, separator, _ = str(name).partition(":")
    if not (separator and source == "objects92") and not Path(name).exists():
        raise FileNotFoundError(f"there is no file {name}; name a file of RDMs, or objects92:human")


def check_categories_file(path: Place) -> None:
    """Raise a FileNotFoundError unless there is a file at the path of a table of categories."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"categories: there is no file {path}; expected a table (.csv) of stimulus,category")


def check_image_folder(root: Place) -> None:
    """Raise a NotADirectoryError unless there is a folder at the path of a folder of images."""
    if not Path(root).is_dir():
        raise NotADirectoryError(f"{root} is not a folder; from_folder needs the folder that holds the images")


def check_netcdf_name(path: Place) -> None:
    """Raise a ValueError unless a path is the name of a netCDF file."""
    if Path(path).suffix != ".nc":
        raise ValueError(f"the RDMs are written as netCDF, so {path} should end in .nc")


def check_mask_file(region: str, mask: Place) -> None:
    """Raise a FileNotFoundError unless there is a file at the path of a region's mask, but for one of each subject."""
    if "{subject}" not in str(mask) and not Path(mask).is_file():
        raise FileNotFoundError(f"the mask of region {region!r} is missing: there is no image {mask}")


def check_scans_folder(root: Place) -> None:
    """Raise a FileNotFoundError unless there is a folder at the path of a BIDS data set."""
    if not Path(root).is_dir():
        raise FileNotFoundError(f"there is no folder {root}")
