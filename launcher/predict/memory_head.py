"""TRL 1.16's fused loss on a tape: log-probabilities by tiles of tokens × vocabulary, no logits (`trl/kernels/chunked_logprob.py`)."""

from __future__ import annotations

from collections.abc import Sequence

from launcher.predict.memory_layers import FLOAT32, Layers
from launcher.predict.tape import Storage, Tensor, Weight

TILE_TOKENS, TILE_COLUMNS = 4096, 32768
"""Tokens and words of a tile: `TOKEN_CHUNK_SIZE` there, `_CHUNKED_LOGPROB_CHUNK_SIZE` in `trl/trainer/utils.py`."""
_FORWARD_TILES, _BACKWARD_TILES = 3.25, 7.25
"""Without Triton the tile is folded by torch's own operations: so many float32 copies of it at once, masks included."""


def loss(layers: Layers, hidden: Tensor, head: Weight, *, softcap: bool = False) -> Tensor:
    """Loss of the last hidden states; its node makes their gradient and the head's."""
    tape, setup = layers.tape, layers.setup
    width = layers.autocast or hidden.width
    vocabulary, columns = head.numel // setup.model.hidden, min(TILE_COLUMNS, head.numel // setup.model.hidden)
    rows = min(setup.tokens, TILE_TOKENS)
    buffer = rows * TILE_COLUMNS * width
    copies = (rows * setup.model.hidden * width if hidden.width != width else 0) + (
        columns * setup.model.hidden * width if head.width != width else 0
    )
    tiles = 0 if setup.device == "cuda" else rows * columns * FLOAT32
    with tape.labelled("loss"):
        states = tape.op(hidden.numel, hidden.width, [hidden]) if setup.rows > 1 and not setup.packing else hidden
        if setup.device == "cuda":  # only positions with a label are taken out, into a copy
            states = tape.op(hidden.numel, hidden.width, [hidden])
        tape.new(7 * setup.tokens * FLOAT32 + buffer + copies + round(_FORWARD_TILES * tiles))
        kept = tape.new(2 * setup.tokens * FLOAT32)

        def backward(_: list[Storage]) -> Sequence[Storage | None]:
            with tape.labelled("loss"):
                states_grad = tape.new(states.numel * FLOAT32) if states.node else None
                head_grad = tape.new(vocabulary * setup.model.hidden * FLOAT32) if head.trained else None
                work = tape.new(buffer + copies + round((_BACKWARD_TILES + softcap) * tiles))
                del work
                if states_grad is not None and states.width != FLOAT32:
                    states_grad = tape.new(states.numel * states.width)
                if head_grad is not None and head.width != FLOAT32:
                    head_grad = tape.new(vocabulary * setup.model.hidden * head.width)
            return [states_grad, head_grad]

        result = Tensor(tape.new(setup.tokens * FLOAT32), setup.tokens, FLOAT32, None)
        result.node = tape.record([states, head], [states, kept], backward)
    return result
