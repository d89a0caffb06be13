"""The base of every recipe section."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A part of a recipe: frozen, strict, and closed to keys it does not know.

    The string below each field is that key's only documentation: `launcher explain`, the JSON Schema and the
    reference page are made from it (see `launcher.recipe.docs`).
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        populate_by_name=True,
        protected_namespaces=(),
        defer_build=True,
    )
