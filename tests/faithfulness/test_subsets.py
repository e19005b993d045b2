import numpy as np
import pytest
import torch

import fastxai as fx
from fastxai import sampling
from fastxai.errors import ArgumentError
from fastxai.faithfulness import MEASURES
from fastxai.faithfulness.subsets import draw_subsets
from tests.faithfulness.conftest import SETTINGS, TARGETS, answer, cells, filled, normalized, score, with_maps

CONFIGS = [
    fx.MuFidelity(samples=12, segments=fx.Grid(4, 3)),
    fx.MuFidelity(samples=5, segments=None, share=0.5, score="logit", fill="mean"),
    fx.SensitivityN(samples=6, segments=fx.Grid(5, 5), sizes=(0.1, 0.6), fill="blur", blur=2.0),
    fx.Infidelity(samples=9, segments=fx.Grid(3, 4), share=0.3),
    fx.Infidelity(samples=4, normalize=False, score="logit", fill=(0, 255, 9)),
]


def naive(model, found, image, place, one, config):
    """One subset after the other; correlations by numpy."""
    x = normalized(model, found.images[image][None])[0]
    fill, target = filled(model, x, config.fill, config.blur), TARGETS[image][place]
    units = cells(config, *one.shape)
    count = int(units.max()) + 1
    keys = sampling.stream_keys(0, [found.digests[image]], config.method)
    sizes = config.sizes if isinstance(config, fx.SensitivityN) else (config.share,)
    values, ordinal = [], 0
    for share in sizes:
        size, sums, falls = int(np.floor(share * count + 0.5)), [], []
        for _ in range(config.samples):
            ordinal += 1
            (subset,) = draw_subsets(keys, 0, np.array([ordinal]), count, np.array([size]))
            hidden = np.isin(units, np.flatnonzero(subset))
            assert len(np.unique(units[hidden])) == size
            copy = x.clone()
            copy[:, hidden] = fill[:, hidden]
            sums.append(float(one.double().numpy()[hidden].sum()))
            falls.append(answer(model, x, target, config.score) - answer(model, copy, target, config.score))
        a, b = np.array(sums), np.array(falls)
        if isinstance(config, fx.Infidelity):
            beta = (a @ b) / (a @ a) if config.normalize else 1.0
            values.append(np.mean((beta * a - b) ** 2))
        else:
            values.append(np.corrcoef(a, b)[0, 1])
    return np.mean(values)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"{config.name} {config.segments}")
def test_against_a_naive_twin(convolutional, found, config):
    table = score(found, convolutional, config)
    for method in ("lime", "saliency", "random"):
        maps = found[method].maps
        for image in range(2):
            wanted = np.mean([naive(convolutional, found, image, k, maps[image, k], config) for k in range(2)])
            # falls are differences of float32 scores, of some 1e-2, whose last bits differ with the rows a call
            assert table.of(config.name, method)[image] == pytest.approx(wanted, rel=1e-3, abs=1e-4)


def test_an_additive_model_is_foretold_exactly(linear, noise_pictures):
    pictures = noise_pictures(3)
    found = fx.explain(linear, pictures, (fx.Saliency(), fx.Random()), targets=[0, 1, 1], settings=SETTINGS)
    black = normalized(linear, torch.zeros(1, 3, 1, 1))
    exact = ((normalized(linear, pictures) - black) * linear.module.weight.detach()[[0, 1, 1]]).sum(1, keepdim=True)
    found = with_maps(found, "saliency", exact)
    measures = [
        fx.MuFidelity(samples=20, score="logit", segments=fx.Grid(6, 6)),
        fx.SensitivityN(samples=20, score="logit", segments=fx.Grid(6, 6)),
        fx.Infidelity(samples=20, score="logit", segments=fx.Grid(6, 6), normalize=False),
        fx.Infidelity(samples=20, score="logit", segments=fx.Grid(6, 6), name="scaled"),
    ]
    table = score(found, linear, measures)
    assert (table.of("mu-fidelity", "saliency") > 1 - 1e-6).all()
    assert (table.of("sensitivity-n", "saliency") > 1 - 1e-6).all()
    # float32 sums of 1728 products: an error of 1e-5 squared
    assert (table.of("infidelity", "saliency") < 1e-8).all()
    assert (table.of("mu-fidelity", "random") < 0.9).all()
    assert (table.of("infidelity", "random") > 1e-2).all()
    doubled = score(with_maps(found, "saliency", 2 * exact), linear, measures)
    assert (doubled.of("scaled", "saliency") < 1e-8).all()
    assert (doubled.of("infidelity", "saliency") > 1e-2).all()


