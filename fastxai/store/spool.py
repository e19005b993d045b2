"""Packed chunks of a shard that is still open: on the disk, so that memory does not grow with the shard."""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path

Place = tuple[int, int]  # offset, length


class Spool:
    """Bytes put away and fetched again, from any thread. Its file has no name and ends with the process."""

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115  # open as long as the writer
        self._lock, self._end = threading.Lock(), 0

    def put(self, data: bytes) -> Place:
        """Put bytes away; `OSError` where the disk is full."""
        left = memoryview(data)
        with self._lock:
            start = self._end
            self._file.seek(start)
            while left:
                left = left[self._file.write(left) :]
            self._end = start + len(data)
        return start, len(data)

    def get(self, place: Place) -> bytes:
        """The bytes that `put` gave this place."""
        start, length = place
        with self._lock:
            self._file.seek(start)
            pieces = [self._file.read(length)]
            while (missing := length - sum(map(len, pieces))) and pieces[-1]:
                pieces.append(self._file.read(missing))
        if missing:
            raise OSError(f"{missing} bytes of an open shard are gone")
        return b"".join(pieces)

    def clear(self) -> None:
        """Forget everything, and give the disk its space back."""
        with self._lock:
            self._file.truncate(0)
            self._end = 0

    def close(self) -> None:
        """The file is gone with this."""
        self._file.close()
