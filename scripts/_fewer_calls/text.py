"""The figures as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def line(one: Mapping[str, Any]) -> str:
    """A picture on one line."""
    lime, shap, auto = one["lime"], one["kernel-shap"], one["auto"]
    default, without = shap["default"], shap["without"]
    return (
        f"{one['name'][-28:]:28s} S {one['segments']:3d}"
        f" | LIME {lime['calls']['smooth, paired']:5.0f} calls for {lime['yardstick']:.3f}"
        f" | KernelSHAP {default['calls']:5.0f} for {default['peer']:.3f}, {without['calls']:5.0f} for"
        f" {without['peer']:.3f} of {without['peer calls']}"
        f" | auto {auto['rows']:.0f} of {auto['enough']:.0f} rows, {auto['covered']:.0%} held"
    )


def table(summary: Mapping[str, float]) -> str:
    """Medians over the pictures, a line each."""
    return "\n".join(
        ["", "median over the pictures", *(f"  {name:58s}{value:10.3f}" for name, value in summary.items())]
    )
