"""Which packages are installed here."""

from __future__ import annotations

import contextlib
import importlib.metadata
from collections.abc import Iterable


def versions_of(names: Iterable[str]) -> dict[str, str]:
    """Versions of those distributions that are installed, by name and in the order given."""
    found = {}
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
