"""Which key a person has to change when SLURM refuses a job, and where they wrote it."""

from __future__ import annotations

from dataclasses import dataclass

from launcher.cluster.schema import Site
from launcher.errors import Place, SubmissionError
from launcher.plan.types import Plan
from launcher.recipe.load import LoadedRecipe

ACCOUNT_OPTION = "--account"


@dataclass(frozen=True)
class Fault:
    """Something that cannot be had: the profile's word for it (or `nodes`, `time`, `queue`), what is wrong, what to do."""

    subject: str
    message: str
    hint: str
    """`{name}` in it is the last part of the key that decides."""


@dataclass(frozen=True)
class Keys:
    """Where a run's wishes were written."""

    plan: Plan
    site: Site
    loaded: LoadedRecipe | None
    """None where a run goes on without its recipe; its keys then have no place."""

    def of(self, subject: str) -> str:
        """The key that decides on a subject: the recipe's where it says so, the command line's, or the profile's."""
        if subject == "nodes":
            return self._in_recipe("nodes", "gpus") or self._in_profile("partition")
        if subject == "time":
            return self._in_recipe("time_limit") or self._in_profile("max_time")
        if subject == "queue":
            return f"queues.{self.site.queue_name}"
        own = (self.site.queue.account, self.site.profile.account)
        if subject == "account" and self.site.account not in (*own, None):
            return ACCOUNT_OPTION
        return self._in_profile(subject)

    def error(self, fault: Fault) -> SubmissionError:
        """The fault at the line to change."""
        key = self.of(fault.subject)
        hint = fault.hint.replace("{name}", key.rpartition(".")[2])
        if key == ACCOUNT_OPTION:
            return SubmissionError(fault.message, hint=hint, place=Place(key))
        return SubmissionError(f"{key}: {fault.message}", hint=hint, place=self._place(key))

    def order(self, fault: Fault) -> tuple[bool, int]:
        """The recipe's lines before the profile's."""
        key = self.of(fault.subject)
        place = None if key == ACCOUNT_OPTION else self._place(key)
        return not key.startswith("launch."), (place.line or 0) if place else 0

    def _in_recipe(self, *names: str) -> str | None:
        """The first of these keys of `launch` that the recipe sets."""
        launch = self.plan.recipe.get("launch") or {}
        return next((f"launch.{name}" for name in names if launch.get(name) is not None), None)

    def _in_profile(self, name: str) -> str:
        """The queue's own key, unless only the profile has it."""
        own = f"queues.{self.site.queue_name}.{name}"
        return name if own not in self.site.places and name in self.site.places else own

    def _place(self, key: str) -> Place | None:
        """The line of a key, or of the nearest section around it that was written."""
        if key.startswith("launch."):
            return self.loaded.error("", key=key).place if self.loaded else None
        while key and key not in self.site.places:
            key = key.rpartition(".")[0]
        return self.site.places.get(key, Place(self.site.source))
