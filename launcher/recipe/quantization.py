"""The `quantization:` section."""

from typing import Literal

from launcher.recipe.section import Section


class Quantization(Section):
    """Load the frozen base model quantized (QLoRA: Dettmers et al., 2023). Names are transformers' BitsAndBytesConfig's; needs `peft`."""

    load_in_4bit: bool = False
    """Store the base model's linear layers in 4 bits: about 0.55 bytes per parameter with double quantization."""

    load_in_8bit: bool = False
    """Store the base model's linear layers in 8 bits (LLM.int8)."""

    bnb_4bit_quant_type: Literal["nf4", "fp4"] = "nf4"
    """4-bit code book. `nf4` fits normally distributed weights better than `fp4`."""

    bnb_4bit_use_double_quant: bool = True
    """Quantize the quantization constants too; saves about 0.4 bits per parameter."""

    bnb_4bit_compute_dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Type the 4-bit weights are expanded to for each matrix product. `auto`: bfloat16 on GPUs that have it, float32 on CPU."""

    bnb_4bit_quant_storage: Literal["auto", "uint8", "float32", "bfloat16", "float16"] = "auto"
    """Type of the tensors that hold the 4-bit codes. `auto`: the type of the other weights where they are shared out (fsdp2, zero3), which need one float type; else uint8."""
