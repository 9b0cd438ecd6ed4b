"""Ids and names as a user lists them: in a text file with one per line, or by the field of a file that holds them."""

from pathlib import Path


def read_ids(given: str | None) -> list[str] | str | None:
    """Read ids from a text file, one per line; what is not a file is the name of a field.

    ValueError if the file is not UTF-8 text, or has an empty line.
    """
    if given is None or not Path(given).is_file():
        if given is not None and Path(given).suffix in (".txt", ".csv", ".tsv"):
            raise FileNotFoundError(f"there is no file {given}; name a text file with one id a line, or a field")
        return given
    try:
        lines = Path(given).read_text(encoding="utf-8-sig").splitlines()  # a byte-order mark is no part of an id
    except UnicodeDecodeError as error:
        raise ValueError(f"{given} is not UTF-8 text: {error}; give a text file with one id a line") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            raise ValueError(f"{given}: line {number} is empty; give one id a line")
    return lines


def read_subjects(given: str | int | None) -> list[str] | str | int | None:
    """Read subjects: how many they are, names in a text file, or the coordinate that holds them."""
    if isinstance(given, str) and not Path(given).is_file() and given.lstrip("-").isdecimal():
        return int(given)
    return given if isinstance(given, int) else read_ids(given)
