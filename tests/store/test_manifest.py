from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from fastxai.errors import ArgumentError, CannotRun, RunMismatch, SchemaError
from fastxai.store import create_run, is_run, open_run, read_manifest
from fastxai.store import files as files_module
from fastxai.types import Settings


def test_run_json_says_everything(make: Any, tmp_path: Path) -> None:
    settings = Settings(
        precision="bf16",
        rows={"predict": 16, "scores": 32, "gradients": 4, "directions": 2, "injected": 8},
        reasons={"rows": "fast"},
    )
    written = create_run(tmp_path / "new" / "run", make.config(), settings, "photos/")
    data = json.loads((tmp_path / "new" / "run" / "run.json").read_text())
    assert list(data)[:1] == ["schema"]
    assert data["schema"] == 1
    assert data["fingerprint"] == "ab" * 16
    assert set(data["versions"]) >= {"fastxai", "torch", "numpy", "h5py", "python"}
    again = read_manifest(tmp_path / "new" / "run")
    assert again == written
    assert again.settings == settings
    assert again.settings.reasons == settings.reasons
    assert again.source == "photos/"


def test_it_is_written_once_and_keeps_its_settings(make: Any, tmp_path: Path) -> None:
    first = create_run(tmp_path / "run", make.config(), Settings(threads=1))
    before = (tmp_path / "run" / "run.json").read_bytes()
    second = create_run(tmp_path / "run", make.config(), Settings(threads=2))
    assert second == first
    assert (tmp_path / "run" / "run.json").read_bytes() == before
    with pytest.raises(RunMismatch, match="seed is 0 there, 1 here"):
        create_run(tmp_path / "run", make.config(seed=1), Settings())


def test_folders_with_other_things_are_refused(make: Any, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ArgumentError, match="out must be a new or empty folder, or a run, .*notes.txt"):
        create_run(tmp_path, make.config(), Settings())
    assert os.listdir(tmp_path) == ["notes.txt"]
    with pytest.raises(ArgumentError, match="out must be a folder, got the file"):
        create_run(tmp_path / "notes.txt", make.config(), Settings())


def test_a_run_that_another_worker_begins_during_the_check_is_joined(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, listing = tmp_path / "run", Path.iterdir
    folder.mkdir()

    def meanwhile(path: Path) -> Any:
        monkeypatch.undo()
        first.append(create_run(folder, make.config(), Settings(threads=1)))
        return listing(path)

    first: list[Any] = []
    monkeypatch.setattr(Path, "iterdir", meanwhile)
    assert create_run(folder, make.config(), Settings(threads=2)) == first[0]


def test_a_crash_before_the_rename_leaves_no_run(make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(files_module.os, "rename", crash)
    with pytest.raises(KeyboardInterrupt):
        create_run(tmp_path / "run", make.config(), Settings())
    assert not is_run(tmp_path / "run")
    monkeypatch.undo()
    create_run(tmp_path / "run", make.config(), Settings())
    assert is_run(tmp_path / "run")
    assert not list((tmp_path / "run").glob("*.part"))


def test_what_is_not_a_run_is_refused_in_one_line(make: Any, tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(ArgumentError, match=r"^RUN must be a folder with a run.json, got '.*'$"):
            open_run(path)


def test_a_newer_or_damaged_description_is_refused(make: Any) -> None:
    folder, _ = make.begin()
    path = folder / "run.json"
    good = json.loads(path.read_text())
    path.write_text(json.dumps(good | {"schema": 2}))
    with pytest.raises(SchemaError, match="schema 2, this version reads up to 1: update fastxai"):
        open_run(folder)
    for text in ("{", "[]", "3", json.dumps(good | {"schema": "x"}), json.dumps({"schema": 1}), "\udcff"):
        path.write_bytes(text.encode(errors="surrogateescape"))
        with pytest.raises(SchemaError, match=r"run.json"):
            open_run(folder)


def test_a_folder_that_cannot_be_written(make: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files_module.os, "fsync", full)
    with pytest.raises(CannotRun, match="No space left on device"):
        create_run(tmp_path / "run", make.config(), Settings())
    assert not is_run(tmp_path / "run")
