"""Methods and models of other packages: an example package, and packages that are broken."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import fastxai as fx
from fastxai.cli import main
from fastxai.errors import ArgumentError, CannotRun, SchemaError
from fastxai.explainers import EXPLAINERS
from fastxai.plugins import EXPLAINERS as METHODS
from fastxai.plugins import MODELS, find_plugins, import_object, is_object

EXAMPLE = Path(__file__).parent / "plugins" / "centre_maps"
BUILD = "import sys, hatchling.build as b; print(b.build_wheel(sys.argv[1]))"
FLAGS = ["--precision", "fp32", "--compile", "off", "--device", "cpu", "--quiet"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example package, built as it would be for the index."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-c", BUILD, str(folder)]
    done = subprocess.run(command, cwd=EXAMPLE, capture_output=True, text=True, timeout=120, check=True)
    return folder / done.stdout.splitlines()[-1]


@pytest.fixture
def installed(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path in which the example package is installed (a pure wheel is unpacked, no more)."""
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.delitem(sys.modules, "centre_maps", raising=False)
    yield site
    sys.modules.pop("centre_maps", None)


def declare(site: Path, package: str, entry_points: str) -> None:
    """A package that consists of its declarations."""
    info = site / f"{package}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entry_points)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, colour in (("r", (200, 10, 10)), ("b", (10, 10, 200))):
        Image.new("RGB", (16, 16), colour).save(folder / f"{name}.png")
    return folder


