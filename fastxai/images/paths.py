"""Paths -> entries: files, folders, globs, lists and tar shards.

Ids are paths relative to their source. Several sources: each id starts with its source's name (its folder's name;
as many parents before it as tell the sources apart); in a tar always. A file that was named itself has its name as id.
"""

from __future__ import annotations

import fnmatch
import functools
import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from PIL import Image

from fastxai.errors import ArgumentError, CannotRun
from fastxai.images.braces import expand_braces
from fastxai.images.entry import Entry, FileEntry, Label, Source
from fastxai.images.ids import escape_id, short_names
from fastxai.images.labels import path_label
from fastxai.images.lists import read_list
from fastxai.images.tars import ENDING, PACKED, TarEntry, tar_entries

# Openable by name only: Pillow has no decoder of its own for them, and a folder's data files are not pictures.
_NO_PICTURES = frozenset({"BUFR", "GRIB", "HDF5", "MPEG"})
# Pictures that Pillow cannot read without a plugin: better a failed row that says so than silence.
_FOREIGN = frozenset({".heic", ".heif", ".jxl"})
_LISTS = (".txt", ".csv")


@functools.cache
def picture_extensions() -> frozenset[str]:
    """Lower-case extensions, with the dot, of the files in a folder that count as pictures."""
    registered = Image.registered_extensions()
    openable = {ext for ext, kind in registered.items() if kind in Image.OPEN and kind not in _NO_PICTURES}
    return frozenset(openable | _FOREIGN)


@dataclass(frozen=True)
class _Place:
    """One source, as it was given and what it turned out to be."""

    given: str
    path: str  # absolute: the folder, the file, the list; the folder before the first wildcard of a glob
    kind: str  # folder, file, glob, list, tar


def open_paths(paths: Sequence[str], labels: Sequence[Label] | None = None) -> Source:
    """Entries of all files that `paths` name; sources in the order given, each sorted by id, each file once."""
    places = [_place(path) for given in paths for path in _written_out(given)]
    if labels is not None and (any(place.kind != "file" for place in places) or len(places) != len(paths)):
        raise ArgumentError("labels must come with files named one by one or with arrays, got folders, globs or lists")
    by_file = {place.path: label for place, label in reversed([*zip(places, labels or (), strict=False)])}
    places = list({place.given if place.kind == "glob" else place.path: place for place in places}.values())
    prefixes = _prefixes(places)
    seen: dict[str, str] = {}  # id -> path
    entries: dict[str, Entry] = {}  # path -> entry
    for place, prefix in zip(places, prefixes, strict=True):
        found = sorted(_entries(place, prefix), key=lambda entry: entry.id)
        if not found:
            raise ArgumentError(
                f"IMAGES must name at least one picture, got none in {place.given!r} (files in folders count by their"
                " extension; name others one by one or in a list, and tar shards as FOLDER/*.tar)"
            )
        for entry in found:
            path = _path_of(entry)
            if path in entries:
                continue
            if entry.id in seen:
                raise ArgumentError(
                    f"IMAGES must give every picture its own id, got {entry.id!r} for {seen[entry.id]!r} and"
                    f" {path!r}: name a common parent folder instead"
                )
            seen[entry.id] = path
            entries[path] = entry
    if labels is not None:
        return Source(FileEntry(entry.id, by_file[path], path) for path, entry in entries.items())
    return Source(entries.values())


def _written_out(given: str) -> list[str]:
    """The paths that `given` stands for: braces counted, and of a glob of tar shards each shard."""
    if not given or os.path.lexists(given):
        return [given]
    found: list[str] = []
    for path in expand_braces(given):
        if path.lower().endswith(ENDING) and glob.has_magic(path) and not os.path.lexists(path):
            found += sorted(glob.glob(path, recursive=True)) or [path]
        else:
            found.append(path)
    return found


def _kind_of_file(path: str) -> str:
    name = path.lower()
    if name.endswith(PACKED):
        raise ArgumentError(f"tar shards must not be compressed, got {path!r}: unpack it to {ENDING} first")
    return "tar" if name.endswith(ENDING) else "list" if name.endswith(_LISTS) else "file"


def _path_of(entry: Entry) -> str:
    """What no two pictures share: the path, inside a tar behind that of the tar."""
    if isinstance(entry, TarEntry):
        return f"{entry.path}:{entry.member.name}"
    assert isinstance(entry, FileEntry)
    return entry.path


