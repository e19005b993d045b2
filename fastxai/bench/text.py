"""A record as text for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastxai.measures.table import align

Record = Mapping[str, Any]
HEAD = ("", "images/s", "fastxai is", "of the limit", "peak memory", "growth", "rank corr.", "top 10")


def as_text(found: Record) -> str:
    """One table a case, with its work above and its start-up below; what is absent or left out at the end."""
    machine = found["machine"]
    name = machine["gpu"] or machine["cpu"]
    parts = [f"{found['model']['spec']} on {name}; pictures: {found['pictures']}"]
    parts += [_case(case, found) for case in found["cases"]]
    notes = [f"{peer['name']} is not installed: {peer['install']}" for peer in found["absent"]]
    notes += [f"{entry['what']} left out: {entry['why']}" for entry in found["left_out"]]
    return "\n\n".join([*parts, *(["\n".join(notes)] if notes else [])])


def work_text(case: Record) -> str:
    """Classes x samples x images x size."""
    work, scope = case["work"], case["all_classes"]
    classes = f"{work['classes']} class{'es' if work['classes'] > 1 else ''}"
    if scope is not None:
        classes += f" (a sample of {scope['classes']})"
    samples = "" if work["samples"] is None else f" x {work['samples']} samples"
    return f"{classes}{samples} x {work['images']} images of {work['size'][0]}x{work['size'][1]}"


def _case(case: Record, found: Record) -> str:
    settings = case["settings"]
    form = f"{settings['precision']}, {'compiled' if settings['compile'] else 'eager'}"
    rows = [_speed(f"fastxai ({form})", case["fastxai"], share=case["share"], agreement=None)]
    if case["memory"] is not None:
        rows.append(_speed("fastxai, memory to memory", case["memory"]))
    rows.append(_speed(f"limit ({case['limit']['form']})", case["limit"]))
    if case["arithmetic"] is not None:
        rows.append(_speed("arithmetic alone", case["arithmetic"]))
    rows += [_peer(peer) for peer in case["peers"]]
    named = {"fp32": "fastxai in plain float32", "seed": "fastxai, another seed"}
    for key, title in named.items():
        if case["agreement"][key] is not None:
            rows.append([title, "", "", "", "", "", *_agreement(case["agreement"][key])])
    lines = [f"{case['explainer']['name']}: {work_text(case)}", align(HEAD, rows)]
    if case["arithmetic"] is not None:
        lines.append(_operations(case))
    lines.append(_startup(case))
    if case["all_classes"] is not None:
        lines.append(_all_classes(case["all_classes"]))
    return "\n".join(lines)


def _speed(name: str, speed: Record, ratio: str = "", share: float | None = None, agreement: Any = None) -> list[str]:
    shown = "" if share is None else f"{share:.0%}"
    known = speed["peak_bytes"] > 0
    memory = [f"{speed[key] / 1e6:.0f} MB" if known else "-" for key in ("peak_bytes", "growth_bytes")]
    return [name, _rate(speed["images_per_second"]), ratio, shown, *memory, *_agreement(agreement)]


def _peer(peer: Record) -> list[str]:
    if peer["status"] != "measured":
        return [peer["name"], peer["status"], "", "", "", "", "", ""]
    ratio = f"{peer['ratio']:.2f}x as fast"
    if peer["memory_ratio"] is not None:
        ratio += f" ({peer['memory_ratio']:.2f}x in memory)"
    pictures = peer["pictures"]
    name = f"{peer['name']} {peer['version']} ({pictures} picture{'s' if pictures != 1 else ''})"
    return _speed(name, peer["speed"], ratio, None, peer["agreement"])


def _agreement(found: Record | None) -> list[str]:
    if found is None:
        return ["", ""]
    return ["-" if found[key] is None else form.format(found[key]) for key, form in _FORMS]


_FORMS = (("rank_correlation", "{:.4f}"), ("top10", "{:.0%}"))


def _operations(case: Record) -> str:
    """What the passes do, and how fast: beside a matrix product."""
    done, limit = case["arithmetic"], case["limit"]
    each = f"{limit['rows']} row{'s' * (limit['rows'] > 1)} of {done['flop'] / limit['rows'] / 1e9:.3g} GFLOP an image"
    rates = [f"{done[key] / 1e9:.3g} GFLOP/s" for key in ("limit_flop_per_second", "flop_per_second")]
    precision = limit["form"].split()[0]
    return f"{each}: the limit does {rates[0]}, a matrix product in {precision} {rates[1]} (arithmetic alone)"


def _startup(case: Record) -> str:
    cost = case["startup"]
    parts = ", ".join(f"{name} {cost[name]:.1f}" for name in cost if name != "total")
    paid = [_paid(peer) for peer in case["peers"] if peer["status"] == "measured"]
    return f"start-up {cost['total']:.1f} s ({parts}){''.join(paid)}" + "".join(
        f"\n{peer['name']} failed: {peer['why']}" for peer in case["peers"] if peer["status"] == "failed"
    )


def _paid(peer: Record) -> str:
    if peer["pays_after"] is None:
        return f"; never paid against {peer['name']}"
    pictures = peer["pays_after"]
    return f"; paid after {pictures} picture{'s' if pictures > 1 else ''} against {peer['name']}"


def _all_classes(scope: Record) -> str:
    """Seconds an image for all classes, as the sample tells."""
    named: Sequence[str] = [f"{name} {seconds:.4g} s" for name, seconds in scope["peer_seconds"].items()]
    ours = f"fastxai at most {scope['fastxai_seconds_at_most']:.4g} s"
    return f"all {scope['classes']} classes, from the sample of {scope['sample']}: {', '.join([ours, *named])} an image"


def _rate(per_second: float) -> str:
    return f"{per_second:.0f}" if per_second >= 100 else f"{per_second:.3g}"
