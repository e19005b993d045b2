"""scripts/precision_check on one picture: bf16 says nearly what fp32 says, and another seed says less of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from fastxai.models.calibrate import fast_bf16

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "precision_check"


@pytest.mark.timeout(300)
@pytest.mark.skipif(not fast_bf16(), reason="bf16 takes many minutes on this CPU")
def test_it_correlates_precisions(photos, tmp_path):
    name, pixels = next(iter(photos.items()))
    Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    figures = tmp_path / "figures.json"
    options = ["--precision", "bf16", "--samples", "40", "--json", str(figures)]
    done = subprocess.run(
        [sys.executable, SCRIPT, str(tmp_path / f"{name}.png"), *options], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "bf16 against fp32" in done.stdout
    record = json.loads(figures.read_text())
    (found,) = record["images"].values()
    assert (record["precision"], record["samples"]) == ("bf16", 40)
    assert min(found[method] for method in ("lime", "gradient-shap", "gradcam")) > 0.9
    assert found["lime noise"] < found["lime"]
