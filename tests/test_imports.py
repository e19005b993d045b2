"""Light imports: what loads nothing heavy, in a fresh interpreter."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = ("torch", "torchvision", "numpy", "cupy", "numba", "h5py", "ray", "matplotlib", "skimage", "captum", "rich")


def heavy_modules(code: str) -> list[str]:
    """The heavy packages that are loaded after `code` ran in a new interpreter."""
    watch = f"\nimport json, sys\nprint('\\n' + json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code + watch], capture_output=True, text=True, check=True, timeout=120)
    loaded: list[str] = json.loads(done.stdout.splitlines()[-1])
    return loaded


def test_the_watch_sees_what_is_loaded() -> None:
    assert heavy_modules("import numpy") == ["numpy"]


@pytest.mark.parametrize(
    "code",
    [
        "import fastxai",
        "import fastxai; dir(fastxai); fastxai.__version__; fastxai.Preprocess; fastxai.Status; fastxai.ArgumentError",
        "import fastxai.cli",
    ],
)
def test_importing_loads_nothing_heavy(code: str) -> None:
    assert heavy_modules(code) == []


@pytest.mark.parametrize(
    "argv",
    [
        ["--help"],
        ["explain", "--help"],
        ["doctor", "--help"],
        ["bench", "--help"],
        ["score", "--help"],
        ["--version"],
    ],
)
def test_help_loads_nothing_heavy(argv: list[str]) -> None:
    code = (
        f"from fastxai.cli import main\ntry:\n    main({argv!r})\nexcept SystemExit as end:\n    assert end.code == 0"
    )
    assert heavy_modules(code) == []


def test_wrong_arguments_are_refused_before_anything_heavy_is_loaded() -> None:
    code = "from fastxai.cli import main\nassert main(['explain', 'x.png']) == 2"
    assert heavy_modules(code) == []


def test_every_public_name_is_there() -> None:
    import fastxai

    missing = [name for name in fastxai.__all__ if not hasattr(fastxai, name)]
    assert missing == []
    assert set(fastxai.__all__) == set(dir(fastxai))


def test_an_unknown_name_is_an_attribute_error() -> None:
    import fastxai

    with pytest.raises(AttributeError, match="no attribute 'Limes'"):
        _ = fastxai.Limes
