import numpy as np
import pytest
import torch

import fastxai as fx
from fastxai import ops
from fastxai.errors import ArgumentError
from fastxai.explainers import EXPLAINERS, Lime

from .conftest import SETTINGS, normalized


def test_an_additive_model_is_recovered(linear, noise_pictures):
    """Scores are linear in the pixels, so a segment's weight is the change that its pixels make against black."""
    pictures = noise_pictures(3)
    lime = Lime(samples=400, segments=fx.Grid(4, 4), explains="logit", alpha=1e-6)
    found = fx.explain(linear, pictures, lime, targets=[[0, 1]] * 3)["lime"]
    x = pictures.double() / 255 / torch.tensor([0.2, 0.25, 0.3]).double().reshape(3, 1, 1)
    effect = (x[:, None] * linear.module.weight.detach().double()).sum(2)  # [N, K, H, W]
    segments = found.segments.long()
    for image in range(3):
        for cell in range(16):
            wanted = effect[image, :, segments[image] == cell].sum(-1)
            # float32 scores of size 1 carry 1e-6, and the ridge shrinks by alpha / sum(w z) ~ 1e-6
            np.testing.assert_allclose(found.weights[image, :, cell].numpy(), wanted.numpy(), atol=2e-4)
    assert found.score.min() > 0.99999
    whole = (linear.module(((pictures / 255.0) - torch.tensor([0.4, 0.5, 0.6]).reshape(3, 1, 1))
             / torch.tensor([0.2, 0.25, 0.3]).reshape(3, 1, 1))).detach()  # fmt: skip
    np.testing.assert_allclose(found.local_pred.numpy(), whole.numpy(), atol=2e-4)


def test_maps_paint_the_weights(convolutional, noise_pictures):
    found = fx.explain(convolutional, noise_pictures(2), Lime(samples=30, segments="grid:rows=3,columns=2"))["lime"]
    for image in range(2):
        painted = found.weights[image, 0][found.segments[image].long()]
        assert torch.equal(found.maps[image, 0], painted)


def test_hidden_segments_show_the_fill(photos):
    crop = torch.from_numpy(np.ascontiguousarray(photos["coffee"][:24, :24].transpose(2, 0, 1)))
    labels = torch.from_numpy(fx.Grid(2, 2).label(np.zeros((24, 24, 3), np.uint8), "x"))
    for fill in ("black", "mean", (10, 200, 30)):
        lime = Lime(samples=40, segments=fx.Grid(2, 2), fill=fill)
        copies = lime.perturbed(crop, labels, "d" * 32, 0, 8)
        assert torch.equal(copies[0], crop)  # row 0 keeps everything
        kept = fx_unpacked(lime, copies.shape[0])
        for row in range(8):
            for cell in range(4):
                inside = labels == cell
                shown = copies[row][:, inside]
                if kept[row, cell]:
                    assert torch.equal(shown, crop[:, inside])
                elif fill == "mean":
                    assert torch.equal(
                        shown, crop[:, inside].double().mean(1).to(torch.uint8)[:, None].expand_as(shown)
                    )
                else:
                    colour = torch.tensor([0, 0, 0] if fill == "black" else fill, dtype=torch.uint8)
                    assert torch.equal(shown, colour[:, None].expand_as(shown))


def fx_unpacked(lime, rows):
    from fastxai import ops

    return ops.unpack(lime.coalitions(["d" * 32], torch.tensor([4]), 0, rows)[0], 4)


def test_ready_model_input_gives_the_same(convolutional, noise_pictures):
    pictures = noise_pictures(2)
    pre = convolutional.preprocess
    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in (pre.mean, pre.std))
    lime = Lime(samples=40, segments=fx.Grid(3, 3), sampling="lime")
    plain = fx.explain(convolutional, pictures, lime)["lime"]
    ready = fx.explain(convolutional, (pictures / 255 - mean) / std, lime, normalized=True)["lime"]
    assert torch.equal(plain.weights, ready.weights)


