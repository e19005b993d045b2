"""Ray actors on this machine, one of them killed in the middle."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

import fastxai as fx
from fastxai.distributed import Job, run_on_ray
from fastxai.errors import MissingExtra

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")


@needs_ray
def test_two_actors_write_the_rows_of_one_though_one_is_killed(place, command, alone, same) -> None:
    Path("kill").touch()
    process = command("--ray=local", "--workers", "2", "--json", TINY_SLEEP="0.3")
    out, err = process.communicate(timeout=200)
    assert process.returncode == 3, err  # one picture is broken
    assert Path("kill-done").exists()
    assert json.loads(out)["images"] == 14
    assert {shard.name.split("-")[1] for shard in Path("run/shards").glob("*.h5")} == {"0of2", "1of2"}
    # nothing is done twice: every row is one that counts
    assert sum(1 for _ in fx.open_run("run").ids) == 14
    same(alone())


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"pip install 'fastxai\[ray\]'"):
        run_on_ray(Job(("a.png",), "run", ("gradcam",)), 2)
