"""How many ranks, and where: `launch:` against the hardware."""

from __future__ import annotations

from dataclasses import dataclass

from launcher.cluster.schema import Cluster
from launcher.recipe.load import LoadedRecipe


@dataclass(frozen=True)
class World:
    """Ranks in all = nodes × per_node."""

    nodes: int
    per_node: int

    @property
    def size(self) -> int:
        """Ranks in all."""
        return self.nodes * self.per_node


def world(loaded: LoadedRecipe, cluster: Cluster) -> World:
    """One rank per GPU; on a machine without GPUs `launch.processes` ranks, by default one.

    Raises:
        RecipeError: more GPUs asked for than a node has.
    """
    launch, present = loaded.recipe.launch, cluster.gpus_per_node
    nodes = launch.nodes or 1
    key = "launch.gpus_per_node" if launch.gpus_per_node else "launch.gpus"
    wanted = launch.gpus_per_node or launch.gpus
    if wanted is not None and wanted > present:
        name = key.partition(".")[2]
        use_all = f"write `{name}: {present}`, or leave it out to use all" if present else f"leave `{name}` out"
        raise loaded.error(f"asks for {wanted} GPUs, `{cluster.name}` has {present}", key=key, hint=use_all)
    if present == 0:
        return World(nodes, launch.processes or 1)
    return World(nodes, wanted or present)
