"""`scores.json`, beside the run that it is about.

schema       1
program      "fastxai";  version;  created: date in UTC
run          digest of the run's configuration: a file about another run is refused
model        name and fingerprint;  seed
reference    the method of noise that the others are compared with
confidence   of every interval
methods      names, in the order of the table
measures     the configurations
rows         the table, a line for every value of every method that any image has: measure (the value's name),
             method, better ("lower" or "higher"), count, mean, median, interval [low, high] or null; difference:
             the same of the paired differences to the reference, null for itself; verdict: "better" or "worse"
             than the reference where that interval excludes 0, otherwise ""
values       by name: better, about, and by method images: a number or null for each image, the mean over its
             targets
curves       by name of the measure: at [S], and by method mean [S] over images
images       ids, in the order of the numbers above
left_out     id -> why an image has no numbers
"""

from __future__ import annotations

import json
from pathlib import Path

from fastxai._version import __version__
from fastxai.errors import ArgumentError, CannotRun, SchemaError
from fastxai.faithfulness import Faithfulness
from fastxai.store import Run
from fastxai.store.files import commit_file, reason
from fastxai.store.manifest import now

SCHEMA = 1
NAME = "scores.json"


def scores_path(run: str | Path) -> Path:
    """Where the scores of a run are kept: in its folder, or beside a run that is one file."""
    path = Path(run)
    return path.with_name(f"{path.stem}.{NAME}") if path.is_file() else path / NAME


def write_scores(run: Run, scores: Faithfulness, path: str | Path | None = None) -> Path:
    """Keep what `score` found about a run, in place of what was kept before; the file appears whole or not at all."""
    where = scores_path(run.path) if path is None else Path(path)
    head = {"schema": SCHEMA, "program": "fastxai", "version": __version__, "created": now(), "run": run.config.digest}
    text = json.dumps(head | scores.to_dict(), indent=1, allow_nan=False) + "\n"
    commit_file(where, text.encode())
    return where


def read_scores(run: Run, path: str | Path | None = None) -> Faithfulness | None:
    """What was kept about a run; None where nothing was. `SchemaError` for a damaged file or one of a newer schema,
    `ArgumentError` for one about another run."""
    where = scores_path(run.path) if path is None else Path(path)
    if path is None and not where.exists():
        return None
    try:
        data = json.loads(where.read_text(encoding="utf-8"))
        schema = data["schema"]
    except OSError as error:
        raise CannotRun(f"{where} cannot be read: {reason(error)}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise SchemaError(f"{where} does not hold scores: it is damaged, or of another program") from error
    if isinstance(schema, bool) or not isinstance(schema, int) or not 1 <= schema <= SCHEMA:
        raise SchemaError(f"{where} has schema {schema!r}, this version reads up to {SCHEMA}: update fastxai")
    if data.get("run") != run.config.digest:
        raise ArgumentError(
            f"{where} must be about the run {str(run.path)!r}, got scores of another one: score it again"
        )
    try:
        return Faithfulness.from_dict(data)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SchemaError(f"{where} is damaged: {type(error).__name__} {error}") from error
