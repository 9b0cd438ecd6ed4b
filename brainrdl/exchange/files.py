"""Reading and writing RDMs, whatever the format."""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import xarray as xr

from brainrdl.arguments import did_you_mean
from brainrdl.exchange import assemblies, matlab, meadows, net2brain, netcdf, plain, rsatoolbox, tidy
from brainrdl.exchange.missing import MissingError
from brainrdl.exchange.parts import Given, Order, Parts, complete
from brainrdl.exchange.seal import check_seal
from brainrdl.files.budget import allowed_bytes
from brainrdl.files.present import check_rdms_file
from brainrdl.files.store import atomic_path, check_place, path_of
from brainrdl.rdms.layout import check_rdms

_BY_SUFFIX = {
    ".nc": "netcdf",
    ".nc4": "netcdf",
    ".netcdf": "netcdf",
    ".h5": "rsatoolbox",
    ".hdf5": "rsatoolbox",
    ".npz": "net2brain",
    ".npy": "npy",
    ".mat": "matlab",
    ".json": "meadows",
    ".csv": "csv",
}
_WRITERS: dict[str, Callable[[xr.DataArray, Path], None]] = {
    "netcdf": netcdf.write,
    "rsatoolbox": rsatoolbox.write,
    "net2brain": net2brain.write,
    "matlab": matlab.write,
    "meadows": meadows.write,
    "csv": tidy.write,
}
_PICKLES = {
    ".pkl": "rsatoolbox: rsatoolbox.rdm.load_rdm(path).save('rdms.h5')",
    ".pickle": "rsatoolbox: rsatoolbox.rdm.load_rdm(path, 'pkl').save('rdms.h5')",
    ".pt": "Net2Brain: LayerRDM.from_file(path).save('rdm.npz', 'npz')",
}


def read_rdms(
    path: str | os.PathLike[str],
    *,
    stimuli: Iterable[str] | Mapping[int, str] | str | None = None,
    metric: str | None = None,
    names: Iterable[str] | str | None = None,
    order: Order | None = None,
    variable: str | None = None,
    format: str | None = None,
    max_bytes: int | None = None,
) -> xr.DataArray:
    """Read RDMs that this or another tool wrote.

    What a file does not say is given here, never guessed; what is given and contradicts the file is an error.

    Parameters
    ----------
    path : path
        File: netCDF (``.nc``: labelled RDMs, or BrainIO's patterns, which `metric` turns into RDMs), rsatoolbox's HDF5
        (``.h5``), Net2Brain's ``.npz``, MATLAB struct arrays, Meadows' ``.mat`` or ``.json``, CSV (``.csv``,
        tidy or a square matrix);
        plain arrays, square or condensed, of ``.npy`` files, and by `variable` of the others.
    stimuli : sequence of str (n,), mapping of int to str, or str, optional
        Ids in the file's order, or the name of the field that holds them, where it has several. Ids that the file has
        are kept; only where these are not unique do the given ones take their place (theirs: ``stimulus_in_file``). Ids
        in the order of text (``img1``, ``img10``, ``img2``) are asked about, as many files count; given by row,
        ``dict(enumerate(ids))``, they are not.
    metric : str, optional
        Metric of the distances, as in `label_rdms`.
    names : sequence of str (rdms,) or str, optional
        Names of the RDMs, likewise (and ``name_in_file``).
    order : {"row-major", "column-major"}, optional
        Order of the pairs of the upper triangle in the file's vectors, where neither it nor its format says: by row, as
        SciPy and MATLAB's ``squareform`` do, or by column, as MATLAB's ``rdm(triu(true(n), 1))`` does.
    variable : str, optional
        Name of the variable of a ``.mat``, ``.npz``, ``.h5`` or ``.nc`` file that holds the RDMs, where it has several,
        or a plain array: (n, n), (rdms, n, n), (n, n, rdms), or n(n-1)/2 pairs; ``a.b`` for a field of a struct.
    format : {"netcdf", "rsatoolbox", "net2brain", "matlab", "meadows", "csv", "npy"}, optional
        Format of the file; by the suffix of the path where absent.
    max_bytes : int, optional
        Bytes of memory that the file's content may take; a quarter of this machine's memory where absent. What a file
        claims is compared with it before anything is allocated.

    Returns
    -------
    DataArray (rdm, stimulus, stimulus_)

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    TypeError, ValueError
        If the file is of another format, cut off or damaged (one that `write_rdms` wrote carries a checksum of its
        content), needs pickle, points to other files, or claims more than it holds or than `max_bytes`; if it lacks
        something that was not given, or what was given contradicts it; if its RDMs are none (see `label_rdms`). The
        message begins with the path.

    Examples
    --------
    >>> import numpy as np, tempfile, brainrdl as rdl
    >>> rdms = rdl.label_rdms(np.array([[0.2, 1.3, 1.1]]), ["face", "body", "house"], ["IT"], "correlation")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     rdl.write_rdms(rdms, f"{folder}/rdms.mat")
    ...     rdl.read_rdms(f"{folder}/rdms.mat").identical(rdms)
    True
    """
    path = path_of(path, "path")
    given = Given(stimuli, metric, names, order, variable, None if max_bytes is None else allowed_bytes(max_bytes))
    return complete(read_parts(path, given, format), given, path)


