"""The recipe: what a person may write, with defaults filled in."""

from typing import Literal

from pydantic import Field

from launcher.recipe.data import Data
from launcher.recipe.evaluation import Evaluation
from launcher.recipe.model import Model
from launcher.recipe.patterns import SLUG
from launcher.recipe.peft import Peft
from launcher.recipe.quantization import Quantization
from launcher.recipe.run import Checkpoint, Export, Launch, Sharding, Sweep, Tracking
from launcher.recipe.section import Section
from launcher.recipe.training import Training


class Recipe(Section):
    """One fine-tuning run, as a person writes it."""

    schema_: Literal[1] = Field(1, alias="schema")
    """Version of the recipe language."""

    extends: str | None = None
    """A recipe to start from: `launcher:base/NAME.yaml` or a path. Mappings merge, lists replace, null deletes."""

    name: str = Field(pattern=SLUG)
    """Slug that names the run directory (not inherited from a base); default: the file's name."""

    task: Literal["sft"] = "sft"
    """What is trained: `sft`, supervised fine-tuning of a causal language model."""

    model: Model
    """The model to start from."""

    quantization: Quantization | None = None
    """Present: QLoRA."""

    peft: Peft | None = None
    """Present: adapters are trained. Absent: full fine-tuning."""

    data: Data
    """What the model is trained and measured on."""

    training: Training = Training()
    """The trainer's settings."""

    sharding: Sharding = Sharding()
    """How the model is spread over the ranks."""

    checkpoint: Checkpoint = Checkpoint()
    """When the run is saved."""

    evaluation: Evaluation = Evaluation()
    """How the model is measured."""

    tracking: Tracking = Tracking()
    """Experiment trackers."""

    sweep: Sweep | None = None
    """A search over recipe keys."""

    launch: Launch = Launch()
    """How much hardware, for how long."""

    export: Export = Export()
    """What is made of the result."""
