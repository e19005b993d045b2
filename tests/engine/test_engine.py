import numpy as np
import pytest
import torch
from torch import nn

import fastxai as fx
from fastxai.engine import pad
from fastxai.models import Model
from fastxai.transfer import Transfer
from fastxai.types import Preprocess, Status

SETTINGS = fx.Settings(precision="fp32", rows={"predict": 4, "scores": 8, "gradients": 4})
METHODS = (
    fx.Lime(samples=30, segments=fx.Slic(segments=12)),
    fx.GradientShap(samples=5, attributions=True),
    fx.GradCam(),
)


def fields(found, index):
    """Every number of one image, by method and field."""
    for name in found:
        segments = found[name].segments
        count = None if segments is None else int(segments[index].max()) + 1
        for field, value in found[name].data.items():
            one = value[index]
            yield (name, field), one[..., :count] if field == "weights" else one


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_batch_does_not_matter(convolutional, noise_pictures, precision):
    """One picture alone, first and last among 32, in batches of 5, 16 and as packed: every number has the same bits."""
    settings = fx.Settings(precision=precision, rows=SETTINGS.rows)
    others = noise_pictures(32)
    picture, rest = others[:1], others[1:]
    runs = [
        (picture, 0, 16),
        (torch.cat([picture, rest]), 0, 16),
        (torch.cat([rest, picture]), 31, 16),
        (torch.cat([rest[:9], picture, rest[9:]]), 9, 5),
        (torch.cat([rest[:9], picture, rest[9:]]), 9, None),
    ]
    results = [
        dict(fields(fx.explain(convolutional, images, METHODS, targets="top2", settings=settings, batch=batch), place))
        for images, place, batch in runs
    ]
    for other in results[1:]:
        for key, value in results[0].items():
            assert torch.equal(value, other[key]), key


class Counting(nn.Module):
    """Counts the rows that it sees, in a list that copies of the module share."""

    seen: list[int]

    def __init__(self, module):
        super().__init__()
        self.module = module
        self.__dict__["seen"] = Shared()

    def forward(self, x):
        self.seen.append(len(x))
        return self.module(x)


class Shared(list):
    def __deepcopy__(self, memo):
        return self


def test_the_number_of_model_calls_is_exact(convolutional, noise_pictures):
    counting = Counting(convolutional.module)
    model = Model(counting, convolutional.preprocess, precision="fp32", compile=False, device="cpu")
    fx.explain(model, noise_pictures(1), fx.GradCam(layer="module.act"), settings=SETTINGS)
    counting.seen.clear()
    fx.explain(model, noise_pictures(3), fx.GradCam(layer="module.act"), settings=SETTINGS)
    overhead = len(counting.seen) - 1  # opening tries the model out; then one pass serves prediction and Grad-CAM
    assert counting.seen[-1] == 4
    counting.seen.clear()
    methods = (fx.Lime(samples=30, segments=fx.Grid(3, 3)), fx.GradientShap(samples=5), fx.GradCam(layer="module.act"))
    fx.explain(model, noise_pictures(3), methods, targets="top3", settings=SETTINGS)
    # 3 pictures: 1 predict chunk of 4, 90 LIME rows in 12 chunks of 8, 15 gradient rows in 4 chunks of 4 (3 targets
    # from each), and 1 chunk of 8 for the score of the black baseline
    assert counting.seen[overhead:] == [4] + [8] * 12 + [4] * 4 + [8]


