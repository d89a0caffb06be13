"""`python -m launcher.worker RUN`: one training rank, as torchrun starts it."""

import os
import sys

PARENT = os.getppid()

if __name__ == "__main__":
    from launcher.worker.main import main

    # All is written by now. Exit hooks and threads of trackers, some of which wait for a server, must not delay the end.
    os._exit(main(sys.argv[1], PARENT))
