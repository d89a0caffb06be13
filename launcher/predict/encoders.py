"""Types that encode: bert and modernbert with the head for masked words, t5 with its decoder."""

from __future__ import annotations

from launcher.predict.family import Family, Part, When, biased, sizes, weights

_BERT = weights(
    {
        "attention.self.query": "H H",
        "attention.self.key": "H H",
        "attention.self.value": "H H",
        "attention.output.dense": "H H",
        "attention.output.LayerNorm": "H",
        "intermediate.dense": "F H",
        "output.dense": "H F",
        "output.LayerNorm": "H",
    }
)
_BERT_HEAD = weights(
    {
        "bert.embeddings.LayerNorm": "H",
        "cls.predictions.transform.dense": "H H",
        "cls.predictions.transform.LayerNorm": "H",
    }
)
_MODERN = weights({"attn.Wqkv": "3H H", "attn.Wo": "H H", "mlp.Wi": "2F H", "mlp.Wo": "H F", "mlp_norm": "H"})
_MODERN_NORMS = weights({"model.embeddings.norm": "H", "model.final_norm": "H", "head.norm": "H"})


def _t5(place: int, attention: str) -> dict[str, str]:
    matrices = {"q": "Q H", "k": "Q H", "v": "Q H", "o": "H Q"}
    named = {f"layer.{place}.{attention}.{name}.weight": shape for name, shape in matrices.items()}
    return {**named, f"layer.{place}.layer_norm.weight": "H"}


def _t5_block(feed_forward: int) -> tuple[Part, ...]:
    here = f"layer.{feed_forward}"
    inner = f"{here}.DenseReluDense"
    return (
        _t5(0, "SelfAttention"),
        When("first", {"layer.0.SelfAttention.relative_attention_bias.weight": "R N"}),
        _t5(1, "EncDecAttention") if feed_forward == 2 else {},
        When("gated", {f"{inner}.wi_0.weight": "F H", f"{inner}.wi_1.weight": "F H"}),
        When("ungated", {f"{inner}.wi.weight": "F H"}),
        {f"{inner}.wo.weight": "H F", f"{here}.layer_norm.weight": "H"},
    )


ENCODERS = {
    "bert": Family(
        {"bert.encoder.layer": (_BERT, biased(_BERT))},
        (
            {
                "bert.embeddings.word_embeddings.weight": "V H",
                "bert.embeddings.position_embeddings.weight": "P H",
                "bert.embeddings.token_type_embeddings.weight": "T H",
            },
            _BERT_HEAD,
            biased(_BERT_HEAD),
            {"cls.predictions.bias": "V"},
            When("untied", {"cls.predictions.decoder.weight": "V H", "cls.predictions.decoder.bias": "V"}),
        ),
        sizes(30522, 768, 3072, 12, 12, max_position_embeddings=512, type_vocab_size=2, tie_word_embeddings=True),
        causal=False,
        stored_otherwise=True,
    ),
    "modernbert": Family(
        {
            "model.layers": (
                _MODERN,
                When("later", weights({"attn_norm": "H"})),
                When("attention_bias", {"attn.Wqkv.bias": "3H", "attn.Wo.bias": "H"}),
                When("mlp_bias", {"mlp.Wi.bias": "2F", "mlp.Wo.bias": "H"}),
            )
        },
        (
            weights({"model.embeddings.tok_embeddings": "V H", "head.dense": "H H"}),
            _MODERN_NORMS,
            When("decoder_bias", {"decoder.bias": "V"}),
            When("untied", weights({"decoder": "V H"})),
        ),
        sizes(50368, 768, 1152, 22, 12, local_attention=128, decoder_bias=True, tie_word_embeddings=True),
        window="local_attention",
        full=lambda index, config: index % int(config.get("global_attn_every_n_layers", 3)) == 0,
        causal=False,
    ),
    "t5": Family(
        {"encoder.block": _t5_block(1), "decoder.block": _t5_block(2)},
        (weights({"shared": "V H", "encoder.final_layer_norm": "H", "decoder.final_layer_norm": "H"}),),
        {"vocab_size": 32128, "d_model": 512, "d_kv": 64, "d_ff": 2048, "num_layers": 6, "num_heads": 8}
        | {"relative_attention_num_buckets": 32, "feed_forward_proj": "relu", "tie_word_embeddings": True},
        keys={
            "H": ("d_model", "hidden_size"),
            "F": ("d_ff",),
            "D": ("d_kv", "head_dim"),
            "L": ("num_layers", "num_hidden_layers"),
            "N": ("num_heads", "num_attention_heads"),
        },
        causal=False,
    ),
}
