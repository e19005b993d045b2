"""Results as a notebook shows them: a small table, and the panels of the first images."""

from __future__ import annotations

import base64
import io

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.backends.backend_agg import FigureCanvasAgg

from fastxai.measures.table import printable
from fastxai.report.names import class_label, method_label
from fastxai.report.panels import panel
from fastxai.results import Found
from fastxai.types import Status

ROWS = 10  # images listed
PANELS = 2  # images drawn
_DPI = 80  # 960 pixels wide: a notebook's cell


def found_html(found: Found, total: int | None = None) -> str:
    """HTML of results in hand, without any outside request: pictures are PNG data URIs, file names are only text.

    total: images of the run that `found` is the beginning of.
    """
    good = [place for place in range(len(found)) if int(found.status[place]) == Status.OK]
    environment = Environment(
        loader=PackageLoader("fastxai.report", "page"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    drawn = good[:PANELS] if found.images is not None else []
    return environment.get_template("notebook.html.j2").render(
        images=len(found) if total is None else total,
        methods=[method_label(name, found[name].explainer.method) for name in found],
        rows=[_row(found, place) for place in range(min(ROWS, len(found)))],
        more=(len(found) if total is None else total) - min(ROWS, len(found)),
        panels=[(printable(found.ids[place]), _png(found, place)) for place in drawn],
        pixels=found.images is not None,
    )


def _row(found: Found, place: int) -> dict[str, str]:
    if int(found.status[place]) != Status.OK:
        return {"id": printable(found.ids[place]), "error": printable(found.errors[place])}
    return {
        "id": printable(found.ids[place]),
        "error": "",
        "predicted": printable(class_label(found.class_name(int(found.predictions[place, 0])), 40)),
        "share": f"{float(found.probabilities[place, 0]):.3f}",
    }


def _png(found: Found, place: int) -> str:
    figure = panel(found, place)
    figure.set_dpi(_DPI)
    file = io.BytesIO()
    FigureCanvasAgg(figure).print_png(file)
    return base64.b64encode(file.getvalue()).decode("ascii")
