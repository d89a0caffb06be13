"""How many ranks, and where: `launch:` against the hardware."""

from __future__ import annotations

from dataclasses import dataclass

from launcher.cluster.schema import Cluster
from launcher.errors import RecipeError
from launcher.recipe.load import LoadedRecipe
from launcher.recipe.run import Launch


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
        RecipeError: more GPUs than there are, or numbers that contradict one another.
    """
    launch = loaded.recipe.launch
    nodes = launch.nodes or 1
    if cluster.gpus_per_node == 0:
        _refuse_gpus(loaded, cluster, launch)
        return World(nodes, launch.processes or 1)
    wanted = _per_node(loaded, launch, nodes, cluster)
    if wanted > cluster.gpus_per_node:
        key = "launch.gpus_per_node" if launch.gpus_per_node else "launch.gpus"
        raise loaded.error(
            f"{wanted} GPUs on a node asked for, `{cluster.name}` has {cluster.gpus_per_node}",
            key=key,
            hint=f"write `{key.partition('.')[2]}: {cluster.gpus_per_node * (1 if launch.gpus_per_node else nodes)}`, or leave the key out to use all",
        )
    return World(nodes, wanted)


def _per_node(loaded: LoadedRecipe, launch: Launch, nodes: int, cluster: Cluster) -> int:
    if launch.gpus_per_node is not None:
        if launch.gpus not in (None, launch.gpus_per_node * nodes):
            raise _contradiction(loaded, launch, nodes)
        return launch.gpus_per_node
    if launch.gpus is None:
        return cluster.gpus_per_node
    if launch.gpus % nodes:
        raise loaded.error(
            f"{launch.gpus} GPUs do not divide over {nodes} nodes",
            key="launch.gpus",
            hint=f"nearest: {launch.gpus // nodes * nodes or nodes} or {(launch.gpus // nodes + 1) * nodes}",
        )
    return launch.gpus // nodes


def _contradiction(loaded: LoadedRecipe, launch: Launch, nodes: int) -> RecipeError:
    return loaded.error(
        f"{launch.gpus} GPUs in all, but {nodes} × {launch.gpus_per_node} = {nodes * (launch.gpus_per_node or 0)}",
        key="launch.gpus",
        hint="leave `gpus` out when `gpus_per_node` is given",
    )


def _refuse_gpus(loaded: LoadedRecipe, cluster: Cluster, launch: Launch) -> None:
    for key, wanted in (("launch.gpus", launch.gpus), ("launch.gpus_per_node", launch.gpus_per_node)):
        if wanted is not None:
            raise loaded.error(
                f"{wanted} GPUs asked for, `{cluster.name}` has 0",
                key=key,
                hint="leave the key out to train on the CPU (`processes` sets the number of ranks there)",
            )
