"""LIME from picture files to closed shards, against `lime`.

Work: the 1000 samples and quickshift superpixels of the `lime` package's defaults, one class; once as a long run
settles it, once in float32 without compilation, where only packing and overlap are left to win.
"""

from __future__ import annotations

import pytest


@pytest.mark.parametrize("form", ["auto", "fp32"])
def test_lime(load, measured, form):
    measured(load("embedded", form, "auto" if form == "auto" else False), "lime")
