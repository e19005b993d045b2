"""Source -> decode and segment -> engine -> results in hand or shards on disk, overlapped.

Pictures are decoded and segmented in threads while the model works on the batch before; every stage is bounded, so
memory is flat however long the run. On a CUDA device pictures are there before they are used, and results are on
their way back while the next batch is in work.
"""

from fastxai.overlap import Stopped
from fastxai.pipeline.calls import begin, explain, run

__all__ = ["Stopped", "begin", "explain", "run"]
