"""`python -m launcher.worker RUN`: one training rank, as torchrun starts it."""

import os
import sys

PARENT = os.getppid()

if __name__ == "__main__":
    from launcher.worker import stop

    stop.listen()  # before anything else is loaded: until then a signal ends this process
    from launcher.worker.main import main

    # All is written by now. Exit hooks and threads of trackers, some of which wait for a server, must not delay the end,
    # and a stop request that comes now must still find its handler: Python takes handlers away as it leaves.
    os._exit(main(sys.argv[1], PARENT))
