"""Derivatives of all scores along many directions at once, by forward-mode differentiation of a frozen module.

A tangent goes through a network beside its primal: linear layers treat it as they treat an input, without their bias,
and an activation multiplies it by its slope at the primal. All directions of a row share one primal, which is computed
once (`torch.func.vmap` over tangents of `torch.func.jvp`). torch's own rules also convolve primals with the zero
tangents of frozen weights and copy what was padded; those here do not, and a direction then costs little more than a
forward pass, where one by torch's rules was measured to cost four to seven.
"""

from __future__ import annotations

import copy
import functools
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.autograd.forward_ad as fwAD
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

from fastxai.errors import CannotRun
from fastxai.memory import out_of_memory
from fastxai.models.probes import Reading

Forward = Callable[[Tensor], Tensor]


def read_derivatives(forward: Forward, points: Tensor, tangents: Tensor, targets: Tensor) -> Reading:
    """A `DirectionalDerivatives` reading of points [R, C, H, W] along tangents [D, R, C, H, W]; targets int64 [R, K].

    `CannotRun` where forward mode does not go through a model.
    """
    try:
        scores, derivatives = directional_derivatives(forward, points, tangents)
    except (NotImplementedError, RuntimeError) as error:
        if out_of_memory(error):
            raise
        raise CannotRun(
            "forward mode does not go through this model (GradientSHAP without it: mode='backward'): "
            f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        ) from error
    by_row = derivatives.permute(1, 2, 0).float()  # [R, classes, D]
    picked = by_row.gather(1, targets.unsqueeze(2).expand(-1, -1, len(tangents)))
    return Reading(scores.float().gather(1, targets), derivatives=picked)


def directional_derivatives(forward: Forward, points: Tensor, tangents: Tensor) -> tuple[Tensor, Tensor]:
    """Scores [R, classes] at points [R, C, H, W], and their derivatives [D, R, classes] along tangents [D, R, C, H, W].

    forward: model inputs -> raw scores [R, classes], with frozen parameters and without autocast, which forward mode
    does not go with. It is run once.
    """

    def ruled(inputs: Tensor) -> Tensor:
        with FrozenTangents():  # in here: a mode around `jvp` is not seen by what `jvp` calls
            return forward(inputs)

    def along(tangent: Tensor) -> tuple[Tensor, Tensor]:
        pair: tuple[Tensor, Tensor] = torch.func.jvp(ruled, (points,), (tangent,))  # type: ignore[assignment]
        return pair

    _load_rules()
    with torch.no_grad(), _plain_attention():
        scores, derivatives = torch.func.vmap(along)(tangents)
    return scores[0], derivatives


def uniform_copy(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A copy of which everything but batch norms is of one type: what needs autocast otherwise runs without it."""
    uniform = copy.deepcopy(module)
    for part in uniform.modules():
        if not isinstance(part, _BatchNorm):
            for tensor in (*part.parameters(recurse=False), *part.buffers(recurse=False)):
                if tensor.is_floating_point():
                    tensor.data = tensor.data.to(dtype)
    return uniform


class FrozenTangents(TorchFunctionMode):
    """Inside it the layers that cost most take these rules for tangents; all others keep those of torch.

    Convolutions and linear layers take their input in the type of their weights: what autocast would do.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        rule = _RULES.get(func)
        if rule is not None:
            return rule(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _linear(func: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def rule(input: Tensor, weight: Tensor, bias: Tensor | None = None, *args: Any, **kwargs: Any) -> Tensor:
        primal, tangent = fwAD.unpack_dual(input.to(weight.dtype))
        if tangent is None:
            return func(primal, weight, bias, *args, **kwargs)
        return fwAD.make_dual(func(primal, weight, bias, *args, **kwargs), func(tangent, weight, None, *args, **kwargs))

    return rule


def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    primal, tangent = fwAD.unpack_dual(input)
    if tangent is None or training or running_mean is None or running_var is None:
        return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    factor = (running_var + eps).rsqrt()
    factor = (factor if weight is None else factor * weight).to(tangent.dtype)
    return fwAD.make_dual(
        F.batch_norm(primal, running_mean, running_var, weight, bias, False, momentum, eps),
        tangent * factor.reshape(-1, *[1] * (input.ndim - 2)),
    )


def _pad(input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    primal, tangent = fwAD.unpack_dual(input)
    if tangent is None or mode != "constant" or input.ndim != 4 or len(pad) > 4:
        return F.pad(input, pad, mode, value)
    # Channels last, for both: torch pads a batch of tangents into another layout, and then copies it.
    around = (0, 0, *pad)
    return fwAD.make_dual(
        F.pad(primal.permute(0, 2, 3, 1), around, value=value).permute(0, 3, 1, 2),
        F.pad(tangent.permute(0, 2, 3, 1), around).permute(0, 3, 1, 2),
    )


def _relu(input: Tensor, inplace: bool = False) -> Tensor:
    primal, tangent = fwAD.unpack_dual(input)
    if tangent is None:
        return F.relu(input, inplace)
    slope = primal > 0  # before an activation in place changes it
    return _sloped(F.relu(primal, inplace), tangent, slope, inplace)


def _hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    primal, tangent = fwAD.unpack_dual(input)
    if tangent is None:
        return F.hardtanh(input, min_val, max_val, inplace)
    slope = (primal > min_val) & (primal < max_val)
    return _sloped(F.hardtanh(primal, min_val, max_val, inplace), tangent, slope, inplace)


def _relu6(input: Tensor, inplace: bool = False) -> Tensor:
    return _hardtanh(input, 0.0, 6.0, inplace)


def _sloped(value: Tensor, tangent: Tensor, slope: Tensor, inplace: bool) -> Tensor:
    """The tangent times a slope that all directions share; in place where the layer is, which spares a large tensor."""
    slope = slope.to(tangent.dtype)
    return fwAD.make_dual(value, tangent.mul_(slope) if inplace else tangent * slope)


_RULES: dict[Callable[..., Any], Callable[..., Tensor]] = {
    F.conv2d: _linear(F.conv2d),
    F.linear: _linear(F.linear),
    F.batch_norm: _batch_norm,
    F.pad: _pad,
    F.relu: _relu,
    F.relu6: _relu6,
    F.hardtanh: _hardtanh,
}


@functools.cache
def _load_rules() -> None:
    """torch loads forward mode when it is first used, by a function that it has itself deprecated."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`torch.jit.script", category=FutureWarning)
        with fwAD.dual_level():
            fwAD.make_dual(torch.zeros(1), torch.zeros(1))


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Attention by matrix products: fused forms have no forward mode."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
