"""Figures of the two studies, from made-up results on real pictures: what they say, and that nothing collides."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from fastxai.compare import agreement
from fastxai.errors import ArgumentError
from fastxai.explainers import GradientShap
from fastxai.measures import Relation
from fastxai.report import Comparison, four_panels, lime_steps, most_influential, save, scatter, shap_steps
from fastxai.results import Found, MethodResult

Build = Callable[..., Found]


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.texts]


def assert_tidy(figure: Figure, *, on_pictures: int = 0) -> None:
    """No text leaves the page, and no two texts touch; `on_pictures`: numbers that may, as they lie on superpixels."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    page = figure.bbox
    boxes = [(t.get_text(), t.get_window_extent(canvas.get_renderer())) for t in figure.texts if t.get_text()]
    for text, box in boxes:
        assert page.x0 <= box.x0 <= box.x1 <= page.x1, text
        assert page.y0 <= box.y0 <= box.y1 <= page.y1, text
    marks = {str(rank) for rank in range(1, on_pictures + 1)}
    for (one, a), (two, b) in itertools.combinations(boxes, 2):
        assert not a.overlaps(b) or {one, two} <= marks, f"{one!r} meets {two!r}"


def with_score(found: Found) -> Found:
    """The same, with the intercept that real results have."""
    lime = found["lime"]
    data = {**lime.data, "intercept": torch.full(lime.score.shape, 0.123)}
    return replace(found, methods={**found.methods, "lime": replace(lime, data=data)})


def test_four_panels_say_what_was_compared(found: Found) -> None:
    figure = four_panels(found, 1, compare=Comparison("lime", "gradcam", top_segments=5))
    assert_tidy(figure)
    said = words(figure)
    iou = agreement(found, "lime", "gradcam", top_segments=5).iou[1]
    assert {"Picture", "LIME", "Grad-CAM"} <= set(said)
    assert f"Agreement: IoU {iou:.3f}" in said
    assert "top 5 segments and top 20% of pixels" in said
    assert "coffee.png" in said


def test_four_panels_need_two_finite_methods(build: Build, failed: Found) -> None:
    with pytest.raises(ArgumentError, match="found must hold two methods at least, got lime"):
        four_panels(build(ids=["x"], size=(32, 32), methods=["lime"]), 0)
    with pytest.raises(ArgumentError, match="index must be that of an explained image, got 1: broken data stream"):
        four_panels(failed, 1)
    found = build(ids=["x"], size=(32, 32))
    broken = replace(found["gradcam"], data={**found["gradcam"].data, "maps": torch.full((1, 1, 32, 32), math.nan)})
    with pytest.raises(ArgumentError, match="finite maps, got 0: gradcam has none"):
        four_panels(replace(found, methods={**found.methods, "gradcam": broken}), 0)


def test_the_most_influential_are_the_largest_by_size() -> None:
    weights = torch.tensor([0.1, -0.9, 0.0, 0.5, -0.5, math.nan, math.nan])
    assert most_influential(weights, 3) == [(1, pytest.approx(-0.9)), (3, 0.5), (4, -0.5)]
    assert len(most_influential(weights)) == 5


def test_lime_steps_name_the_ten_and_their_weights(found: Found) -> None:
    found = with_score(found)
    figure = lime_steps(found, 0)
    assert_tidy(figure, on_pictures=10)
    said = words(figure)
    for title in ("Picture", "Predictions", "Superpixels", "Perturbed copies", "Their weights", "All weights"):
        assert title in said
    assert "The 10 most influential" in said
    for _, weight in most_influential(found["lime"].weights[0, 0]):
        assert f"{weight:+.4f}".replace("-", "−") in said
    assert [said.count(str(rank)) for rank in range(1, 11)] == [2] * 10  # on the picture, and beside the bar
    assert "in the surrogate model; intercept 0.1230" in said
    assert "Egyptian cat" in said


@pytest.mark.parametrize(
    "options", [{"size": (160, 90), "targets": 2}, {"size": (64, 224)}, {"size": (28, 28), "channels": 1}]
)
def test_lime_steps_of_any_picture_are_tidy(build: Build, options: dict[str, object]) -> None:
    found = with_score(build(ids=["a very long folder/name of a picture with many words.jpeg"], **options))
    assert_tidy(lime_steps(found, 0, target=found.targets.shape[1] - 1), on_pictures=10)


