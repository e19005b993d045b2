"""Tar shards in webdataset's layout -> entries: members that share a name up to its first dot are one sample.

    0001.jpg  0001.cls     a picture and its class id
    0002.png  0002.json    a picture and {"label": ...}

Only headers are read when a shard is opened; a picture is read from its place in the file when it is needed, and
nothing is ever unpacked to the disk. Links are not followed and names are names only, wherever they point.
"""

from __future__ import annotations

import json
import os
import posixpath
import stat
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from fastxai.errors import CannotRun, ImageError
from fastxai.images.entry import MAX_FILE_BYTES, Entry, Label, Raw, digest
from fastxai.images.ids import escape_id
from fastxai.images.labels import path_label

ENDING = ".tar"
PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")  # no member of these is at a place
_LABELS = ("cls", "json")  # extensions of members that hold labels, the plainest first
_LABEL_KEYS = ("label", "cls", "class")  # of a .json member
_LABEL_BYTES = 1 << 20
_HEADER_BYTES = 1 << 20  # a header that asks for more is no header


@dataclass(frozen=True, slots=True)
class Member:
    """A file in a tar: its name, and where its bytes are. problem: why it has none that could be read."""

    name: str
    start: int
    size: int
    problem: str = ""


@dataclass(frozen=True, slots=True)
class TarEntry(Entry):
    """A picture in a tar, and the member that holds its label, if there is one."""

    path: str
    member: Member
    labelled_by: Member | None

    def read(self) -> Raw:
        data = read_member(self.path, self.member, MAX_FILE_BYTES)
        label = None if self.labelled_by is None else _label(self.path, self.labelled_by)
        return Raw(data, digest(data), label)


def tar_entries(path: str, prefix: str, extensions: frozenset[str]) -> Iterator[TarEntry]:
    """The pictures in the tar at `path`; ids are `prefix/name`. extensions: lower-case, with the dot, of pictures.

    Of a sample, the members are pictures whose name after its first dot is one of `extensions`; where there is none,
    those whose last extension is one (`photo.2024.jpg`). Of members of one name the last counts, as when a tar is
    unpacked. Labels: a `.cls` member, else `label`, `cls` or `class` in a `.json` one, else the folder inside the tar.

    Raises `CannotRun` for a tar that is cut off or damaged: pictures of it would be missing.
    """
    samples: dict[str, dict[str, Member]] = {}
    for member in scan(path):
        folder, name = posixpath.split(member.name)
        stem, dot, extension = name.partition(".")
        if name and not name.startswith("."):
            samples.setdefault(posixpath.join(folder, stem), {})[(dot + extension).lower()] = member
    for members in samples.values():
        own = [member for extension, member in members.items() if extension in extensions]
        own = own or [m for extension, m in members.items() if posixpath.splitext(extension)[1] in extensions]
        labelled_by = next((members[f".{name}"] for name in _LABELS if f".{name}" in members), None)
        for member in own:
            label = None if labelled_by is not None else path_label(member.name, "")
            id = escape_id(f"{prefix}/{member.name}").replace("\0", "\\0")  # a NUL ends text in a run
            yield TarEntry(id, label, path, member, labelled_by)


def scan(path: str) -> Iterator[Member]:
    """Every member of a tar but its folders, in its order."""
    try:
        with open(path, "rb") as file:
            yield from _scan(path, file)
    except (tarfile.TarError, UnicodeError, ValueError, OverflowError, RecursionError) as error:
        raise _damaged(path, str(error) or type(error).__name__) from error
    except OSError as error:
        raise CannotRun(f"tar {path!r} cannot be read: {error.strerror or error}") from error


def _scan(path: str, file: IO[bytes]) -> Iterator[Member]:
    before = -1
    with tarfile.TarFile(fileobj=_Headers(file), errors="surrogateescape") as tar:  # type: ignore[arg-type]
        while (found := tar.next()) is not None:
            tar.members.clear()  # type: ignore[attr-defined]  # they would hold a kilobyte each
            if tar.offset <= before or found.size < 0:
                raise _damaged(path, "its headers lead backwards")
            before = tar.offset
            if not found.isdir():
                yield Member(found.name, found.offset_data, found.size, _problem(found))
        end = tar.offset
    # tarfile stops without a word at what is no header; POSIX ends a tar with blocks of zeros
    file.seek(end)
    block = file.read(tarfile.BLOCKSIZE)
    if len(block) < tarfile.BLOCKSIZE:
        raise _damaged(path, "it is cut off")
    if any(block):
        raise _damaged(path, f"there is no header at byte {end}")


def _damaged(path: str, why: str) -> CannotRun:
    return CannotRun(f"tar {path!r} is damaged ({' '.join(why.split())}): its pictures would be missing")


def _problem(member: tarfile.TarInfo) -> str:
    if member.issym() or member.islnk():
        return "is a link inside a tar, which is not followed"
    if not member.isreg() or member.issparse():
        return "is no plain file inside its tar"
    parts = member.name.split("/")
    if member.name.startswith("/") or ".." in parts:
        return "has a name that leads out of its tar"
    if "\0" in member.name:
        return "has a name that no file can have"
    return ""


class _Headers:
    """A tar's file as tarfile reads headers from it: short pieces, so that no header takes all memory."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        """At most a header's bytes."""
        if not 0 <= size <= _HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        return self._file.read(size)


def read_member(path: str, member: Member, max_bytes: int) -> bytes:
    """The bytes of a member; `ImageError` says why they cannot be had."""
    if member.problem:
        raise ImageError(member.problem)
    if member.size > max_bytes:
        raise ImageError(f"file has {member.size:,} bytes, more than the limit of {max_bytes:,}")
    if not member.size:
        raise ImageError("file is empty")
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise ImageError("its tar is no file any more")
            data = _read_at(handle, member.start, member.size)
        finally:
            os.close(handle)
    except OSError as error:
        raise ImageError(f"tar cannot be read: {error.strerror or error}") from error
    if len(data) < member.size:
        raise ImageError("its tar was cut off after it was opened")
    return data


def _read_at(handle: int, start: int, size: int) -> bytes:
    pieces = []
    while size and (piece := os.pread(handle, size, start)):
        pieces.append(piece)
        start, size = start + len(piece), size - len(piece)
    return b"".join(pieces)


def _label(path: str, member: Member) -> Label:
    try:
        text = read_member(path, member, _LABEL_BYTES).decode("utf-8").strip()
        if member.name.lower().endswith(".cls"):
            return text or None
        found = json.loads(text)
    except ImageError as error:
        raise ImageError(f"label {posixpath.basename(member.name)!r} {error}") from error
    except (ValueError, RecursionError) as error:
        raise ImageError(f"label {posixpath.basename(member.name)!r} cannot be read: {error}") from error
    if not isinstance(found, dict):
        return None
    label = next((found[key] for key in _LABEL_KEYS if key in found), None)
    return label if isinstance(label, (int, str)) and not isinstance(label, bool) else None
