"""`LayerLookup`: the layers of a model at work, by name: found, checked, and how their outputs are read as maps."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from fastxai.models.layers import Layers
from fastxai.models.layouts import Layout
from fastxai.models.runner import Runner
from fastxai.models.tokens import Tokens, trace_tokens


class LayerLookup:
    """Traced when they are first asked for, by a forward pass."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._layers: Layers | None = None
        self._tokens: Tokens | None = None

    def before_folding(self) -> None:
        """Trace now: folding leaves fewer layers."""
        with torch.no_grad():
            self._layers = Layers.trace(self._runner.module, self._runner.full_precision)

    def automatic(self) -> str:
        """The last layer with feature maps, or with a grid of tokens."""
        return self.traced().automatic(self.tokens)

    def check(self, name: str) -> str:
        """`name`, or `ArgumentError`."""
        return self.traced().check(name, self.tokens)

    def layouts(self, names: Sequence[str]) -> dict[str, Layout]:
        """How the outputs of layers are read as maps."""
        traced = self.traced()
        return {name: traced.layout(name, self.tokens) for name in names}

    def positions_first(self, name: str) -> bool:
        """Whether a layer gives [B, h, w, D]."""
        return self.traced().positions_first(name)

    def traced(self) -> Layers:
        """All layers of the model."""
        runner = self._runner
        module = runner.module
        if self._layers is None:
            with torch.no_grad():
                self._layers = Layers.trace(module, lambda: runner.run(module, runner.blank(1)))
        return self._layers

    def tokens(self) -> Tokens:
        """Its tokens, where it has any."""
        runner = self._runner
        module = runner.module
        if self._tokens is None:
            leaf = runner.blank(2).requires_grad_()
            with runner.reported(leaf):
                self._tokens = trace_tokens(module, lambda: runner.run(module, leaf.clone()))
        return self._tokens
