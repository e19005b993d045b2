"""Names from outside made fit for file systems and for figures: ids and classes can hold anything."""

from __future__ import annotations

import re
import unicodedata

_METHODS = {
    "lime": "LIME",
    "kernel-shap": "KernelSHAP",
    "gradient-shap": "GradientSHAP",
    "expected-gradients": "Expected Gradients",
    "integrated-gradients": "Integrated Gradients",
    "saliency": "Saliency",
    "input-x-gradient": "Input × gradient",
    "smoothgrad": "SmoothGrad",
    "occlusion": "Occlusion",
    "rise": "RISE",
    "random": "Random",
    "gradcam": "Grad-CAM",
    "gradcam-plus-plus": "Grad-CAM++",
    "hirescam": "HiResCAM",
    "layercam": "LayerCAM",
    "xgradcam": "XGrad-CAM",
    "eigencam": "Eigen-CAM",
    "scorecam": "Score-CAM",
    "ablationcam": "Ablation-CAM",
}
_LONGEST = 50  # characters of a file's name; in UTF-8 at most 200 of the 255 bytes that file systems allow


def file_stem(number: int, image_id: str, *, digits: int = 4) -> str:
    """`0003-birds-owl` for image 3, "birds/owl.png": no separators, no control characters, never hidden or `..`.

    The number keeps names apart that become equal.
    """
    name = unicodedata.normalize("NFC", image_id.replace("\\", "/"))
    folder, slash, last = name.rpartition("/")
    last = re.sub(r"(?<=.)\.[A-Za-z0-9]{1,5}$", "", last)
    name = re.sub(r"[^\w.]+|\.{2,}", "-", folder + slash + last).strip("-._")
    return f"{number:0{digits}d}-{name[-_LONGEST:].strip('-._')}".rstrip("-")


def class_label(name: str, widest: int = 26) -> str:
    """The first of a class's synonyms, cut at `widest` characters: ImageNet names hold up to nine."""
    first = name.split(",")[0].strip() or name
    return cut(first, widest)


def method_label(name: str, method: str) -> str:
    """A method as people write it; with the configuration's own name where it has one."""
    label = _METHODS.get(method, method)
    return label if name == method else f"{label} · {name}"


def cut(text: str, widest: int) -> str:
    """`text` in one line, its end left out where it is longer than `widest` characters."""
    text = " ".join(text.split())
    return text if len(text) <= widest else text[: widest - 1].rstrip() + "…"


def cut_middle(text: str, widest: int) -> str:
    """`text` in one line, its middle left out where it is longer: the end of a path tells most."""
    text = " ".join(text.split())
    if len(text) <= widest:
        return text
    end = (widest - 1) * 2 // 3
    return f"{text[: widest - 1 - end]}…{text[-end:]}"
