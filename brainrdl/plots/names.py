"""Names in figures as they are written, whatever is in them."""

import re

import matplotlib as mpl

as_written = mpl.rc_context({"text.parse_math": False})
"""Decorator of what draws names: one with two $ characters is no formula, which may fail, or never end."""

_NO_XML = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


def well_formed(svg: bytes) -> bytes:
    """Replace control characters, which Matplotlib leaves in an SVG's comments and which no XML may hold."""
    return _NO_XML.sub("\ufffd", svg.decode("utf-8")).encode("utf-8")
