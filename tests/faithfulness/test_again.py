"""The measures that explain again: randomised weights, and other seeds."""

import numpy as np
import pytest
import scipy.stats
import torch

import fastxai as fx
from fastxai.errors import ArgumentError
from fastxai.faithfulness import MEASURES
from fastxai.faithfulness.correlation import pearson, spearman
from fastxai.faithfulness.sanity import ssim
from fastxai.models import randomised
from tests.faithfulness.conftest import METHODS, SETTINGS, TARGETS, score


def test_sanity_compares_with_maps_of_the_randomised_model(convolutional, found):
    table = score(found, convolutional, fx.Sanity())
    forgot = randomised(convolutional, 1.0, 0)
    again = fx.explain(forgot, found.images, METHODS, targets=TARGETS, settings=SETTINGS)
    for method in ("lime", "saliency", "gradcam"):
        for image in range(3):
            a, b = found[method].maps[image].numpy(), again[method].maps[image].numpy()
            ranks = [scipy.stats.spearmanr(a[k].ravel(), b[k].ravel()).statistic for k in range(2)]
            assert table.of("sanity-spearman", method)[image] == pytest.approx(np.nanmean(ranks))
            alike = [ssim(a[k], b[k]) for k in range(2)]
            assert table.of("sanity-ssim", method)[image] == pytest.approx(np.nanmean(alike))
    assert (table.of("sanity-spearman", "saliency") < 0.9).all()
    # noise asks no model: it fails the check by as much as can be
    np.testing.assert_allclose(table.of("sanity-spearman", "random"), 1.0)
    np.testing.assert_allclose(table.of("sanity-ssim", "random"), 1.0)


def test_a_cascade_is_the_mean_of_its_stages(convolutional, found):
    config = fx.Sanity(layers="cascade", stages=2)
    table = score(found, convolutional, config, methods=["saliency"])
    stages = []
    for share in (0.5, 1.0):
        other = randomised(convolutional, share, 0)
        again = fx.explain(other, found.images, fx.Saliency(), targets=TARGETS, settings=SETTINGS)["saliency"].maps
        stages.append([[spearman(found["saliency"].maps[i, k].numpy(), again[i, k].numpy()) for k in range(2)]
                       for i in range(3)])  # fmt: skip
    wanted = np.mean(stages, axis=(0, 2))
    np.testing.assert_allclose(table.of("sanity-spearman", "saliency"), wanted)
    assert table.curves["sanity"].at == (0.5, 1.0)
    np.testing.assert_allclose(table.curves["sanity"].means["saliency"], np.mean(stages, axis=(1, 2)))


def test_stability_is_the_agreement_of_seeds(convolutional, found):
    config = fx.Stability(seeds_more=2)
    table = score(found, convolutional, config, batch=2)
    seeds = [
        fx.explain(convolutional, found.images, METHODS, targets=TARGETS, seed=seed, settings=SETTINGS)["lime"].maps
        for seed in (0, 1, 2)
    ]
    for image in range(3):
        ranks, tops = [], []
        for place in range(2):
            for i, j in ((0, 1), (0, 2), (1, 2)):
                a, b = (seeds[n][image, place].numpy().ravel() for n in (i, j))
                ranks.append(scipy.stats.spearmanr(a, b).statistic)
                first, second = (set(np.argsort(-one, kind="stable")[:115].tolist()) for one in (a, b))
                tops.append(len(first & second) / len(first | second))
        assert table.of("stability", "lime")[image] == pytest.approx(np.mean(ranks))
        assert table.of("stability-top", "lime")[image] == pytest.approx(np.mean(tops))
    assert np.isnan(table.of("stability", "gradcam")).all()  # it draws nothing
    # noise of two seeds: 576 independent numbers, 4 standard deviations; a fifth in common by chance is 1 / 9
    assert (np.abs(table.of("stability", "random")) < 4 / 24).all()
    assert (np.abs(table.of("stability-top", "random") - 1 / 9) < 0.06).all()


def test_more_samples_are_more_stable(convolutional, noise_pictures):
    def lime(name, samples):
        return fx.Lime(samples=samples, segments=fx.Grid(4, 4), name=name)

    methods = (lime("few", 20), lime("many", 600))
    found = fx.explain(convolutional, noise_pictures(2), methods, targets=1, settings=SETTINGS)
    table = score(found, convolutional, fx.Stability(seeds_more=1))
    assert (table.of("stability", "many") > table.of("stability", "few")).all()
    assert table.summary("stability", "many").mean > 0.9


def test_methods_that_are_not_taken_are_not_explained_again(convolutional, found):
    seen = []
    score(found, convolutional, fx.Stability(seeds_more=3), progress=lambda p: seen.append((p.method, p.rows)))
    assert {name for name, _ in seen} == {"whole pictures", "predict", "lime", ""}
    assert seen[-1][1] == 3 + 3 * 3 * (1 + 30)  # every picture as it is; three seeds of predictions and of LIME


def test_correlations():
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=(2, 50))
    assert pearson(a, b) == pytest.approx(scipy.stats.pearsonr(a, b).statistic)
    ties = np.round(a, 0).astype(np.float32)
    assert spearman(ties, b.astype(np.float32)) == pytest.approx(scipy.stats.spearmanr(ties, b).statistic)
    assert np.isnan(pearson(np.full(50, 0.1), b))
    assert np.isnan(pearson(a, np.where(b > 0, np.nan, b)))
    assert np.isnan(spearman(np.zeros((5, 5), np.float32), np.ones((5, 5), np.float32)))


def test_ssim_knows_the_scale_of_no_map():
    one = np.random.default_rng(0).normal(size=(20, 30)).astype(np.float32)
    other = np.random.default_rng(1).normal(size=(20, 30)).astype(np.float32)
    assert ssim(one, 7 * one) == pytest.approx(1.0)
    assert abs(ssim(one, other)) < 0.2
    assert np.isnan(ssim(one, np.zeros_like(one)))
    assert ssim(one[:3, :4], one[:3, :4]) == pytest.approx(1.0)  # smaller than the usual window


def test_configurations_round_trip():
    for config in (fx.Sanity(layers="cascade", stages=3), fx.Stability(seeds_more=1, kinds=("lime", "rise"))):
        assert MEASURES.from_dict(config.to_dict()) == config
    assert MEASURES.parse("stability:kinds=[lime,rise],seeds_more=1") == fx.Stability(1, ("lime", "rise"))
    assert fx.Stability(kinds="lime").kinds == ("lime",)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fx.Sanity(layers="some"), "layers must be one of all, cascade"),
        (lambda: fx.Sanity(stages=0), "stages must be at least 1"),
        (lambda: fx.Stability(seeds_more=0), "seeds_more must be at least 1"),
        (lambda: fx.Stability(kinds=("limes",)), "kinds must be methods like lime, got 'limes'"),
        (lambda: fx.Stability(share=0), "share must be"),
    ],
)
def test_wrong_options_are_refused(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()


def test_a_baseline_that_a_run_does_not_keep_is_refused_before_any_work(convolutional, noise_pictures, tmp_path):
    config = fx.ExpectedGradients(baseline=noise_pictures(2), samples=2)
    run = fx.run(convolutional, noise_pictures(1), config, out=tmp_path / "run", settings=SETTINGS)
    with pytest.raises(ArgumentError, match="baseline must be given again"):
        fx.score(run, convolutional, fx.Sanity())
    assert torch.isfinite(run["expected-gradients"][0].maps).all()
    assert len(fx.score(run, convolutional, fx.Deletion(steps=2))) == 1  # which needs the maps alone
