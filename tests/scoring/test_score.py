import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

import fastxai as fx
from fastxai import scoring
from fastxai.errors import ArgumentError
from tests.scoring.conftest import METHODS, QUICK, SETTINGS, with_field


def test_a_run_has_the_values_of_its_results(convolutional, found, run):
    measures = (*QUICK, fx.Sanity(), fx.Stability(seeds_more=1))
    ours, theirs = (fx.score(source, convolutional, measures, settings=SETTINGS) for source in (found, run))
    assert ours.ids == tuple(i for i in found.ids if i != "1b.png")
    order = [theirs.ids.index(image) for image in ours.ids]
    assert set(ours.columns) == set(theirs.columns) == {
        "deletion", "mu-fidelity", "sanity-spearman", "sanity-ssim", "stability", "stability-top", "r2", "gap"
    }  # fmt: skip
    for name, values in ours.values.items():
        np.testing.assert_array_equal(values, theirs.values[name][order])
    for table in (ours, theirs):
        assert list(table.left_out) == ["1b.png"] and table.left_out["1b.png"]
        assert table.methods == ("lime", "gradient-shap", "gradcam", "random")
        assert table.reference == "random"
        assert table.about["seed"] == 0


def test_settings_are_those_of_the_run(convolutional, run, monkeypatch):
    monkeypatch.setattr(scoring.calls, "calibrate", None)  # must not be asked
    assert len(fx.score(run, convolutional, QUICK)) == 5


def test_settings_are_calibrated_for_results(convolutional, found, monkeypatch):
    asked = {}

    def calibrate(model, kinds):
        asked.update(kinds)
        return SETTINGS

    monkeypatch.setattr(scoring.calls, "calibrate", calibrate)
    fx.score(found, convolutional, [fx.Deletion(steps=4), fx.Stability(seeds_more=2)])
    assert asked == {"predict": 10, "scores": 5 * (1 + 4 * 2 * 5) + 10 * 20}


def test_methods_report_about_themselves(convolutional, found):
    table = fx.score(found, convolutional, QUICK, settings=SETTINGS)
    good = [i for i, image in enumerate(found.ids) if image != "1b.png"]
    np.testing.assert_allclose(table.of("r2", "lime"), found["lime"].score[good].double().mean(1))
    gaps = found["gradient-shap"].delta[good].double()
    assert (gaps < 0).any()
    np.testing.assert_allclose(table.of("gap", "gradient-shap"), gaps.abs().mean(1))
    assert np.isnan(table.of("r2", "gradcam")).all()
    only = fx.score(found, convolutional, QUICK, settings=SETTINGS, methods=["gradcam"])
    assert set(only.columns) == {"deletion", "mu-fidelity"}  # no column that nobody fills


def test_images_and_methods_can_be_chosen(convolutional, found, run):
    whole = fx.score(found, convolutional, QUICK, settings=SETTINGS)
    for source in (found, run):
        table = fx.score(
            source, convolutional, QUICK, settings=SETTINGS, images=["3.png", "0.png"], methods=["gradcam"]
        )
        assert table.ids == ("3.png", "0.png")
        assert table.methods == ("gradcam", "random")
        for row, image in enumerate(table.ids):
            assert table.of("deletion", "gradcam")[row] == whole.of("deletion", "gradcam")[whole.ids.index(image)]
    first = fx.score(found, convolutional, QUICK, settings=SETTINGS, images=3)
    assert first.ids == ("0.png", "1.png") and list(first.left_out) == ["1b.png"]


def test_maps_that_are_not_finite_are_left_out_and_counted(convolutional, found):
    maps = found["gradcam"].maps.clone()
    maps[0, 1, 3, 3] = float("nan")
    maps[3] = float("inf")
    table = fx.score(
        with_field(found, "gradcam", "maps", maps), convolutional, (*QUICK, fx.Sanity()), settings=SETTINGS
    )
    whole = fx.score(found, convolutional, (*QUICK, fx.Sanity()), settings=SETTINGS)
    assert table.ids == whole.ids
    assert np.isnan(table.of("deletion", "gradcam")).tolist() == [False, False, True, False, False]
    assert np.isnan(table.of("sanity-ssim", "gradcam"))[2]
    assert table.summary("deletion", "gradcam").count == 4
    # of the first image one target is left
    single = replace(found, targets=found.targets[:, :1], methods={"gradcam": found["gradcam"].target(0)})
    one = fx.score(single, convolutional, QUICK, settings=SETTINGS, images=1)
    assert table.of("deletion", "gradcam")[0] == one.of("deletion", "gradcam")[0]
    np.testing.assert_array_equal(table.of("deletion", "lime"), whole.of("deletion", "lime"))


