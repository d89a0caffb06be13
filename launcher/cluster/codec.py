"""A site as JSON, kept in a run directory: what was decided there holds for the run, whatever becomes of the profile."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from launcher.cluster.profile import Profile
from launcher.cluster.schema import Site
from launcher.errors import Place


def site_json(site: Site) -> dict[str, Any]:
    """The site, for `site_of`."""
    return {
        "name": site.name,
        "queue": site.queue_name,
        "account": site.account,
        "source": site.source,
        "places": {key: [place.source, place.line, place.column] for key, place in site.places.items()},
        "profile": site.profile.model_dump(mode="json", exclude_defaults=True),
    }


def site_of(value: Mapping[str, Any]) -> Site:
    """What `site_json` wrote."""
    profile = Profile.model_validate(_tuples(value["profile"]))
    places = {key: Place(*place) for key, place in (value.get("places") or {}).items()}
    return Site(value["name"], profile, value["queue"], value.get("account"), value.get("source", ""), places)


def _tuples(value: Any) -> Any:
    """JSON has no tuples, and the profile's sections are strict."""
    if isinstance(value, list):
        return tuple(_tuples(each) for each in value)
    return {key: _tuples(each) for key, each in value.items()} if isinstance(value, dict) else value
