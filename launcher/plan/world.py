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
    """One rank per GPU; on nodes without GPUs `launch.processes` ranks, by default one.

    On a SLURM site `launch.gpus` are split into whole nodes.

    Raises:
        RecipeError: more GPUs or nodes asked for than there are, or GPUs that do not divide into nodes.
    """
    launch, present = loaded.recipe.launch, cluster.gpus_per_node
    nodes = _nodes(loaded, cluster)
    if present == 0 and (launch.gpus or launch.gpus_per_node) is None:
        return World(nodes, launch.processes or 1)
    key = "launch.gpus_per_node" if launch.gpus_per_node else "launch.gpus"
    wanted = launch.gpus_per_node or (launch.gpus and launch.gpus // nodes)
    if wanted is not None and wanted > present:
        name = key.partition(".")[2]
        use_all = f"write `{name}: {present}`, or leave it out to use all" if present else f"leave `{name}` out"
        raise loaded.error(f"asks for {wanted} GPUs, `{cluster.name}` has {present}", key=key, hint=use_all)
    return World(nodes, wanted or present)


def _nodes(loaded: LoadedRecipe, cluster: Cluster) -> int:
    """Nodes, as many as `launch.nodes` says, or as the GPUs fill."""
    launch, site, present = loaded.recipe.launch, cluster.site, cluster.gpus_per_node
    if site is None:
        return launch.nodes or 1
    gpus, key = launch.gpus or 0, "launch.nodes" if launch.nodes else "launch.gpus"
    nodes = launch.nodes or max(1, -(-gpus // present) if present else 1)
    if cluster.inside:
        nodes = launch.nodes or (nodes if gpus else cluster.nodes or 1)
    if gpus and present and gpus % nodes:
        whole = sorted({gpus // present * present, -(-gpus // present) * present} - {0})
        several = " or ".join(f"`gpus: {each}`" for each in whole)
        message = f"asks for {gpus} GPUs, nodes of `{site.label}` have {present}: {nodes} nodes cannot have the same number each"
        raise loaded.error(message, key=key, hint=f"write {several}")
    if cluster.nodes is not None and nodes > cluster.nodes:
        where = "this allocation has" if cluster.inside else f"a job on `{site.label}` may have"
        hint = f"write `{key.partition('.')[2]}: {cluster.nodes * (present if gpus else 1)}`"
        said = site.places.get(f"queues.{site.queue_name}.max_nodes")
        hint += f", another queue, or raise `max_nodes` at {said}" if said else ""
        raise loaded.error(f"asks for {nodes} nodes, {where} {cluster.nodes}", key=key, hint=hint)
    return nodes
