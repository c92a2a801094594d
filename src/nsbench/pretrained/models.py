"""A language model as functions: tokens to embeddings, embeddings to hidden states and logits. Uses transformers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from nsbench.measures.gradients import each_gradients
from nsbench.measures.readouts import NO_LABEL
from nsbench.pretrained.sources import ModelError

PROJECTIONS = (
    "attn.c_proj",  # GPT-2
    "attention.output.dense",  # BERT, RoBERTa
    "self_attn.o_proj",  # Llama, Gemma and most since
    "attention.dense",  # GPT-NeoX
    "self_attn.out_proj",  # OPT
    "self_attention.dense",  # Bloom, Falcon
    "self_attn.dense",  # Phi
    "attn.out_proj",  # GPT-J
    "attn.attention.out_proj",  # GPT-Neo
    "attention.out_lin",  # DistilBERT
    "attn.Wo",  # ModernBERT
)
"""Within a layer, the module that projects the concatenated outputs of the attention heads."""
TWO_WAYS = ("xlnet", "xlm")
"""Kinds of models that are called causal but predict in other orders."""
TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model", "spiece.model", "spm.model")


class States(NamedTuple):
    """A model's outputs for N sequences."""

    hidden_NTC: Tensor
    """After the last layer and its norm."""
    logits: Tensor | None
    """(N, T, V), or (N, V) where positions are pooled; None without a language-model head."""


@dataclass
class LanguageModel:
    """A model in evaluation mode on its device. Nothing in it needs a gradient."""

    kind: str
    """causal, masked, or encoder: no language-model head."""
    architecture: str
    embed: Callable[[Tensor], Tensor]
    """Tokens (N, T) to embeddings (N, T, C), positions not yet added."""
    states: Callable[[Tensor], States]
    """Embeddings (N, T, C) to hidden states and logits."""
    layers: dict[str, nn.Module]
    """Number -> the layer; empty where the model has no modules for them."""
    heads: dict[str, tuple[nn.Module, int]]
    """Number of the layer -> the projection of its heads, and how many they are."""
    n_parameters: int
    n_layers: int
    n_heads: int
    d_model: int
    n_vocabulary: int
    values_per_token: int
    """About how many numbers a forward pass keeps for the backward pass, for each token and besides attention."""
    device: torch.device
    pooled: bool = False
    """Whether there is one output for all positions: logits (N, V)."""
    remarks: list[str] = field(default_factory=list)

    def labels(self, tokens_NT: Tensor, fixed_ids: Tensor) -> Tensor:
        """The label of each position, (N, T): the next token (causal), else the token itself.

        The tokens of `fixed_ids`, and the last position of a causal model, have no label.
        """
        labels_NT = torch.full_like(tokens_NT, NO_LABEL)
        if self.kind == "causal":
            labels_NT[:, :-1] = tokens_NT[:, 1:]
        else:
            labels_NT[:] = tokens_NT
        labels_NT[torch.isin(labels_NT, fixed_ids.to(labels_NT.device))] = NO_LABEL
        return labels_NT

    def values_per_sequence(self, n_tokens: int) -> int:
        """About how many numbers one sequence takes in a forward and a backward pass."""
        return n_tokens * (self.values_per_token + 2 * self.n_layers * self.n_heads * n_tokens)


def load(
    name: str,
    folder: Path,
    device: torch.device,
    control_seed: int | None = None,
    initializer_range: float | None = None,
) -> LanguageModel:
    """The model of a folder, float32; with a control_seed a randomly initialised copy, as its class initialises it.

    initializer_range: the standard deviation of the copy's weights, where the folder's configuration does not have
    that of the model (a GGUF file does not carry it).

    The head is the one that the configuration names: weights that the folder lacks would be random, so such a
    folder is refused. Raises ModelError for what transformers cannot load.
    """
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    config = configuration(name, folder)
    text, (kind, auto) = config.get_text_config(), _kind(config)
    try:
        n_layers, n_heads, width = text.num_hidden_layers, text.num_attention_heads, text.hidden_size
    except AttributeError as error:
        raise ModelError(
            f"{name}: {config.model_type} has no attention layers ({error}); a transformer is needed"
        ) from None
    if control_seed is None:
        model, remarks = _pretrained(name, folder, auto)
    else:
        if initializer_range is not None:
            text.initializer_range = initializer_range
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(control_seed)
            model, remarks = auto.from_config(config, dtype=torch.float32, trust_remote_code=False), []
    model.to(device).eval().requires_grad_(False)
    layers, heads = _layers(model, n_layers, n_heads)
    if len(heads) < n_layers:
        remarks = [*remarks, "attention heads not found" if layers else "layers not found"]
    wide, embeddings = getattr(text, "intermediate_size", None) or 4 * width, model.get_input_embeddings()
    return LanguageModel(
        kind=kind,
        architecture=type(model).__name__,
        embed=torch.no_grad()(embeddings),
        states=_states(model, kind),
        layers=layers,
        heads=heads,
        n_parameters=model.num_parameters(),
        n_layers=n_layers,
        n_heads=n_heads,
        d_model=embeddings.embedding_dim,
        n_vocabulary=embeddings.num_embeddings,
        values_per_token=n_layers * (16 * width + 4 * wide) + (0 if kind == "encoder" else 3 * text.vocab_size),
        device=device,
        remarks=remarks,
    )


