"""Names that other tools, and older versions of ours, use: the line to write instead.

VALUE stands for the value that was written. `write` is one flow of recipe sections, or one for each value; `item` is
the same within an item of `data.datasets`. `note` says what to do where no line can stand for the old one.
A test puts every line, filled with `example`, into a recipe and loads it.
"""

from launcher.recipe import dialects_model, dialects_run
from launcher.recipe.dialect import AXOLOTL, FACTORY, TRL, Row

_INSTRUCTIONS = (
    "write `format: messages`, `sharegpt`, `alpaca`, `prompt_completion`, `text` or `tokenized`, or leave it out"
)

ROWS: dict[str, Row] = {**dialects_model.ROWS, **dialects_run.ROWS}

ITEM_ROWS: dict[str, Row] = {
    "type": Row(
        AXOLOTL,
        "chat_template",
        item={
            "chat_template": "format: messages",
            "completion": "format: text",
            "sharegpt": "format: sharegpt",
            "alpaca": "format: alpaca",
        },
        note=_INSTRUCTIONS,
    ),
    "formatting": Row(
        FACTORY,
        "sharegpt",
        item={"sharegpt": "format: sharegpt", "alpaca": "format: alpaca"},
        note=_INSTRUCTIONS,
    ),
    "ds_type": Row(AXOLOTL, "json", note="remove it: the file's ending says it"),
    "train_on_split": Row(AXOLOTL, "train", item="split: VALUE"),
    "field_messages": Row(AXOLOTL, "conversations", item="columns: {messages: VALUE}"),
    "field": Row(AXOLOTL, "content", item="columns: {text: VALUE}"),
    "file_name": Row(FACTORY, "data/train.jsonl", item="path: VALUE"),
    "hf_hub_url": Row(FACTORY, "trl-lib/Capybara", item="path: VALUE"),
    "subset": Row(FACTORY, "main", item="name: VALUE"),
    "num_samples": Row(FACTORY, 1000, item="max_rows: VALUE"),
    "fraction": Row(TRL, 0.5, item="weight: VALUE"),
    "probability": Row("scripts", 0.5, item="weight: VALUE"),
    "id": Row("scripts", "support", item="label: VALUE"),
}
