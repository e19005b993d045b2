import itertools

import numpy as np
import pytest
import torch

import fastxai as fx
from fastxai.errors import ArgumentError
from fastxai.faithfulness import MEASURES
from tests.faithfulness.conftest import SETTINGS, TARGETS, answer, cells, filled, normalized, score, with_maps

CONFIGS = [
    fx.Deletion(steps=7),
    fx.Deletion(steps=5, fill="mean", score="logit"),
    fx.Deletion(steps=4, fill=(255, 0, 10.5), segments=fx.Grid(3, 5)),
    fx.Insertion(steps=6, blur=3.0),
    fx.Insertion(steps=3, fill="black", score="logit", segments=fx.Grid(2, 2)),
    fx.Aopc(steps=5, share=0.3),
]


def naive_curve(model, picture, one, config, target):
    """One copy after the other, every unit hidden by hand."""
    x = normalized(model, picture[None])[0]
    fill = filled(model, x, config.fill, config.blur)
    units = cells(config, *one.shape)
    count = units.max() + 1
    values = one.double().numpy()
    means = values.ravel() if config.segments is None else [values[units == unit].mean() for unit in range(count)]
    order = sorted(range(count), key=lambda unit: (-means[unit], unit))
    most = config.share if isinstance(config, fx.Aopc) else 1.0
    scores = []
    for step in range(config.steps + 1):
        changed = np.isin(units, order[: int(np.floor(count * most * step / config.steps + 0.5))])
        hidden = ~changed if isinstance(config, fx.Insertion) else changed
        copy = x.clone()
        copy[:, hidden] = fill[:, hidden]
        scores.append(answer(model, copy, target, config.score))
    return np.array(scores)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"{config.name} {config.fill} {config.segments}")
def test_against_a_naive_twin(convolutional, found, config):
    table = score(found, convolutional, config)
    for method in found:
        curves = []
        for image in range(2):
            values = []
            for place in range(2):
                curve = naive_curve(
                    convolutional, found.images[image], found[method].maps[image, place], config, TARGETS[image][place]
                )
                if isinstance(config, fx.Aopc):
                    values.append(np.mean(curve[0] - curve))
                else:
                    values.append(sum((a + b) / 2 / config.steps for a, b in itertools.pairwise(curve)))
                curves.append(curve)
            # float32 scores of calls of one row and of eight differ in the last bits
            assert table.of(config.name, method)[image] == pytest.approx(np.mean(values), rel=1e-5, abs=1e-6)
    assert table.curves[config.name].at[-1] == (config.share if isinstance(config, fx.Aopc) else 1.0)


def test_the_mean_curve_is_kept(convolutional, found):
    config = fx.Deletion(steps=3)
    table = score(found, convolutional, config, methods=["saliency"], images=1)
    wanted = [naive_curve(convolutional, found.images[0], found["saliency"].maps[0, k], config, TARGETS[0][k])
              for k in range(2)]  # fmt: skip
    points = table.curves["deletion"]
    assert points.at == (0.0, 1 / 3, 2 / 3, 1.0)
    np.testing.assert_allclose(points.means["saliency"], np.mean(wanted, axis=0), rtol=1e-5)  # float32 scores
    assert set(points.means) == {"saliency", "random"}


