"""Results as the `shap` package's own objects."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastxai.errors import ArgumentError, MissingExtra
from fastxai.results import Found
from fastxai.types import Status


def to_shap(found: Found, name: str = "gradient-shap") -> Any:
    """The explained images as a `shap.Explanation` that `shap.image_plot` draws.

    values [N, H, W, C, K] (C = 1 for a method that keeps only maps), data [N, H, W, C], output_names [N, K].
    Failed images are left out.
    """
    try:
        import shap
    except ImportError as error:
        raise MissingExtra("to_shap", "interop") from error
    result = found[name]
    if found.images is None:
        raise ArgumentError("found must hold the pictures: this run was made without them")
    good = (found.status == int(Status.OK)).nonzero().flatten()
    if not len(good):
        raise ArgumentError("found must hold at least one image that was explained, got none")
    if "attributions" in result.data:
        values = result.attributions[good].permute(0, 3, 4, 2, 1)  # [N, K, C, H, W] -> [N, H, W, C, K]
    else:
        values = result.maps[good].permute(0, 2, 3, 1).unsqueeze(3)
    names = [[found.class_name(int(target)) for target in row] for row in found.targets[good]]
    return shap.Explanation(
        values=values.double().numpy(),
        data=found.images[good].permute(0, 2, 3, 1).numpy(),
        output_names=np.array(names),
    )
