"""Captum's attribution classes on our engine: `from fastxai.interop.captum import Lime` in place of `captum.attr`.

Signatures, draws (from torch's and numpy's global generators), defaults and results are Captum's, and so are the
surrogates: the classes are subclasses of Captum's, and only the model is read by the engine, in full chunks on a folded
copy. forward_func may be a module, a `fastxai.Model` (for its precision), or a function.

`perturbations_per_eval` decides nothing here: rows are packed by the engine, and chunks get smaller where memory ends.
"""

from __future__ import annotations

import inspect
import itertools
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from captum._utils.common import _format_output, _is_tuple
from captum._utils.progress import progress
from captum.attr import GradientShap as CaptumGradientShap
from captum.attr import KernelShap as CaptumKernelShap
from captum.attr import LayerGradCam as CaptumLayerGradCam
from captum.attr import Lime as CaptumLime
from captum.attr._core.lime import construct_feature_mask
from captum.attr._utils.common import _format_input_baseline
from captum.log import log_usage
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from fastxai import solve
from fastxai.config import check_int
from fastxai.errors import ArgumentError, ArgumentTypeError
from fastxai.explainers import GradCam
from fastxai.interop._kept import KeptModel
from fastxai.interop._masked import masked_rows
from fastxai.interop._ready import check_all_explained, image_batch, layer_name
from fastxai.models import InputGradients, Scores
from fastxai.models.layouts import MAPS

__all__ = ["GradientShap", "KernelShap", "LayerGradCam", "Lime"]


