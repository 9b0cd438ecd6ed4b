"""Run every campaign of faults, and print a table of what was found: ``python tests/faults [--share 0.1] [module …]``.

A campaign is a function of a module beside this one: ``fuzz(reader, executions)`` for each of its ``READERS`` (those
among its ``TEXTS`` are asked ten times as often), and ``flips``, ``truncations``, ``kills``, ``terminations`` and
``full_disks`` of a number of executions. Each returns what was found, with ``executions``, ``faults`` and, where it
says so, ``read`` and ``grown``.
"""

import argparse
import importlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

COUNTS = {"fuzz": 20_000, "flips": 1000, "truncations": 200, "kills": 50, "terminations": 20, "full_disks": 20}
_TEXTS = 10  # times as many of pure Python


def campaigns(module: Any, share: float) -> Iterator[tuple[str, Callable[[], Any]]]:
    """The campaigns of a module, each with its name."""

    def count(kind: str, times: int = 1) -> int:
        return max(1, round(share * times * COUNTS[kind]))

    for reader in getattr(module, "READERS", ()):
        executions = count("fuzz", _TEXTS if reader in getattr(module, "TEXTS", ()) else 1)
        yield f"fuzz {reader}", lambda reader=reader, executions=executions: module.fuzz(reader, executions)
    for kind in list(COUNTS)[1:]:
        if hasattr(module, kind):
            yield kind, lambda kind=kind: getattr(module, kind)(count(kind))


def main() -> int:
    """Run what is asked; the exit status is 1 if anything was found that must not be."""
    known = sorted(path.stem for path in HERE.glob("*.py") if path.stem.startswith(("kills",)) or "_fuzz" in path.stem)
    known = [name for name in known if not name.startswith("test_")]
    parser = argparse.ArgumentParser(prog="python tests/faults", description=__doc__)
    parser.add_argument("modules", nargs="*", metavar="module", help=f"of {', '.join(known)}; all where none is named")
    parser.add_argument("--share", type=float, default=1.0, help="of the executions of the long version")
    options = parser.parse_args()
    if unknown := set(options.modules).difference(known):
        parser.error(f"there is no module {min(unknown)!r}; known are {', '.join(known)}")
    failed = False
    print(f"{'campaign':<34}{'executions':>11}{'read':>9}{'faults':>8}{'memory':>10}{'seconds':>9}")
    for name in options.modules or known:
        for kind, run in campaigns(importlib.import_module(name), options.share):
            start = time.monotonic()
            found = run()
            memory = f"{getattr(found, 'grown', 0) / 2**20:.0f} MiB"
            line = f"{name + ' ' + kind:<34}{found.executions:>11}{getattr(found, 'read', ''):>9}{len(found.faults):>8}"
            print(f"{line}{memory:>10}{time.monotonic() - start:>9.0f}", flush=True)
            for fault in found.faults[:10]:
                print(f"    {fault}", flush=True)
            failed |= bool(found.faults)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