def test_the_reference_is_noise_of_the_run_or_of_its_own(convolutional, found, folder):
    cells = fx.Random(segments=fx.Grid(3, 3), name="cells")
    table = fx.score(found, convolutional, QUICK, settings=SETTINGS, reference=cells)
    assert table.methods == ("lime", "gradient-shap", "gradcam", "cells") and table.reference == "cells"
    stored = fx.explain(convolutional, folder, (METHODS[2], cells), targets="top2", settings=SETTINGS)
    again = fx.score(stored, convolutional, QUICK, settings=SETTINGS)
    assert again.methods == ("gradcam", "cells") and again.reference == "cells"
    np.testing.assert_array_equal(table.of("deletion", "cells"), again.of("deletion", "cells"))
    both = fx.score(stored, convolutional, QUICK, settings=SETTINGS, reference=fx.Random())
    assert both.methods == ("gradcam", "cells", "random") and both.reference == "random"
    assert fx.score(stored, convolutional, QUICK, settings=SETTINGS, reference=cells).methods == again.methods
    with pytest.raises(ArgumentError, match="reference must have a name of its own, got 'gradcam'"):
        fx.score(found, convolutional, QUICK, reference=fx.Random(name="gradcam"))
    with pytest.raises(ArgumentError, match=r"reference must be a configuration like fx.Random\(\)"):
        fx.score(found, convolutional, QUICK, reference=fx.Lime())


def test_another_model_is_refused(another, linear, found, run):
    with pytest.raises(ArgumentError, match="model must be that of the run, 'module' with fingerprint"):
        fx.score(run, another, QUICK)
    with pytest.raises(ArgumentError, match="model must be the one that explained the pictures"):
        fx.score(found, another, QUICK, settings=SETTINGS)
    with pytest.raises(ArgumentError, match="prepares pictures otherwise"):
        fx.score(found, replace_size(linear), QUICK, settings=SETTINGS)


def replace_size(model):
    return fx.Model(model.module, replace(model.preprocess, mean=(0.0,) * 3), device="cpu")


def test_ready_model_input_is_refused(convolutional, noise_pictures):
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(2, 3, 24, 24, generator=generator) * 500
    found = fx.explain(convolutional, inputs, fx.Saliency(), normalized=True, settings=SETTINGS)
    with pytest.raises(ArgumentError, match="ready model input cannot be scored"):
        fx.score(found, convolutional, QUICK, settings=SETTINGS)


def test_a_run_without_pictures_is_refused(convolutional, found, folder, tmp_path):
    run = fx.run(convolutional, folder, METHODS[2], out=tmp_path / "run", settings=SETTINGS, pixels=False)
    with pytest.raises(ArgumentError, match="source must hold the pictures"):
        fx.score(run, convolutional, QUICK)
    with pytest.raises(ArgumentError, match="source must hold the pictures"):
        fx.score(replace(found, images=None), convolutional, QUICK)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"measures": "deletions"}, "measure must be one of aopc, deletion"),
        ({"measures": ()}, "measures must hold at least one"),
        ({"measures": [fx.Lime()]}, r"measures must be configurations like fx.Deletion\(\), got Lime"),
        ({"measures": ["deletion", "deletion:steps=3"]}, "got 'deletion' twice: set name="),
        ({"measures": "deletion:name=r2"}, "got 'r2' twice"),
        ({"methods": ["shap"]}, "method must be one of lime, gradient-shap, gradcam, got 'shap'"),
        ({"methods": []}, "methods must name at least one"),
        ({"images": ["9.png"]}, "must be .*got '9.png'"),
        ({"images": 0}, "images must be at least 1"),
        ({"images": ["1b.png"]}, "images must hold at least one that was explained"),
        ({"batch": 0}, "batch must be at least 1"),
    ],
)
def test_wrong_arguments_are_refused(convolutional, found, run, options, message):
    for source in (found, run):
        with pytest.raises(ArgumentError, match=message):
            fx.score(source, convolutional, **{"measures": QUICK, **options})


def test_other_things_are_refused(convolutional, found):
    with pytest.raises(ArgumentError, match="source must be results of explain or a run, got str"):
        fx.score("runs/x", convolutional)
    with pytest.raises(ArgumentError, match="model must be a fastxai Model"):
        fx.score(found, convolutional.module)


def test_it_stops_when_asked(convolutional, found):
    stop = threading.Event()
    seen = []

    def progress(told):
        seen.append(told)
        if told.method == "deletion":
            stop.set()

    with pytest.raises(fx.Stopped):
        fx.score(found, convolutional, QUICK, settings=SETTINGS, progress=progress, stop=stop)
    assert {told.method for told in seen} == {"whole pictures", "deletion"}
    assert all(told.images < told.images_total for told in seen)


def test_pictures_that_cannot_be_segmented_are_left_out(convolutional, found):
    labels = {image: np.arange(576).reshape(24, 24) // 64 for image in found.ids if image != "2.png"}
    table = fx.score(found, convolutional, fx.Deletion(steps=3, segments=fx.Labels(labels)), settings=SETTINGS, batch=2)
    assert table.ids == ("0.png", "1.png", "3.png", "4.png")
    assert "no label map" in table.left_out["2.png"]


def test_label_maps_are_laid_to_the_images_in_their_order(convolutional, found):
    """Another map for each image: what is hidden is that image's own."""
    labels = np.stack([np.arange(576).reshape(24, 24) // (24 * (i + 1)) for i in range(len(found))])
    config = fx.Deletion(steps=3, segments=fx.Labels(labels))
    whole = fx.score(found, convolutional, config, settings=SETTINGS)
    for place, image in enumerate(found.ids):
        if image in whole.ids:
            own = fx.Deletion(steps=3, segments=fx.Labels(labels[place]))
            alone = fx.score(found, convolutional, own, settings=SETTINGS, images=[image])
            assert alone.of("deletion", "gradcam")[0] == whole.of("deletion", "gradcam")[whole.ids.index(image)]