class _OnSegments:
    """What `Lime` and `KernelShap` share: Captum's samples and surrogate, the engine's readings."""

    def _attribute_kwargs(
        self,
        inputs: Any,
        baselines: Any = None,
        target: Any = None,
        additional_forward_args: Any = None,
        feature_mask: Any = None,
        n_samples: int = 25,
        perturbations_per_eval: int = 1,
        return_input_shape: bool = True,
        show_progress: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Captum's own extension point behind `attribute`; results are as Captum's."""
        pictures = _only(inputs, additional_forward_args)
        check_int("n_samples", n_samples, 1)
        check_int("perturbations_per_eval", perturbations_per_eval, 1)
        formatted, given = _format_input_baseline(inputs, baselines)
        (mask,), features = construct_feature_mask(feature_mask, formatted)
        base = torch.as_tensor(given[0], dtype=pictures.dtype, device=pictures.device)
        base, mask = base.expand_as(pictures), mask.to(pictures.device).long().expand_as(pictures)
        found = []
        with _shown(self, show_progress, n_samples * len(pictures)) as on_rows:
            with self._kept.engine(pictures, {"scores": n_samples}, on_rows=on_rows) as engine:  # type: ignore[attr-defined]
                ids = class_ids(target, len(pictures), engine.session.classes_out)
                # A picture after the other, as Captum does: its fits draw from the global generator too.
                for i in range(len(pictures)):
                    one = slice(i, i + 1)
                    own = {"baselines": base[one], "feature_mask": mask[one], "num_interp_features": features, **kwargs}
                    samples = _samples(self, pictures[one], n_samples, own)
                    rows = masked_rows(engine.session, pictures[one], base[one], mask[one], samples.bool())
                    count = len(samples)
                    reading = engine.read_rows(Scores("logit"), count, rows, ids[one].expand(count, 1))
                    values = reading.scores[:, 0].to(samples.device)
                    data = TensorDataset(samples.float(), values, self._weights(pictures[one], samples, own).float())
                    self.interpretable_model.fit(DataLoader(data, batch_size=count))  # type: ignore[attr-defined]
                    found.append(self.interpretable_model.representation())  # type: ignore[attr-defined]
        if not return_input_shape:
            return found[0] if len(found) == 1 else torch.cat([weights.reshape(1, -1) for weights in found])
        painted = [weights.flatten().to(mask.device)[mask[i]] for i, weights in enumerate(found)]
        return _format_output(_is_tuple(inputs), (torch.stack(painted).float(),))

    def _weights(self, picture: Tensor, samples: Tensor, kwargs: dict[str, Any]) -> Tensor:
        """How much each sample counts in the fit, [n]."""
        raise NotImplementedError


class Lime(_OnSegments, CaptumLime):  # type: ignore[misc]  # captum ships no types
    """`captum.attr.Lime`: by default a lasso (alpha 0.01) on 25 samples, weighed by exp(-d^2 / 2), d the cosine
    distance of the perturbed input from the input."""

    def __init__(
        self, forward_func: Any, interpretable_model: Any = None, similarity_func: Any = None, perturb_func: Any = None
    ) -> None:
        self._kept = KeptModel(forward_func)
        self._by_images = similarity_func is None
        super().__init__(forward_func, interpretable_model, similarity_func, perturb_func)

    def _weights(self, picture: Tensor, samples: Tensor, kwargs: dict[str, Any]) -> Tensor:
        base, mask = kwargs["baselines"], kwargs["feature_mask"]
        if self._by_images:
            moments = solve.SegmentMoments.of(picture, base, mask, kwargs["num_interp_features"])
            return solve.image_kernel(samples.bool()[None], moments, 1.0)[0]
        found = []
        for sample in samples:
            shown = self.from_interp_rep_transform(sample[None], picture, **kwargs)
            weight = self.similarity_func(picture, shown, sample[None], **kwargs)
            found.append(torch.as_tensor(weight, device=samples.device).reshape(()))
        return torch.stack(found)


class KernelShap(_OnSegments, CaptumKernelShap):  # type: ignore[misc]
    """`captum.attr.KernelShap`: least squares on the samples all, none, and random ones of sizes by the Shapley
    kernel; the first two weigh `inf_weight` (1e6), the others 1."""

    def __init__(self, forward_func: Any) -> None:
        self._kept = KeptModel(forward_func)
        super().__init__(forward_func)

    def _weights(self, picture: Tensor, samples: Tensor, kwargs: dict[str, Any]) -> Tensor:
        return solve.end_point_weights(samples.bool()[None], self.inf_weight)[0]


class GradientShap(CaptumGradientShap):  # type: ignore[misc]
    """`captum.attr.GradientShap`; its gradients and scores are read by the engine."""

    def __init__(self, forward_func: Any, multiply_by_inputs: bool = True) -> None:
        self._kept = KeptModel(forward_func)
        super().__init__(self._scores, multiply_by_inputs)
        self.gradient_func = self._gradients

    def _scores(self, inputs: Tensor) -> Tensor:
        """Raw scores [R, classes] of inputs [R, C, H, W], without a graph: for convergence deltas."""
        found = self._kept.read(
            Scores("logit"),
            inputs,
            lambda session, start, stop: inputs[start:stop],
            lambda classes: torch.arange(classes).expand(len(inputs), classes),
            len(inputs),
        )
        return found.scores.to(inputs.device, inputs.dtype)

    def _gradients(
        self, forward_func: Any, inputs: tuple[Tensor, ...], target: Any = None, additional_forward_args: Any = None
    ) -> tuple[Tensor, ...]:
        """Captum's `compute_gradients`: of the targets' raw scores for one tensor [R, C, H, W]."""
        points = _only(inputs, additional_forward_args)
        reading = self._kept.read(
            InputGradients(),
            points,
            lambda session, start, stop: points[start:stop],
            lambda classes: class_ids(target, len(points), classes),
            len(points),
        )
        assert reading.gradients is not None
        return (reading.gradients[:, 0].to(points.device, points.dtype),)


class LayerGradCam(CaptumLayerGradCam):  # type: ignore[misc]
    """`captum.attr.LayerGradCam`: the signed sum over channels, at the layer's own size, not scaled."""

    def __init__(self, forward_func: Any, layer: nn.Module, device_ids: list[int] | None = None) -> None:
        self._kept = KeptModel(forward_func)
        self._name = layer_name(self._kept.module, layer)
        super().__init__(forward_func, layer, device_ids)

    @log_usage(part_of_slo=True)  # type: ignore[untyped-decorator]  # tools call what it wraps
    def attribute(
        self,
        inputs: Any,
        target: Any = None,
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
        relu_attributions: bool = False,
        attr_dim_summation: bool = True,
        grad_kwargs: Any = None,
    ) -> Tensor:
        """Inputs [N, C, H, W] -> maps [N, 1, h, w]."""
        pictures = _only(inputs, additional_forward_args)
        for name, value, wanted in (
            ("attribute_to_layer_input", attribute_to_layer_input, False),
            ("attr_dim_summation", attr_dim_summation, True),
            ("grad_kwargs", grad_kwargs, None),
        ):
            if value != wanted:
                raise ArgumentError(f"{name} must be {wanted}, got {value!r}: use captum.attr.LayerGradCam for it")
        config = GradCam(self._name)
        rows, count = {"predict": len(pictures)}, len(pictures)
        with self._kept.engine(
            pictures, rows, explainers=(config,), targets=lambda classes: class_ids(target, count, classes)
        ) as engine:
            if engine.session.layout(self._name) != MAPS:
                raise ArgumentError(
                    f"layer must give feature maps [B, D, h, w], got {self._name!r}: for tokens use fastxai.GradCam"
                )
            images = image_batch(pictures)
            explained = engine.explain(images)
        check_all_explained(images)
        maps = explained.methods[config.name]["native"].to(pictures.device, pictures.dtype)
        return maps.relu() if relu_attributions else maps


def class_ids(target: Any, rows: int, classes: int) -> Tensor:
    """Captum's `target` for outputs [rows, classes] as int64 [rows, 1].

    A number, a tensor with one, or one a row as a list or tensor [rows]; None where the model has one score.
    """
    if target is None:
        if classes != 1:
            raise ArgumentError(f"target must be a class for a model with {classes} scores, got None")
        target = 0
    if isinstance(target, tuple) or (isinstance(target, list) and any(isinstance(entry, tuple) for entry in target)):
        raise ArgumentTypeError(f"target must be a class id or one for each input, got {target!r}: scores are 2D here")
    ids = torch.as_tensor(target)
    if ids.is_floating_point() or ids.dtype == torch.bool or ids.is_complex():
        raise ArgumentTypeError(f"target must be a class id or one for each input, got {ids.dtype}")
    if ids.numel() != 1 and ids.shape != (rows,):
        raise ArgumentError(f"target must be one class id, or one for each of {rows} inputs, got {list(ids.shape)}")
    ids = ids.detach().cpu().to(torch.int64).reshape(-1, 1).expand(rows, 1)
    if int(ids.min()) < 0 or int(ids.max()) >= classes:
        raise ArgumentError(f"target must be between 0 and {classes - 1}, got {ids.flatten().tolist()}")
    return ids


def _only(inputs: Any, additional_forward_args: Any) -> Tensor:
    """The one tensor [N, C, H, W] that can be explained here."""
    if additional_forward_args is not None:
        raise ArgumentError("additional_forward_args must be None, got some: bind them in a function forward_func")
    tensors = inputs if isinstance(inputs, tuple) else (inputs,)
    if len(tensors) != 1 or not isinstance(tensors[0], Tensor):
        raise ArgumentTypeError(
            f"inputs must be one tensor [N, C, H, W], got {len(tensors)} of type {type(tensors[0]).__name__}: "
            "for several use captum.attr"
        )
    found = tensors[0].detach()
    if found.ndim != 4 or 0 in found.shape or not found.is_floating_point():
        raise ArgumentError(
            f"inputs must be float model input [N, C, H, W], got {found.dtype} of shape {list(found.shape)}"
        )
    return found


@contextmanager
def _shown(method: Any, show: bool, total: int) -> Iterator[Callable[[str, int], None]]:
    """Captum's progress bar, where it is asked for: what to tell it of rows."""
    if not show:
        yield lambda name, rows: None
        return
    bar = progress(total=total, desc=f"{method.get_name()} attribution")
    try:
        yield lambda name, rows: bar.update(rows)
    finally:
        bar.close()


def _samples(method: Any, picture: Tensor, count: int, kwargs: dict[str, Any]) -> Tensor:
    """What Captum's object draws for a picture [1, C, H, W], from the same global generator: [n, S]."""
    draw = method.perturb_func
    if inspect.isgeneratorfunction(draw):
        drawn: Iterator[Tensor] = draw(picture, **kwargs)
    else:
        drawn = (draw(picture, **kwargs) for _ in itertools.count())
    found = list(itertools.islice(drawn, count))
    if not found:
        raise ArgumentError("perturb_func must give at least one sample, got none")
    if len(found) < count:
        warnings.warn("Generator completed prior to given n_samples iterations!", stacklevel=2)
    return torch.cat(found)
