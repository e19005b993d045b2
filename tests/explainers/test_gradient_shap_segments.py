import numpy as np
import pytest
import torch

import fastxai as fx
from fastxai.errors import ArgumentError
from fastxai.explainers import EXPLAINERS, GradientShap
from fastxai.explainers.segment_shap_task import TARGETS, products_pay, segment_sums
from fastxai.models import Model
from fastxai.segments import Grid
from fastxai.types import Settings

SIZE = 24
GRID = Grid(rows=3, columns=4)


def normalized(model, pictures):
    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in (model.preprocess.mean, model.preprocess.std))
    return (pictures / 255 - mean) / std


def ready(counts):
    """Label maps with so many segments each: bands of columns, the last ones of one pixel."""
    maps = []
    for count in counts:
        labels = np.arange(SIZE * SIZE).reshape(SIZE, SIZE)
        maps.append(np.minimum(labels // 3, count - 1))
    return np.stack(maps)


@pytest.mark.parametrize("mode", ["forward", "backward"])
def test_a_linear_model_has_a_closed_form(linear, noise_pictures, mode):
    pictures = noise_pictures(2)
    config = GradientShap(samples=3, segments=GRID, mode=mode)
    found = fx.explain(linear, pictures, config, targets="all", settings=Settings())["gradient-shap"]
    x, black = normalized(linear, pictures), normalized(linear, torch.zeros(1, 3, SIZE, SIZE))
    product = ((x - black).unsqueeze(1) * linear.module.weight.detach()).sum(2)  # [N, K, H, W]
    for s in range(12):
        wanted = (product * (found.segments == s).unsqueeze(1)).sum((2, 3))
        np.testing.assert_allclose(found.weights[:, :, s].numpy(), wanted.numpy(), atol=1e-5)
    assert found.delta.abs().max() < 2e-4  # sums of 1,728 float32 products of size 0.1
    assert torch.equal(found.maps[1, 1], found.weights[1, 1][found.segments[1].long()])


@pytest.mark.parametrize(
    "options", [{}, {"stdevs": 0.2, "delta": True}, {"baseline": "random", "delta": True}, {"baseline": "blur"}]
)
def test_both_modes_sum_what_pixels_get(convolutional, noise_pictures, options):
    pictures = noise_pictures(3)
    segments = ready([5, 17, 40])  # one row a sample for the first, three and five for the others
    pixels = fx.explain(convolutional, pictures, GradientShap(samples=5, **options), targets="all")["gradient-shap"]
    for mode in ("forward", "backward"):
        config = GradientShap(samples=5, segments=segments, mode=mode, **options)
        found = fx.explain(convolutional, pictures, config, targets="all", settings=Settings())["gradient-shap"]
        assert found.weights.shape == (3, 6, 40)
        for i, count in enumerate((5, 17, 40)):
            summed = segment_sums(pixels.maps[i], torch.from_numpy(segments[i]).int(), count)
            # float32 sums of up to 1,700 products in two orders
            np.testing.assert_allclose(found.weights[i, :, :count].numpy(), summed.numpy(), rtol=1e-4, atol=1e-5)
            assert torch.isnan(found.weights[i, :, count:]).all()
        np.testing.assert_allclose(found.delta.numpy(), pixels.delta.numpy(), atol=1e-4)


@pytest.fixture(scope="module")
def wide(convolutional, preprocess):
    """A model with more classes than a row of gradients is read at, and than maps are kept of."""
    module = type(convolutional.module)(50)
    return Model(module, preprocess, precision="fp32", compile=False, device="cpu")


@pytest.mark.parametrize("mode", ["forward", "backward", "auto"])
def test_nothing_depends_on_the_batch(wide, noise_pictures, mode):
    pictures, segments = noise_pictures(3), ready([5, 12, 60])

    def explain(images, labels, batch):
        config = GradientShap(samples=3, segments=labels, mode=mode)
        return fx.explain(wide, images, config, targets="all", settings=Settings(), batch=batch)["gradient-shap"]

    together = explain(pictures, segments, 3)
    for i, count in enumerate((5, 12, 60)):
        alone = explain(pictures[i : i + 1], segments[i : i + 1], 1)
        assert torch.equal(alone.weights[0, :, :count], together.weights[i, :, :count])
        assert torch.equal(alone.delta[0], together.delta[i])


def test_auto_takes_products_where_they_pay(convolutional, noise_pictures, monkeypatch):
    """Six classes: three segments are cheaper by products, forty by backward passes, in one batch."""
    assert products_pay(3, 6) and not products_pay(40, 6)
    read = []
    session_read = fx.models.Session.read
    monkeypatch.setattr(
        fx.models.Session,
        "read",
        lambda self, probe, *args: (read.append(probe.name), session_read(self, probe, *args))[1],
    )
    config = GradientShap(samples=4, segments=ready([3, 40]), delta=False)
    found = fx.explain(convolutional, noise_pictures(2), config, targets="all", settings=Settings())["gradient-shap"]
    assert read == ["directions"] * 2 + ["gradients"]  # 4 rows in chunks of 2, 4 rows in one of 8
    assert torch.isfinite(found.weights[0, :, :3]).all() and torch.isfinite(found.weights[1]).all()


def test_many_targets_leave_maps_to_the_reader(wide, noise_pictures, tmp_path):
    pictures = noise_pictures(2)
    explainers = [GradientShap(samples=2, segments=GRID), fx.Lime(samples=8, segments=GRID), fx.GradCam()]
    found = fx.explain(wide, pictures, explainers, targets="all", settings=Settings())
    run = fx.run(wide, pictures, explainers, targets="all", settings=Settings(), out=tmp_path / "run")
    assert found.targets.tolist() == [list(range(50))] * 2
    few = fx.explain(wide, pictures, explainers, targets=[[41, 7]] * 2, settings=Settings())
    for name in ("gradient-shap", "lime", "gradcam"):
        assert "maps" not in found[name].data
        assert found[name].maps.shape == (2, 50, SIZE, SIZE)
        assert torch.equal(found[name].target(41).maps[:, 0], found[name].maps[:, 41])
        np.testing.assert_allclose(found[name].maps[:, 41].numpy(), few[name].maps[:, 0].numpy(), atol=1e-5)
        assert torch.equal(found[name][1].maps, found[name].maps[1])
        assert "maps" not in run[name][:].data
        assert torch.equal(run[name][:].maps, found[name].maps)
        assert torch.equal(run[name][0].target(3).maps, found[name].maps[0, 3:4])
    assert fx.agreement(run, "gradient-shap", "gradcam", target=41).rows()


def test_bad_answers_are_found_without_maps(wide, noise_pictures, monkeypatch):
    """A model that answers one picture's paths with NaN."""
    settings = Settings()
    finish = fx.explainers.gradient_shap.SegmentShapTask.finish

    def broken(self):
        found = dict(finish(self))
        found["weights"][1, 49, 2] = float("nan")
        return found

    monkeypatch.setattr(fx.explainers.gradient_shap.SegmentShapTask, "finish", broken)
    config = GradientShap(samples=2, segments=ready([3, 5]))
    found = fx.explain(wide, noise_pictures(2), config, targets="all", settings=settings)
    assert list(found.failures.values()) == ["the model's answers to gradient-shap are not finite (NaN or Inf)"]


def test_more_classes_than_a_row_is_read_at(wide, noise_pictures):
    pictures = noise_pictures(1)
    config = GradientShap(samples=2, segments=GRID, mode="backward")
    everything = fx.explain(wide, pictures, config, targets="all", settings=Settings())["gradient-shap"]
    few = fx.explain(wide, pictures, config, targets=[[49, 3, 16]], settings=Settings())["gradient-shap"]
    assert everything.weights.shape[1] == 50 > 3 * TARGETS
    np.testing.assert_allclose(everything.weights[0, [49, 3, 16]].numpy(), few.weights[0].numpy(), atol=1e-6)


def test_rows_are_counted_for_forecasts():
    assert GradientShap(samples=20).row_count(1) == {"gradients": 20, "scores": 1}
    assert GradientShap(samples=20, segments="grid").row_count(5) == {"gradients": 20, "scores": 1}
    assert GradientShap(samples=20, segments="grid").row_count(1000) == {"directions": 140, "scores": 1}
    assert GradientShap(samples=2, segments="grid", mode="backward").row_count(40) == {"gradients": 6, "scores": 1}


def test_configuration_round_trips():
    config = GradientShap(samples=7, segments=GRID, mode="forward")
    assert EXPLAINERS.from_dict(config.to_dict()) == config
    assert EXPLAINERS.parse("gradient-shap:samples=7,segments=grid(rows=3,columns=4),mode=forward") == config


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "sideways"}, "mode must be one of auto, forward, backward"),
        ({"mode": "forward"}, "mode must be auto or backward without segments"),
        ({"segments": "gird"}, "segments must be one of"),
        ({"segments": "grid", "attributions": True}, "attributions must be False with segments"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ArgumentError, match=message):
        GradientShap(**options)


def test_all_classes_of_every_pixel_are_refused(preprocess, convolutional, noise_pictures):
    model = Model(type(convolutional.module)(200), preprocess, precision="fp32", compile=False, device="cpu")
    with pytest.raises(ArgumentError, match="targets must be at most 128 for gradient-shap with a value for every"):
        fx.explain(model, noise_pictures(1), GradientShap(), targets="all")


def test_the_engine_calibrates_products(convolutional, noise_pictures):
    config = GradientShap(samples=2, segments=GRID, mode="forward")
    found = fx.explain(convolutional, noise_pictures(1), config)["gradient-shap"]
    assert torch.isfinite(found.weights).all()
