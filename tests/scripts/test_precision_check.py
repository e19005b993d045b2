"""scripts/precision_check on one picture: bf16 says nearly what fp32 says, and another seed says less of it.

And the products that stand in for bf16 instructions: torch's own up to the last bit or two, and float32's exactly.
"""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.nn import functional

from fastxai.models.calibrate import fast_bf16

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "precision_check"


@pytest.mark.timeout(300)
def test_it_correlates_precisions(photos, tmp_path):
    name, pixels = next(iter(photos.items()))
    Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    figures = tmp_path / "figures.json"
    options = ["--precision", "bf16", "--samples", "40", "--json", str(figures)]
    done = subprocess.run(
        [sys.executable, SCRIPT, str(tmp_path / f"{name}.png"), *options], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "against fp32, embedded" in done.stdout
    record = json.loads(figures.read_text())
    (found,) = record["images"].values()
    assert (record["precision"], record["widened"], record["samples"]) == ("bf16", not fast_bf16(), 40)
    assert min(found[method] for method in ("lime", "gradient-shap", "gradcam")) > 0.9
    assert found["lime noise"] < found["lime"]


@pytest.mark.skipif(fast_bf16(), reason="this CPU compiles bf16")
def test_compiled_bf16_needs_the_instructions(tmp_path):
    done = subprocess.run(
        [sys.executable, SCRIPT, str(tmp_path), "--precision", "bf16", "--compile"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "--compile needs bf16 instructions" in done.stdout


def test_widened_products_round_float32_ones():
    spec = spec_from_file_location("_widened", SCRIPT.parent / "_widened.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    random = torch.Generator().manual_seed(0)

    def noise(*shape):
        return torch.randn(*shape, generator=random).bfloat16()

    def products(image, *weights):
        filters, matrix = weights
        image = image.clone().requires_grad_()
        flat = functional.linear(functional.conv2d(image, filters, padding=1).flatten(1), matrix)
        return flat, *torch.autograd.grad(flat.square().sum(), image)

    one, two = noise(2, 3, 8, 8), (noise(4, 3, 3, 3), noise(5, 4 * 8 * 8))
    own, exact = products(one, *two), products(one.float(), *(weight.float() for weight in two))
    with module.widened_products():
        found = products(one, *two)
        same = products(one.float(), *(weight.float() for weight in two))
        filtered = functional.conv2d(one, two[0], padding=1)
    assert all(tensor.dtype == torch.bfloat16 for tensor in found)
    assert all(map(torch.equal, same, exact))
    assert torch.equal(filtered, functional.conv2d(one.float(), two[0].float(), padding=1).bfloat16())
    for mine, torchs in zip(found, own, strict=True):
        assert (mine.float() - torchs.float()).abs().max() <= 0.02 * torchs.float().abs().max()
    assert all(map(torch.equal, products(one, *two), own))  # and torch's own are back
