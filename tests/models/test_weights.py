"""Files of weights: what is read, what is refused, and that nothing in them runs."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from fastxai.errors import ArgumentError, CannotRun
from fastxai.models.weights import load_weights, read_weights


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in nn.Linear(3, 2).state_dict().items()}


def test_forms_of_a_state_dict(tmp_path: Path, state: dict[str, torch.Tensor]):
    save_file(state, tmp_path / "a.safetensors")
    forms = {
        "plain": state,
        "nested": {"state_dict": state, "epoch": 3},
        "model": {"model": {f"module.{name}": value for name, value in state.items()}},
        "compiled": {f"module._orig_mod.{name}": value for name, value in state.items()},
    }
    files = [tmp_path / "a.safetensors"]
    for name, form in forms.items():
        torch.save(form, tmp_path / f"{name}.pt")
        files.append(tmp_path / f"{name}.pt")
    for file in files:
        found = read_weights(file)
        assert list(found) == list(state) or set(found) == set(state)
        assert all(torch.equal(found[name], state[name]) for name in state)


class Trap:
    ran = False

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return setattr, (Trap, "ran", True)  # type: ignore[return-value]


def test_code_in_a_file_does_not_run(tmp_path: Path):
    torch.save({"weight": Trap()}, tmp_path / "trap.pt")
    (tmp_path / "raw.pt").write_bytes(pickle.dumps({"weight": Trap()}))
    for name in ("trap.pt", "raw.pt"):
        with pytest.raises(CannotRun) as caught:
            read_weights(tmp_path / name)
        assert "\n" not in str(caught.value)
    assert not Trap.ran


def test_files_that_are_no_weights(tmp_path: Path):
    with pytest.raises(ArgumentError, match="weights must be a file"):
        read_weights(tmp_path / "none.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(ArgumentError, match="must hold a state dict"):
        read_weights(tmp_path / "list.pt")
    for name in ("text.pt", "text.safetensors"):
        (tmp_path / name).write_text("no weights in here")
        with pytest.raises(CannotRun):
            read_weights(tmp_path / name)


def test_weights_that_do_not_fit_name_the_first_tensor(state: dict[str, torch.Tensor]):
    module = nn.Linear(3, 2)
    before = module.weight.clone()
    with pytest.raises(ArgumentError, match=r"got f\.pt: 1 missing \(first 'bias'\), 1 unexpected \(first 'b'\)"):
        load_weights(module, {"weight": state["weight"], "b": state["bias"]}, "f.pt")
    with pytest.raises(ArgumentError, match=r"'weight' is \[2, 4\], the model's is \[2, 3\]"):
        load_weights(module, {"weight": torch.zeros(2, 4), "bias": state["bias"]}, "f.pt")
    assert torch.equal(module.weight, before)
    load_weights(module, state, "f.pt")
    assert torch.equal(module.weight, state["weight"])
