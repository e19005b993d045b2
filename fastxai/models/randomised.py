"""A model that has forgotten what it learnt, for the sanity check of explanations."""

from __future__ import annotations

import copy
import hashlib
import math

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fastxai.config import check_float
from fastxai.errors import CannotRun
from fastxai.models.device import exact_float32
from fastxai.models.model import Model
from fastxai.models.outputs import find_logits

_PICTURES, _CELLS = 16, 8  # of smooth noise, by which the statistics of batch norms are settled


def randomised(model: Model, share: float, seed: int) -> Model:
    """A copy of `model` in which the parameters of the last `share` of its layers are shuffled.

    Layers are the modules that own parameters, in order of registration; the last ones, next to the scores, go first.
    Every one of their tensors keeps its values and loses their places: what was learnt is gone (Adebayo et al., 2018),
    the trained scale is not, in any architecture. The same seed gives the same places, so that a larger share changes
    only further layers. Running statistics of the batch norms among them are those of smooth noise, not of the
    pictures to explain: with statistics of other weights, scores would be far from any that a network gives. The
    caller's module is not touched.
    """
    check_float("share", share, 0, above=True, high=1)
    module = copy.deepcopy(model.module).eval().requires_grad_(False).float().to("cpu")
    layers = [
        (name, part) for name, part in module.named_modules() if any(True for _ in part.parameters(recurse=False))
    ]
    changed = layers[len(layers) - math.ceil(share * len(layers) - 1e-9) :]
    for layer, part in changed:
        for name, parameter in part.named_parameters(recurse=False):
            _shuffle(parameter, f"{seed}\0{layer}.{name}")
    _settle([part for _, part in changed if isinstance(part, _BatchNorm)], module, model, seed)
    return Model(
        module,
        model.preprocess,
        model.classes,
        model.output,
        name=f"{model.name}, randomised",
        device=model.device,
        precision=model.precision,
        compile=False,
        fold=model.fold,
        class_keys=model.class_keys,
    )


def _generator(text: str) -> torch.Generator:
    hashed = hashlib.blake2b(text.encode(), digest_size=7).digest()  # 56 bits: a seed is signed
    return torch.Generator().manual_seed(int.from_bytes(hashed, "little"))


def _shuffle(parameter: Tensor, text: str) -> None:
    order = torch.randperm(parameter.numel(), generator=_generator(text))
    parameter.data = parameter.data.flatten()[order].reshape(parameter.shape)


def _settle(norms: list[nn.Module], module: nn.Module, model: Model, seed: int) -> None:
    """Give batch norms the mean and variance that they see on smooth noise."""
    kept = []
    for norm in norms:
        if isinstance(norm, _BatchNorm) and norm.running_mean is not None:
            kept.append((norm, norm.momentum))
            norm.reset_running_stats()
            norm.momentum = None  # a plain average
            norm.train()
    if not kept:
        return
    preprocess = model.preprocess
    coarse = torch.rand(_PICTURES, preprocess.channels, _CELLS, _CELLS, generator=_generator(f"{seed}\0noise"))
    pictures = torch.nn.functional.interpolate(coarse, size=preprocess.size, mode="bilinear", align_corners=False)
    mean, std = (torch.tensor(numbers).reshape(-1, 1, 1) for numbers in (preprocess.mean, preprocess.std))
    try:
        with torch.no_grad(), exact_float32():
            find_logits(module((pictures - mean) / std), _PICTURES)
    except Exception as error:
        raise CannotRun(
            f"model {model.name} cannot be randomised: its batch norms failed on noise: "
            f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        ) from error
    for norm, momentum in kept:
        norm.momentum = momentum
        norm.eval()