def test_an_additive_model_has_no_better_order_than_its_own(linear, noise_pictures):
    """Of f = sum of pixels times weights, the contributions of pixels are the exact map."""
    pictures = noise_pictures(3)
    found = fx.explain(linear, pictures, (fx.Saliency(), fx.Random()), targets=[0, 1, 1], settings=SETTINGS)
    black = normalized(linear, torch.zeros(1, 3, 1, 1))
    weights = linear.module.weight.detach()[[0, 1, 1]]
    exact = ((normalized(linear, pictures) - black) * weights).sum(1)  # [N, H, W]
    found = with_maps(found, "saliency", exact[:, None])
    settings = {"steps": 24, "score": "logit", "fill": "black"}
    table = score(found, linear, [fx.Deletion(**settings), fx.Insertion(**settings)])
    assert (table.of("deletion", "saliency") < table.of("deletion", "random")).all()
    assert (table.of("insertion", "saliency") > table.of("insertion", "random")).all()
    # What is gone in one curve is there in the other: they add up to f(x) + f(black) at every step.
    scores = linear.module(normalized(linear, pictures)) + linear.module(black.expand(3, 3, 24, 24))
    wanted = scores.detach().gather(1, torch.tensor([[0], [1], [1]]))[:, 0].double().numpy()
    for method in ("saliency", "random"):
        both = table.of("deletion", method) + table.of("insertion", method)
        np.testing.assert_allclose(both, wanted, atol=1e-4)  # float32 sums of 1728 products of size 1
    reverse = score(with_maps(found, "saliency", -exact[:, None]), linear, fx.Deletion(**settings))
    assert (reverse.of("deletion", "saliency") > table.of("deletion", "random")).all()


def test_ties_go_in_raster_order(convolutional, found):
    flat = with_maps(found, "saliency", torch.zeros_like(found["saliency"].maps))
    falling = torch.linspace(1, 0, 576).reshape(24, 24).expand(3, 2, 24, 24)
    a, b = (score(each, convolutional, fx.Deletion(steps=5)) for each in (flat, with_maps(found, "saliency", falling)))
    np.testing.assert_array_equal(a.of("deletion", "saliency"), b.of("deletion", "saliency"))


def test_values_do_not_depend_on_the_batch(convolutional, found):
    measures = [fx.Deletion(steps=6), fx.Insertion(steps=3, segments=fx.Grid(3, 3)), fx.Aopc(steps=2)]
    runs = [score(found, convolutional, measures, batch=batch) for batch in (1, 2, 3)]
    alone = score(found, convolutional, measures, images=[found.ids[2]], methods=["gradcam"])
    for name in ("deletion", "insertion", "aopc"):
        for other in runs[1:]:
            np.testing.assert_array_equal(runs[0].values[name], other.values[name])
        assert alone.of(name, "gradcam")[0] == runs[0].of(name, "gradcam")[2]
        assert alone.of(name, "random")[0] == runs[0].of(name, "random")[2]


def test_the_number_of_model_calls_is_exact(found, convolutional):
    rows = []
    config = fx.Deletion(steps=6)
    assert config.row_count(4, 2) == 4 * 2 * 7
    score(found, convolutional, config, progress=rows.append)
    assert rows[-1].rows == rows[-1].rows_total == 3 * (1 + 4 * 2 * 7)  # one for each whole picture
    assert (rows[-1].images, rows[-1].images_total) == (3, 3)
    assert [r.images for r in rows] == sorted(r.images for r in rows)


def test_configurations_round_trip():
    for config in (*CONFIGS, fx.Insertion(name="other")):
        assert MEASURES.from_dict(config.to_dict()) == config
    parsed = MEASURES.parse("deletion:steps=9,fill=[1,2,3],segments=grid(rows=2,columns=3),score=logit,name=a")
    assert parsed == fx.Deletion(steps=9, fill=(1, 2, 3), segments=fx.Grid(2, 3), score="logit", name="a")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps must be at least 1"),
        ({"fill": "white"}, "fill must be"),
        ({"blur": 0}, "blur must be"),
        ({"score": "loss"}, "score must be one of"),
        ({"name": "A b"}, "name must be"),
        ({"segments": "voronoi"}, "segments must be"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ArgumentError, match=message):
        fx.Deletion(**options)


def test_what_does_not_fit_the_model_is_refused(convolutional, found):
    with pytest.raises(ArgumentError, match="fill must have 3 channels"):
        score(found, convolutional, fx.Deletion(fill=(1, 2)))
    with pytest.raises(ArgumentError, match="grid must have at most 24 rows"):
        score(found, convolutional, fx.Deletion(segments=fx.Grid(25, 2)))
    with pytest.raises(ArgumentError, match="share must be"):
        fx.Aopc(share=1.5)
