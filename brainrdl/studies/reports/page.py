"""How a report's page is rendered: where its templates are, and what becomes of its pictures."""

import base64
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from brainrdl.files import atomic_path
from brainrdl.studies.reports.paper_figures import render
from brainrdl.studies.reports.paper_sections import Picture

_CSS_PIXELS = 115  # per inch of a figure: a fifth larger than printed


def environment(templates: Path, figures: Path) -> Environment:
    """Make the environment in which a page is rendered.

    Parameters
    ----------
    templates : Path
        The folder of the page's own templates; what all pages share (``style.css``, ``parts.html.jinja``) is found too.
    figures : Path
        The folder in which pictures are left, beside being inlined.

    Returns
    -------
    Environment
        A name that a template uses and nobody gave is an error, and text is escaped.

    Examples
    --------
    >>> from pathlib import Path
    >>> from brainrdl.studies.reports.page import environment
    >>> "body {" in environment(Path("templates"), Path("figures")).get_template("style.css").render()
    True
    """
    made = Environment(
        loader=FileSystemLoader([templates, Path(__file__).parent]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    made.globals["width"] = lambda picture: round(_CSS_PIXELS * picture.figure.get_figwidth())
    made.globals["uri"] = lambda picture: _save(picture, figures)
    return made


def _save(picture: Picture, folder: Path) -> str:
    """Leave a picture in a folder, and spell it as a data URI."""
    content = render(picture.figure, picture.format)
    with atomic_path(folder / f"{picture.name}.{picture.format}") as temporary:
        temporary.write_bytes(content)
    media = {"svg": "image/svg+xml", "png": "image/png"}[picture.format]
    return f"data:{media};base64,{base64.b64encode(content).decode('ascii')}"
