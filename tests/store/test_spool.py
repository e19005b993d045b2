from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fastxai.store.spool import Spool


def test_bytes_come_back_from_any_thread(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    pieces = [bytes([number]) * (number * 37) for number in range(200)]
    with ThreadPoolExecutor(8) as pool:
        places = list(pool.map(spool.put, pieces))
        assert list(pool.map(spool.get, reversed(places))) == pieces[::-1]
    spool.clear()
    assert spool.get(spool.put(b"again")) == b"again"
    with pytest.raises(OSError, match="gone"):
        spool.get((0, 6))
    assert not list(tmp_path.iterdir())
    spool.close()
