"""Pictures for figures, as plain arrays: outlines, highlights and overlays at a few times the model's resolution.

Every result is float32 RGB [H, W, 3] in [0, 1]. Maps are interpolated before they are coloured, labels and masks
never, so that lines stay thin and edges stay where they are.
"""

from __future__ import annotations

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import Colormap, LinearSegmentedColormap, to_rgb
from torch import Tensor
from torch.nn.functional import interpolate

SIGNED: Colormap = colormaps["RdBu_r"]  # readable without telling red from green
POSITIVE: Colormap = LinearSegmentedColormap.from_list("glow", colormaps["inferno"](np.linspace(0.05, 0.95, 256)))
FIRST, SECOND, BOTH = "#3d8fe0", "#f5b000", "#e0218a"  # two masks, and where they meet
LINE = "#ffe12e"

_SIDE = 670  # pixels of the longer side that a picture is composed at; a cell shows about 400


def scale_of(size: tuple[int, int]) -> int:
    """The whole factor by which pictures of `size` H, W are enlarged."""
    return max(1, round(_SIDE / max(size)))


def rgb(pixels: Tensor, scale: int = 1) -> np.ndarray:
    """uint8 [C, H, W] -> RGB, enlarged; fewer than three channels show the first as grey, more the first three."""
    shown = pixels[:3] if pixels.shape[0] >= 3 else pixels[:1].expand(3, -1, -1)
    return _smooth(shown.float() / 255, scale).clamp_(0, 1).permute(1, 2, 0).contiguous().numpy()


def outlined(picture: np.ndarray, labels: Tensor, *, width: int = 2, color: str = LINE) -> np.ndarray:
    """The picture with the borders between labels int [H, W] drawn over it."""
    return _paint(picture, _edges(_repeat(labels, _factor(picture, labels)), width), color, 0.9)


def highlighted(picture: np.ndarray, mask: Tensor) -> np.ndarray:
    """What a mask bool [H, W] keeps in full colour and outlined, the rest pale and grey."""
    large = _repeat(mask, _factor(picture, mask))
    pale = 0.30 * _grey(picture) + 0.62
    shown = np.where(large[..., None], picture, pale)
    return _paint(shown, _edges(large, 4), LINE if not large.all() else "#ffffff", 1.0)


def signed_overlay(picture: np.ndarray, values: Tensor, limit: float) -> np.ndarray:
    """A signed map float [H, W], -limit..limit from blue to red, over a faint grey picture where it is near 0."""
    large = _smooth(values[None], _factor(picture, values))[0].numpy()
    share = np.clip(large / limit, -1, 1) if limit > 0 else np.zeros_like(large)
    colors = SIGNED((share + 1) / 2)[..., :3].astype(np.float32)
    strength = np.abs(share)[..., None] ** 0.7  # most pixels are far below the limit: keep them visible
    return (1 - strength) * (0.22 * _grey(picture) + 0.76) + strength * colors


def positive_overlay(picture: np.ndarray, values: Tensor) -> np.ndarray:
    """A map float [H, W] in [0, 1] over the picture in grey; brighter is more."""
    large = _smooth(values[None], _factor(picture, values))[0].clamp(0, 1).numpy()
    colors = POSITIVE(large)[..., :3].astype(np.float32)
    return 0.5 * _grey(picture) + 0.6 * colors


def two_masks(picture: np.ndarray, first: Tensor, second: Tensor) -> np.ndarray:
    """Two masks bool [H, W] in their colours over a pale picture, and where they meet in a third."""
    scale = _factor(picture, first)
    one, two = _repeat(first, scale), _repeat(second, scale)
    shown = 0.45 * _grey(picture) + 0.5
    for part, color in ((one & ~two, FIRST), (two & ~one, SECOND), (one & two, BOTH)):
        shown = _paint(shown, part, color, 0.62)
    for mask, color in ((one, FIRST), (two, SECOND)):
        shown = _paint(shown, _edges(mask, 3), color, 1.0)
    return shown


def limit_of(values: Tensor) -> float:
    """The 99th percentile of |values|, so that single pixels do not decide the scale; their maximum if that is 0."""
    size = values.abs().flatten()
    found = float(np.quantile(size.numpy(), 0.99))
    return found if found > 0 else float(size.max())


def _smooth(values: Tensor, scale: int) -> Tensor:
    """[C, H, W] -> [C, scale * H, scale * W]."""
    if scale == 1:
        return values.clone()
    return interpolate(values[None].float(), scale_factor=float(scale), mode="bicubic", align_corners=False)[0]


def _repeat(values: Tensor, scale: int) -> np.ndarray:
    return np.repeat(np.repeat(values.numpy(), scale, axis=0), scale, axis=1)


def _factor(picture: np.ndarray, values: Tensor) -> int:
    return int(picture.shape[0] // values.shape[0])


def _grey(picture: np.ndarray) -> np.ndarray:
    """Luma (ITU-R BT.601) as [H, W, 3]."""
    weights = np.array([0.299, 0.587, 0.114], dtype=np.float32)
    return np.repeat((picture @ weights)[..., None], 3, axis=2)


def _edges(labels: np.ndarray, width: int) -> np.ndarray:
    """bool [H, W]: lines of `width` pixels along the borders between labels."""
    found = np.zeros(labels.shape, dtype=bool)
    found[:, 1:] = labels[:, 1:] != labels[:, :-1]
    found[1:] |= labels[1:] != labels[:-1]
    return _thicken(_thicken(found, width).T, width).T


def _thicken(mask: np.ndarray, width: int) -> np.ndarray:
    """Every pixel set in bool [H, W] becomes a column of `width` pixels around it."""
    found = np.zeros_like(mask)
    for shift in range(-(width // 2), width - width // 2):
        if shift < 0:
            found[:shift] |= mask[-shift:]
        else:
            found[shift:] |= mask[: mask.shape[0] - shift]
    return found


def _paint(picture: np.ndarray, where: np.ndarray, color: str, opacity: float) -> np.ndarray:
    shown = picture.astype(np.float32, copy=True)
    shown[where] = (1 - opacity) * shown[where] + opacity * np.array(to_rgb(color), dtype=np.float32)
    return shown
