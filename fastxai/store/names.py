"""What the files and folders of a run are called, and which schemas this version reads."""

from __future__ import annotations

from typing import Any

from fastxai.errors import SchemaError

SCHEMA = 1

RUN_JSON = "run.json"
SHARDS = "shards"
INDEX = "index.h5"

ENTRY = "entry"  # the group of a file that holds everything


def check_schema(found: Any, where: object) -> None:
    """Refuse files of a newer schema, and what is no schema."""
    if isinstance(found, bool) or not hasattr(found, "__index__") or found < 1:
        raise SchemaError(f"{where} has no schema that can be read, got {found!r}")
    if found > SCHEMA:
        raise SchemaError(f"{where} has schema {found}, this version reads up to {SCHEMA}: update fastxai")
