"""Panels drawn from made-up results on real pictures: what they say, that nothing collides, and where they land."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from fastxai.compare import agreement
from fastxai.errors import ArgumentError
from fastxai.explainers import GradCam, Lime
from fastxai.report import Comparison, panel, write_panels
from fastxai.results import Found, MethodResult

Build = Callable[..., Found]
HOSTILE = "../../etc/$x^2$\n<b>猫</b>\x1b[2J/a very long folder name/and one more/picture with a name.jpeg"


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.texts]


def assert_tidy(figure: Figure) -> None:
    """No text leaves the page, and no two texts touch."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    page = figure.bbox
    boxes = [(t.get_text(), t.get_window_extent(canvas.get_renderer())) for t in figure.texts if t.get_text()]
    for text, box in boxes:
        assert page.x0 <= box.x0 <= box.x1 <= page.x1, text
        assert page.y0 <= box.y0 <= box.y1 <= page.y1, text
    for (one, a), (two, b) in itertools.combinations(boxes, 2):
        assert not a.overlaps(b), f"{one!r} meets {two!r}"


@dataclass
class Stored:
    """A run as `write_panels` sees it: its length, and slices of it."""

    found: Found
    reads: list[tuple[int, int]]

    def __len__(self) -> int:
        return len(self.found)

    def read(self, start: int, stop: int) -> Found:
        self.reads.append((start, stop))
        f = self.found
        assert f.images is not None
        parts = {
            k: getattr(f, k)[start:stop] for k in ("ids", "digests", "errors", "status", "sizes", "crops", "labels")
        }
        more = {k: getattr(f, k)[start:stop] for k in ("images", "predictions", "probabilities", "targets")}
        return replace(f, **parts, **more, methods={name: f[name][start:stop] for name in f})


def test_a_panel_says_what_the_results_hold(found: Found) -> None:
    figure = panel(found, 0)
    said = words(figure)
    for expected in ("chelsea.png", "Egyptian cat", "tiger cat", "tabby", "0.512", "LIME", "GradientSHAP", "Grad-CAM"):
        assert expected in said
    assert "original 451 × 300 pixels, seen by the model as 224 × 224" in said
    iou = agreement(found, "lime", "gradcam").iou[0]
    assert f"Agreement: IoU {iou:.3f}" in said
    assert figure.get_size_inches()[0] * figure.dpi == 1800


def test_other_rules_are_followed(found: Found) -> None:
    compare = Comparison("gradient-shap", "lime", top_segments=3, top_fraction=0.05)
    said = words(panel(found, 1, compare=compare))
    iou = agreement(found, "gradient-shap", "lime", top_segments=3, top_fraction=0.05).iou[1]
    assert f"Agreement: IoU {iou:.3f}" in said
    assert "top 5% of pixels and top 3 segments" in said
    assert "the 3 most positive segments" in said


@pytest.mark.parametrize(
    ("options", "index", "target"),
    [
        ({}, 3, 0),
        ({"ids": [HOSTILE], "size": (160, 90), "targets": 3}, 0, 2),
        ({"ids": ["flat"], "size": (64, 224)}, 0, 0),
        ({"ids": ["grey"], "size": (28, 28), "channels": 1}, 0, 0),
        ({"ids": ["five"], "size": (64, 64), "channels": 5, "methods": ["lime"]}, 0, 0),
        ({"ids": ["two"], "size": (64, 64), "channels": 2, "methods": ["gradcam"]}, 0, 0),
        ({"ids": ["shap"], "size": (64, 64), "methods": ["gradient-shap", "gradcam"]}, 0, 0),
        ({"ids": ["none"], "size": (64, 64), "methods": []}, 0, 0),
    ],
)
def test_any_picture_and_any_methods_make_a_tidy_panel(
    build: Build, options: dict[str, object], index: int, target: int
) -> None:
    found = build(**options)
    figure = panel(found, index, target=target)
    assert_tidy(figure)
    said = words(figure)
    assert ("Perturbed copies" in said) == ("Superpixels" in said) == ("lime" in found.methods)
    assert any(text.startswith("Agreement") for text in said) == (len(found.methods) > 1)


