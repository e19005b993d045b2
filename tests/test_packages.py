"""Which packages are installed."""

from __future__ import annotations

import numpy as np

from fastxai.packages import versions_of


def test_what_is_not_installed_is_left_out():
    found = versions_of(["pytest", "no-such-package-at-all", "numpy"])
    assert list(found) == ["pytest", "numpy"]
    assert found["numpy"] == np.__version__
