"""Shares from the variables of SLURM and torchrun."""

from __future__ import annotations

import pytest

from fastxai.distributed import Share, device_here, share_here
from fastxai.errors import ArgumentError

ARRAY = {"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_MIN": "5"}
STEP = {"SLURM_PROCID": "1", "SLURM_NTASKS": "3"}


@pytest.mark.parametrize(
    ("environment", "share"),
    [
        ({"RANK": "2", "WORLD_SIZE": "8"}, Share(2, 8)),
        ({"RANK": "2", "WORLD_SIZE": "8", **STEP}, Share(2, 8)),
        (STEP, Share(1, 3)),
        (ARRAY, Share(2, 4)),
        ({**ARRAY, "SLURM_ARRAY_TASK_ID": "9", "SLURM_ARRAY_TASK_STEP": "4"}, Share(1, 4)),
        ({**ARRAY, **STEP}, Share(7, 12)),
        ({**ARRAY, "SLURM_PROCID": "0", "SLURM_NTASKS": "1"}, Share(2, 4)),
    ],
)
def test_shares_of_schedulers(environment: dict[str, str], share: Share) -> None:
    assert share_here(environment) == share


def test_array_tasks_with_steps_hold_everything_once() -> None:
    tasks = [{**ARRAY, "SLURM_ARRAY_TASK_ID": str(number)} for number in (5, 6, 7, 8)]
    steps = [{"SLURM_PROCID": str(index), "SLURM_NTASKS": "3"} for index in range(3)]
    shares = [share_here({**task, **step}) for task in tasks for step in steps]
    assert shares == [Share(index, 12) for index in range(12)]


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "shard must be i/N where neither torchrun"),
        ({"SLURM_PROCID": "1"}, "shard must be i/N where neither"),
        ({"RANK": "x", "WORLD_SIZE": "8"}, "RANK must be a whole number, got 'x'"),
        ({"RANK": "8", "WORLD_SIZE": "8"}, "shard must be i/N with i from 0"),
        ({**ARRAY, "SLURM_ARRAY_TASK_ID": "9"}, "SLURM_ARRAY_TASK_ID must be one of 4 from 5"),
        ({"SLURM_ARRAY_TASK_ID": "9"}, "SLURM_ARRAY_TASK_COUNT must be a whole number"),
    ],
)
def test_variables_that_do_not_fit_are_refused(environment: dict[str, str], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        share_here(environment)


def test_each_process_of_a_machine_takes_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    assert device_here("auto", {"LOCAL_RANK": "2"}) == "cuda:2"
    assert device_here("cuda", {"SLURM_LOCALID": "5"}) == "cuda:1"
    assert device_here("cpu", {"LOCAL_RANK": "2"}) == "cpu"
    assert device_here("auto", {}) == "auto"
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)  # the scheduler has chosen already
    assert device_here("auto", {"LOCAL_RANK": "2"}) == "auto"
