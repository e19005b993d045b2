"""`scores.json` of a run: how faithful its methods are, as the page shows it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastxai.errors import CannotRun, SchemaError

if TYPE_CHECKING:
    from fastxai.store import Run  # loads the explainers and what they need

SCORES_JSON = "scores.json"
SCHEMA = 1  # the newest that is read


@dataclass(frozen=True)
class Score:
    """One measure of one method: the mean over `count` images and its interval.

    better: "higher", "lower" or "nearer 0", "" where none is; about: what is measured, in words. difference: the mean
    difference to random maps of the same images and its interval; verdict: "better" or "worse" than they where that
    interval excludes zero.
    """

    measure: str
    method: str
    mean: float
    interval: tuple[float, float] | None
    count: int
    better: str = ""
    about: str = ""
    difference: float | None = None
    difference_interval: tuple[float, float] | None = None
    verdict: str = ""


def read_scores(run: Run) -> list[Score]:
    """The scores beside a run, in their order; none where there is no such file.

    The file is {"schema": 1, "run": digest of the run's configuration, "rows": [{"measure", "method", "mean",
    "interval": [low, high] or null, "count", "better", "verdict", "difference": {"mean", "interval"} or null}, ...],
    "values": {measure: {"about"}}} and may hold more. Raises `SchemaError` for a damaged file or a newer schema,
    `CannotRun` for one about another run.
    """
    path = run.path / SCORES_JSON if run.path.is_dir() else run.path.with_name(f"{run.path.stem}.{SCORES_JSON}")
    if not path.is_file():
        return []
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        schema, about = data["schema"], data["run"]
        scores = [_score(row, data.get("values") or {}) for row in data["rows"]] if schema == SCHEMA else []
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SchemaError(f"{path} does not hold scores ({type(error).__name__} {error}): make it again") from error
    if schema != SCHEMA:
        raise SchemaError(f"{path} has schema {schema!r}, this version reads {SCHEMA}: update fastxai")
    if about != run.config.digest:
        raise CannotRun(f"{path} is about another run: make it again with `fastxai score`, or remove it")
    return scores


def _score(row: Mapping[str, Any], values: Mapping[str, Any]) -> Score:
    measure, against = str(row["measure"]), row.get("difference") or {}
    return Score(
        measure=measure,
        method=str(row["method"]),
        mean=math.nan if row["mean"] is None else float(row["mean"]),
        interval=_interval(row.get("interval")),
        count=int(row["count"]),
        better=str(row.get("better") or ""),
        about=str((values.get(measure) or {}).get("about") or ""),
        difference=None if against.get("mean") is None else float(against["mean"]),
        difference_interval=_interval(against.get("interval")),
        verdict=str(row["verdict"]) if row.get("verdict") in ("better", "worse") else "",
    )


def _interval(value: Any) -> tuple[float, float] | None:
    return None if value is None else (float(value[0]), float(value[1]))
