"""Floating-point operations of one forward and backward pass: those that the mathematics needs, and those that are done.

Counted are matrix products, a multiplication and an addition for each element, as torch's counter counts them:
the output is a product with each weight, the gradient of the input another one, the gradient of the weight a third where
it is trained. Left out is what works on single elements (norms, activations, softmax, the optimizer).

- `model_flops`: a token attends to itself and those before it in its document, half of the pairs; nothing twice.
- `hardware_flops`: what is computed again is counted again, and pairs that a kernel computes to throw them away too.

Source: the counting rules are those of torch.utils.flop_counter (torch 2.13), with which a test compares both.
"""

from __future__ import annotations

from dataclasses import dataclass

from launcher.predict.architecture import Architecture
from launcher.predict.matrices import ENTRY, NARROW, Matrix, head, matrices
from launcher.predict.pairs import attention_is_whole, attentions, hides_window
from launcher.predict.setup import Setup

_Place = tuple[int, int]
"""Block and stage within it, in the order of the forward pass."""
_START: _Place = (-1, -1)
_NEVER: _Place = (1 << 30, 0)


@dataclass(frozen=True)
class Flops:
    """Floating-point operations of one micro-batch on one rank."""

    matrices: float
    """Products with weights inside the blocks, adapters and experts included."""
    attention: float
    """Queries with keys, and scores with values."""
    head: float
    """The output head and its loss."""

    @property
    def total(self) -> float:
        """All of them."""
        return self.matrices + self.attention + self.head


def forward_flops(model: Architecture, rows: int, length: int, source: int | None = None) -> Flops:
    """One forward pass over full rows, as the mathematics needs it.

    Args:
        model: its sizes.
        rows: rows of the batch.
        length: tokens of a row; behind an encoder, of the decoder's.
        source: tokens of an encoder's row; None: as many.
    """
    read = source if source is not None else length
    tokens = rows * length
    products = sum(each.per_token * _passed(each, rows, length, read) for each in matrices(model))
    attention = sum(
        4 * _width(model) * pairs for _, pairs in attentions(model, rows, length, read, document=None, whole=False)
    )
    return Flops(products, attention, head(model).per_token * tokens)


def model_flops(setup: Setup) -> Flops:
    """What one micro-batch needs, forward and backward."""
    model, first = setup.model, _first_trained(setup)
    products = 0.0
    for each in matrices(model):
        tokens = _passed(each, setup.rows, setup.length, setup.length)
        products += each.per_token * tokens * (1 + _behind(each, first) + _has_gradient(each, setup))
        products += _adapter(each, setup, tokens, first=first)
    document = setup.document if setup.packing else None
    attention = 0.0
    pairs = attentions(model, setup.rows, setup.length, setup.length, document=document, whole=False)
    for block, number in pairs:
        attention += (4 + 8 * ((block, ENTRY) >= first)) * _width(model) * number
    return Flops(products, attention, _head(setup, setup.tokens, computed_again=0))


def hardware_flops(setup: Setup) -> Flops:
    """What one micro-batch makes the device compute, forward and backward."""
    model = setup.model
    # Checkpointing asks for the gradient of the first block's input even where nothing before it is trained.
    first = _START if setup.checkpointing else _first_trained(setup)
    products = 0.0
    for each in matrices(model):
        tokens = _passed(each, setup.rows, setup.length, setup.length)
        times = 1 + _behind(each, first) + _has_gradient(each, setup)
        products += each.per_token * tokens * (times + _recomputed(each, setup))
        products += _adapter(each, setup, tokens, first=first) + _adapter_again(each, setup, tokens)
    return Flops(products, _attention_done(setup, first), _fused_head(setup))


def _attention_done(setup: Setup, first: _Place) -> float:
    """All that attention computes. A fused kernel computes the scores a second time in its backward pass."""
    model, whole = setup.model, attention_is_whole(setup)
    row = setup.tokens if setup.packing and whole else setup.length  # a packed batch is laid out as one row
    document = None if whole else setup.document if setup.packing else None
    rows = setup.tokens // row
    backward = 8 if setup.attention == "eager" else 10
    saved = setup.checkpointing is not None and setup.checkpointing.selective and setup.attention != "eager"
    operations = 0.0
    for block, pairs in attentions(model, rows, row, row, document=document, whole=whole, hides=hides_window(setup)):
        again = is_recomputed(block, setup) and not saved
        operations += (4 + 4 * again + backward * ((block, ENTRY) >= first)) * _width(model) * pairs
    return operations


def _passed(matrix: Matrix, rows: int, length: int, source: int) -> int:
    """Tokens that pass a matrix."""
    reads_source = matrix.side in ("source", "") if matrix.side != "decoder" else False
    return rows * (source if reads_source else length)


def _behind(matrix: Matrix, first: _Place) -> bool:
    """Whether the gradient of its input is needed: something before it is trained."""
    return (matrix.block, matrix.stage) > first


