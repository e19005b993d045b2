"""Token grids: found by what depends on what, recorded as maps, and refused where they do not lie in a grid."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fastxai as fx
from fastxai.errors import ArgumentError, CannotRun
from fastxai.models import Model
from fastxai.models.device import check_compiler
from fastxai.models.layouts import MAPS, POSITIONS_FIRST, Layout
from fastxai.types import Preprocess, Settings

WIDTH = 16
ROWS, COLUMNS = 3, 5  # not square: a grid that is turned around would be seen


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(x).chunk(3, dim=-1)
        return self.proj(F.scaled_dot_product_attention(query, key, value))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.attn, self.norm2 = nn.LayerNorm(WIDTH), Attention(), nn.LayerNorm(WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 24), nn.GELU(), nn.Linear(24, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Vit(nn.Module):
    """Patches of 4x4 pixels, `before` and `behind` them tokens of no position, blocks, a mean or the first token."""

    def __init__(
        self,
        before: int = 1,
        behind: int = 0,
        pool: str = "first",
        flatten: Callable[[Tensor], Tensor] = lambda maps: maps.flatten(2).transpose(1, 2),
        blocks: Callable[[], nn.Module] = lambda: nn.Sequential(Block(), Block()),
    ) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.patches = nn.Conv2d(3, WIDTH, 4, stride=4)
            self.before = nn.Parameter(torch.randn(1, before, WIDTH))
            self.behind = nn.Parameter(torch.randn(1, behind, WIDTH))
            self.blocks, self.norm, self.head = blocks(), nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 5)
        self.pool, self.flatten = pool, flatten

    def forward(self, x: Tensor) -> Tensor:
        x = self.flatten(self.patches(x))
        x = torch.cat([self.before.expand(len(x), -1, -1), x, self.behind.expand(len(x), -1, -1)], dim=1)
        x = self.norm(self.blocks(x))
        return self.head(x[:, 0] if self.pool == "first" else x.mean(1))


def wrapped(module: nn.Module, **options: Any) -> Model:
    size = (4 * ROWS, 4 * COLUMNS)
    return Model(module, Preprocess(size, None, "bilinear", (0.5,) * 3, (0.5,) * 3), device="cpu", **options)


def pictures(count: int = 4) -> Tensor:
    return torch.randn(count, 3, 4 * ROWS, 4 * COLUMNS, generator=torch.Generator().manual_seed(1))


def by_hand(module: nn.Module, layer: str, inputs: Tensor, target: int) -> tuple[Tensor, Tensor]:
    """A layer's tokens and the gradients of one target's score, as they come: [B, T, D] each."""
    kept = []
    handle = module.get_submodule(layer).register_forward_hook(lambda *given: kept.append(given[-1]))
    try:
        scores = module(inputs)
    finally:
        handle.remove()
    (gradient,) = torch.autograd.grad(scores[:, target].sum(), kept[0])
    return kept[0].detach(), gradient


@pytest.mark.parametrize("before", [0, 1, 2, 5])
@pytest.mark.parametrize(("pool", "layer"), [("first", "blocks.1.norm1"), ("mean", "norm")])
def test_the_last_layer_whose_patches_the_scores_see(before: int, pool: str, layer: str):
    if before == 0 and pool == "first":
        layer = "norm"  # the first token is a patch
    module = Vit(before, pool=pool)
    with wrapped(module).open(Settings()) as session:
        assert session.cam_layer() == layer
        assert session._lookup.traced().layout(layer, session._lookup.tokens) == Layout(True, (ROWS, COLUMNS), before)
        targets = torch.tensor([[3, 1]] * 4)
        found = session.predict(pictures(), (layer,)).recordings(targets)[layer]
    for k in range(2):
        tokens, gradients = by_hand(module, layer, pictures(), int(targets[0, k]))
        for ours, theirs in ((found.activation, tokens), (found.gradients[:, k], gradients)):
            by_position = theirs[:, before:].reshape(4, ROWS, COLUMNS, WIDTH).permute(0, 3, 1, 2)
            # float32 in another memory format of the patch embedding
            torch.testing.assert_close(ours, by_position, rtol=1e-4, atol=1e-6)


def test_a_head_of_zeros_changes_nothing():
    module = Vit()
    nn.init.zeros_(module.head.weight)  # as torchvision's are before training
    with wrapped(module).open(Settings()) as session:
        assert session.cam_layer() == "blocks.1.norm1"


def test_the_map_is_where_the_picture_was_changed():
    """End to end: the patch that alone is bright is the brightest of the map."""
    module = Vit(2, pool="mean")
    with torch.no_grad():
        module.head.weight[0] = 0
        probe = torch.zeros(2, 3, 4 * ROWS, 4 * COLUMNS)
        probe[1, :, 4:8, 12:16] = 1.0
        kept = []
        module.norm.register_forward_hook(lambda *given: kept.append(given[-1]))
        module(probe)
        changed = (kept[0][1] - kept[0][0])[2:].norm(dim=1)
        assert changed.argmax() == COLUMNS + 3
        module.head.weight[0] = (kept[0][1] - kept[0][0])[2 + COLUMNS + 3]
    module.norm._forward_hooks.clear()
    picture = ((probe[1:] + 1) / 2 * 255).round().to(torch.uint8)
    found = fx.explain(wrapped(module), picture, fx.GradCam(), targets=0, settings=Settings())["gradcam"]
    assert found.native.shape == (1, 1, ROWS, COLUMNS)
    assert found.native[0, 0].argmax() == COLUMNS + 3
    assert found.maps.shape == (1, 1, 4 * ROWS, 4 * COLUMNS)


@pytest.mark.parametrize(
    "layer", ["blocks.0", "blocks.0.attn", "blocks.0.attn.qkv", "blocks.0.norm2", "blocks.0.mlp.1"]
)
def test_token_layers_can_be_named(layer: str):
    with wrapped(Vit()).open(Settings()) as session:
        assert session.check_layer(layer) == layer
        found = session.predict(pictures(), (layer, "patches")).recordings(torch.ones(4, 1, dtype=torch.int64))
    assert found[layer].activation.shape[2:] == found["patches"].activation.shape[2:] == (ROWS, COLUMNS)
    assert found[layer].gradients.abs().max() > 0
    assert found["patches"].gradients.abs().max() > 0, "recording a later layer must not cut off an earlier one"


@pytest.mark.parametrize(
    "options",
    [
        {"flatten": lambda maps: maps.transpose(2, 3).flatten(2).transpose(1, 2)},  # columns before rows
        {"flatten": lambda maps: maps.flip(3).flatten(2).transpose(1, 2)},
        {"flatten": lambda maps: maps.flatten(2).transpose(1, 2).roll(1, 1)},
        {"flatten": lambda maps: maps.flatten(2).transpose(1, 2) + maps.mean((2, 3))[:, None]},
        {"before": 1, "behind": 1},
        {"before": 0, "behind": 1},
        {"flatten": lambda maps: maps.flatten(2)[..., 1:].transpose(1, 2)},  # fewer tokens than positions
    ],
    ids=["columns", "flipped", "rolled", "mixed", "both ends", "behind", "fewer"],
)
def test_tokens_that_do_not_lie_in_a_grid_are_refused_with_what_can_be_named(options: dict[str, Any]):
    with wrapped(Vit(**options)).open(Settings()) as session:
        # The patch embedding itself is the last that lies in a grid; tokens that are seen behind it do not.
        with pytest.raises(ArgumentError, match=r"lie in a grid, got 'blocks\.1', which gives .*feature maps: patches"):
            session.check_layer("blocks.1")
        with pytest.raises(ArgumentError, match="got 'blocks.1'"):
            session.predict(pictures(), ("blocks.1",))


def test_merged_patches_keep_their_place():
    """As in Swin over tokens: attention in windows (here rows) side by side, then squares of patches become one."""

    class Windows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Block()

        def forward(self, x: Tensor) -> Tensor:
            rows = x.unflatten(1, (4, 6)).flatten(0, 1)
            return self.inner(rows).unflatten(0, (len(x), 4)).flatten(1, 2)

    class Merge(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.reduce = nn.LayerNorm(4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

        def forward(self, x: Tensor) -> Tensor:
            maps = x.unflatten(1, (4, 6))
            parts = [maps[:, row::2, column::2] for row in (0, 1) for column in (0, 1)]
            return self.reduce(self.norm(torch.cat(parts, -1).flatten(1, 2)))

    module = Vit(0, pool="mean", blocks=lambda: nn.Sequential(Windows(), Merge(), Block()))
    model = Model(module, Preprocess((16, 24), None), device="cpu")
    with model.open(Settings()) as session:
        assert session.cam_layer() == "norm"
        tokens = session._lookup.tokens()
        assert tokens.layouts["blocks.0"] == Layout(True, (4, 6))
        assert tokens.layouts["blocks.1"] == tokens.layouts["norm"] == Layout(True, (2, 3))
        assert "blocks.0.inner" not in tokens.layouts, "its first dimension is windows, not pictures"


def test_tokens_that_were_mixed_before_they_were_merged_are_not_known():
    """Their shape appears first where every one depends on all patches: earlier layers must not be taken for them."""

    class Pool(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Block()

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x)[:, ::2]

    with wrapped(Vit(0, pool="mean", blocks=lambda: nn.Sequential(Block(), Pool(), Block()))).open(
        Settings()
    ) as session:
        with pytest.raises(ArgumentError, match=r"^layer must be named.*with a grid of tokens: .*blocks\.0"):
            session.cam_layer()
        assert session.check_layer("blocks.0") == "blocks.0"


def test_maps_with_their_positions_first_are_known_by_dependence():
    """Where a norm of a class of its own comes last, shapes alone say too little."""

    class Norm(nn.LayerNorm):
        pass

    class Turned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches, self.mlp = nn.Conv2d(3, WIDTH, 4, stride=4), nn.Linear(WIDTH, WIDTH)
            self.norm, self.head = Norm(WIDTH), nn.Linear(WIDTH, 5)

        def forward(self, x: Tensor) -> Tensor:
            x = self.patches(x).permute(0, 2, 3, 1)
            return self.head(self.norm(self.mlp(x.flatten(1, 2)).unflatten(1, (ROWS, COLUMNS))).mean((1, 2)))

    with wrapped(Turned()).open(Settings()) as session:
        assert session.cam_layer() == "norm"
        found = session.predict(pictures(), ("norm",)).recordings(torch.ones(4, 1, dtype=torch.int64))["norm"]
    assert found.activation.shape == (4, WIDTH, ROWS, COLUMNS)


def test_attention_before_the_first_norm():
    """nn.TransformerEncoder as torch makes it by default: its input is the only tensor whose positions are unmixed."""

    def blocks() -> nn.Module:
        layer = nn.TransformerEncoderLayer(WIDTH, 2, 24, batch_first=True)
        return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    with wrapped(Vit(blocks=blocks)).open(Settings()) as session:
        layer = session.cam_layer()
        assert layer == "blocks.layers.0"  # the next one hands on the class token alone
        found = session.predict(pictures(), (layer,)).recordings(torch.ones(4, 1, dtype=torch.int64))[layer]
        assert found.activation.shape == (4, WIDTH, ROWS, COLUMNS)
        assert found.gradients.abs().amax(dim=(1, 2)).min() > 0


def test_nothing_is_found_in_a_model_that_hides_its_tokens():
    class Hidden(nn.Module):
        """One module for all: what it works on inside is seen by no hook."""

        def __init__(self) -> None:
            super().__init__()
            self.patches, self.head = nn.Conv2d(3, WIDTH, 4, stride=4), nn.Linear(WIDTH, 5)
            self.mix = nn.Linear(ROWS * COLUMNS, 7)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.mix(self.patches(x).flatten(2)).transpose(1, 2)).mean(1)

    with wrapped(Hidden()).open(Settings()) as session:
        assert session.cam_layer() == "patches"
        with pytest.raises(ArgumentError, match="got 'mix', which gives .*layers with feature maps: patches"):
            session.check_layer("mix")


def test_compiled_predictions_record_tokens_too():
    try:
        check_compiler(torch.device("cpu"))
    except CannotRun as error:
        pytest.skip(str(error))
    targets, found = torch.tensor([[2, 0]] * 4), []
    for kinds in ((), ("predict",)):
        with wrapped(Vit(2)).open(Settings(compile=kinds)) as session:
            prediction = session.predict(pictures(), ("blocks.1.norm1",))
            found.append((prediction.logits, prediction.recordings(targets)["blocks.1.norm1"]))
    (logits, eager), (compiled_logits, compiled) = found
    share = 1e-5  # fused loops round in other places
    torch.testing.assert_close(compiled_logits, logits, rtol=share, atol=share)
    assert compiled.activation.shape == (4, WIDTH, ROWS, COLUMNS)
    assert (compiled.activation - eager.activation).norm() <= share * eager.activation.norm()
    assert (compiled.gradients - eager.gradients).norm() <= share * eager.gradients.norm()


def test_layouts():
    tensor = torch.arange(2 * 7 * 4.0).reshape(2, 7, 4)
    layout = Layout(True, (2, 3), 1)
    maps = layout.maps(tensor)
    assert maps.shape == (2, 4, 2, 3)
    assert torch.equal(maps[1, :, 1, 2], tensor[1, 6])
    assert torch.equal(layout.spread(torch.tensor([[1, 2, 3], [4, 5, 6]])).flatten(), torch.arange(7))
    assert (layout.fits(tensor), layout.fits(tensor[:, 1:]), MAPS.fits(tensor)) == (True, False, False)
    assert layout.form == "[B, 1 + 2 * 3, D]"
    four = torch.randn(2, 3, 4, 5)
    assert MAPS.maps(four) is four
    assert torch.equal(POSITIONS_FIRST.maps(four), four.permute(0, 3, 1, 2))
