"""The folder of the runs that a command means."""

import os
from argparse import Namespace
from pathlib import Path

from launcher.cluster.schema import Cluster
from launcher.runs import names


def home(args: Namespace, cluster: Cluster) -> Path:
    """`--runs`, LAUNCHER_RUNS, the site's, or ./runs."""
    said = Path(args.runs) != names.default_root() or os.environ.get("LAUNCHER_RUNS")
    return Path(args.runs if said or cluster.site is None else cluster.paths.get("runs", args.runs))
