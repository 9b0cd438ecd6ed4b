"""Text for a terminal: what names from files could do to it is written out instead of done."""

import sys
import unicodedata

# controls (ESC among them), invisible and direction-changing characters, halves of characters, ends of lines
_ESCAPED = ("Cc", "Cf", "Cs", "Zl", "Zp")


def one_line(text: object) -> str:
    r"""Write a name or a message on one line, as it can be printed: ``\x1b`` for ESC, ``\u202e`` for an override.

    Letters of any script stay as they are.
    """
    return "".join(_escaped(c) if unicodedata.category(c) in _ESCAPED else c for c in str(text))


def printable(text: object) -> str:
    """Write a text as it can be printed; its lines (and tabs) stay."""
    return "\n".join("\t".join(map(one_line, line.split("\t"))) for line in str(text).split("\n"))


def say(text: object, *, error: bool = False) -> None:
    """Print a text at once, on stdout or stderr, as it can be printed."""
    print(printable(text), file=sys.stderr if error else sys.stdout, flush=True)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")
