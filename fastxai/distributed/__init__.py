"""Many workers, one run: who explains which image. Places pipelines, does no work itself.

All ways of placing workers share out images by their ids and let every worker write its own shards into the run. What
a worker does is data (`Job`). Room for a way: a file that starts workers which `supervise` can look at.
"""

from fastxai.distributed.actors import run_on_ray
from fastxai.distributed.environment import device_here, share_here
from fastxai.distributed.job import Job
from fastxai.distributed.local import run_local
from fastxai.distributed.sharding import Share, run_share
from fastxai.distributed.work import lost_device

__all__ = ["Job", "Share", "device_here", "lost_device", "run_local", "run_on_ray", "run_share", "share_here"]
