"""ImageNet-1k class names and WordNet ids, from timm's tables (no download)."""

from __future__ import annotations

from collections import Counter

CLASSES = 1000


def imagenet_classes() -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """(names, WordNet ids such as n02123045) in the order of the 1000 scores; None without timm.

    A name is the first of a class's synonyms, all of them where the first alone is not unique (crane the bird and
    crane the machine), with the WordNet id where even those are the same.
    """
    try:
        from timm.data import ImageNetInfo
    except ImportError:
        return None
    info = ImageNetInfo("imagenet-1k")
    keys = tuple(info.label_names())
    full = [info.index_to_description(i) for i in range(len(keys))]
    first = [text.split(",")[0].strip() for text in full]
    seen, seen_full = Counter(first), Counter(full)
    names = []
    for key, short, text in zip(keys, first, full, strict=True):
        names.append(short if seen[short] == 1 else text if seen_full[text] == 1 else f"{text} ({key})")
    return tuple(names), keys
