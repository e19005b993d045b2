"""Dimension scales: HDF5's own names for dimensions, by which netCDF readers such as xarray go.

Every group has scales of its own. netCDF finds a dimension by the place of its scale, so that one which lay in several
groups at once would have a name in only one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

Put = Callable[[h5py.Group, str, NDArray[Any]], h5py.Dataset]

# Attributes that HDF5 keeps for scales: references, which mean something in one file alone.
OWN = ("DIMENSION_LIST", "REFERENCE_LIST")
_NO_VARIABLE = "This is a netCDF dimension but not a netCDF variable{:10}"  # as the netCDF library says it


def name_dimensions(group: h5py.Group, dims: Mapping[str, Sequence[str]], put: Put) -> dict[str, tuple[str, ...]]:
    """Give every data set `dims` names in `group` a scale for each dimension: 0, 1, ... made by `put`.

    Returns the names of the scales by data set. A dimension of another length than one before it of that name (layers
    of two sizes have each their `cam_y`) is called `cam_y_2`.
    """
    named: dict[str, tuple[str, ...]] = {}
    for name, wanted in dims.items():
        dataset = group[name]
        names = []
        for place, (dim, length) in enumerate(zip(wanted, dataset.shape, strict=True)):
            names.append(_scale(group, dim, length, put))
            dataset.dims[place].attach_scale(group[names[-1]])
        named[name] = tuple(names)
    return named


def _scale(group: h5py.Group, dim: str, length: int, put: Put) -> str:
    """The name of the scale for a dimension of this length, made where there is none."""
    number = 1
    while True:
        name = dim if number == 1 else f"{dim}_{number}"
        if name not in group:
            put(group, name, np.arange(length, dtype=np.int32)).make_scale(name)
            return name
        if len(group[name]) == length:
            return name
        number += 1


def name_plain(group: h5py.Group, dim: str, datasets: Sequence[h5py.Dataset], put: Put) -> None:
    """Name the only dimension of data sets of one length below `group`, without numbers along it to look at."""
    if not datasets:
        return
    length = len(datasets[0])
    scale = put(group, dim, np.arange(length, dtype=np.int32))
    scale.make_scale(_NO_VARIABLE.format(length))
    for dataset in datasets:
        dataset.dims[0].attach_scale(scale)
