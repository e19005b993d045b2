"""A file that HDF5 writes itself, on a disk that may fail.

HDF5 does not survive a write that fails: it cannot close such a file, and may crash at the end of the process. So it
is never told, of a full disk as little as of an interrupt that comes while it writes. What the disk did not take stays
in memory, and whoever writes asks `check` from time to time.
"""

from __future__ import annotations

import os
from io import FileIO

from fastxai.store import files


class Sink:
    """What h5py asks of a file in Python, over `files.disk`."""

    def __init__(self, stream: FileIO) -> None:
        self._stream, self._place = stream, 0
        self._error: BaseException | None = None
        self._refused: dict[int, bytes] = {}

    def check(self) -> None:
        """Raise what the disk raised, if it did."""
        if self._error is not None:
            raise self._error

    def seek(self, place: int, whence: int = os.SEEK_SET) -> int:
        """Go to a byte of the file; where that is."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size()}[whence]
        self._place = start + place
        return self._place

    def tell(self) -> int:
        """The byte that comes next."""
        return self._place

    def write(self, data: bytes | memoryview) -> int:
        """Take all of `data`, whatever the disk does."""
        if self._error is None:
            try:
                files.disk.write(self._stream, data, self._place)
            except BaseException as error:
                self._error = error
        if self._error is not None:
            self._refused[self._place] = bytes(data)
        self._place += len(data)
        return len(data)

    def read(self, length: int = -1) -> bytes:
        """Bytes from here on; zeros for what the disk does not give."""
        data = self._refused.get(self._place, b"")[:length]
        if len(data) < length:
            try:
                data = files.disk.read(self._stream, length, self._place)
            except BaseException as error:
                self._error = self._error or error
                data = bytes(length)
        self._place += len(data)
        return data

    def truncate(self, size: int) -> int:
        """Set the length of the file."""
        if self._error is None:
            try:
                files.disk.truncate(self._stream, size)
            except BaseException as error:
                self._error = error
        return size

    def flush(self) -> None:
        """Nothing waits here."""

    def _size(self) -> int:
        return os.fstat(self._stream.fileno()).st_size
