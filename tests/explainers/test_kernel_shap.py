"""KernelSHAP: Shapley values by brute force, efficiency, exact numbers of calls, rows until it is sure enough."""

from __future__ import annotations

import itertools
from math import factorial

import pytest
import torch
from torch import nn

import fastxai as fx
from fastxai.errors import ArgumentError
from fastxai.explainers import EXPLAINERS
from fastxai.models import Model

CELLS = 6
GRID = fx.Grid(2, 3)


class Game(nn.Module):
    """A game on the cells of a 2x3 grid: a cell plays where it is not black. Two scores, with pairs and triples."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.single = nn.Parameter(torch.randn(CELLS, 2, generator=generator))
        self.pairs = nn.Parameter(0.4 * torch.randn(2, CELLS, CELLS, generator=generator))
        self.calls = 0

    def forward(self, x):
        cells = torch.nn.functional.adaptive_avg_pool2d(x.amax(1, keepdim=True), (2, 3)).flatten(1)
        return self.of((cells > 0.05).to(x.dtype))

    def of(self, kept):
        triple = kept[:, :1] * kept[:, 2:3] * kept[:, 4:5]
        pairs = torch.einsum("ni,kij,nj->nk", kept, self.pairs, kept)
        return kept @ self.single + pairs + triple


@pytest.fixture(scope="module")
def game(preprocess):
    plain = fx.Preprocess(preprocess.size, None, "bilinear", (0.0,) * 3, (1.0,) * 3)
    return Model(Game(), plain, output="logits", precision="fp32", compile=False, device="cpu")


@pytest.fixture(scope="module")
def pictures(preprocess):
    return torch.randint(100, 256, (3, 3, *preprocess.size), generator=torch.Generator().manual_seed(4)).to(torch.uint8)


def by_hand(module: Game) -> torch.Tensor:
    """[K, S]"""
    phi = torch.zeros(2, CELLS, dtype=torch.float64)
    for members in itertools.product([0.0, 1.0], repeat=CELLS):
        value = module.of(torch.tensor([members])).detach()[0].double()
        for cell, kept in enumerate(members):
            others = int(sum(members) - kept)
            share = factorial(others) * factorial(CELLS - others - 1) / factorial(CELLS)
            phi[:, cell] += value * (share if kept else -share)
    return phi


@pytest.mark.parametrize("surrogate", ["linear", "smooth"])
def test_all_coalitions_give_shapley_values(game, pictures, surrogate):
    config = fx.KernelShap(samples=2**CELLS, segments=GRID, surrogate=surrogate, explains="logit")
    found = fx.explain(game, pictures, config, targets=[[0, 1]] * 3)["kernel-shap"]
    wanted = by_hand(game.module)
    # The regression is exact, to the rounding of float32 scores; a process leaves what its nugget allows.
    share = 1e-5 if surrogate == "linear" else 0.02
    for image in range(3):
        assert (found.weights[image].double() - wanted).norm() < share * wanted.norm()
    torch.testing.assert_close(found.base, torch.zeros(3, 2), atol=1e-6, rtol=0)
    assert found.samples.tolist() == [2**CELLS] * 3


@pytest.mark.parametrize("samples", [4, 5, 9, 20])
@pytest.mark.parametrize("surrogate", ["linear", "smooth"])
def test_efficiency_holds_with_any_number_of_rows(game, pictures, samples, surrogate):
    config = fx.KernelShap(samples=samples, segments=GRID, surrogate=surrogate, explains="logit")
    found = fx.explain(game, pictures, config, targets=[[0, 1]] * 3)["kernel-shap"]
    whole = game.module.of(torch.ones(1, CELLS)).detach()[0]
    for image in range(3):
        # sums of six float32 numbers
        torch.testing.assert_close(found.weights[image].sum(-1) + found.base[image], whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("surrogate", ["linear", "smooth"])
def test_results_do_not_depend_on_the_batch(game, pictures, surrogate):
    config = fx.KernelShap(samples=24, segments=GRID, surrogate=surrogate, explains="logit")
    rows = {"predict": 4, "scores": 8, "gradients": 8}
    together = fx.explain(game, pictures, config, settings=fx.Settings(rows=rows))["kernel-shap"]
    alone = fx.explain(game, pictures, config, settings=fx.Settings(rows=rows), batch=1)["kernel-shap"]
    assert torch.equal(together.weights, alone.weights)
    maps = torch.stack([together.weights[i, 0][together.segments[i].long()] for i in range(3)])
    assert torch.equal(together.maps[:, 0], maps)


def test_rows_until_the_errors_are_small_enough(convolutional, noise_pictures):
    pictures = noise_pictures(4)
    grid = fx.Grid(6, 6)

    def rows(tolerance, most=600, **more):
        config = fx.KernelShap(samples="auto", segments=grid, tolerance=tolerance, most=most, **more)
        found = fx.explain(convolutional, pictures, config)
        return found["kernel-shap"], found.timings["kernel-shap"].rows

    loose, few = rows(0.5)
    tight, many = rows(0.02)
    assert few == int(loose.samples.sum())
    assert many == int(tight.samples.sum())
    assert (loose.samples <= tight.samples).all()
    assert tight.samples.max() > 128
    span = tight.weights.amax(-1) - tight.weights.amin(-1)
    sure = (tight.stderr.amax(-1) <= 0.02 * span)[:, 0]
    assert (sure | (tight.samples == 600)).all()
    single = fx.KernelShap(samples="auto", segments=grid, tolerance=0.02, most=600)
    alone = fx.explain(convolutional, pictures[2:3], single, batch=1)["kernel-shap"]
    assert alone.samples[0] == tight.samples[2]
    torch.testing.assert_close(alone.weights[0], tight.weights[2])


def test_exact_number_of_calls(convolutional, noise_pictures):
    for samples, segments, read in ((4, 16, 4), (64, 16, 64), (101, 16, 101), (101, 4, 16)):  # 2^4 and no more
        config = fx.KernelShap(samples=samples, segments=fx.Grid(segments // 4, 4))
        found = fx.explain(convolutional, noise_pictures(2), config)
        assert found.timings["kernel-shap"].rows == 2 * read
        assert found["kernel-shap"].samples.tolist() == [read] * 2


def test_a_single_segment_has_it_all(convolutional, noise_pictures):
    for surrogate in ("linear", "smooth"):
        config = fx.KernelShap(samples=8, segments=fx.Grid(1, 1), surrogate=surrogate)
        found = fx.explain(convolutional, noise_pictures(1), config)
        result = found["kernel-shap"]
        # probabilities of the same picture in calls of other shapes
        assert result.weights[0, 0, 0] + result.base[0, 0] == pytest.approx(found.probabilities[0, 0].item(), abs=1e-5)


def test_configuration_prints_and_round_trips():
    config = fx.KernelShap(samples=10, fill=(1, 2, 3), segments="slic:segments=9", name="other")
    assert EXPLAINERS.from_dict(config.to_dict()) == config
    assert EXPLAINERS.parse("kernel-shap:samples=auto").samples == "auto"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 3}, "samples must be at least 4, got 3"),
        ({"samples": "many"}, 'samples must be a whole number or "auto"'),
        ({"samples": "auto", "surrogate": "linear"}, 'samples must be a number unless surrogate is "smooth"'),
        ({"tolerance": 0}, "tolerance must be a number above 0"),
        ({"most": 10}, "most must be at least 128"),
        ({"surrogate": "forest"}, "surrogate must be one of linear, smooth"),
        ({"fill": "white"}, "fill must be"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ArgumentError, match=message):
        fx.KernelShap(**options)