def test_configuration_prints_and_round_trips():
    lime = Lime(samples=10, fill=(1, 2, 3), segments="slic:segments=9", name="other")
    assert EXPLAINERS.from_dict(lime.to_dict()) == lime
    assert EXPLAINERS.parse("lime:samples=10,fill=[1,2,3],segments=slic(segments=9),name=other") == lime
    assert "samples=10" in repr(lime)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 1}, "samples must be at least 2, got 1"),
        ({"samples": 2.5}, "samples must be a whole number"),
        ({"kernel_width": 0}, "kernel_width must be a number above 0"),
        ({"alpha": -1.0}, "alpha must be a number above 0"),
        ({"fill": "white"}, "fill must be"),
        ({"fill": (1, 2, 300)}, "fill must be"),
        ({"sampling": "sobol"}, "sampling must be one of bernoulli, paired, lime"),
        ({"surrogate": "forest"}, "surrogate must be one of linear, lasso, smooth"),
        ({"samples": "auto"}, "samples must be a number unless surrogate"),
        ({"samples": "all"}, 'samples must be a whole number or "auto"'),
        ({"explains": "loss"}, "explains must be one of probability, logit"),
        ({"name": "My Lime"}, "name must be lower-case"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ArgumentError, match=message):
        Lime(**options)


def test_a_fill_of_another_number_of_channels_is_refused(linear, noise_pictures):
    with pytest.raises(ArgumentError, match="fill must have 3 channels"):
        fx.explain(linear, noise_pictures(1), Lime(fill=(1,)))


@pytest.mark.parametrize("sampling", ["bernoulli", "paired"])
def test_the_smooth_surrogate_recovers_an_additive_model(linear, noise_pictures, sampling):
    pictures, grid = noise_pictures(2), fx.Grid(4, 4)
    plain = Lime(samples=2000, segments=grid, explains="logit", alpha=1e-6)
    smooth = Lime(samples=60, segments=grid, explains="logit", surrogate="smooth", sampling=sampling)
    wanted = fx.explain(linear, pictures, plain, targets=[[0, 1]] * 2)["lime"]
    found = fx.explain(linear, pictures, smooth, targets=[[0, 1]] * 2)["lime"]
    error = (found.weights - wanted.weights).norm(dim=-1) / wanted.weights.norm(dim=-1)
    assert error.max() < 0.06  # 60 rows leave room for interactions that this model does not have
    assert found.score.min() > 0.99
    assert (found.stderr.norm(dim=-1) < 0.1 * found.weights.norm(dim=-1)).all()
    torch.testing.assert_close(found.local_pred, wanted.local_pred, atol=0.06, rtol=0)
    torch.testing.assert_close(found.intercept, wanted.intercept, atol=0.06, rtol=0)


def test_a_smooth_surrogate_needs_fewer_calls(convolutional, noise_pictures):
    """For the same number of rows it is closer to what many rows give."""
    pictures, grid = noise_pictures(4), fx.Grid(5, 5)
    wanted = fx.explain(convolutional, pictures, Lime(samples=6000, segments=grid))["lime"].weights

    def error(**options):
        found = fx.explain(convolutional, pictures, Lime(samples=150, segments=grid, **options))["lime"].weights
        return ((found - wanted).norm(dim=-1) / wanted.norm(dim=-1)).median()

    assert error(surrogate="smooth", sampling="paired") < 0.7 * error()


def test_rows_until_the_coefficients_are_sure_enough(convolutional, noise_pictures):
    pictures, grid = noise_pictures(4), fx.Grid(6, 6)
    auto = Lime(samples="auto", surrogate="smooth", sampling="paired", segments=grid, tolerance=0.05, most=500)
    found = fx.explain(convolutional, pictures, auto)
    result = found["lime"]
    assert found.timings["lime"].rows == int(result.samples.sum())
    sure = (result.stderr.norm(dim=-1) <= 0.05 * result.weights.norm(dim=-1))[:, 0]
    assert (sure | (result.samples == 500)).all()
    alone = fx.explain(convolutional, pictures[1:2], auto, batch=1)["lime"]
    assert alone.samples[0] == result.samples[1]
    torch.testing.assert_close(alone.weights[0], result.weights[1])
    rough = Lime(samples="auto", surrogate="smooth", segments=grid, tolerance=5.0)
    assert fx.explain(convolutional, pictures, rough)["lime"].samples.tolist() == [128] * 4


