"""Packed chunks of a shard that is still open: on the disk, so that memory does not grow with the shard."""

from __future__ import annotations

import threading
from pathlib import Path

from fastxai.store import files

Place = tuple[int, int]  # offset, length


class Spool:
    """Bytes put away and fetched again, from any thread. Its file has no name and ends with the process."""

    def __init__(self, folder: Path) -> None:
        self._file = files.disk.open_spool(folder)
        self._lock, self._end = threading.Lock(), 0

    def put(self, data: bytes) -> Place:
        """Put bytes away; `OSError` where the disk is full."""
        with self._lock:
            start = self._end
            files.disk.write(self._file, data, start)
            self._end = start + len(data)
        return start, len(data)

    def get(self, place: Place) -> bytes:
        """The bytes that `put` gave this place."""
        start, length = place
        data = files.disk.read(self._file, length, start)
        if len(data) < length:
            raise OSError(f"{length - len(data)} bytes of an open shard are gone")
        return data

    def clear(self) -> None:
        """Forget everything, and give the disk its space back."""
        with self._lock:
            files.disk.truncate(self._file, 0)
            self._end = 0

    def close(self) -> None:
        """The file is gone with this."""
        files.disk.close(self._file)
