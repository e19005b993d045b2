"""The vocabulary: plain data that passes between the layers. No behaviour beyond small views.

Letters in shapes: B images of a batch, N images of a result, C channels, H x W pixels, K targets, S segments, R rows.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

PREDICTIONS = 5  # predictions kept per image, whatever is explained


class Status(enum.IntEnum):
    """What became of an image; stored as uint8."""

    OK = 0
    UNREADABLE = 1  # the picture could not be decoded or given a shape
    MODEL = 2  # the model answered with NaN or Inf
    NO_TARGET = 3  # targets="label", and this image has none
    METHOD = 4  # an explainer could not work on this image


@dataclass(frozen=True)
class Preprocess:
    """A model's preprocessing as data: geometry on pictures, then normalisation of numbers.

    input = (pixel / 255 - mean) / std, per channel. Geometry gives uint8 pictures of `size`.
    """

    size: tuple[int, int]  # H, W of the model's input
    resize: int | tuple[int, int] | None  # shorter side, or exact H, W, or None: no resize
    interpolation: str = "bilinear"  # nearest, bilinear, bicubic, lanczos, box, hamming
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)

    @property
    def channels(self) -> int:
        return len(self.mean)


@dataclass(frozen=True)
class Field:
    """One data set that an explainer produces: its dimensions after the image, and its type."""

    name: str
    dims: tuple[str, ...]  # of "target", "segment", "channel", "y", "x", "cam_y", "cam_x"
    dtype: str = "float32"
    long_name: str = ""
    optional: bool = False  # rebuilt by the reader where `--store compact` left it out


@dataclass(frozen=True)
class Segments:
    """Superpixel labels of a batch: labels int32 [B, H, W] in 0..count-1, counts int64 [B]."""

    labels: Tensor
    counts: Tensor


@dataclass
class ImageBatch:
    """Decoded pictures of one geometry, on the CPU, failed ones included. Lists have length B.

    pixels uint8 [B, C, H, W] (zeros where failed); inputs float32 [B, C, H, W] only where ready model input was
    given; sizes int32 [B, 2] original H, W after EXIF rotation; crops float32 [B, 4] left, top, right, bottom
    of what the model sees, in pixels of the original; labels int64 [B], -1 without one.
    """

    ids: list[str]
    digests: list[str]  # BLAKE2b-128, 32 hex digits
    status: list[Status]
    errors: list[str]  # "" where status is OK
    sizes: Tensor
    crops: Tensor
    labels: Tensor
    pixels: Tensor
    inputs: Tensor | None = None
    segments: dict[str, Segments] = field(default_factory=dict)  # by Segmenter.key, only rows with status OK are valid

    def __len__(self) -> int:
        return len(self.ids)


@dataclass
class ExplainedBatch:
    """What the engine makes of an `ImageBatch`: one entry per image everywhere, on the CPU.

    classes int32 [B, 5] (-1 where the model has fewer), probabilities float32 [B, 5] (NaN likewise), targets int64
    [B, K] (-1 where failed), methods[name][field] with NaN (floats), -1 (integers) in failed rows.
    """

    images: ImageBatch
    classes: Tensor
    probabilities: Tensor
    targets: Tensor
    methods: Mapping[str, Mapping[str, Tensor]]


@dataclass(frozen=True)
class Settings:
    """What calibration settled: recorded in run.json, read by resumes and by other workers."""

    device: str = "cpu"
    precision: str = "fp32"  # fp32, bf16, fp16
    compile: tuple[str, ...] = ()  # probe kinds read from compiled code: scores, gradients, predict
    fold: bool = False  # batch norms into convolutions
    rows: Mapping[str, int] = field(
        default_factory=lambda: {"predict": 8, "scores": 8, "gradients": 8, "directions": 2, "injected": 16}
    )
    threads: int = 0  # of torch, 0: as found
    lanes: int = 1  # calls of the model side by side on a CPU, which share the threads
    rates: Mapping[str, float] = field(default_factory=dict, compare=False)  # rows a second, as measured
    reasons: Mapping[str, str] = field(default_factory=dict, compare=False)  # setting -> why, for people


@dataclass(frozen=True)
class Progress:
    """Where a run stands, passed to progress callbacks: images and rows done and in total, seconds so far.

    `progress=` of `explain` and `run` takes any function of one argument. It is called at the start, after every chunk
    of a method's rows (with the method's name) and after every batch of images, always in the thread that called
    `explain` or `run`, which waits for it. What it raises ends the call; shards that are complete stay. For a bar of
    your own:

        from tqdm import tqdm

        with tqdm(unit="image") as bar:
            def show(progress):
                bar.total = progress.images_total  # falls as a resumed run meets what is done
                bar.set_postfix_str(progress.method, refresh=False)
                bar.update(progress.images - bar.n)

            found = fx.explain(model, images, fx.GradCam(), progress=show)
    """

    images: int
    images_total: int
    failed: int
    method: str
    rows: int
    rows_total: int
    seconds: float
    expected: float = float("inf")  # seconds in all, as calibration foresees

    @property
    def images_per_second(self) -> float:
        return self.images / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float:
        """By rows, which pass evenly; as expected while there are too few of them to tell."""
        if not self.rows or (50 * self.rows < self.rows_total and self.expected < float("inf")):
            return max(self.expected - self.seconds, 0.0)
        return self.seconds * (self.rows_total - self.rows) / self.rows
