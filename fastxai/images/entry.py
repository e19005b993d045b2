"""What a source is made of: entries that know their id and label, and read their picture when asked.

`Raw` is a picture as it came (a file's bytes, a PIL image, an array), with the digest that random draws and resumes
are keyed by. Nothing here decodes.
"""

from __future__ import annotations

import abc
import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, overload

import numpy as np
from PIL import Image

from fastxai.errors import ImageError

Label: TypeAlias = "int | str | None"

MAX_FILE_BYTES = 1 << 30  # an uncompressed 16-bit RGBA picture at the pixel limit has 0.8 GB


@dataclass(frozen=True, slots=True)
class Raw:
    """A picture as it came.

    data: a file's bytes; or a PIL image; or uint8 [H, W, C]; or, as ready model input, float32 [C, H, W].
    digest: BLAKE2b-128 of the bytes (of shape, type and pixels for arrays), 32 hex digits.
    label: only where it becomes known on reading (data sets).
    """

    data: bytes | Image.Image | np.ndarray
    digest: str
    label: Label = None


@dataclass(frozen=True, slots=True)
class Entry(abc.ABC):
    """One picture of a source: `id` is unique in it, `label` is resolved later by `resolve_label`."""

    id: str
    label: Label

    @abc.abstractmethod
    def read(self) -> Raw:
        """Fetch the picture; called from worker threads, once. `ImageError` says why it cannot be had."""


class Source(Sequence[Entry]):
    """A sized sequence of entries with unique ids.

    normalized: the pictures are ready model input; shape: [C, H, W] where all pictures are known to share it.
    """

    def __init__(
        self, entries: Iterable[Entry], *, normalized: bool = False, shape: tuple[int, int, int] | None = None
    ) -> None:
        self.entries: list[Entry] = list(entries)
        self.normalized, self.shape = normalized, shape

    def __len__(self) -> int:
        return len(self.entries)

    @overload
    def __getitem__(self, index: int) -> Entry: ...
    @overload
    def __getitem__(self, index: slice) -> Source: ...
    def __getitem__(self, index: int | slice) -> Entry | Source:
        if isinstance(index, slice):
            return Source(self.entries[index], normalized=self.normalized, shape=self.shape)
        return self.entries[index]

    def only(self, take: Callable[[str], bool]) -> Source:
        """The entries whose ids `take` takes."""
        return Source((entry for entry in self.entries if take(entry.id)), normalized=self.normalized, shape=self.shape)

    def stream(self) -> Iterator[Entry]:
        """The entries in order, for one pass that reads them all."""
        return iter(self.entries)

    @property
    def ids(self) -> list[str]:
        return [entry.id for entry in self.entries]

    def __repr__(self) -> str:
        return f"Source({len(self)} images{', normalized' if self.normalized else ''})"


@dataclass(frozen=True, slots=True)
class FileEntry(Entry):
    """A picture in a file."""

    path: str

    def read(self) -> Raw:
        data = read_file(self.path)
        return Raw(data, digest(data))


def read_file(path: str, *, max_bytes: int = MAX_FILE_BYTES) -> bytes:
    """All bytes of a regular file; `ImageError` for anything else. Never waits: a FIFO is refused, not read."""
    try:
        # O_NONBLOCK: opening a FIFO that has no writer would wait forever
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
        try:
            info = os.fstat(handle)
            if not stat.S_ISREG(info.st_mode):
                raise ImageError(f"is not a file but {_kind(info.st_mode)}")
            if info.st_size > max_bytes:
                raise ImageError(f"file has {info.st_size:,} bytes, more than the limit of {max_bytes:,}")
            with open(handle, "rb", closefd=False) as file:
                data = file.read(max_bytes + 1)
        finally:
            os.close(handle)
    except OSError as error:
        if os.path.islink(path) and not os.path.exists(path):
            raise ImageError("is a link to nothing") from error
        raise ImageError(f"file cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # a NUL byte in the path, or text that no file system can hold
        raise ImageError(f"file cannot be read: {error}") from error
    if not data:
        raise ImageError("file is empty")
    if len(data) > max_bytes:
        raise ImageError(f"file has more bytes than the limit of {max_bytes:,}")
    return data


def _kind(mode: int) -> str:
    kinds = {stat.S_IFIFO: "a FIFO", stat.S_IFDIR: "a folder", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def digest(data: bytes | np.ndarray | Image.Image) -> str:
    """BLAKE2b-128 in 32 hex digits: of a file's bytes, or of type, shape and pixels of an array or PIL image."""
    state = hashlib.blake2b(digest_size=16)
    if isinstance(data, Image.Image):
        state.update(f"{data.mode} {data.size} ".encode())
        if data.palette is not None:
            state.update(data.palette.tobytes())
        state.update(data.tobytes())
    elif isinstance(data, np.ndarray):
        state.update(f"{data.dtype.str} {data.shape} ".encode())
        state.update(np.ascontiguousarray(data).data)
    else:
        state.update(data)
    return state.hexdigest()


def is_pathlike(value: Any) -> bool:
    """Whether `value` can be a path: text, bytes, or a path object."""
    return isinstance(value, (str, bytes, os.PathLike))
