"""`python -m launcher.worker RUN`: one training rank, as torchrun starts it."""

import os
import sys

PARENT = os.getppid()

if __name__ == "__main__":
    from launcher.worker.main import main

    sys.exit(main(sys.argv[1], PARENT))
