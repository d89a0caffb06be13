"""FSDP2 for real on CPU ranks: `torchrun … -m tests.cpu_fsdp RUN` trains RUN as `-m launcher.worker RUN` would on GPUs.

accelerate shares a model out only where ranks have accelerators; on CPUs it runs ddp in its place. Telling it that they
have, when the ranks have met, is all that is missing: device and process group stay CPU and gloo.
"""

from __future__ import annotations

import os
import sys
from typing import Any


def make_real() -> None:
    """Have accelerate take CPU ranks for GPU ones from now on."""
    from accelerate.state import PartialState
    from accelerate.utils import DistributedType

    meet = PartialState.__init__

    def meet_as_gpus(self: PartialState, *args: Any, **kwargs: Any) -> None:
        meet(self, *args, **kwargs)
        if self.distributed_type == DistributedType.MULTI_CPU:
            PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU

    PartialState.__init__ = meet_as_gpus


if __name__ == "__main__":
    parent = os.getppid()
    from launcher.worker.main import main

    make_real()
    sys.exit(main(sys.argv[1], parent))
