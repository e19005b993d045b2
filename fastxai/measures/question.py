"""What is to be compared: which methods, by which measures, and by which rules their maps become masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from fastxai.config import check_choice
from fastxai.errors import ArgumentError
from fastxai.masks import MaskRule

MEASURES = {
    "iou": "IoU",
    "dice": "Dice",
    "spearman": "Spearman",
    "pearson": "Pearson",
    "segment_spearman": "segment Spearman",
    "segment_pearson": "segment Pearson",
    "top_overlap": "top overlap",
}
USUAL = ("iou", "dice")
ON_SEGMENTS = ("segment_spearman", "segment_pearson", "top_overlap")  # these need superpixels


@dataclass(frozen=True)
class Question:
    """A comparison of all pairs of `names`, checked.

    names: methods of the results, in the order asked for, and then maps made elsewhere. external: which of them are
    the latter. rules: of each, how its maps become masks. common: the method whose superpixels are summed over, the
    first of `names` that has some, else the first of the results; "" where no measure and no rule needs them.
    """

    names: tuple[str, ...]
    external: tuple[str, ...]
    measures: tuple[str, ...]
    rules: Mapping[str, MaskRule]
    common: str
    top_segments: int
    target: int

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """All pairs of names."""
        return tuple(combinations(self.names, 2))

    @property
    def reads(self) -> tuple[str, ...]:
        """The methods whose results are looked at."""
        own = tuple(name for name in self.names if name not in self.external)
        return own if not self.common or self.common in own else (*own, self.common)


def ask(
    known: Sequence[str],
    on_segments: Sequence[str],
    methods: Sequence[str],
    external: Sequence[str],
    *,
    measures: str | Sequence[str],
    top_segments: int,
    top_fraction: float,
    threshold: float | None,
    rules: Mapping[str, MaskRule | str] | None,
    target: int,
    targets: int,
) -> Question:
    """The question that `fastxai.agreement` was asked, or an `ArgumentError` that names what is wrong.

    known: the methods of the results; on_segments: those that give weights to superpixels; methods: those asked for,
    none for all; external: names of maps made elsewhere; targets: classes explained an image.
    """
    names = (*(methods or known), *external)
    for name in methods:
        if name not in known:
            raise ArgumentError(f"method must be one of {', '.join(known) or '(none)'}, got {name!r}")
    for name in external:
        if name in known or not name:
            raise ArgumentError(f"external must have names that no method of the run has, got {name!r}")
    for name in names:
        if names.count(name) > 1:
            raise ArgumentError(f"methods must be different ones, got {name!r} twice")
    if len(names) < 2:
        raise ArgumentError(f"methods must be two at least, or all of a run, got {', '.join(names) or 'none'}")
    if not 0 <= target < targets:
        raise ArgumentError(f"target must be between 0 and {targets - 1}, got {target}")
    usual = MaskRule(top_fraction=top_fraction) if threshold is None else MaskRule(threshold=threshold)
    by_segments = MaskRule(top_segments=top_segments)
    chosen = {name: by_segments if name in on_segments else usual for name in names}
    for name, rule in (rules or {}).items():
        if name not in names:
            raise ArgumentError(f"rules must be of methods that are compared, {', '.join(names)}, got {name!r}")
        chosen[name] = MaskRule.parse(rule) if isinstance(rule, str) else rule
    common = next((name for name in (*names, *on_segments) if name in on_segments), "")
    question = Question(names, tuple(external), _measures(measures, bool(common)), chosen, common, top_segments, target)
    return question if needs_superpixels(question, on_segments) else replace(question, common="")


def needs_superpixels(question: Question, on_segments: Sequence[str]) -> bool:
    """Whether sums over superpixels are needed; `ArgumentError` where they are and there are no superpixels."""
    wanted = [name for name in question.measures if name in ON_SEGMENTS]
    wanted += [
        f"top_segments for {name}"
        for name, rule in question.rules.items()
        if rule.top_segments is not None and name not in on_segments
    ]
    if wanted and not question.common:
        raise ArgumentError(f"{wanted[0]} must be asked of results with superpixels (LIME's, for instance), got none")
    return bool(wanted)


def _measures(measures: str | Sequence[str], superpixels: bool) -> tuple[str, ...]:
    """The measures by name, in their own order; "all" is all that there are superpixels for."""
    given = [measures] if isinstance(measures, str) else list(measures)
    if given == ["all"]:
        return tuple(name for name in MEASURES if superpixels or name not in ON_SEGMENTS)
    for name in given:
        check_choice("measures", name, (*MEASURES, "all"))
    if not given or "all" in given:
        raise ArgumentError(f"measures must be some of {', '.join(MEASURES)}, or all, got {', '.join(given) or 'none'}")
    return tuple(name for name in MEASURES if name in given)