def test_the_examples_method_and_model_run_in_the_command(
    installed: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    methods = ["-e", "centre:width=0.25", "-e", "saliency"]
    assert main(["explain", str(pictures), "--model", "dots:16", *methods, "--out", str(out), *FLAGS]) == 0
    run = fx.open_run(out)
    assert run.methods == ("centre", "saliency")
    assert run.explainers[0].width == 0.25
    found = run.read()
    assert found.predictions[:, 0].tolist() == [2, 0]  # b.png, r.png
    assert found.class_name(2) == "blue"
    side = np.linspace(-1, 1, 16)
    wanted = np.exp(-(side[:, None] ** 2 + side**2) / (2 * 0.25**2))
    np.testing.assert_allclose(found["centre"].maps[0, 0].numpy(), wanted, rtol=1e-5)  # exp in float32
    versions = run.info()["versions"]
    assert versions["centre-maps"] == "1.2"  # its methods decide what the run holds
    assert {"torchvision", "captum", "scikit-image", "numba"} < set(versions)
    assert main(["verify", str(out)]) == 0
    one = tmp_path / "one.h5"
    assert main(["export", str(out), "-o", str(one)]) == 0
    assert torch.equal(fx.open_run(one).read()["centre"].maps, found["centre"].maps)
    again = ["explain", str(pictures), "--model", "dots:16", *methods, "--out", str(out), "--resume", *FLAGS]
    assert main(again) == 0


def test_doctor_lists_them(installed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    declare(
        tmp_path / "site",
        "sorry",
        "[fastxai.explainers]\nbroken = no_such_module_anywhere:X\nlime = centre_maps:Centre\n"
        "[fastxai.models]\nnothing = centre_maps:Dots.nothing\n",
    )
    assert main(["doctor", "--device", "cpu", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["plugins"]
    assert rows["explainer centre"] == "centre-maps 1.2"
    assert rows["model source dots"] == "centre-maps 1.2"
    assert rows["explainer broken"].startswith("broken: explainer 'broken' of sorry 1.0 cannot be loaded: ModuleNotF")
    assert rows["explainer lime"] == "not used: sorry 1.0 gives it the name of a part of fastxai"
    assert rows["model source nothing"].startswith("broken: model source 'nothing' of sorry 1.0 cannot be loaded: ")
    assert main(["doctor", "--device", "cpu"]) == 0
    assert "plugins" in capsys.readouterr().out


def test_without_plugins_doctor_has_no_such_section(capsys: pytest.CaptureFixture[str]) -> None:
    if find_plugins(METHODS) or find_plugins(MODELS):
        pytest.skip("this environment has plugins of its own")
    assert main(["doctor", "--device", "cpu", "--json"]) == 0
    assert "plugins" not in json.loads(capsys.readouterr().out)


def test_a_run_of_a_method_that_is_gone_says_so(installed: Path, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    model = fx.load_model("dots:16", device="cpu", precision="fp32", compile=False)
    fx.run(model, pictures, "centre", out=out).close()
    sys.path.remove(str(installed))
    run = fx.open_run(out)
    assert run.ids == ("b.png", "r.png")
    assert run.predictions[:, 0].tolist() == [2, 0]
    with pytest.raises(SchemaError, match="method 'centre' of the run cannot be read here: explainer must be one of"):
        run.read()


BROKEN = {
    "missing": ("no_such_module_anywhere:X", "cannot be loaded: ModuleNotFoundError: No module named"),
    "raising": ("raising:X", "cannot be loaded: RuntimeError: two lines of trouble"),
    "leaving": ("leaving:X", "cannot be loaded: SystemExit: 3"),
    "number": ("plain:NUMBER", "cannot be used: plain:NUMBER is no configuration whose method is 'number'"),
    "other": ("centre_maps:Centre", "cannot be used: centre_maps:Centre is no configuration whose method is 'other'"),
    "odd": ("this is no place", "cannot be loaded: "),
}


@pytest.fixture
def broken(installed: Path) -> Path:
    (installed / "raising.py").write_text("raise RuntimeError('two lines\\nof trouble')")
    (installed / "leaving.py").write_text("import sys; sys.exit(3)")
    (installed / "plain.py").write_text("NUMBER = 3\ndef nothing(name, options): return None\ndef bad(n, o): 1 / 0\n")
    methods = "\n".join(f"{name} = {value}" for name, (value, _) in BROKEN.items())
    models = "zero = plain:NUMBER\nempty = plain:nothing\nraises = plain:bad\n"
    declare(installed, "sorry", f"[fastxai.explainers]\n{methods}\n[fastxai.models]\n{models}")
    declare(installed, "garbled", "[fastxai.explainers]\nthis line says nothing\n\0\n")
    return installed


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_plugin_is_one_line_for_who_asks_for_it(broken: Path, name: str) -> None:
    with pytest.raises(CannotRun, match=f"^explainer '{name}' of sorry 1.0 {BROKEN[name][1]}") as caught:
        EXPLAINERS.parse(name)
    assert "\n" not in str(caught.value)
    assert EXPLAINERS.parse("lime:samples=5") == fx.Lime(samples=5)
    assert EXPLAINERS.parse("centre:width=2").width == 2


def test_broken_plugins_stop_no_command(broken: Path, pictures: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "run")
    assert main(["explain", str(pictures), "--model", "dots:16", "-e", "saliency", "--out", out, *FLAGS]) == 0
    assert main(["explain", str(pictures), "--model", "dots:16", "-e", "raising", "--out", out + "2", *FLAGS]) == 1
    assert {"broken", "centre"} - set(EXPLAINERS.names()) == {"broken"}
    assert {"raising", "lime"} <= set(EXPLAINERS.names())


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("zero:x", "cannot be used: plain:NUMBER is no function"),
        ("empty:x", "cannot be used: it gives a NoneType, no fastxai Model"),
        ("raises:x", "cannot load 'x': ZeroDivisionError: division by zero"),
        ("dots:wide", "cannot load 'wide': ValueError: invalid literal"),
    ],
)
def test_a_broken_model_source_is_one_line(broken: Path, spec: str, words: str) -> None:
    with pytest.raises(CannotRun, match=f"^model source '{spec.partition(':')[0]}' of [a-z-]+ [0-9.]+ {words}"):
        fx.load_model(spec)


def test_a_name_of_two_packages_is_refused_and_a_builtin_one_never_taken(installed: Path) -> None:
    declare(installed, "second", "[fastxai.explainers]\ncentre = centre_maps:Centre\nlime = centre_maps:Centre\n")
    with pytest.raises(CannotRun, match=r"'centre' is declared by several packages \(centre-maps, second\)"):
        EXPLAINERS.parse("centre")
    assert EXPLAINERS.parse("lime") == fx.Lime()


def test_nothing_of_a_plugin_is_loaded_before_it_is_asked_for(installed: Path) -> None:
    assert "centre" in EXPLAINERS.names()
    with pytest.raises(ArgumentError, match="explainer must be one of .*centre.*, got 'middle'"):
        EXPLAINERS.parse("middle")
    assert "centre_maps" not in sys.modules
    EXPLAINERS.parse("centre")
    assert "centre_maps" in sys.modules


@pytest.mark.parametrize("text", ["a:b", "a.b:c", "a.b:c.d", "_x1.y:Z"])
def test_objects_are_named_by_module_and_name(text: str) -> None:
    assert is_object(text)


@pytest.mark.parametrize("text", ["a", "a:", ":b", "a/b:c", "1a:b", "a b:c", "a..b:c", "C:\\x", "ray://h:1"])
def test_other_text_names_no_object(text: str) -> None:
    assert not is_object(text)


def test_import_object() -> None:
    assert import_object("os.path:join", "x", "this", "a thing") is __import__("os").path.join
    with pytest.raises(ArgumentError, match="^x must name a thing of os, got 'os:nothing'$"):
        import_object("os:nothing", "x", "this", "a thing")
    with pytest.raises(ArgumentError, match="^x must be this, got 'no_such.m:n': there is no module no_such$"):
        import_object("no_such.m:n", "x", "this", "a thing")