def try_out(name: str, model: LanguageModel, n_tokens: int) -> None:
    """Pass one sequence forward and backward, to refuse a model that cannot be measured before work starts.

    Raises ModelError for a model that fails, or whose layers do not take sequences first.
    """
    tokens_1T = torch.zeros(1, n_tokens, dtype=torch.long, device=model.device)
    try:
        (found,) = each_gradients(
            lambda x_NTC: [model.states(x_NTC).hidden_NTC.flatten(1).sum(1)],
            model.embed(tokens_1T),
            layers=model.layers,
            heads=model.heads,
        )
    except Exception as error:  # Models raise many types.
        raise ModelError(
            f"{name}: {model.architecture} cannot be measured at {n_tokens} tokens ({_first(error)}); fewer tokens, or "
            "another model"
        ) from error
    for gradient in (*found.layers.values(), *found.heads.values()):
        if gradient.shape[:2] != (1, n_tokens):
            raise ModelError(f"{name}: {model.architecture} has layers that do not take sequences first")


def load_tokenizer(name: str, folder: Path) -> Any:
    """The tokenizer of a folder. Raises ModelError where transformers cannot load it."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    if not any((folder / file).is_file() for file in TOKENIZER_FILES):
        raise ModelError(f"{name}: {folder} has no tokenizer; one of {', '.join(TOKENIZER_FILES)} is needed")
    try:
        return transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # The library raises many types.
        raise ModelError(f"{name}: {folder} has no tokenizer that transformers can load ({_first(error)})") from error


def configuration(name: str, folder: Path) -> Any:
    """The configuration of a folder. Raises ModelError where transformers has no causal or masked model of it."""
    import transformers

    try:
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise ModelError(f"{name}: {folder} is no model that transformers knows ({_first(error)})") from error
    if config.is_encoder_decoder or config.model_type in TWO_WAYS:
        raise ModelError(f"{name}: {config.model_type} is not measured; a causal or masked language model is allowed")
    return config


def _kind(config: Any) -> tuple[str, Any]:
    import transformers

    named = (getattr(config, "architectures", None) or [""])[0]
    if named.endswith(("ForCausalLM", "LMHeadModel")):
        return "causal", transformers.AutoModelForCausalLM
    if named.endswith(("ForMaskedLM", "ForPreTraining")):
        return "masked", transformers.AutoModelForMaskedLM
    return "encoder", transformers.AutoModel


def _pretrained(name: str, folder: Path, auto: Any) -> tuple[nn.Module, list[str]]:
    try:
        model, found = auto.from_pretrained(
            folder,
            dtype=torch.float32,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    except Exception as error:
        raise ModelError(f"{name}: transformers cannot load {folder} ({_first(error)}); get its files again") from error
    missing = sorted({*found["missing_keys"], *(key for key, *_ in found["mismatched_keys"])})
    if missing:
        raise ModelError(
            f"{name}: {folder} lacks weights that {type(model).__name__} has, for example {missing[0]}; they would be "
            "random; name the right class in architectures of its config.json"
        )
    left = sorted(found["unexpected_keys"])
    return model, [f"{len(left)} weights not used, for example {left[0]}"] if left else []


def _layers(
    model: nn.Module, n_layers: int, n_heads: int
) -> tuple[dict[str, nn.Module], dict[str, tuple[nn.Module, int]]]:
    """The layers of the model, and the projections of their heads, those that are found."""
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList) and len(module) == n_layers]
    layers = {str(number): layer for number, layer in enumerate(lists[0])} if lists else {}
    parts = {number: dict(layer.named_modules()) for number, layer in layers.items()}
    heads = {
        number: (named[projection], n_heads)
        for number, named in parts.items()
        for projection in [name for name in PROJECTIONS if name in named][:1]
    }
    return layers, heads


def _states(model: nn.Module, kind: str) -> Callable[[Tensor], States]:
    # A cache of keys and values serves generation alone.
    more = {"use_cache": False} if kind == "causal" else {}

    def states(embeddings_NTC: Tensor) -> States:
        found = model(inputs_embeds=embeddings_NTC, output_hidden_states=True, **more)
        return States(found.hidden_states[-1], None if kind == "encoder" else found.logits)

    return states


def _first(error: Exception) -> str:
    """The first line of an error."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
