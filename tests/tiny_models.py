"""Tiny transformers with random weights and a tokenizer, as folders: python -m tests.tiny_models FOLDER."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

WORDS = ["the", "a", "of", "in", "and", "to", "was", "is", "on", "for", "with", "as", "by", "he", "she", "it", "at"]
WORDS += ["from", "that", "which", "city", "river", "house", "music", "war", "year"]
TEXT = " ".join(WORDS * 40)
SHAPE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
KINDS = ("causal", "masked", "encoder")


def tokenizer(dressed: bool) -> Any:
    """A tokenizer of whole words; dressed: with [CLS] and [SEP] round each sequence."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    made = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    named = {"unk_token": "[UNK]", "pad_token": "[PAD]"}
    if dressed:
        made.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
        named |= {"cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    return PreTrainedTokenizerFast(tokenizer_object=made, **named)


def make(folder: Path, kind: str, seed: int = 0) -> Path:
    """Write a model of a kind of KINDS, its weights those of `seed`, and its tokenizer, into `folder/kind`."""
    import transformers

    size = len(WORDS) + 5
    if kind == "causal":
        config = transformers.LlamaConfig(vocab_size=size, max_position_embeddings=64, **SHAPE)
        build = transformers.LlamaForCausalLM
    else:
        config = transformers.BertConfig(vocab_size=size, max_position_embeddings=64, **SHAPE)
        build = transformers.BertForMaskedLM if kind == "masked" else transformers.BertModel
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build(config)
        # Initial weights are too small for anything to depend on much.
        for parameter in model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder / kind)
    tokenizer(dressed=kind != "causal").save_pretrained(folder / kind)
    return folder / kind


if __name__ == "__main__":
    for each in KINDS:
        print(make(Path(sys.argv[1]), each))