def read_given(path: Path, given: Given, format: str | None = None) -> xr.DataArray:
    """Read RDMs as `read_rdms` does, with the caller's words in one piece, subjects among them."""
    return complete(read_parts(path, given, format), given, path)


def write_rdms(rdms: xr.DataArray, path: str | os.PathLike[str], *, format: str | None = None) -> None:
    """Write RDMs for this or another tool.

    What the format has no place for is added under a name of our own where its readers do not look. The file is
    read back before it replaces `path`: what it would not give back exactly is refused.

    Parameters
    ----------
    rdms : DataArray (rdm, stimulus, stimulus_)
        Labelled RDMs.
    path : path
        File to write, atomically; missing folders are made.
    format : {"netcdf", "rsatoolbox", "net2brain", "matlab", "meadows", "csv"}, optional
        Format, by the suffix of `path` where absent, as in `read_rdms`. ``.npz`` holds one RDM in Net2Brain's model
        form, several in its brain form. ``.mat`` is a MATLAB struct array, ``.json`` Meadows'.

    Raises
    ------
    TypeError, ValueError
        If the format cannot hold something (netCDF alone holds standard errors), which is named; if `path` is a
        folder, lies below a file, or is a file of anything but RDMs; if `rdms` is not labelled RDMs.

    Examples
    --------
    See `read_rdms`.
    """
    path = path_of(path, "path")
    check_place(path)
    checked = check_rdms(rdms)
    chosen = _format(path, format)
    if chosen == "npy":
        raise ValueError(f"{path}: an .npy file has no place for ids, names and metric; write .npz or netCDF")
    if chosen == "meadows" and path.suffix.lower() == ".mat":
        raise ValueError(
            f"{path}: Meadows' .mat has no place for names and metric; write its JSON (.json), or a MATLAB struct "
            "array (in Python format='matlab')"
        )
    if chosen != "netcdf" and "standard_error" in checked.coords:
        raise ValueError(
            f"{path}: {chosen} files have no place for standard errors; write netCDF (.nc), which keeps them, or "
            "leave them out in Python: rdms.drop_vars('standard_error')"
        )
    _check_replaced(path, chosen)
    try:
        with atomic_path(path) as temporary:
            _WRITERS[chosen](checked, temporary)
            lost = _lost(checked, temporary, chosen)
            if lost:
                raise ValueError(f"{chosen} files do not give back {lost}; rename or leave it out, or write netCDF")
    except (TypeError, ValueError) as error:
        raise type(error)(f"{path}: {error}") from error


def read_parts(path: Path, given: Given, format: str | None = None) -> Parts:
    """Read what a file says, unchecked and incomplete; every message names `path`."""
    chosen = _format(path, format)
    check_rdms_file(path)
    try:
        return _read_parts(path, given, chosen)
    except MissingError as error:
        lacking = [f"{name}=" for name in error.beside if getattr(given, name) is None]
        more = f"; with it give {' and '.join(lacking)}, which it does not say" if lacking else ""
        raise MissingError(f"{error}{more}") from error
    except (TypeError, ValueError) as error:  # TypeError: of a file's content, which no caller's type can mend
        if str(path) in str(error) and not isinstance(error, TypeError):
            raise
        raise ValueError(str(error) if str(path) in str(error) else f"{path}: {error}") from error


