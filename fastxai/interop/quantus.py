"""Our methods as a Quantus `explain_func`: `metric(..., explain_func=explain_func, explain_func_kwargs={...})`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fastxai.errors import ArgumentError, ArgumentTypeError, CannotRun
from fastxai.explainers import Explainer, InputXGradient, IntegratedGradients, Saliency, as_explainers
from fastxai.models import Model
from fastxai.pipeline import explain
from fastxai.segments import Grid, Labels
from fastxai.types import Preprocess, Settings

__all__ = ["explain_func"]

# Quantus' own names where the answer is the same up to a factor, with what it sets.
_QUANTUS: dict[str, Explainer] = {
    "Gradient": Saliency(absolute=False),
    "Saliency": Saliency(),
    "InputXGradient": InputXGradient(),
    "IntegratedGradients": IntegratedGradients(steps=10, rule="riemann_trapezoid", delta=False),
}


def explain_func(
    model: nn.Module | Model,
    inputs: NDArray[np.floating[Any]],
    targets: Any,
    *,
    method: str | Explainer = "gradcam",
    preprocess: Preprocess | None = None,
    device: Any = None,
    reduce_axes: Sequence[int] = (1,),
    keepdims: bool = True,
    seed: int = 0,
    settings: Settings | None = None,
) -> NDArray[np.float32]:
    """Explanations [N, 1, H, W] of ready model inputs [N, C, H, W] for one class id each.

    method: a configuration of ours (`fx.GradientShap(samples=50)`), its text ("lime:samples=200,segments=slic"), or
    one of Quantus' names: Gradient, Saliency, InputXGradient, IntegratedGradients (there Quantus has 0.9 times ours,
    for its ten trapezoids cover nine tenths of the path). preprocess: of the inputs, which superpixels and named fills
    need to see the picture behind them; without it black is 0 in the model's input.
    device: of a module; None for that of its parameters. reduce_axes: (1,) sums over channels (keepdims False drops
    the axis), () keeps the channels of methods that have them. settings: of the work; None for float32 with a module,
    and for what a `fastxai.Model` asks for.
    """
    explainer = as_explainers(_QUANTUS.get(method, method) if isinstance(method, str) else method)[0]
    axes = tuple(reduce_axes)
    if axes not in ((), (1,)):
        raise ArgumentError(f"reduce_axes must be (1,) or (), got {reduce_axes!r}")
    if not axes:
        if not hasattr(explainer, "attributions"):
            raise ArgumentError(f"reduce_axes must be (1,) for {explainer.name}, which has no channels, got ()")
        channels: dict[str, Any] = {"attributions": True}
        explainer = replace(explainer, **channels)
    pictures = torch.as_tensor(np.asarray(inputs), dtype=torch.float32)
    if pictures.ndim != 4:
        raise ArgumentError(f"inputs must be [N, C, H, W], got shape {list(pictures.shape)}")
    opened = model if isinstance(model, Model) else _opened(model, pictures, preprocess, device, explainer)
    if settings is None and opened is not model:
        settings = Settings(str(opened.device))
    ids = torch.as_tensor(np.asarray(targets)).to(torch.int64).reshape(-1)
    found = explain(opened, pictures, explainer, targets=ids, seed=seed, normalized=True, settings=settings)
    if found.failures:
        image, reason = next(iter(found.failures.items()))
        raise CannotRun(f"input {image} cannot be explained: {reason}")
    result = found[explainer.name]
    if not axes:
        return result.attributions[:, 0].numpy()
    return (result.maps if keepdims else result.maps[:, 0]).numpy()


def _opened(
    module: Any, pictures: torch.Tensor, preprocess: Preprocess | None, device: Any, explainer: Explainer
) -> Model:
    if not isinstance(module, nn.Module):
        raise ArgumentTypeError(f"model must be an nn.Module or a fastxai.Model, got {type(module).__name__}")
    if preprocess is None:
        if any(not isinstance(segmenter, (Grid, Labels)) for segmenter in explainer.segmenters()):
            raise ArgumentError(
                f"preprocess must be given for {explainer.name}, whose superpixels are those of the picture behind "
                "the model's input, got None"
            )
        channels, height, width = pictures.shape[1:]
        preprocess = Preprocess((height, width), None, mean=(0.0,) * channels, std=(1.0,) * channels)
    first = next(module.parameters(), None)
    where = device if device is not None else ("cpu" if first is None else first.device)
    return Model(module, preprocess, output="logits", device=where, precision="fp32", compile=False)