def _place(given: str) -> _Place:
    path = os.path.abspath(given)
    if given and os.path.isdir(path):  # "" would be the current folder
        return _Place(given, path, "folder")
    if given and os.path.lexists(path):
        return _Place(given, path, _kind_of_file(path) if os.path.isfile(path) else "file")
    if glob.has_magic(given):
        parts = path.split(os.sep)
        first = next(i for i, part in enumerate(parts) if glob.has_magic(part))
        return _Place(given, os.sep.join(parts[:first]) or os.sep, "glob")
    raise ArgumentError(f"IMAGES must be files, folders, globs, lists or tar shards that exist, got {given!r}")


def _prefixes(places: Sequence[_Place]) -> list[str]:
    """What stands before an id's relative path: "" for one source alone; for a file, the whole id."""
    if len(places) == 1 and places[0].kind != "tar":
        return [os.path.basename(places[0].path) if places[0].kind == "file" else ""]
    stems = [os.path.splitext(place.path)[0] if place.kind in ("list", "tar") else place.path for place in places]
    distinct = list(dict.fromkeys(stems))  # two globs may share their root: their ids can meet only in the same file
    names = dict(zip(distinct, short_names(distinct), strict=True))
    return [names[stem] for stem in stems]


def _entries(place: _Place, prefix: str) -> Iterator[Entry]:
    found: Iterator[tuple[str, Label]]
    if place.kind == "tar":
        yield from tar_entries(place.path, prefix, picture_extensions())
        return
    if place.kind == "file":
        yield FileEntry(escape_id(prefix), path_label(place.path, os.path.dirname(place.path)), place.path)
        return
    root, found = place.path, iter(())
    if place.kind == "list":
        root, found = os.path.dirname(place.path), iter(read_list(place.path))
    elif place.kind == "folder":
        found = ((path, None) for path in walk(root))
    elif place.kind == "glob":
        found = ((path, None) for path in _matches(root, os.path.abspath(place.given)))
    inside = root.rstrip(os.sep) + os.sep
    for name, label in found:
        relative = name.removeprefix(inside)  # of a list: may start with `..`, or stay absolute where it lies outside
        path = os.path.normpath(os.path.join(root, name))
        id = relative if os.path.isabs(relative) or not prefix else f"{prefix}/{relative}"
        yield FileEntry(escape_id(id), path_label(path, root) if label is None else label, path)


def _matches(root: str, pattern: str) -> Iterator[str]:
    """Absolute paths of the pictures that an absolute `pattern` names, itself or through a folder above them."""
    if "**" in pattern.split(os.sep):  # not by glob, which follows links in circles
        wanted = pattern[len(root) :].strip(os.sep).split(os.sep)
        inside = root.rstrip(os.sep) + os.sep
        yield from (path for path in walk(root) if _fits(path.removeprefix(inside).split(os.sep), wanted))
        return
    for path in glob.iglob(pattern):
        if os.path.isdir(path):
            yield from walk(path)
        elif _is_picture(path):
            yield path


def _fits(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether `pattern` names `parts` or a folder above; `**` stands for any number of folders."""
    if not pattern:
        return True
    if pattern[0] == "**":
        return any(_fits(parts[i:], pattern[1:]) for i in range(len(parts) + 1))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], pattern[0]) and _fits(parts[1:], pattern[1:])


def _is_picture(path: str) -> bool:
    name = os.path.basename(path)
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in picture_extensions()


def walk(root: str) -> Iterator[str]:
    """Absolute paths of the pictures below `root`, links followed, every real folder entered once.

    Folders that are links wait until all others were seen, so that a folder is found under its own name first.
    Hidden files and folders are skipped. A folder that cannot be listed ends the run: its pictures would be missing.
    """
    folders: list[str] = [root]
    links: list[str] = []
    entered: set[tuple[int, int]] = set()
    while folders or links:
        folder = folders.pop() if folders else links.pop(0)
        try:
            info = os.stat(folder)
            if (info.st_dev, info.st_ino) in entered:
                continue
            entered.add((info.st_dev, info.st_ino))
            with os.scandir(folder) as scan:
                content = sorted(scan, key=lambda item: item.name)
        except OSError as error:
            raise CannotRun(f"folder {folder!r} cannot be listed: {error.strerror}") from error
        for item in content:
            if item.name.startswith("."):
                continue
            if _is_folder(item):
                (links if item.is_symlink() else folders).append(item.path)
            elif _is_picture(item.path):
                yield item.path


def _is_folder(item: os.DirEntry[str]) -> bool:
    try:
        return item.is_dir()
    except OSError:  # a link that points at itself
        return False
