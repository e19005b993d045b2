"""Any sequence of what happens to a run: images committed, processes killed, files changed, added and failed again.

Held after every step: no committed image is lost, none is there twice, the latest explanation wins, `verify` finds
nothing, and the index agrees with the shards.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fastxai.explainers import GradCam
from fastxai.store import build_index, create_run, export_run, files, missing_shards, open_run, verify
from fastxai.types import Settings, Status
from tests.store.conftest import FaultyDisk, Killed, Maker

WORKERS = st.sampled_from(["0", "1"])
STEPS = ("open_spool", "write", "read", "open", "fsync", "close", "rename", "sync_folder", "truncate")


class StepDisk(FaultyDisk):
    """Kills at an operation of this name, the `nth` of its kind."""

    def __init__(self, step: str, nth: int) -> None:
        super().__init__()
        self.step, self.left = step, nth

    def operate(self, name: str, *args: Any, **options: Any) -> Any:
        if name == self.step and not self.dead:
            self.left -= 1
            if self.left == 0:
                self.at = len(self.done) + 1
        return super().operate(name, *args, **options)


class RunOnDisk(RuleBasedStateMachine):
    """The run on the disk beside what it should hold: image -> (digest, failed), and what may have been committed."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="fastxai-states-"))
        self.make = Maker(self.root, (GradCam(),))
        self.folder = self.root / "run"
        self.source: dict[str, tuple[str, bool]] = {}  # what the files are now
        self.committed: dict[str, tuple[str, bool]] = {}  # what the run must hold

    def teardown(self) -> None:
        shutil.rmtree(self.root)

    @initialize(count=st.integers(1, 3))
    def begin(self, count: int) -> None:
        create_run(self.folder, self.make.config(), Settings())
        self.add(count, failed=False)

    @rule(count=st.integers(1, 3), failed=st.booleans())
    def add(self, count: int, failed: bool) -> None:
        for _ in range(count):
            self.source[f"{len(self.source)}.png"] = ("0" * 32, failed)

    @rule(which=st.integers(0, 100))
    def change_a_file(self, which: int) -> None:
        image = list(self.source)[which % len(self.source)]
        digest, failed = self.source[image]
        self.source[image] = (f"{int(digest, 16) + 1:032x}", failed)

    @precondition(lambda self: any(failed for _, failed in self.source.values()))
    @rule()
    def mend_a_failed_file(self) -> None:
        image = next(image for image, (_, failed) in self.source.items() if failed)
        self.source[image] = (f"{int(self.source[image][0], 16) + 1:032x}", False)

    def explain(self, worker: str, limit: int, shard_images: int) -> list[str]:
        """Explain up to `limit` images that are new or changed; the ids, in order."""
        with open_run(self.folder) as run:
            done = run.done()
        todo = [image for image, (digest, _) in self.source.items() if done.get(image) != digest][:limit]
        writer = self.make.writer(self.folder, self.make.config(), worker=worker, shard_images=shard_images)
        for image in todo:
            digest, failed = self.source[image]
            writer.append(self.make.batch([image], [image] if failed else [], digest))
        writer.close()
        return todo

    @rule(worker=WORKERS, limit=st.integers(1, 4), shard_images=st.integers(1, 3))
    def resume(self, worker: str, limit: int, shard_images: int) -> None:
        for image in self.explain(worker, limit, shard_images):
            self.committed[image] = self.source[image]
        assert not list(self.folder.glob(f"shards/part-{worker}-*.part"))

    @rule(
        worker=WORKERS,
        limit=st.integers(1, 4),
        shard_images=st.integers(1, 3),
        step=st.sampled_from(STEPS),
        nth=st.integers(1, 4),
    )
    def resume_and_be_killed(self, worker: str, limit: int, shard_images: int, step: str, nth: int) -> None:
        disk, real = StepDisk(step, nth), files.disk
        before = len(list(self.folder.glob("shards/*.h5")))
        files.disk = disk
        try:
            self.explain(worker, limit, shard_images)
        except Killed:
            pass
        finally:
            files.disk = real
            disk.bury()
        # What is there now is whole, of the file as it is now, and stays: at most what was to be written.
        with open_run(self.folder) as run:
            for image, digest in run.done().items():
                if self.committed.get(image, ("", False))[0] != digest:
                    assert self.source[image][0] == digest
                    self.committed[image] = self.source[image]
        renamed = disk.done.count("rename") - (disk.hit == "rename")
        assert len(list(self.folder.glob("shards/*.h5"))) == before + renamed

    @rule()
    def index(self) -> None:
        assert missing_shards(self.folder) == []
        build_index(self.folder)
        with open_run(self.folder) as run:
            indexed = (run.ids, run.digests, run.status.tolist(), run.generation)
            assert run.info()["indexed"] or not run.ids  # an empty one is not worth keeping open
        hidden = self.folder / "hidden.h5"
        (self.folder / "index.h5").rename(hidden)
        with open_run(self.folder) as run:
            assert (run.ids, run.digests, run.status.tolist(), run.generation) == indexed
        hidden.rename(self.folder / "index.h5")

    @precondition(lambda self: self.committed)
    @rule()
    def export(self) -> None:
        out = export_run(self.folder, self.root / "one.h5")
        with open_run(out) as one, open_run(self.folder) as run:
            assert one.ids == run.ids
            assert one.done() == run.done()
            found, want = one.read()["gradcam"], run.read()["gradcam"]
            torch.testing.assert_close(found.maps, want.maps, rtol=0, atol=0, equal_nan=True)
        assert verify(out) == []
        out.unlink()

    @invariant()
    def nothing_is_lost_or_there_twice(self) -> None:
        if not self.folder.exists():
            return
        with open_run(self.folder) as run:
            assert len(set(run.ids)) == len(run.ids)
            assert run.done() == {image: digest for image, (digest, _) in self.committed.items()}
            for position, image in enumerate(run.ids):
                failed = self.committed[image][1]
                assert (int(run.status[position]) != int(Status.OK)) == failed
                maps = run["gradcam"][position].maps
                assert (
                    maps.isnan().all() if failed else maps.equal(self.make.batch([image]).methods["gradcam"]["maps"][0])
                )
        assert verify(self.folder) == []


TestRunOnDisk = RunOnDisk.TestCase
TestRunOnDisk.settings = settings(
    max_examples=8,
    stateful_step_count=10,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
