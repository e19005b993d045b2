"""How many images are in work together: enough that padded chunks cost little, few enough that memory holds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fastxai.explainers import Explainer
from fastxai.types import Preprocess

PADDING = 0.02  # share of the model's work that may go into rows that only fill a chunk, or into waiting for it
BUDGETS = {"cpu": 1 << 30, "cuda": 4 << 30}  # bytes that images in work and their results may take
PICTURES = 8  # batches of pictures at once: two decoded, one segmented, one ahead, and then as of results
RESULTS = 4  # batches of results: in the engine, on their way, waiting for the writer, being written
_PRODUCTS = 10  # forward passes that a row of directional derivatives costs
_FEW = 256  # stands for lengths that nobody knows yet: segments of a picture
_WORDS = 32  # bytes of a coalition


def images_in_work(
    row_counts: Sequence[Mapping[str, int]],
    rows: Mapping[str, int],
    *,
    targets: int,
    images: int,
    bytes_per_image: int,
    budget: int,
    lanes: int = 1,
) -> int:
    """Images to explain together: the fewest, in whole prediction chunks, with less than `PADDING` of padded work.

    row_counts: of each explainer, rows an image by probe kind; the rows of one explainer and kind share chunks, the
    last of which is padded. rows: rows a chunk by kind ("predict" among them). Both count: the padding of full
    batches, and half a chunk, which it is on average where images fail. images: how many there are at all. lanes: how
    many chunks are read side by side; at the end of a batch the others wait for the last one, half a chunk each.

    Where `budget` bytes hold fewer images, those with the least padding among the number they hold; at least 1.
    """
    step = rows["predict"]
    most = max(1, min(images, budget // max(1, bytes_per_image)))
    if most <= step:
        return most
    found, least = step, float("inf")
    for count in range(step, most + 1, step):
        full, failing = (_padding(row_counts, rows, targets, count, lanes, failing) for failing in (False, True))
        if max(full, failing) < PADDING:
            return count
        if full <= least:
            found, least = count, full
    return min(images, found)


def _padding(
    row_counts: Sequence[Mapping[str, int]],
    rows: Mapping[str, int],
    targets: int,
    images: int,
    lanes: int,
    failing: bool,
) -> float:
    """Share of padded work and of waiting. A row of scores costs one forward pass, one of gradients K backward passes
    more."""
    work, padded = float(images), 0.0
    for counts in row_counts:
        for kind, count in counts.items():
            if count:
                cost = {"gradients": 1 + targets, "directions": _PRODUCTS}.get(kind, 1)
                work += cost * images * count
                padded += cost * (rows[kind] / 2 if failing else -(images * count) % rows[kind])
                padded += cost * rows[kind] * (lanes - 1) / 2
    return padded / (work + padded)


def bytes_in_work(
    explainers: Sequence[Explainer],
    preprocess: Preprocess,
    *,
    targets: int,
    classes: int,
    layers: int = 0,
    normalized: bool = False,
) -> int:
    """Bytes that one image takes while it is in work, its results included; about, and rather too many.

    layers: how many the prediction pass records, each taken for as large as the model's input. normalized: pictures
    came as ready model input.
    """
    height, width = preprocess.size
    pixels = height * width
    picture = preprocess.channels * pixels
    lengths = {"target": targets, "channel": preprocess.channels, "y": height, "x": width}
    labels = 4 * pixels * len({segmenter.key for explainer in explainers for segmenter in explainer.segmenters()})
    results = samples = 0
    for explainer in explainers:
        samples += sum(explainer.row_count(targets).values())
        for field in explainer.kept_fields(targets):
            size = 4
            for dim in field.dims:
                size *= lengths.get(dim, _FEW if dim == "segment" else 1)
            results += size
    held = picture * (5 if normalized else 1) + labels  # on the host
    pixelwise = any("gradients" in e.row_count(targets) and not e.segmenters() for e in explainers)
    sums = 4 * picture * (targets if pixelwise else 1)  # of a gradient method, one at a time
    read = 4 * (classes + samples * targets) + samples * _WORDS
    work = 5 * picture + labels + sums + read + layers * 4 * picture * (1 + targets)
    return PICTURES * held + RESULTS * results + work