def test_several_configurations_of_a_method_and_long_class_names(build: Build) -> None:
    found = build(ids=["x"], size=(96, 96), targets=2)
    lime = found["lime"]
    bands = (torch.arange(96)[:, None] // 32).expand(96, 96).int()[None].contiguous()
    weights = torch.tensor([[[0.5, -1.0, 0.2], [-1.0, -1.0, -1.0]]])
    second = MethodResult(Lime(name="lime-bands", fill="mean"), {"maps": lime.maps, "weights": weights}, bands)
    broken = MethodResult(GradCam(name="gradcam-broken"), {"maps": torch.full_like(lime.maps, float("nan"))})
    name = "great white shark, white shark, man-eater, man-eating shark, Carcharodon carcharias $x$"
    found = replace(
        found, methods={**found.methods, "lime-bands": second, "gradcam-broken": broken}, class_names=(name,) * 3
    )
    figure = panel(found, 0)
    assert_tidy(figure)
    said = words(figure)
    assert {"LIME · lime-bands", "all 2 positive segments (fewer than 10)", "3 segments by quickshift"} <= set(said)
    assert "no map: this image has no finite values" in said
    assert "no positive segment" in words(panel(found, 0, target=1))
    compare = Comparison("lime", "gradcam-broken")
    assert not any(text.startswith("Agreement") for text in words(panel(found, 0, compare=compare)))


def test_names_are_never_read_as_formulas(build: Build) -> None:
    found = replace(build(ids=[r"$\undefined{$ $\frac{1}$"], size=(32, 32)), class_names=("$_$",) * 7)
    FigureCanvasAgg(panel(found, 0)).draw()  # mathtext would raise


def test_predictions_that_do_not_exist_are_left_out(build: Build) -> None:
    found = build(ids=["x"], size=(32, 32))
    found = replace(
        found,
        predictions=torch.tensor([[0, 1, -1, -1, -1]]),
        probabilities=torch.tensor([[0.9, 0.1, *[float("nan")] * 3]]),
    )
    said = words(panel(found, 0))
    assert "the 2 most probable classes" in said
    assert not {"nan", "class -1"} & set(said)
    assert "explained: class 2, not among the first 2 predictions" in said


def test_files_are_named_by_number_and_id(failed: Found, tmp_path: Path) -> None:
    out = tmp_path / "new" / "panels"
    paths = write_panels(failed, out, indices=[0, 1, 3])  # the second one failed
    assert [path.name for path in paths] == ["0000-chelsea.png", "0003-astronaut.png"]
    assert sorted(p.name for p in out.iterdir()) == [path.name for path in paths]  # and nothing half written
    with Image.open(paths[0]) as picture:
        assert picture.width == 1800
        assert picture.mode == "RGB"
        assert np.asarray(picture).std() > 20  # something is drawn


def test_hostile_ids_stay_in_the_folder(build: Build, tmp_path: Path) -> None:
    found = build(ids=[HOSTILE, "..", ".", "/", "\udcff\\..\\x.png"], size=(32, 32), methods=["gradcam"])
    paths = write_panels(found, tmp_path)
    assert len({path.name for path in paths}) == 5
    assert all(path.parent == tmp_path and path.is_file() for path in paths)


def test_a_run_is_read_image_by_image_and_gives_the_same_files(found: Found, tmp_path: Path) -> None:
    stored = Stored(found, [])
    direct = write_panels(found, tmp_path / "direct", indices=[2, 0])
    through = write_panels(stored, tmp_path / "run", indices=[2, 0])
    assert stored.reads == [(2, 3), (0, 1)]
    assert [p.name for p in direct] == [p.name for p in through] == ["0002-rocket.png", "0000-chelsea.png"]
    assert [p.read_bytes() for p in direct] == [p.read_bytes() for p in through]


def test_several_targets_make_several_files(build: Build, tmp_path: Path) -> None:
    found = build(ids=["a.png"], size=(32, 32), targets=2)
    names = [path.name for path in write_panels(found, tmp_path, targets=[0, 1])]
    assert names == ["0000-a-target0.png", "0000-a-target1.png"]


def test_wrong_arguments_are_refused_before_a_file_is_written(found: Found, failed: Found, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="target must be between 0 and 0, got 1"):
        write_panels(found, tmp_path / "out", targets=[1])
    with pytest.raises(ArgumentError, match="indices must be below the number of images 4, got 9"):
        write_panels(found, tmp_path / "out", indices=[9])
    with pytest.raises(ArgumentError, match="method must be one of lime, gradient-shap, gradcam, got 'shap'"):
        write_panels(found, tmp_path / "out", compare=Comparison("lime", "shap"))
    with pytest.raises(ArgumentError, match="must hold pixels"):
        write_panels(replace(found, images=None), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(ArgumentError, match="got 1: broken data stream"):
        panel(failed, 1)
    with pytest.raises(ArgumentError, match="index must be between 0 and 3, got 4"):
        panel(found, 4)
    with pytest.raises(ArgumentError, match="top_fraction"):
        Comparison(top_fraction=0)
    with pytest.raises(ArgumentError, match="top_segments"):
        Comparison(top_segments=0)


def test_pyplot_is_never_loaded() -> None:
    """pyplot holds figures for ever and picks a window system: a library must not touch it."""
    code = "import sys, fastxai.report; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_panels_for_papers_are_fine_and_their_text_stays_text(build: Build, tmp_path: Path) -> None:
    found = build(ids=["owl 1.png"], size=(64, 64))
    paths = write_panels(found, tmp_path, formats=("png", "pdf"), dpi=300)
    assert [path.name for path in paths] == ["0000-owl-1.png", "0000-owl-1.pdf"]
    with Image.open(paths[0]) as picture:
        assert picture.width == 3600
        assert picture.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    pdf = paths[1].read_bytes()
    assert pdf.startswith(b"%PDF")
    assert b"/FontFile2" in pdf  # TrueType, whole
    assert b"/Subtype /Type3" not in pdf
    again = write_panels(found, tmp_path / "again", formats=("pdf",), dpi=300)
    assert again[0].read_bytes() == pdf
    with pytest.raises(ArgumentError, match="formats must be one of png, pdf, got 'svg'"):
        write_panels(found, tmp_path / "none", formats=("svg",))
