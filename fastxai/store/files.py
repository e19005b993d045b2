"""Files that appear whole or not at all, and the seal by which a damaged one is told from a whole one."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from fastxai.errors import CannotRun

PART = ".part"  # suffix of a file that is not complete

_SEAL = re.compile(rb"\nfastxai shard, blake2b-128 of the bytes before: ([0-9a-f]{32})\n")
SEAL_LENGTH = len(b"\nfastxai shard, blake2b-128 of the bytes before: ") + 32 + 1


def commit_file(path: Path, *pieces: bytes | memoryview, part: Path | None = None) -> None:
    """Write `pieces` as the file `path`: to a file beside it, synced, renamed, the folder synced.

    After a crash at any moment the file is there whole or is not there; what is left then ends in `.part`. Raises
    `CannotRun` where the disk is full or broken.
    """
    part = part or path.with_name(path.name + PART)
    try:
        with open(part, "wb") as stream:
            for piece in pieces:
                stream.write(piece)
            stream.flush()
            os.fsync(stream.fileno())
        os.rename(part, path)
        sync_folder(path.parent)
    except OSError as error:
        remove_if_there(part)
        raise CannotRun(f"{path} cannot be written: {reason(error)}; what was committed before is safe") from error


def sync_folder(folder: Path) -> None:
    """Make names in `folder` last: a rename is on the disk only after this."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_if_there(path: Path) -> None:
    """Remove a leftover; a disk that refuses even that is reported by the next write."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return


def reason(error: OSError) -> str:
    """What the system said, in one line."""
    return (error.strerror or str(error)).splitlines()[0]


def seal(image: bytes | memoryview) -> bytes:
    """Text to append to an HDF5 file (which ends before it, by its own superblock): the sum of all its bytes."""
    digest = hashlib.blake2b(image, digest_size=16).hexdigest()
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
