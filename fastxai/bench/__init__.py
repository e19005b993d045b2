"""fastxai and the packages people use today on the same work: speed, share of the limit, memory, and agreement.

`bench` measures everything in turns in one process, so that a slow spell of the machine meets all alike, and returns
a record (`fastxai.bench.record` says what is in it). Room for a peer: a file in `peers/` and a line in its table.
"""

from fastxai.bench.cases import Case, make_cases
from fastxai.bench.options import Options
from fastxai.bench.record import SCHEMA
from fastxai.bench.runner import bench
from fastxai.bench.text import as_text

__all__ = ["SCHEMA", "Case", "Options", "as_text", "bench", "make_cases"]
