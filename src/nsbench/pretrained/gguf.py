"""Quantised weights in GGUF files, turned into what every model is loaded from. Uses transformers."""

from __future__ import annotations

from pathlib import Path

import torch


def convert(file: Path, folder: Path) -> None:
    """Write the model and the tokenizer of a GGUF file, dequantised to float32, into a folder as safetensors."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        file.parent, gguf_file=file.name, local_files_only=True, trust_remote_code=False
    )
    model = transformers.AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, dtype=torch.float32, local_files_only=True, trust_remote_code=False
    )
    # The quantizer has done its work; what it leaves on the model cannot be written.
    for thing in (model, model.config):
        for trace in [attribute for attribute in vars(thing) if "quanti" in attribute]:
            delattr(thing, trace)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
