"""Many workers, one run: who explains which image. Places pipelines, does no work itself.

Room for ways of placing workers: one file each. All of them share out images by their ids and let every worker write
its own shards into the run.
"""

from fastxai.distributed.sharding import Share, run_share

__all__ = ["Share", "run_share"]
