"""The image files in a folder and below it, each real file once, and the stimulus ids that their names give."""

import os
import re
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

from brainrdl.arguments import name_some
from brainrdl.files.present import check_image_folder
from brainrdl.ids import alike, difference

IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""Endings of the names of image files, in small or capital letters."""

# what Windows and macOS leave in folders of pictures and do not show themselves, beside names that begin with a dot
_SYSTEM_FILES = ("desktop.ini", "ehthumbs.db", "icon\r", "thumbs.db")
_DEEPEST = 100
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def find_images(root: Path, *, follow_links: bool = False, stacklevel: int = 2) -> dict[str, Path]:
    """Find the images in a folder and below it: path by stimulus id, sorted by id.

    Warns of what is left out. ValueError for a link that leads out of the folder, unless `follow_links`, for names that
    cannot be ids, and for two images of one id or of ids that read the same. NotADirectoryError if it is no folder.
    """
    check_image_folder(root)
    walk = _Walk(root, follow_links=follow_links)
    images = [path for path in walk.found if _is_image(path)]
    if not images:
        raise ValueError(f"no images in {root}; expected files that end in {', '.join(IMAGE_SUFFIXES)}")
    for paths, reason in (
        ((path for path in walk.found if not _is_image(path)), "as they do not end as images do"),
        (walk.repeated, "as they are links to what is there under its own name"),
        (walk.unreadable, "as they are neither files nor folders"),
    ):
        if names := sorted(path.relative_to(root).as_posix() for path in paths):
            warnings.warn(f"left out of the stimuli in {root}, {reason}: {name_some(names)}", stacklevel=stacklevel + 1)
    return _by_id(root, images)


class _Walk:
    """Everything visible in a folder: `found` (files, each real one once), and what is no file of its own."""

    def __init__(self, root: Path, *, follow_links: bool) -> None:
        self.found: list[Path] = []
        self.repeated: list[Path] = []
        self.unreadable: list[Path] = []
        self._links: list[Path] = []
        self._seen: set[Path] = set()
        home = root.resolve()
        outside = []
        self._enter(root, home)
        # what lies there itself goes before links to it, so that a file bears its own name
        while self._links:
            links, self._links = sorted(self._links), []
            for link in links:
                target = _target(link)
                if target is None:
                    self.found.append(link)  # whoever asks for the image is told
                elif target in self._seen:
                    self.repeated.append(link)
                elif not follow_links and not target.is_relative_to(home):
                    if target.is_dir() or _is_image(link):
                        outside.append(f"{link.relative_to(root).as_posix()} -> {target}")
                elif target.is_dir():
                    self._enter(link, target)
                else:
                    self._add(link, target)
        if outside:
            raise ValueError(
                f"{len(outside)} links in {root} lead out of the folder: {name_some(outside)}; take them out, or read "
                "what they lead to as well: follow_links=True"
            )

    def _enter(self, folder: Path, real: Path) -> None:
        """Take what is in a folder and below it; links wait."""
        for place, folders, names in os.walk(folder):
            inner = Path(place).relative_to(folder)
            if len(inner.parts) > _DEEPEST:
                raise ValueError(f"{folder} has folders within folders, more than {_DEEPEST} deep; are they a mistake?")
            below = real / inner
            if below in self._seen:
                folders.clear()
                continue
            self._seen.add(below)
            visible = [name for name in folders if not name.startswith(".")]
            self._links += [Path(place, name) for name in visible if Path(place, name).is_symlink()]
            folders[:] = sorted(name for name in visible if not Path(place, name).is_symlink())
            for name in sorted(names):
                path = Path(place, name)
                if name.startswith(".") or name.lower() in _SYSTEM_FILES:
                    continue
                if path.is_symlink():
                    self._links.append(path)
                else:
                    self._add(path, below / name)

    def _add(self, path: Path, real: Path) -> None:
        if real in self._seen:
            return
        # a pipe or a device would be waited for without end
        (self.found if real.is_file() else self.unreadable).append(path)
        self._seen.add(real)


def _target(link: Path) -> Path | None:
    try:
        link.stat()  # the system gives up a chain of links after forty, which Python would follow to its end
        return link.resolve(strict=True)
    except (OSError, RuntimeError):  # a link to nothing, or to itself
        return None


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES


def _by_id(root: Path, images: Iterable[Path]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for stimulus, file in sorted(_with_ids(root, images)):
        if stimulus in files:
            raise ValueError(
                f"{files[stimulus]} and {file} would both be stimulus {stimulus!r}, since an id is a "
                "path without its suffix; rename one of them or take it out of the folder"
            )
        files[stimulus] = file
    # blanks at the end of a folder's name are seen no better than at the end of a file's
    spaced = {stimulus.replace("/", " / "): stimulus for stimulus in files}
    if same := alike(spaced):
        one, other = (spaced[name] for name in same)
        raise ValueError(
            f"{root} would give the stimuli {one!a} and {other!a}, which read the same: they differ in "
            f"{difference(*same)} alone; rename one of them or take it out of the folder"
        )
    return files


def _with_ids(root: Path, images: Iterable[Path]) -> Iterator[tuple[str, Path]]:
    for file in images:
        stimulus = file.relative_to(root).with_suffix("").as_posix()
        try:
            stimulus.encode()
        except UnicodeEncodeError:
            raise ValueError(
                f"{root} holds a file whose name is not UTF-8, {os.fsencode(stimulus + file.suffix)!r}, and cannot be "
                "a stimulus id; rename it (convmv -f latin1 -t utf8 does so for many)"
            ) from None
        if _CONTROL.search(stimulus):
            raise ValueError(
                f"{root} holds a file whose name has a control character, {stimulus + file.suffix!r}, and cannot be a "
                "stimulus id; rename it"
            )
        yield stimulus, file