def _read_parts(path: Path, given: Given, chosen: str) -> Parts:
    variable, max_bytes = given.variable, given.max_bytes
    if variable is not None and (chosen in ("csv", "npy") or path.suffix.lower() == ".json"):
        raise plain.UnknownVariableError(
            f"{path}: a file of this format has no variables to choose from; leave variable out"
        )
    if chosen == "npy":
        return plain.read_npy(path, max_bytes)
    if chosen == "netcdf":
        dataset = netcdf.load_netcdf(path, max_bytes)
        if variable is not None:
            return netcdf.read_variable(dataset, variable, path)
        assembly = assemblies.find_assembly(dataset)
        if assembly is None:
            return netcdf.read_parts(dataset, path)
        return assemblies.read_parts(assembly, given, path)
    if chosen == "matlab" or (
        chosen == "meadows" and path.suffix.lower() == ".mat"
    ):  # one suffix, so the variables tell
        variables = matlab.read_variables(path, max_bytes)
        if meadows.is_meadows(variables, variable):
            return meadows.from_variables(variables, path, variable)
        return matlab.from_variables(variables, path, variable)
    if chosen == "rsatoolbox":
        return rsatoolbox.read_parts(path, variable, max_bytes)
    if chosen == "net2brain":
        return net2brain.read_parts(path, variable, max_bytes)
    return meadows.read_parts(path, max_bytes) if chosen == "meadows" else tidy.read_parts(path, max_bytes)


def _check_replaced(path: Path, format: str) -> None:
    """Raise a ValueError where a file would be replaced that holds something, and no RDMs."""
    if not path.exists() or not path.stat().st_size:
        return
    message = f"{path} exists and is not a file of RDMs, so it is not replaced; name another file, or remove it first"
    try:
        parts = read_parts(path, Given(), format)
    except (TypeError, ValueError) as error:
        raise ValueError(message) from error
    # a plain array could be anything, as could a square table with labels
    if parts.default_names is not None and (parts.stimuli is None or format == "csv"):
        raise ValueError(message)


def _format(path: Path, format: str | None) -> str:
    if format is not None:
        if format not in (*_WRITERS, "npy"):
            near = did_you_mean(format, _WRITERS)
            raise ValueError(f"unknown format {format!r}; known are {', '.join(_WRITERS)}{near}")
        return format
    suffix = path.suffix.lower()
    if suffix in _PICKLES:
        raise ValueError(
            f"{path}: files that need pickle are not opened, as pickle can run any code; where you trust it, convert "
            f"it with {_PICKLES[suffix]}"
        )
    if suffix not in _BY_SUFFIX:
        raise ValueError(
            f"{path}: no format goes with the suffix {suffix!r}; known are {', '.join(_BY_SUFFIX)}, or in Python give "
            "format="
        )
    return _BY_SUFFIX[suffix]


def _lost(rdms: xr.DataArray, written: Path, format: str) -> str | None:
    """Name what a written file does not give back."""
    parts = read_parts(written, Given(), format)
    back = complete(replace(parts, seal=None), Given(), written)  # first what is lost, which the seal cannot tell
    if back.identical(rdms):
        check_seal(back, parts.seal)
        return None
    for name in dict.fromkeys((*rdms.coords, *back.coords)):
        # bare, since a coordinate carries those along its dimensions too
        bare = [array.coords[name].reset_coords(drop=True) for array in (back, rdms) if name in array.coords]
        if len(bare) < 2 or not bare[0].identical(bare[1]):
            return f"the coordinate {name!r}"
    for name in dict.fromkeys((*rdms.attrs, *back.attrs)):
        if back.attrs.get(name) != rdms.attrs.get(name):
            return f"the attribute {name!r}"
    return "the values"
