"""Predictions written by hand: one that fits, one that is tight, one that does not fit, one of a CPU."""

from __future__ import annotations

from launcher.predict.prediction import Change, Memory, Prediction, Time

GIB = 2**30
EVIL = "</pre></script><img src=x onerror=alert(1)>\x1b[31m"


def _bytes(**terms: float) -> dict[str, int]:
    return {term: int(size * GIB) for term, size in terms.items()}


TIME = Time(
    # 24.1 + 0.9 + 1.2 + 1.3 + 0.5 = 28.0 s; 64,400 / 28 = 2,300 tokens a second; 2.24e15 / 28 = 80 TFLOP/s
    parts={"compute": 24.1, "dequantize": 0.9, "optimizer": 1.2, "communication": 1.3, "overhead": 0.5},
    tokens=64_400,
    model_flops=2.24e15,
    hardware_flops=2.9e15,
)
OFF = Change(
    ("training.activation_checkpointing=false",), "keeps all activations", 32 * GIB + GIB // 2, 21.0, "does not fit"
)
LONGER = Change(("data.max_length=8192",), "twice the activations", int(23.6 * GIB), 60.0, "does not fit")
LESS = Change(("training.optim=paged_adamw_8bit",), "moments in 8 bits", int(15.4 * GIB), 28.3, "fits")
FITS = Prediction(
    # 5.3 + 0.4 + 0.1 + 0.2 + 8.0 + 0.5 + 0.2 + 0.6 + 0.3 = 15.6 of 22.9: 7.3 are spare
    memory=Memory(
        _bytes(
            weights=5.3, quantization=0.4, gradients=0.1, optimizer=0.2, activations=8.0, loss=0.5, workspace=0.2, context=0.6,
            fragmentation=0.3,
        ),
        "backward",
        _bytes(forward=12.0, loss=14.1, backward=14.7, step=7.0),
    ),
    capacity=int(22.9 * GIB),
    verdict="fits",
    host=_bytes(loading=16.4, workers=1.0),
    host_capacity=64 * GIB,
    disk=_bytes(checkpoints=1.5, model=15.3, data=0.2),
    time=TIME,
    run_s=28.0 * 123,
    gpu_hours=0.957,
    energy_kwh=0.41,
    cost="1.05 EUR",
    alternatives=(OFF, LONGER, LESS),
)  # fmt: skip
TIGHT = Prediction(
    memory=Memory(_bytes(weights=5.3, activations=16.2, context=0.6), "loss"),  # 22.1 of 22.9
    capacity=int(22.9 * GIB),
    verdict="tight",
    time=TIME,
    fixes=(
        Change(
            ("training.per_device_train_batch_size=1",),
            "half the rows of a pass, and each of them as long as it was before, so that a step takes what it took",
            14 * GIB,
            29.4,
            "fits",
        ),
    ),
)
TOO_LARGE = Prediction(
    # 15.3 + 15.3 + 61.0 + 3.8 + 1.2 + 0.6 + 2.0 = 99.2 of 79.2: 20.0 too much
    memory=Memory(
        _bytes(weights=15.3, gradients=15.3, optimizer=61.0, activations=3.8, loss=1.2, context=0.6, fragmentation=2.0), "step"
    ),
    capacity=int(79.2 * GIB),
    verdict="does not fit",
    time=TIME,
    fixes=(
        Change(("training.optim=paged_adamw_8bit",), "moments in 8 bits", 53 * GIB, 29.1, "fits"),
        Change(("sharding.strategy=fsdp2", "launch.gpus=2"), "two GPUs share one copy", 52 * GIB, None, "fits"),
    ),
)  # fmt: skip
CPU = Prediction(
    # 0.25 + 0.25 + 0.5 = 1.0 GiB of 12
    memory=Memory(_bytes(weights=0.25, activations=0.25, context=0.5), "backward"),
    capacity=12 * GIB,
    verdict="fits",
    host=_bytes(processes=2.0),
    host_capacity=24 * GIB,
)
HOSTILE = Prediction(
    memory=Memory(_bytes(weights=30.0), "backward"),
    capacity=int(22.9 * GIB),
    verdict="does not fit",
    host={EVIL: GIB},
    disk={EVIL: GIB},
    cost=EVIL,
    fixes=(Change((f"name={EVIL}",), EVIL, GIB, 1.0, "fits"),),
    alternatives=(Change((f"name={EVIL}",), EVIL, 40 * GIB, 1.0, "does not fit"),),
)
