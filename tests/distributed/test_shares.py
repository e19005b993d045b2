"""Shares and retries by the command, in this process."""

from __future__ import annotations

import json

import pytest

import fastxai as fx
from fastxai.cli import main

ARGV = ["explain", "pictures", "--model", "tiny:make", "-e", "gradcam", "--out", "run"]


def test_shards_in_any_order_make_one_run(place, same, alone, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    for index in (1, 2):
        main([*ARGV, "--quiet", "--shard", f"{index}/3"])
    monkeypatch.setenv("SLURM_PROCID", "0")
    monkeypatch.setenv("SLURM_NTASKS", "3")
    assert main([*ARGV, "--shard", "auto"]) == 3  # one picture of the run is broken, whoever met it
    assert "fastxai: share 0/3" in capsys.readouterr().err
    same(alone())


def test_failed_pictures_are_tried_again_when_that_is_asked_for(place, capsys) -> None:
    assert main([*ARGV, "--json"]) == 3
    capsys.readouterr()
    assert main([*ARGV, "--json", "--resume", "--retry-failed"]) == 3
    data = json.loads(capsys.readouterr().out)
    assert (data["images"], data["failed"], data["skipped"]) == (1, 1, 13)
    assert len(fx.open_run("run")) == 14