@pytest.mark.parametrize("fill", ["black", "mean", (30.0, 200.0, 90.0)])
def test_distances_of_pictures_and_a_lasso_are_captums_lime(convolutional, noise_pictures, fill):
    """Against `captum.attr.Lime` on the same coalitions; alpha is smaller than its default, as this model's effects."""
    import captum.attr
    from captum._utils.models.linear_model import SkLearnLasso

    alpha = 2e-4

    config = Lime(
        samples=60,
        segments=fx.Grid(4, 4),
        fill=fill,
        distance="pictures",
        kernel_width=1.0,
        surrogate="lasso",
        alpha=alpha,
        explains="logit",
    )
    pictures = noise_pictures(2)
    found = fx.explain(convolutional, pictures, config, targets="top2", settings=SETTINGS)
    result, x = found["lime"], normalized(convolutional, pictures)
    words = config.coalitions(found.digests, result.counts, 0, 60)
    chosen: list[bool] = []
    for image in range(2):
        mask = result.segments[image].long()[None, None]
        kept = ops.unpack(words[image], 16).long()
        hidden = hidden_pictures(pictures[image], mask[0, 0], fill)
        for place in range(2):
            stock = captum.attr.Lime(convolutional.module, SkLearnLasso(alpha=alpha), perturb_func=one_by_one(kept))
            theirs = stock.attribute(
                x[image : image + 1],
                baselines=normalized(convolutional, hidden)[None],
                target=int(found.targets[image, place]),
                feature_mask=mask,
                n_samples=60,
                return_input_shape=False,
            )
            chosen += (theirs != 0).flatten().tolist()
            # scikit-learn's lasso on both sides, to its tolerance of 1e-4, on scores from calls of other shapes
            assert torch.allclose(result.weights[image, place], theirs.flatten(), rtol=1e-3, atol=1e-6)
    assert 0 < sum(chosen) < len(chosen)


def hidden_pictures(picture, labels, fill):
    """The picture with every segment hidden, float [3, H, W]; means are cut to whole numbers."""
    if isinstance(fill, tuple):
        return torch.tensor(fill).reshape(3, 1, 1).expand(picture.shape)
    shown = torch.zeros(picture.shape)
    for label in labels.unique() if fill == "mean" else []:
        inside = labels == label
        shown[:, inside] = picture[:, inside].float().mean(1, keepdim=True).floor()
    return shown


def one_by_one(rows):
    def draw(original, **options):
        yield from rows.split(1)

    return draw


def test_a_lasso_and_distances_of_pictures_do_not_feel_the_batch(convolutional, noise_pictures):
    labels = np.stack([fx.Grid(side, 4).label(np.zeros((24, 24, 3), np.uint8), "x") for side in (2, 4, 9)])

    def explained(images):
        config = Lime(
            samples=60, segments=labels[images], distance="pictures", surrogate="lasso", alpha=1e-5, kernel_width=0.6
        )
        return fx.explain(convolutional, noise_pictures(3)[images], config, settings=SETTINGS)["lime"]

    together = explained(slice(0, 3))
    assert together.weights.nan_to_num().any(2).all()
    for image, count in enumerate((8, 16, 36)):
        alone = explained(slice(image, image + 1))
        assert torch.equal(alone.weights[0], together.weights[image][:, :count])
        assert torch.equal(alone.score[0], together.score[image])


def test_distances_of_pictures_need_a_surrogate_on_the_rows():
    with pytest.raises(ArgumentError, match='distance must be "coalitions" where surrogate is "smooth"'):
        Lime(surrogate="smooth", distance="pictures")
