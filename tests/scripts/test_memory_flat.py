"""scripts/memory_flat on a few pictures: it runs, prints a slope, and says by its exit status what it thinks of it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "memory_flat"


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
@pytest.mark.parametrize(("limit", "status"), [("1e9", 0), ("-1e9", 1)])
def test_it_prints_the_slope(limit, status):
    options = ["--images", "24", "--start", "8", "--samples", "4", "--batch", "4", f"--limit={limit}"]
    done = subprocess.run([sys.executable, SCRIPT, *options], capture_output=True, text=True)
    assert done.returncode == status, done.stderr
    assert re.search(r"resident memory from image 8 to 24: .* slope -?\d+\.\d\d KiB an image", done.stdout)
