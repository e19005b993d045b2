"""Labels: where they come from in folders, and which class of a model they mean."""

from __future__ import annotations

import functools
import operator
import os
import re

from fastxai.images.entry import Label

_WORDNET = re.compile(r"(n\d{8})(?:[_\s.-]+(.*))?", re.DOTALL)


def path_label(path: str, root: str) -> str | None:
    """The label that a file's place gives, as ImageFolder reads it: the name of the folder it is in.

    A file directly in `root`, the folder that was named, has a better one if its name starts with a WordNet id
    (`n01443537_goldfish.JPEG`): then its name without the extension.
    """
    folder = os.path.dirname(path)
    stem = os.path.splitext(os.path.basename(path))[0]
    if folder == root and "_" in stem and _WORDNET.fullmatch(stem):
        return stem
    return os.path.basename(folder) or None


def resolve_label(
    label: Label, class_names: tuple[str, ...] | None = None, class_keys: tuple[str, ...] | None = None
) -> int:
    """The class id that `label` means, or -1.

    A number is a class id (-1 outside of the known classes). Text is, in this order: a class name, or the part
    before its first comma, whatever the case and with `_` for spaces; a WordNet id, alone or in front of a name
    (`n01443537_goldfish`), looked up in `class_keys` (one WordNet id per class), the rest of it as a class name
    where there are none; a number. A name that two classes share (ImageNet has two cranes) means neither.
    """
    names, keys, classes = _lookup(class_names, class_keys)
    if label is None or isinstance(label, bool):
        return -1
    if not isinstance(label, str):
        return _in_range(operator.index(label), classes)
    text = _normal(label)
    if text in names:
        return names[text]
    match = _WORDNET.fullmatch(label.strip())
    if match:
        wordnet, rest = match.groups()
        return keys[wordnet] if wordnet in keys else names.get(_normal(rest or ""), -1)
    if re.fullmatch(r"[0-9]{1,9}", text):
        return _in_range(int(text), classes)
    return -1


def _in_range(number: int, classes: int | None) -> int:
    return number if number >= 0 and (classes is None or number < classes) else -1


def _normal(text: str) -> str:
    return " ".join(text.replace("_", " ").casefold().split())


@functools.lru_cache(maxsize=8)
def _lookup(
    class_names: tuple[str, ...] | None, class_keys: tuple[str, ...] | None
) -> tuple[dict[str, int], dict[str, int], int | None]:
    full = _unique([_normal(name) for name in class_names or ()])
    short = _unique([_normal(name.split(",")[0]) for name in class_names or ()])
    # a short form that is another class's full name means that class, except where it is ambiguous itself
    names = {key: index for key, index in {**short, **full}.items() if index >= 0 and key}
    known = class_names if class_names is not None else class_keys
    return names, {key: i for i, key in enumerate(class_keys or ())}, None if known is None else len(known)


def _unique(names: list[str]) -> dict[str, int]:
    """Name -> index, -1 where two share it."""
    found: dict[str, int] = {}
    for index, name in enumerate(names):
        found[name] = -1 if name in found else index
    return found