def test_few_superpixels_make_few_bars(build: Build) -> None:
    found = with_score(build(ids=["x"], size=(48, 48)))
    lime = found["lime"]
    bands = (torch.arange(48)[:, None] // 16).expand(48, 48).int()[None].contiguous()
    weights = torch.tensor([[[0.5, -1.0, 0.0]]])
    maps = weights[0][:, bands[0].long()][None]
    few = replace(lime, data={**lime.data, "weights": weights, "maps": maps}, segments=bands, counts=torch.tensor([3]))
    said = words(lime_steps(replace(found, methods={"lime": few}), 0))
    assert "The 3 most influential" in said
    assert [text for text in said if text in ("−1.0000", "+0.5000", "+0.0000")] == ["−1.0000", "+0.5000", "+0.0000"]
    flat = replace(few, data={**few.data, "weights": torch.zeros(1, 1, 3)})  # a model that does not care
    FigureCanvasAgg(lime_steps(replace(found, methods={"lime": flat}), 0)).draw()


def test_lime_steps_need_superpixels(found: Found) -> None:
    with pytest.raises(ArgumentError, match="name must be that of a method on superpixels, got 'gradcam'"):
        lime_steps(found, 0, name="gradcam")


def test_shap_steps_state_the_gap_to_completeness(found: Found) -> None:
    shap = found["gradient-shap"]
    told = replace(shap, data={**shap.data, "delta": torch.full((4, 1), -0.25)})
    figure = shap_steps(replace(found, methods={"gradient-shap": told}), 2)
    assert_tidy(figure)
    said = words(figure)
    total = f"{float(shap.maps[2, 0].sum()):.3f}".replace("-", "−")
    assert f"sum {total}, off by −0.250 from F(x) − F(black)" in said
    assert "gradients are read at 20 such points" in said
    assert "GradientSHAP" in said
    unknown = words(shap_steps(found, 2))
    assert not any("off by" in text for text in unknown)


def test_shap_steps_need_a_black_baseline(found: Found) -> None:
    blurred = MethodResult(GradientShap(baseline="blur"), {"maps": found["gradient-shap"].maps})
    with pytest.raises(ArgumentError, match="a GradientShap with a black baseline, got 'gradient-shap'"):
        shap_steps(replace(found, methods={"gradient-shap": blurred}), 0)
    with pytest.raises(ArgumentError, match="a GradientShap with a black baseline, got 'lime'"):
        shap_steps(found, 0, name="lime")


def test_scatter_draws_every_image_that_has_both_values() -> None:
    rng = np.random.default_rng(0)
    values = rng.random(30).tolist()
    values[4] = math.nan
    others = {"edge density": rng.random(30).tolist(), "segments": rng.integers(20, 60, 30).astype(float).tolist()}
    relations = {"edge density": Relation(29, -0.31, (-0.62, 0.07)), "segments": Relation(29, math.nan, None)}
    figure = scatter(values, "IoU", others, relations)
    FigureCanvasAgg(figure).draw()
    first, second = figure.axes
    assert (first.get_xlabel(), first.get_ylabel(), second.get_xlabel()) == ("edge density", "IoU", "segments")
    assert first.get_title(loc="left") == "ρ = −0.31  (−0.62 to +0.07), 29 images"
    assert second.get_title(loc="left") == "no correlation, 29 images"
    points = np.ma.filled(first.collections[0].get_offsets(), np.nan)
    drawn = points[~np.isnan(points).any(1)]
    wanted = [(x, y) for x, y in zip(others["edge density"], values, strict=True) if not math.isnan(y)]
    assert sorted(map(tuple, drawn.tolist())) == sorted(wanted)


def test_scatter_refuses_what_does_not_fit() -> None:
    with pytest.raises(ArgumentError, match="relations must be those of a, got b"):
        scatter([1.0], "y", {"a": [1.0]}, {"b": Relation(1, math.nan, None)})
    with pytest.raises(ArgumentError, match="a must be one number for each of 2 images, got 1"):
        scatter([1.0, 2.0], "y", {"a": [1.0]}, {"a": Relation(1, math.nan, None)})


def test_a_figure_is_saved_whole(found: Found, tmp_path: Path) -> None:
    path = save(four_panels(found, 0), tmp_path / "figures" / "one.png")
    assert [file.name for file in path.parent.iterdir()] == ["one.png"]
    with Image.open(path) as image:
        assert image.width == 1800
