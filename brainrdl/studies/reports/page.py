"""The page of a report: sections of tables and pictures, written as one file that needs no other."""

import base64
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Literal

import matplotlib as mpl
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure
from PIL import Image

from brainrdl.files.store import atomic_path
from brainrdl.plots.names import well_formed

_CSS_PIXELS = 115  # per inch of a figure: a fifth larger than printed
_FEW_COLOURS = 4096
_MEDIA = {"svg": "image/svg+xml", "png": "image/png"}


Cell = str | tuple[str, ...]
"""A cell of a table: its text, or its lines."""


@dataclass(frozen=True)
class Table:
    """A table as a page prints it."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    folded: bool = False
    kind: Literal["table"] = "table"

    @classmethod
    def of(
        cls,
        caption: str,
        rows: Sequence[Mapping[str, Cell]],
        note: str = "",
        *,
        optional: Collection[str] = (),
        folded: bool = False,
    ) -> "Table":
        """Make a table of cells by name of column; `optional` columns are left out where all their cells are empty."""
        head = [name for name in rows[0] if name not in optional or any("".join(row[name]) for row in rows)]
        return cls(caption, head, [[row[name] for name in head] for row in rows], note, folded)


@dataclass(frozen=True)
class Picture:
    """A figure on a page; `name` is that of its file, without the suffix, and `alt` is for those who do not see it."""

    name: str
    figure: Figure
    alt: str
    caption: str
    format: Literal["svg", "png"] = "svg"
    kind: Literal["picture"] = "picture"


@dataclass(frozen=True)
class Section:
    """A section of a page: `absent` is said where nothing stands in it, `number` is that of the paper's table."""

    id: str
    heading: str
    items: tuple[Table | Picture, ...]
    absent: str = ""
    number: str = ""


@dataclass(frozen=True)
class Page:
    """The parts that every page has; `faults` stand in a frame below the findings, `notes` in the last section."""

    title: str
    created: str
    headline: str
    summary: str
    findings: tuple[str, ...]
    sections: tuple[Section, ...]
    notes: tuple[str, ...]
    faults: tuple[str, ...] = ()


def present(sections: Iterable[Section]) -> tuple[Section, ...]:
    """Leave out the sections that have neither items nor anything to say of their absence."""
    # "statistics" is text of the page's template
    return tuple(part for part in sections if part.items or part.absent or part.id == "statistics")


def write_page(
    page: Page, path: Path, template: str, words: Mapping[str, object], *, figures: Path | None = None
) -> Path:
    """Write a page by a template that uses `words`, pictures also into `figures`; a failure leaves the old page."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,  # a name that a template uses and nobody gave is an error
        trim_blocks=True,
    )
    environment.globals["width"] = lambda picture: round(_CSS_PIXELS * picture.figure.get_figwidth())
    environment.globals["uri"] = lambda picture: _uri(picture, figures)
    html = environment.get_template(template).render(page=page, **words)
    with atomic_path(path) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return path


def render(figure: Figure, kind: Literal["svg", "png"]) -> bytes:
    """Draw a figure into an image file's bytes, the same ones each time: SVG, or PNG of 200 pixels per inch."""
    buffer = BytesIO()
    # without a salt of their own, SVG ids are random; dates would differ, too
    with mpl.rc_context({"svg.hashsalt": "brainrdl"}):
        metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
        figure.savefig(buffer, format=kind, dpi=200, facecolor="white", metadata=metadata)
    return well_formed(buffer.getvalue()) if kind == "svg" else _with_palette(buffer)


def _with_palette(png: BytesIO) -> bytes:
    """Store a PNG with a palette, which halves it, unless there are photographs in it."""
    # RDMs have the 256 colours of a map, and text a few hundred at its edges: nothing is seen to change
    image = Image.open(png).convert("RGB")
    if image.getcolors(_FEW_COLOURS) is None:
        return png.getvalue()
    small = BytesIO()
    palette = image.quantize(256, Image.Quantize.MEDIANCUT, kmeans=3, dither=Image.Dither.NONE)
    palette.save(small, "PNG", optimize=True)
    return small.getvalue()


def _uri(picture: Picture, folder: Path | None) -> str:
    """Spell a picture as a data URI, and leave it in a folder where there is one."""
    content = render(picture.figure, picture.format)
    if folder is not None:
        with atomic_path(folder / f"{picture.name}.{picture.format}") as temporary:
            temporary.write_bytes(content)
    return f"data:{_MEDIA[picture.format]};base64,{base64.b64encode(content).decode('ascii')}"
