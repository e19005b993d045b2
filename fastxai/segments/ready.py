"""Label maps made elsewhere."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastxai.errors import ArgumentError, ArgumentTypeError, ImageError
from fastxai.segments.base import Segmenter


@dataclass(frozen=True)
class Labels(Segmenter):
    """Ready label maps: integers [H, W] for every image, [N, H, W] in the order of the source, or a dict by image id.

    Labels may be any integers; they are renumbered 0..S-1 in ascending order. Maps have the size of the model's
    input. A configuration read back from a run knows only the digest of its maps.
    """

    method: ClassVar[str] = "labels"
    maps: Any = field(default=None, compare=False, repr=False)
    digest: str = ""

    def __post_init__(self) -> None:
        if self.maps is None:
            if not self.digest:
                raise ArgumentError("maps must be label maps [H, W], [N, H, W] or a dict by image id, got None")
            return
        if isinstance(self.maps, Mapping):
            maps: Any = {str(key): _integers(value, (2,)) for key, value in sorted(self.maps.items())}
            parts = [part for key, value in maps.items() for part in (key.encode(), value)]
        else:
            maps = _integers(self.maps, (2, 3))
            parts = [repr(maps.shape).encode(), maps]
        summed = hashlib.blake2b(digest_size=16)
        for part in parts:
            summed.update(part if isinstance(part, bytes) else np.ascontiguousarray(part, dtype=np.int64).tobytes())
        object.__setattr__(self, "maps", maps)
        object.__setattr__(self, "digest", summed.hexdigest())

    def to_dict(self) -> dict[str, Any]:
        return {"method": self.method, "digest": self.digest}

    def settle(self, ids: Sequence[str], size: tuple[int, int]) -> Segmenter:
        """Lay [N, H, W] maps to the ids of the source, in source order."""
        if self.maps is None or isinstance(self.maps, Mapping) or self.maps.ndim == 2:
            return self
        if len(self.maps) != len(ids):
            raise ArgumentError(f"segments must hold one label map per image, got {len(self.maps)} for {len(ids)}")
        settled = replace(self, maps=dict(zip(ids, self.maps, strict=True)))
        object.__setattr__(settled, "digest", self.digest)
        return settled

    def label(self, picture: NDArray[np.uint8], image_id: str) -> NDArray[np.integer[Any]]:
        if self.maps is None:
            raise ImageError("the label maps of this configuration are not at hand")
        if isinstance(self.maps, Mapping):
            if image_id not in self.maps:
                raise ImageError("no label map was given for this image")
            found = self.maps[image_id]
        else:
            found = self.maps if self.maps.ndim == 2 else None
            if found is None:
                raise AssertionError("label maps were not settled")
        if found.shape != picture.shape[:2]:
            raise ImageError(f"the label map is {found.shape}, the picture {picture.shape[:2]}")
        labels: NDArray[np.integer[Any]] = found
        return labels


def _integers(value: Any, ndims: tuple[int, ...]) -> NDArray[np.integer[Any]]:
    array = np.asarray(value)
    if array.dtype.kind not in "iu":
        raise ArgumentTypeError(f"label maps must be integers, got {array.dtype}")
    if array.ndim not in ndims or array.size == 0:
        raise ArgumentError(f"label maps must have the shape [H, W] or [N, H, W], got {list(array.shape)}")
    return array
