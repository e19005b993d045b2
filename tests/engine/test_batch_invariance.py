"""The promise of the engine on the real model: a picture's numbers do not feel the other pictures."""

import pytest
import torch

import fastxai as fx
from fastxai.models.calibrate import fast_bf16

SETTINGS = {"predict": 8, "scores": 8, "gradients": 4}


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("precision", "fold"),
    [
        ("fp32", False),
        pytest.param(
            "bf16", True, marks=pytest.mark.skipif(not fast_bf16(), reason="bf16 takes many minutes on this CPU")
        ),
    ],
)
def test_alone_first_or_last_among_32(embedded, photos, precision, fold):
    pictures = [torch.from_numpy(picture).permute(2, 0, 1) for picture in photos.values()]
    generator = torch.Generator().manual_seed(0)
    crops = []
    for index in range(32):
        picture = pictures[index % 4]
        top, left = (int(torch.randint(0, side - 223, (), generator=generator)) for side in picture.shape[1:])
        crops.append(picture[:, top : top + 224, left : left + 224])
    chosen, others = torch.stack(crops[:1]), torch.stack(crops[1:])
    methods = (
        fx.Lime(samples=8, segments=fx.Slic(segments=40)),  # the number of segments differs from picture to picture
        fx.GradientShap(samples=1, attributions=True),
        fx.GradCam(),
    )
    settings = fx.Settings(precision=precision, fold=fold, rows=SETTINGS)
    alone, first, last = (
        fx.explain(embedded, images, methods, settings=settings)
        for images in (chosen, torch.cat([chosen, others]), torch.cat([others, chosen]))
    )
    assert len(first["lime"].counts.unique()) > 5
    count = int(alone["lime"].counts[0])
    for found, place in ((first, 0), (last, 31)):
        assert torch.equal(found.probabilities[place], alone.probabilities[0])
        assert torch.equal(found["lime"].weights[place, :, :count], alone["lime"].weights[0])
        for name, field in (
            ("lime", "maps"),
            ("lime", "intercept"),
            ("lime", "score"),
            ("gradient-shap", "attributions"),
            ("gradient-shap", "maps"),
            ("gradient-shap", "delta"),
            ("gradcam", "maps"),
            ("gradcam", "native"),
        ):
            assert torch.equal(found[name].data[field][place], alone[name].data[field][0]), (name, field)
