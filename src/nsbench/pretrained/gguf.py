"""Quantised weights in GGUF files, turned into what every model is loaded from. Uses transformers."""

from __future__ import annotations

from pathlib import Path

import torch

MOST_LAYERS = 1000
"""The library builds as many as a file claims."""


def convert(file: Path, folder: Path) -> None:
    """Write the model and the tokenizer of a GGUF file, dequantised to float32, into a folder as safetensors.

    Raises ValueError where it claims more than it has; the library raises many types.
    """
    import transformers

    transformers.utils.logging.disable_progress_bar()
    config = transformers.AutoConfig.from_pretrained(
        file.parent, gguf_file=file.name, local_files_only=True, trust_remote_code=False
    )
    if (layers := config.get_text_config().num_hidden_layers) > MOST_LAYERS:
        raise ValueError(f"it claims {layers} layers; at most {MOST_LAYERS} are allowed")
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        file.parent, gguf_file=file.name, local_files_only=True, trust_remote_code=False
    )
    model, found = transformers.AutoModelForCausalLM.from_pretrained(
        file.parent,
        gguf_file=file.name,
        config=config,
        dtype=torch.float32,
        local_files_only=True,
        trust_remote_code=False,
        output_loading_info=True,
    )
    if missing := sorted(found["missing_keys"]):
        raise ValueError(f"it lacks weights, for example {missing[0]}, which would be random")
    # The quantizer has done its work; what it leaves on the model cannot be written.
    for thing in (model, model.config):
        for trace in [attribute for attribute in vars(thing) if "quanti" in attribute]:
            delattr(thing, trace)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