def _first_trained(setup: Setup) -> _Place:
    """Where the gradient stops on its way back."""
    adapter = setup.adapter
    if setup.method == "full" or adapter is None:
        return _START
    if adapter.new_rows or any("embed" in name for name in adapter.whole):
        return _START
    places = [
        (each.block, each.stage)
        for each in matrices(setup.model)
        if adapter.ranks.get(each.name) or _is_trained(each.name, setup)
    ]
    return min(places, default=_NEVER)


def _is_trained(name: str, setup: Setup) -> bool:
    if setup.adapter is None:
        return setup.method == "full"
    return any(name == each or name.startswith(f"{each}.") for each in setup.adapter.whole)


def _has_gradient(matrix: Matrix, setup: Setup) -> bool:
    """Whether the gradient of the weight itself is computed: it is trained, or an update is added to it."""
    return _is_trained(matrix.name, setup) or (_rank(matrix, setup) > 0 and _is_parameter(matrix, setup))


def _adapter(matrix: Matrix, setup: Setup, tokens: int, *, first: _Place) -> float:
    """Of the adapter of a matrix: forward, gradients of both its weights, of its middle and of its input."""
    rank = _rank(matrix, setup)
    if not rank:
        return 0.0
    if _is_parameter(matrix, setup):
        return 3 * _update(matrix, setup)
    norm = (
        2.0 * rank * matrix.inputs * (matrix.inputs + matrix.outputs) if setup.adapter and setup.adapter.dora else 0.0
    )
    return 2.0 * rank * tokens * (matrix.inputs * (2 + _behind(matrix, first)) + matrix.outputs * 3) + norm


def _adapter_again(matrix: Matrix, setup: Setup, tokens: int) -> float:
    """Computed again: at the end of a block its second product is not, whose result nothing else needs.

    peft 0.21 computes the update of a parameter twice in each forward pass: torch's `register_parametrization` tries it.
    """
    rank, again = _rank(matrix, setup), is_recomputed(matrix.block, setup)
    if rank and _is_parameter(matrix, setup):
        return _update(matrix, setup) * (3 if again else 1)
    if not rank or not again:
        return 0.0
    up = 0 if _ends_block(matrix, setup) else matrix.outputs
    return 2.0 * rank * (matrix.inputs + up) * tokens


def _is_parameter(matrix: Matrix, setup: Setup) -> bool:
    """Whether peft adds B·A to the weight instead of standing beside its layer: experts in one tensor, and routers."""
    return matrix.block >= 0 and matrix.name not in setup.model.linear


def _update(matrix: Matrix, setup: Setup) -> float:
    """B·A for every expert, however many tokens there are."""
    experts = setup.model.expert_tensors.get(matrix.name, (1,))[0]
    return 2.0 * experts * _rank(matrix, setup) * matrix.inputs * matrix.outputs


def _rank(matrix: Matrix, setup: Setup) -> int:
    return setup.adapter.ranks.get(matrix.name, 0) if setup.adapter else 0


def _recomputed(matrix: Matrix, setup: Setup) -> bool:
    """The checkpoint stops computing again once it has all that was saved: the last product of a block saves its input only."""
    last = _ends_block(matrix, setup) and not _rank(matrix, setup)
    return is_recomputed(matrix.block, setup) and not last


def _ends_block(matrix: Matrix, setup: Setup) -> bool:
    """Whether a block's last saved tensor is the input of this product: no norm behind it, no experts, not reentrant."""
    if matrix.stage != NARROW or matrix.share != 1 or _reentrant(setup):
        return False
    layer = matrix.name.rpartition(".")[0].rpartition(".")[0]
    names = (f"{layer}.post_feedforward_layernorm.weight", f"{matrix.name.rpartition('.')[0]}.LayerNorm.weight")
    return not any(name in setup.model.tensors for name in names)


def _reentrant(setup: Setup) -> bool:
    """TRL 1.16 asks for torch's older form with an adapter under ZeRO-3."""
    return setup.strategy == "zero3" and setup.adapter is not None


def _head(setup: Setup, positions: int, *, computed_again: int) -> float:
    trained = _is_trained("lm_head", setup) or setup.method == "full"
    rank = setup.adapter.ranks.get("lm_head", 0) if setup.adapter else 0
    matrix = head(setup.model)
    adapter = 6.0 * rank * (matrix.inputs + matrix.outputs)
    return positions * (matrix.per_token * (2 + computed_again + trained) + adapter)


def _fused_head(setup: Setup) -> float:
    """TRL's head for decoders: it computes its tiles of logits again in the backward pass, and skips each row's last token."""
    if not setup.model.causal or setup.model.decoder_layers:
        return _head(setup, setup.tokens, computed_again=0)
    return _head(setup, setup.tokens - (1 if setup.packing else setup.rows), computed_again=1)


def _width(model: Architecture) -> int:
    return model.heads * model.head_dim


def is_recomputed(block: int, setup: Setup) -> bool:
    """Whether a block's forward pass is done again in the backward pass."""
    return setup.checkpointing is not None and block >= 0 and block % setup.checkpointing.every_n_layers == 0
