"""Files that appear whole or not at all, and the seal by which a damaged one is told from a whole one.

Everything by which the store changes the disk is a method of `Disk`, called as `files.disk.<operation>`.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

import filelock

from fastxai.errors import CannotRun

PART = ".part"  # suffix of a file that is not complete

_SEAL = re.compile(rb"\nfastxai shard, blake2b-128 of the bytes before: ([0-9a-f]{32})\n")
SEAL_LENGTH = len(b"\nfastxai shard, blake2b-128 of the bytes before: ") + 32 + 1


class Disk:
    """One method for each operation on files. All raise `OSError` as the system does, none does more than it says.

    The operations of a commit, in their order: `read` (packed chunks out of the spool, while the file is built), `open`
    (the part), `write`, `write` (the seal), `fsync`, `close`, `rename`, `sync_folder`, `truncate` (of the spool: the
    next shard has begun).
    """

    def make_folder(self, path: Path) -> None:
        """A folder and those above it; fine where it is there."""
        path.mkdir(parents=True, exist_ok=True)

    def lock(self, path: Path, seconds: float = 0) -> filelock.BaseFileLock:
        """The lock at `path`, taken; `filelock.Timeout` where another process holds it for `seconds`."""
        lock = filelock.FileLock(path, timeout=seconds, thread_local=False)
        lock.acquire()
        return lock

    def open(self, path: Path) -> FileIO:
        """A new or emptied file, to write and to read."""
        return open(path, "w+b", buffering=0)

    def open_spool(self, folder: Path) -> FileIO:
        """A file in `folder` without a name, gone with the process at the latest."""
        return tempfile.TemporaryFile(dir=folder, buffering=0)  # type: ignore[return-value]  # raw without a buffer

    def write(self, stream: FileIO, data: bytes | memoryview, offset: int) -> None:
        """All of `data`, from byte `offset` on."""
        left = memoryview(data)
        while left:
            written = os.pwrite(stream.fileno(), left, offset)
            left, offset = left[written:], offset + written

    def read(self, stream: FileIO, length: int, offset: int) -> bytes:
        """Bytes from `offset` on: `length` of them, or as many as there are."""
        pieces = []
        while length and (piece := os.pread(stream.fileno(), length, offset)):
            pieces.append(piece)
            length, offset = length - len(piece), offset + len(piece)
        return b"".join(pieces)

    def truncate(self, stream: FileIO, length: int) -> None:
        """Cut off, or fill up with zeros, at `length` bytes."""
        os.ftruncate(stream.fileno(), length)

    def fsync(self, stream: FileIO) -> None:
        """The contents of a file last from here on."""
        os.fsync(stream.fileno())

    def close(self, stream: FileIO) -> None:
        """Close a file; closing it twice is fine."""
        stream.close()

    def rename(self, part: Path, path: Path) -> None:
        """Give a complete file its name, in the place of what was there."""
        os.rename(part, path)

    def sync_folder(self, folder: Path) -> None:
        """Make names in `folder` last: a rename is on the disk only after this."""
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def unlink(self, path: Path) -> None:
        """Remove a file; fine where there is none."""
        path.unlink(missing_ok=True)


# Looked up at every operation, so that one that fails or kills can stand in for it.
disk = Disk()


@contextmanager
def in_one_line(path: Path) -> Iterator[None]:
    """Turn what the disk refuses in the body into a `CannotRun` that names `path`."""
    try:
        yield
    except OSError as error:
        raise CannotRun(f"{path} cannot be written: {reason(error)}; what was committed before is safe") from error


def commit_file(path: Path, *pieces: bytes | memoryview, part: Path | None = None) -> None:
    """Write `pieces` as the file `path`: to a file beside it, synced, renamed, the folder synced.

    After a crash at any moment the file is there whole or is not there; what is left then ends in `.part`. Raises
    `CannotRun` where the disk is full or broken.
    """
    part = part or path.with_name(path.name + PART)
    with in_one_line(path):
        try:
            stream = disk.open(part)
            try:
                offset = 0
                for piece in pieces:
                    disk.write(stream, piece, offset)
                    offset += len(piece)
                disk.fsync(stream)
            finally:
                disk.close(stream)
            finish_file(part, path)
        except OSError:
            remove_if_there(part)
            raise


def finish_file(part: Path, path: Path) -> None:
    """The last steps of a commit: `part`, closed and synced, is `path` from now on."""
    disk.rename(part, path)
    disk.sync_folder(path.parent)


def remove_if_there(path: Path) -> None:
    """Remove a leftover; a disk that refuses even that is reported by the next write."""
    try:
        disk.unlink(path)
    except OSError:
        return


def reason(error: OSError) -> str:
    """What the system said, in one line."""
    return (error.strerror or str(error)).splitlines()[0]


def seal(image: bytes | memoryview) -> bytes:
    """Text to append to an HDF5 file (which ends before it, by its own superblock): the sum of all its bytes."""
    return seal_text(hashlib.blake2b(image, digest_size=16).hexdigest())


def seal_text(digest: str) -> bytes:
    """The seal for bytes of this sum."""
    return f"\nfastxai shard, blake2b-128 of the bytes before: {digest}\n".encode()


def broken_seal(path: Path) -> str | None:
    """Why the file is not what was sealed; None where every byte is as it was written."""
    size = path.stat().st_size
    digest = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as stream:
        left = size - SEAL_LENGTH
        while left > 0:
            piece = stream.read(min(left, 1 << 20))
            if not piece:
                return "it shrank while it was read"
            digest.update(piece)
            left -= len(piece)
        found = _SEAL.fullmatch(stream.read())
    if found is None:
        return "it does not end in a seal: it was cut off, or changed by another program"
    if found.group(1).decode() != digest.hexdigest():
        return "its bytes are not those that were written"
    return None
