"""Whether what trains is installed. Looked up by name, never imported here."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from launcher.errors import EnvironmentFault

TRAINING = ("torch", "transformers", "trl", "peft", "datasets", "accelerate", "bitsandbytes")


def require(names: Sequence[str] = TRAINING) -> None:
    """The packages that a worker imports are here.

    Raises:
        EnvironmentFault: some are not.
    """
    if missing := [name for name in names if find_spec(name) is None]:
        raise EnvironmentFault(
            f"this environment can plan but not train: it has no {', '.join(missing)}",
            hint="pip install 'finetune-launcher[train,eval]'",
        )
