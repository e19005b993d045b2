"""Pictures in: what the caller names -> entries -> decoded -> the model's geometry -> batches.

    source = open_source("photos/")
    for batch in load_batches(source, model.preprocess, batch=8):    # ImageBatch: uint8 [B, C, H, W] and more
        ...

Nothing here knows a model beyond its `Preprocess`, and one bad picture is one failed row.
"""

from __future__ import annotations

from fastxai.images.entry import Entry, Label, Raw, Source, digest
from fastxai.images.ids import escape_id, unescape_id
from fastxai.images.labels import resolve_label
from fastxai.images.lists import read_list
from fastxai.images.loader import load_batches
from fastxai.images.maps import MapFiles
from fastxai.images.sources import open_source

__all__ = [
    "Entry",
    "Label",
    "MapFiles",
    "Raw",
    "Source",
    "digest",
    "escape_id",
    "load_batches",
    "open_source",
    "read_list",
    "resolve_label",
    "unescape_id",
]