def test_subsets_are_keyed_and_of_one_size():
    keys = sampling.stream_keys(3, ["a" * 32, "b" * 32], "mu-fidelity")
    ordinal, sizes = np.arange(1, 401), np.full(400, 5)
    first = draw_subsets(keys, 0, ordinal, 40, sizes)
    assert (first.sum(1) == 5).all()
    np.testing.assert_array_equal(first[7:9], draw_subsets(keys, 0, ordinal[7:9], 40, sizes[7:9]))
    assert (first != draw_subsets(keys, 1, ordinal, 40, sizes)).any(1).mean() > 0.9
    assert abs(first.mean(0) - 5 / 40).max() < 0.07  # 4 standard deviations of 400 coin flips at 1/8


def test_methods_and_targets_share_the_rows(convolutional, found):
    rows = []
    config = fx.SensitivityN(samples=5, sizes=(0.1, 0.2, 0.3))
    assert config.row_count(4, 2) == config.row_count(1, 1) == 16
    score(found, convolutional, config, progress=rows.append)
    assert rows[-1].rows == 3 * (1 + 16)


def test_values_do_not_depend_on_the_batch(convolutional, found):
    measures = [fx.MuFidelity(samples=7), fx.SensitivityN(samples=4), fx.Infidelity(samples=5, segments=None)]
    runs = [score(found, convolutional, measures, batch=batch) for batch in (1, 3)]
    alone = score(found, convolutional, measures, images=[found.ids[1]], methods=["lime"])
    for name, values in runs[0].values.items():
        np.testing.assert_array_equal(values, runs[1].values[name])
        if name in alone.values:
            assert alone.of(name, "lime")[0] == runs[0].of(name, "lime")[1]


def test_a_constant_map_has_no_correlation(convolutional, found):
    flat = with_maps(found, "saliency", torch.ones_like(found["saliency"].maps))
    table = score(flat, convolutional, [fx.MuFidelity(samples=6, segments=fx.Grid(4, 4)), fx.Infidelity(samples=6)])
    assert np.isnan(table.of("mu-fidelity", "saliency")).all()
    assert np.isfinite(table.of("infidelity", "saliency")).all()
    assert table.summary("mu-fidelity", "saliency").count == 0


def test_configurations_round_trip():
    for config in (*CONFIGS, fx.MuFidelity(), fx.SensitivityN()):
        assert MEASURES.from_dict(config.to_dict()) == config
    parsed = MEASURES.parse("sensitivity-n:sizes=[0.1,0.5],samples=9,segments=none")
    assert parsed == fx.SensitivityN(sizes=(0.1, 0.5), samples=9, segments=None)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fx.MuFidelity(samples=2), "samples must be at least 3"),
        (lambda: fx.MuFidelity(share=0), "share must be a number above 0"),
        (lambda: fx.SensitivityN(sizes=()), "sizes must hold at least one"),
        (lambda: fx.SensitivityN(sizes=(0.5, 2)), "sizes must be a number above 0 and at most 1"),
        (lambda: fx.Infidelity(normalize=1), "normalize must be True or False"),
    ],
)
def test_wrong_options_are_refused(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()
