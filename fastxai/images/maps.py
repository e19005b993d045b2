"""Maps that another tool made, found by the names of the images: `.npy`, `.npz` and 8- or 16-bit `.png` files."""

from __future__ import annotations

import os
import posixpath
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fastxai.errors import ArgumentError
from fastxai.images.ids import escape_id

SUFFIXES = (".npy", ".npz", ".png")
_GREY = {"1": 1.0, "L": 255.0, "I;16": 65535.0, "I;16B": 65535.0, "I;16L": 65535.0, "I": 65535.0}  # mode -> white
MISSING, UNREADABLE = "without a map in {}", "with a map in {} that cannot be read"


class MapFiles:
    """The maps in a folder (with all below it) or in a file, by image id.

    A folder holds one file a map; a `.npz` file holds one array a map; any other file is one map. A map belongs to the
    image that it is named after: the image's id (its path), with or without the ending, then the map's own ending
    (`birds/owl.JPEG` has `birds/owl.npy` or `birds/owl.JPEG.npy`), else the last part of the id alone (`owl.npy`).
    Maps are real numbers [H, W], as the model saw the picture; of pictures, the share of white.

    Raises `ArgumentError` for a path that is not there or holds no map.
    """

    def __init__(self, name: str, path: str | os.PathLike[str]) -> None:
        self.name, self.path = name, Path(path)
        self._keys = self._listed()
        if not self._keys:
            raise ArgumentError(
                f"external maps {name!r} must be in {', '.join(SUFFIXES)} files, got none in {self.path}"
            )
        self._by_last: dict[str, list[str]] = {}
        for key in self._keys:
            self._by_last.setdefault(posixpath.basename(key), []).append(key)
        self._owners: dict[str, str] = {}  # key -> the image that it was given to

    def _listed(self) -> dict[str, list[tuple[Path, str]]]:
        """Map's name -> the files that have it, with the array's name in a `.npz` file that is all maps."""
        if self.path.is_dir():
            found: dict[str, list[tuple[Path, str]]] = {}
            for folder, folders, files in os.walk(self.path):
                folders.sort()
                for file in sorted(files):
                    path, (stem, ending) = Path(folder, file), posixpath.splitext(file)
                    if ending.lower() in SUFFIXES:
                        key = escape_id(os.path.relpath(Path(folder, stem), self.path))
                        found.setdefault(key, []).append((path, ""))
            return found
        if not self.path.is_file():
            raise ArgumentError(f"external maps {self.name!r} must be a folder or a file, got {str(self.path)!r}")
        if self.path.suffix.lower() == ".npz":
            try:
                with np.load(self.path, allow_pickle=False) as arrays:
                    return {key: [(self.path, key)] for key in arrays.files}
            except (OSError, ValueError, zipfile.BadZipFile) as error:
                raise ArgumentError(
                    f"external maps {self.name!r} must be a .npz file, got {self.path}: {error}"
                ) from None
        if self.path.suffix.lower() not in SUFFIXES:
            raise ArgumentError(f"external maps {self.name!r} must be {', '.join(SUFFIXES)}, got {self.path}")
        return {escape_id(self.path.stem): [(self.path, "")]}

    def read(self, ids: Sequence[str], size: tuple[int, int]) -> tuple[Tensor, list[str]]:
        """The maps of these images, float32 [B, H, W], NaN where there is none; and for each why, "" where it has one.

        Raises `ArgumentError` for a map of another geometry or kind, and where it is not clear whose a map is.
        """
        maps = torch.full((len(ids), *size), float("nan"))
        missing = []
        for place, image in enumerate(ids):
            key = self._key(image)
            if key is None:
                missing.append(MISSING.format(self.name))
                continue
            values = self._load(key, image, size)
            missing.append("" if values is not None else UNREADABLE.format(self.name))
            if values is not None:
                maps[place] = torch.from_numpy(values.astype(np.float32))
        return maps, missing

    def require_any(self, first: str) -> None:
        """Raise `ArgumentError` where no image had a map yet; `first` is an image's id, for the message."""
        if not self._owners:
            example = next(iter(self._keys))
            raise ArgumentError(
                f"external maps {self.name!r} must be named after the images, got {example!r} for images like {first!r}"
            )

    def _key(self, image: str) -> str | None:
        """The name of an image's map, None where it has none."""
        plain = posixpath.splitext(image)[0]
        exact = [key for key in dict.fromkeys((image, plain)) if key in self._keys]
        last = dict.fromkeys((posixpath.basename(image), posixpath.basename(plain)))
        found = exact or [key for name in last for key in self._by_last.get(name, ())]
        files = [file for key in found for file in self._keys[key]]
        if len(files) > 1:
            names = " and ".join(str(path) if not inner else repr(inner) for path, inner in files[:2])
            raise ArgumentError(f"external maps {self.name!r} must be one an image, got {names} for {image!r}")
        if not found:
            return None
        owner = self._owners.setdefault(found[0], image)
        if owner != image:
            raise ArgumentError(
                f"external maps {self.name!r} must be told apart by their paths, got {found[0]!r} for {owner!r} and "
                f"for {image!r}"
            )
        return found[0]

    def _load(self, key: str, image: str, size: tuple[int, int]) -> NDArray[Any] | None:
        """The map as an array of `size`; None where the file is damaged."""
        path, inner = self._keys[key][0]
        try:
            if path.suffix.lower() == ".png":
                return self._picture(path, image, size)
            with open(path, "rb") as file:
                loaded = np.load(file, allow_pickle=False)
                if isinstance(loaded, np.ndarray):
                    return self._fit(loaded, image, size)
                with loaded:
                    return self._fit(loaded[inner or self._only(loaded.files, path)], image, size)
        except ArgumentError:
            raise
        except (OSError, ValueError, EOFError, SyntaxError, zipfile.BadZipFile, Image.DecompressionBombError):
            return None  # SyntaxError: what Pillow raises for a broken PNG chunk

    def _only(self, names: Sequence[str], path: Path) -> str:
        if len(names) != 1:
            raise ArgumentError(f"external maps {self.name!r} must be one array a file, got {len(names)} in {path}")
        return names[0]

    def _picture(self, path: Path, image: str, size: tuple[int, int]) -> NDArray[Any]:
        with Image.open(path) as picture:
            if picture.mode not in _GREY:
                raise ArgumentError(
                    f"external maps {self.name!r} must be grey pictures of 8 or 16 bits, "
                    f"got mode {picture.mode} in {path}"
                )
            self._check(picture.size[::-1], image, size)  # before it is decoded
            return np.asarray(picture).astype(np.float32) / _GREY[picture.mode]

    def _fit(self, values: NDArray[Any], image: str, size: tuple[int, int]) -> NDArray[Any]:
        if values.dtype.kind not in "biuf":
            raise ArgumentError(f"external maps {self.name!r} must be real numbers, got {values.dtype} for {image!r}")
        if values.ndim == 3 and 1 in (values.shape[0], values.shape[2]):
            values = values.squeeze(0 if values.shape[0] == 1 else 2)
        self._check(values.shape, image, size)
        return values

    def _check(self, shape: tuple[int, ...], image: str, size: tuple[int, int]) -> None:
        if shape != size:
            raise ArgumentError(
                f"external maps {self.name!r} must be {size[0]} x {size[1]}, the geometry in which the model saw the "
                f"pictures, got {' x '.join(map(str, shape))} for {image!r}: resize and crop them as the model's "
                "preprocessing does"
            )
