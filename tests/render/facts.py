"""`data.json` written by hand: two weighted sources, packed, with an eval set of its own and one held out."""

from __future__ import annotations

from typing import Any

PACKED: dict[str, Any] = {
    "schema": 2,
    "template": {"how": "prefixes", "sha256": "0" * 64},
    "sets": {
        "train": {
            "rows": 652, "fillers": 4, "sequences": 3609, "tokens": 2_660_000, "trained_tokens": 1_622_600, "packing": "bfd",
            "max_length": 4096, "fill": 0.996, "split_sequences": 0, "cut_tokens": 18_000,
        },
        "eval-faq": {"rows": 62, "fillers": 0, "tokens": 40_000, "trained_tokens": 10_000},
        "eval-kept_back": {"rows": 20, "fillers": 0, "tokens": 12_000, "trained_tokens": 9_000},
    },
    "sources": {
        "support": {
            "kind": "train", "format": "messages", "read": 3100, "rows": 3078, "tokens": 1_872_000, "trained_tokens": 1_000_000, "bad": 2,
            "too_short": 0, "too_long": 0, "duplicates": 12, "near_duplicates": 0, "contaminated": 8, "held_out": 20, "cut": 12, "lost_end": 1,
            "cut_tokens": 18_000, "lengths": {"mean": 608.2, "p50": 540, "p90": 1100, "p99": 2900, "max": 9000},
            "histogram": [[0, 1000, 2700], [1000, 2000, 300], [2000, 3000, 50], [3000, 4000, 16], [4000, 5000, 12]],
        },
        "general": {
            "kind": "train", "format": "text", "read": 180_000, "rows": 180_000, "tokens": 266_000_000, "trained_tokens": 622_600, "bad": 0,
            "too_short": 0, "too_long": 0, "duplicates": 0, "near_duplicates": 0, "contaminated": 0, "held_out": 0, "cut": 0, "lost_end": 0,
            "cut_tokens": 0, "lengths": {"mean": 1478.0, "p50": 1400, "p90": 2000, "p99": 3000, "max": 3500},
            "histogram": [[0, 1750, 90_000], [1750, 3500, 90_000]],
        },
        "faq": {
            "kind": "eval", "format": "messages", "read": 62, "rows": 62, "tokens": 40_000, "trained_tokens": None, "bad": 0, "held_out": 0, "cut": 0,
            "lost_end": 0, "cut_tokens": 0, "lengths": {"mean": 645.2, "p50": 600, "p90": 900, "p99": 1000, "max": 1000}, "histogram": [[0, 1000, 62]],
        },
    },
    "mixture": {
        "unit": "tokens", "strategy": "first_exhausted", "limited_by": "support",
        "sources": {
            "support": {"asked": 0.7, "share": 0.6998, "share_tokens": 0.6998, "rows": 3058, "tokens": 1_861_468, "epochs": 1.0, "max_epochs": 4.0},
            "general": {"asked": 0.3, "share": 0.3002, "share_tokens": 0.3002, "rows": 551, "tokens": 798_532, "epochs": 0.003, "max_epochs": 4.0},
        },
    },
    "warnings": ["82 optimizer steps in all: below 100 a model hardly learns"],
    "steps_per_epoch": 41, "max_steps": 82, "tokens_per_step": 64_878,
    "work": {"tokenized_rows": 183_000, "tokenized_tokens": 267_000_000, "reused_rows": 162, "from_cache": False, "seconds": 81.4, "processes": 8},
}  # fmt: skip
REMOVED = [
    {"source": "support", "place": f"support.jsonl:{number}", "reason": "duplicate", "of": "support.jsonl:1"}
    for number in range(2, 14)
]
BAD = [
    {"source": "support", "place": f"support.jsonl:{number}", "reason": "`messages` is an empty list"}
    for number in (70, 71)
]
ROWS: dict[str, Any] = {
    "rows": [
        {
            "set": "train", "source": "general", "number": 17, "length": 12, "trained": 6,
            "examples": [
                {"source": "support", "place": "support.jsonl:4", "length": 5, "trained": 2,
                 "segments": [[False, "<|im_start|>user\nHi<|im_end|>\n"], [True, "Hello.<|im_end|>"], [False, "\n"]]},
                {"source": "support", "place": None, "length": 2, "trained": 1, "segments": [[False, "a"], [True, " b"]]},
                {"source": "support", "place": None, "length": 2, "trained": 1, "segments": [[False, "c"], [True, " d"]]},
                {"source": "support", "place": None, "length": 1, "trained": 0, "segments": [[False, "e"]]},
                {"source": "support", "place": None, "length": 1, "trained": 0, "segments": [[False, "f"]]},
                {"source": "general", "place": "general.txt:9", "length": 1, "trained": 1, "segments": [[True, "x\x1b[31m\tz\n" + "long " * 300]]},
            ],
        },
        {
            "set": "eval-faq", "source": "faq", "number": 3, "length": 3, "trained": 2,
            "examples": [{"source": "faq", "place": "faq.csv:5", "length": 3, "trained": 2, "segments": [[False, "q"], [True, " answer"]]}],
        },
    ],
    "notes": ["something could not be told"],
}  # fmt: skip
