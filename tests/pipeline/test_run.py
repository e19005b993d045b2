import json

import numpy as np
import pytest
import torch
from PIL import Image

import fastxai as fx
from fastxai.errors import ArgumentError

SETTINGS = fx.Settings(precision="fp32", rows={"predict": 4, "scores": 8, "gradients": 4})
METHODS = (fx.Lime(samples=20, segments=fx.Slic(segments=9)), fx.GradientShap(samples=2), fx.GradCam())


@pytest.fixture
def folder(tmp_path, noise_pictures):
    place = tmp_path / "pictures"
    place.mkdir()
    for index, picture in enumerate(noise_pictures(7)):
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(place / f"{index}.png")
    (place / "3b.png").write_bytes(b"broken")
    return place


def same(run, found):
    read = run.read(0, len(run))
    order = [read.ids.index(i) for i in found.ids]
    assert torch.equal(read.status[order], found.status)
    for name in found:
        for field, value in found[name].data.items():
            assert torch.equal(read[name].data[field][order].nan_to_num(-7), value.nan_to_num(-7)), (name, field)


@pytest.mark.parametrize("form", ["full", "compact"])
def test_a_run_holds_what_explain_returns(convolutional, folder, tmp_path, form):
    found = fx.explain(convolutional, folder, METHODS, settings=SETTINGS, targets="top2")
    out = {"out": tmp_path / "run", "shard_images": 3, "store": form}
    run = fx.run(convolutional, folder, METHODS, settings=SETTINGS, targets="top2", batch=2, **out)
    assert len(run) == 8
    assert list(run.failures) == ["3b.png"]
    same(run, found)
    assert run.summary.images == 8
    assert run.summary.failed == 1
    assert run.summary.timings["lime"].rows == 7 * 20
    assert run.summary.timings["gradcam"].rows == 0
    assert len(list((tmp_path / "run" / "shards").glob("*.h5"))) >= 2
    torch.testing.assert_close(run["lime"][0].maps, found["lime"].maps[found.ids.index(run.ids[0])])


def test_resume_explains_what_is_missing_or_changed(convolutional, folder, tmp_path, noise_pictures):
    late = folder / "6.png"
    kept = late.read_bytes()
    late.unlink()
    out = tmp_path / "run"
    fx.run(convolutional, folder, METHODS, out=out, settings=SETTINGS)
    late.write_bytes(kept)
    changed = 255 - noise_pictures(1)[0].permute(1, 2, 0).numpy()
    Image.fromarray(changed).save(folder / "0.png")
    run = fx.run(convolutional, folder, METHODS, out=out, resume=True)  # settings come from the run
    assert run.summary.images == 2
    assert run.summary.skipped == 6
    assert len(run) == 8
    same(run, fx.explain(convolutional, folder, METHODS, settings=SETTINGS))
    again = fx.run(convolutional, folder, METHODS, out=out, resume=True)
    assert again.summary.images == 0


def test_a_run_of_another_kind_is_refused(convolutional, folder, tmp_path):
    out = tmp_path / "run"
    fx.run(convolutional, folder, METHODS, out=out, settings=SETTINGS)
    with pytest.raises(ArgumentError, match="resume"):
        fx.run(convolutional, folder, METHODS, out=out)
    with pytest.raises(ArgumentError, match="seed is 0 there, 1 here"):
        fx.run(convolutional, folder, METHODS, out=out, resume=True, seed=1)
    with pytest.raises(ArgumentError, match="samples is 20 there, 30 here"):
        fx.run(
            convolutional,
            folder,
            (fx.Lime(samples=30, segments=fx.Slic(segments=9)), *METHODS[1:]),
            out=out,
            resume=True,
        )
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.doc").write_text("x")
    with pytest.raises(ArgumentError, match="out must be a new or empty folder"):
        fx.run(convolutional, folder, METHODS, out=full)


def test_calibrated_settings_are_recorded_first(convolutional, folder, tmp_path):
    fx.run(convolutional, folder, METHODS, out=tmp_path / "run")
    data = json.loads((tmp_path / "run" / "run.json").read_text())
    assert data["schema"] == 1
    assert data["settings"]["precision"] == "fp32"
    assert set(data["settings"]["rows"]) >= {"predict", "scores", "gradients"}
    assert data["settings"]["threads"] == torch.get_num_threads()


def test_progress_counts_images_and_rows(convolutional, folder):
    seen = []
    fx.explain(convolutional, folder, METHODS, settings=SETTINGS, progress=seen.append, batch=3)
    assert [p.images for p in seen] == sorted(p.images for p in seen)
    assert seen[-1].images == seen[-1].images_total == 8
    assert seen[-1].failed == 1
    assert seen[-1].seconds_left == 0
    assert {p.method for p in seen} == {"predict", "lime", "gradient-shap", ""}
    assert all(p.rows <= p.rows_total for p in seen)


def test_an_exception_in_the_middle_stops_the_threads(convolutional, folder):
    import threading

    before = threading.active_count()

    def stop(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fx.explain(convolutional, folder, METHODS, settings=SETTINGS, progress=stop, batch=1)
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "embedded"}, "model must be a fastxai Model"),
        ({"explainers": []}, "explainers must hold at least one"),
        ({"explainers": (fx.GradCam(), fx.GradCam())}, "different names"),
        ({"explainers": fx.Quickshift()}, "explainers must be configurations"),
        ({"seed": -1}, "seed must be between"),
        ({"targets": 6}, "targets must be between 0 and 5"),
        ({"batch": 0}, "batch must be at least 1"),
        ({"images": "no/such/folder"}, "no/such/folder"),
        ({"images": np.zeros((1, 24, 24, 3))}, "images"),
    ],
)
def test_wrong_arguments_are_refused(convolutional, noise_pictures, change, message):
    given = {"model": convolutional, "images": noise_pictures(1), "explainers": fx.GradCam(), **change}
    with pytest.raises(ArgumentError, match=message):
        fx.explain(**given)