class Fragile(nn.Module):
    """Answers NaN for pictures whose first pixel is white."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, x):
        broken = x[:, :1, 0, 0] > 2.9
        return torch.where(broken, float("nan"), self.module(x))


def test_nan_marks_its_image_and_no_other(convolutional, noise_pictures):
    pictures = noise_pictures(4)
    pictures[:, :, 0, 0] = 0
    clean = fx.explain(convolutional, pictures, METHODS, settings=SETTINGS)
    pictures[2, :, 0, 0] = 255
    model = Model(Fragile(convolutional.module), convolutional.preprocess, precision="fp32", device="cpu")
    methods = (*METHODS[:2], fx.GradCam(layer="module.act"))
    found = fx.explain(model, pictures, methods, settings=SETTINGS)
    assert found.status.tolist() == [0, 0, int(Status.MODEL), 0]
    assert found.failures == {found.ids[2]: "the model's scores are not finite (NaN or Inf)"}
    assert torch.isnan(found["lime"].maps[2]).all()
    assert found.predictions[2].tolist() == [-1] * 5
    for index in (0, 1, 3):
        assert torch.equal(found["lime"].maps[index], clean["lime"].maps[index])
        assert torch.equal(found["gradient-shap"].maps[index], clean["gradient-shap"].maps[index])


class FragileRows(Fragile):
    """Answers NaN for copies in which the first pixel is hidden while the second is very bright."""

    def forward(self, x):
        broken = (x[:, :1, 0, 0] < -1.9) & (x[:, :1, 0, 23] > 2.9)
        return torch.where(broken, float("nan"), self.module(x))


def test_nan_in_one_row_of_a_method_fails_that_image(convolutional, noise_pictures):
    pictures = noise_pictures(3)
    pictures[:, :, 0, 0], pictures[:, :, 0, 23] = 255, 0
    pictures[1, :, 0, 23] = 255
    model = Model(FragileRows(convolutional.module), convolutional.preprocess, precision="fp32", device="cpu")
    found = fx.explain(model, pictures, fx.Lime(samples=30, segments=fx.Grid(3, 3)), settings=SETTINGS)
    assert found.status.tolist() == [0, int(Status.MODEL), 0]
    assert "lime" in found.errors[1]
    assert torch.isfinite(found["lime"].maps[[0, 2]]).all()
    assert torch.isnan(found["lime"].maps[1]).all()


def test_bad_images_are_rows_with_reasons(convolutional, noise_pictures, tmp_path):
    from PIL import Image

    for index, picture in enumerate(noise_pictures(2)):
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(tmp_path / f"{index}.png")
    (tmp_path / "0b.png").write_bytes(b"not a picture")
    found = fx.explain(convolutional, tmp_path, METHODS, settings=SETTINGS)
    assert found.ids == ("0.png", "0b.png", "1.png")
    assert found.status.tolist() == [0, int(Status.UNREADABLE), 0]
    assert list(found.failures) == ["0b.png"]
    assert torch.isnan(found["gradcam"].maps[1]).all()
    assert found["lime"].samples.tolist() == [30, -1, 30]


def test_results_that_are_taken_late_are_the_same(convolutional, noise_pictures, monkeypatch):
    """As on a GPU, where the next batch begins before the results of this one are there."""
    pictures = noise_pictures(11)
    pictures[3] = 0
    at_once = fx.explain(convolutional, pictures, METHODS, settings=SETTINGS, batch=4)
    monkeypatch.setattr(Transfer, "behind", 1)
    late = fx.explain(convolutional, pictures, METHODS, settings=SETTINGS, batch=4)
    assert late.ids == at_once.ids
    for name in at_once:
        for field, value in at_once[name].data.items():
            assert torch.equal(value.nan_to_num(-7), late[name].data[field].nan_to_num(-7)), (name, field)


def test_only_bad_images(convolutional, tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    found = fx.explain(convolutional, tmp_path, METHODS, settings=SETTINGS)
    assert found.status.tolist() == [int(Status.UNREADABLE)]
    assert found.predictions.tolist() == [[-1] * 5]


@pytest.mark.parametrize("output", ["sigmoid", "logits"])
def test_one_score_and_one_channel(output):
    pre = Preprocess((8, 8), None, "bilinear", (0.5,), (0.25,))
    model = Model(nn.Sequential(nn.Flatten(), nn.Linear(64, 1)), pre, output=output, precision="fp32", device="cpu")
    pictures = torch.randint(0, 256, (2, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    methods = (fx.Lime(samples=20, segments=fx.Grid(2, 2)), fx.GradientShap(samples=2))
    found = fx.explain(model, pictures, methods, settings=SETTINGS)
    assert found.predictions[:, 0].tolist() == [0, 0]
    assert found.predictions[:, 1:].eq(-1).all()
    assert found["lime"].maps.shape == (2, 1, 8, 8)
    scores = model.module((pictures / 255 - 0.5) / 0.25).detach()
    wanted = scores.sigmoid() if output == "sigmoid" else scores
    np.testing.assert_allclose(found.probabilities[:, 0].numpy(), wanted[:, 0].numpy(), atol=1e-6)


def test_the_callers_module_is_left_alone(convolutional, noise_pictures):
    module = convolutional.module
    before = {name: value.clone() for name, value in module.state_dict().items()}
    flags = [(p.requires_grad, p.grad) for p in module.parameters()]
    training = [m.training for m in module.modules()]
    fx.explain(convolutional, noise_pictures(2), METHODS, settings=SETTINGS)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert [(p.requires_grad, p.grad) for p in module.parameters()] == flags
    assert [m.training for m in module.modules()] == training
    assert not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in module.modules())


def test_labels_as_targets(convolutional, noise_pictures):
    pictures = noise_pictures(3)
    found = fx.explain(convolutional, pictures, fx.GradCam(), targets="label", labels=[4, 0, 77], settings=SETTINGS)
    assert found.targets[:2, 0].tolist() == [4, 0]
    assert found.status.tolist() == [0, 0, int(Status.NO_TARGET)]
    fixed = fx.explain(convolutional, pictures[:2], fx.GradCam(), targets=[4, 0], settings=SETTINGS)
    assert torch.equal(fixed["gradcam"].maps, found["gradcam"].maps[:2])


def test_padding_repeats_the_last_row_in_its_memory_format():
    rows = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    padded = pad(rows, 5)
    assert torch.equal(padded[:2], rows)
    assert torch.equal(padded[4], rows[1])
    assert padded.is_contiguous(memory_format=torch.channels_last)
    assert pad(rows, 2) is rows


def test_rows_of_others_are_read_in_padded_chunks(convolutional):
    from fastxai.engine import Engine
    from fastxai.models import InputGradients, Scores
    from fastxai.targets import Targets

    counting = Counting(convolutional.module)
    model = Model(counting, convolutional.preprocess, precision="fp32", compile=False, device="cpu")
    rows = torch.randn(10, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    targets, asked = torch.arange(20).reshape(10, 2) % 6, []

    def make(start, stop):
        asked.append((start, stop))
        return rows[start:stop]

    with model.open(SETTINGS) as session:
        engine = Engine(session, (), Targets("rank", 1), 0)
        counting.seen.clear()
        scores = engine.read_rows(Scores("logit"), 10, make, targets)
        gradients = engine.read_rows(InputGradients(), 10, make, targets)
    assert asked == [(0, 8), (8, 10), (0, 4), (4, 8), (8, 10)]
    assert counting.seen == [8, 8, 4, 4, 4]
    assert scores.gradients is None
    leaf = rows.clone().requires_grad_()
    wanted = convolutional.module(leaf).gather(1, targets)
    # float32 of a folded copy in calls of another shape
    assert torch.allclose(scores.scores, wanted, atol=1e-5)
    for place in range(2):
        (gradient,) = torch.autograd.grad(wanted[:, place].sum(), leaf, retain_graph=True)
        assert torch.allclose(gradients.gradients[:, place], gradient, atol=1e-5)
