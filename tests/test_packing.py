"""How many images are in work together."""

import math

import pytest

import fastxai as fx
from fastxai.packing import BUDGETS, PADDING, bytes_in_work, images_in_work
from fastxai.types import Preprocess

CPU = {"predict": 8, "scores": 8, "gradients": 8}
GPU = {"predict": 64, "scores": 256, "gradients": 256}
LIME, SHAP, CAM = {"scores": 1000}, {"gradients": 20, "scores": 1}, {}
MANY = 10**6
PREPROCESS = Preprocess((224, 224), 256, mean=(0.5,) * 3, std=(0.5,) * 3)


def chosen(counts, rows, images=MANY, each=1, budget=MANY * 1000, targets=1, lanes=1):
    return images_in_work(
        counts, rows, targets=targets, images=images, bytes_per_image=each, budget=budget, lanes=lanes
    )


def padded(counts, rows, images):
    """Share of padded work, in the plainest way."""
    work, pad = images, 0  # a prediction each
    for count in counts:
        for kind, an_image in count.items():
            if an_image:
                cost = 2 if kind == "gradients" else 1
                chunks = math.ceil(an_image * images / rows[kind])
                pad += cost * (chunks * rows[kind] - an_image * images)
                work += cost * chunks * rows[kind]
    return pad / work


@pytest.mark.parametrize("rows", [CPU, GPU, {"predict": 8, "scores": 24, "gradients": 12}], ids=["cpu", "gpu", "odd"])
@pytest.mark.parametrize("counts", [[LIME], [SHAP], [LIME, SHAP, CAM], [{"scores": 50}], [{"gradients": 1}]], ids=str)
def test_padding_stays_small(rows, counts):
    images = chosen(counts, rows)
    assert images % rows["predict"] == 0
    assert padded(counts, rows, images) < PADDING
    # images that fail leave any number of rows: averaged over them, too
    left = range(max(1, images - images // 4), images + 1)
    assert sum(padded(counts, rows, count) for count in left) / len(left) < 1.25 * PADDING


def test_known_numbers():
    assert chosen([LIME], CPU) == 8
    assert chosen([CAM], CPU) == 8
    assert chosen([SHAP], CPU) == 16
    assert chosen([SHAP], CPU, lanes=2) == 32, "two lanes wait for one another at the end of a batch"
    assert chosen([LIME], CPU, lanes=2) == 8
    assert chosen([SHAP], {**GPU, "predict": 8}) == 456
    assert chosen([LIME, SHAP, CAM], {**GPU, "predict": 8}) == 32


def test_never_more_than_there_are():
    assert chosen([SHAP], GPU, images=3) == 3
    assert chosen([SHAP], GPU, images=100) <= 100
    assert chosen([SHAP], GPU, images=0) == 1


def test_memory_bounds_them_and_the_least_padding_within_it_is_taken():
    assert chosen([SHAP], GPU, each=10, budget=1000) == 64  # 1280 rows fill 5 chunks
    assert chosen([SHAP], CPU, each=10, budget=50) == 5
    assert chosen([SHAP], CPU, each=10, budget=9) == 1


def test_bytes_follow_fields_targets_and_pictures():
    def size(*explainers, targets=1, **options):
        return bytes_in_work(explainers, PREPROCESS, targets=targets, classes=1000, **options)

    one = 4 * 224 * 224
    assert size(fx.GradCam(), targets=5) - size(fx.GradCam(), targets=4) >= 4 * one
    assert size(fx.GradientShap(attributions=True)) - size(fx.GradientShap()) >= 3 * one
    assert size(fx.GradCam(), layers=1) > size(fx.GradCam())
    assert size(fx.GradCam(), normalized=True) > size(fx.GradCam())
    assert size(fx.Lime()) > size(fx.KernelShap() if hasattr(fx, "KernelShap") else fx.GradCam())
    # all classes of ImageNet, with one map each
    assert BUDGETS["cpu"] // size(fx.GradientShap(), targets=1000) <= 1
    assert BUDGETS["cpu"] // size(fx.Lime(), fx.GradientShap(), fx.GradCam(), layers=1) >= 64
