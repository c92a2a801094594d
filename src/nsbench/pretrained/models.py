"""A language model as functions: tokens to embeddings, embeddings to hidden states and logits. Uses transformers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

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
SENTENCEPIECE = ("tokenizer.model", "sentencepiece.bpe.model", "spiece.model", "spm.model")
TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", *SENTENCEPIECE)


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
    of_tokens: Callable[[Tensor], States]
    """Tokens (N, T) to the same, by the model's own way: `try_out` holds it against `states`."""
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
    headless: str = ""
    """Why there are no logits; empty where there are."""
    n_positions: int | None = None
    """Of its configuration; None: it does not say."""
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
    with in_one_sentence(f"{name}: a {config.model_type} model of this configuration cannot be measured"):
        return _load(name, folder, config, device, control_seed, initializer_range)


def _load(
    name: str,
    folder: Path,
    config: Any,
    device: torch.device,
    control_seed: int | None,
    initializer_range: float | None,
) -> LanguageModel:
    text, (kind, auto) = config.get_text_config(), _kind(config)
    try:
        n_layers, n_heads, width = (
            _largest(getattr(text, size)) for size in ("num_hidden_layers", "num_attention_heads", "hidden_size")
        )
    except AttributeError as error:
        raise ModelError(
            f"{name}: {config.model_type} has no attention layers ({error}); a transformer is needed"
        ) from None
    if control_seed is None:
        model, remarks = _pretrained(name, folder, config, auto)
    else:
        if initializer_range is not None:
            text.initializer_range = initializer_range
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(control_seed)
            model, remarks = auto.from_config(config, dtype=torch.float32, trust_remote_code=False), []
    model.to(device).eval().requires_grad_(False)
    for weight, values in model.named_parameters():
        if not values.isfinite().all():
            raise ModelError(f"{name}: the weight {weight} has numbers that are not finite; get the files again")
    embeddings, named, architecture = model.get_input_embeddings(), _named(config), type(model).__name__
    embed = torch.no_grad()(embeddings)
    if config.model_type == "esm" and config.token_dropout:
        # What the model itself does to tokens none of which is a mask; it leaves embeddings as they are.
        embed = torch.no_grad()(lambda tokens_NT: embeddings(tokens_NT) * (1 - 0.15 * 0.8))
    states, of_tokens = (_states(model, kind, given) for given in ("inputs_embeds", "input_ids"))
    layers, heads = _layers(model, n_layers, n_heads, lambda: of_tokens(torch.ones(1, 4, dtype=torch.long).to(device)))
    if len(heads) < n_layers:
        found = f"found in {len(heads)} of {n_layers} layers" if heads else "not found"
        remarks = [*remarks, f"attention heads {found}" if layers else "layers not found"]
    headless = ""
    if kind == "encoder" and named == architecture:
        headless = "the model has no language-model head"
    elif kind == "encoder":
        headless = f"{named or 'a model whose config.json names no class in architectures'} is read without its head"
    wide = _largest(getattr(text, "intermediate_size", None) or 4 * width)
    return LanguageModel(
        kind=kind,
        architecture=architecture,
        embed=embed,
        states=states,
        of_tokens=of_tokens,
        layers=layers,
        heads=heads,
        n_parameters=model.num_parameters(),
        n_layers=n_layers,
        n_heads=n_heads,
        d_model=embeddings.embedding_dim,
        n_vocabulary=embeddings.num_embeddings,
        values_per_token=n_layers * (16 * width + 4 * wide)
        + (0 if kind == "encoder" else 3 * embeddings.num_embeddings),
        device=device,
        headless=headless,
        n_positions=getattr(text, "max_position_embeddings", None),
        remarks=remarks,
    )


def save(name: str, model: Any, tokenizer: Any, folder: Path) -> None:
    """Write a model in memory and its tokenizer as a folder that `load` reads. The model stays as it is.

    Raises ModelError for a class that is not transformers' own: a folder names a class, and cannot bring its code.
    """
    import transformers

    transformers.utils.logging.disable_progress_bar()
    own = isinstance(model, transformers.PreTrainedModel) and type(model).__module__.startswith("transformers.")
    if not own:
        raise ModelError(
            f"{type(model).__module__}.{type(model).__name__} is not measured; a model of a class of transformers is "
            "allowed, without adapters (merge_and_unload)"
        )
    if not hasattr(tokenizer, "save_pretrained"):
        raise ModelError(f"{name}: {type(tokenizer).__name__} is no tokenizer of transformers; give the model's own")
    with in_one_sentence(f"{name}: cannot be saved"):
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def load_tokenizer(name: str, folder: Path) -> Any:
    """The tokenizer of a folder. Raises ModelError where transformers cannot load it."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    there = [file for file in TOKENIZER_FILES if (folder / file).is_file()]
    if not there:
        raise ModelError(f"{name}: {folder} has no tokenizer; one of {', '.join(TOKENIZER_FILES)} is needed")
    instead = ""
    if there[0] in SENTENCEPIECE and not transformers.utils.is_sentencepiece_available():
        instead = f"; {there[0]} needs pip install sentencepiece protobuf"
    with in_one_sentence(f"{name}: {folder} has no tokenizer that transformers can load", instead):
        return transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def configuration(name: str, folder: Path) -> Any:
    """The configuration of a folder. Raises ModelError where transformers has no causal or masked model of it."""
    import transformers

    with in_one_sentence(f"{name}: {folder} is no model that transformers knows"):
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        # How attention is computed and which files have the weights is not for the folder to say.
        config._attn_implementation = config._experts_implementation = config.transformers_weights = None
    if config.is_encoder_decoder:
        raise ModelError(f"{name}: {config.model_type} is not measured; a causal or masked language model is allowed")
    return config


def _named(config: Any) -> str:
    """The class that a configuration names; empty for none."""
    return str((getattr(config, "architectures", None) or [""])[0])


def _kind(config: Any) -> tuple[str, Any]:
    import transformers
    from transformers.models.auto import modeling_auto

    named, kind = _named(config), config.model_type
    masked = named == modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES.get(kind)
    if masked or named.endswith(("ForMaskedLM", "ForPreTraining")):
        return "masked", transformers.AutoModelForMaskedLM
    # Of models of several kinds of input too, which take text alone.
    causal = named == modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(kind)
    if causal or named.endswith(("ForCausalLM", "LMHeadModel")):
        return "causal", transformers.AutoModelForCausalLM
    return "encoder", transformers.AutoModel


def _pretrained(name: str, folder: Path, config: Any, auto: Any) -> tuple[nn.Module, list[str]]:
    with in_one_sentence(f"{name}: transformers cannot load {folder}", "; get its files again"):
        model, found = auto.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    missing = sorted({*found["missing_keys"], *(key for key, *_ in found["mismatched_keys"])})
    if missing:
        raise ModelError(
            f"{name}: {folder} lacks weights that {type(model).__name__} has, for example {missing[0]}; they would be "
            "random; name the right class in architectures of its config.json"
        )
    left = sorted(found["unexpected_keys"])
    remarks = [f"{len(left)} weights not used, for example {left[0]}"] if left else []
    if getattr(config, "auto_map", None):
        remarks.append("the folder's own code (auto_map) is not run")
    return model, remarks


def _layers(
    model: nn.Module, n_layers: int, n_heads: int, forward: Callable[[], Any]
) -> tuple[dict[str, nn.Module], dict[str, tuple[nn.Module, int]]]:
    """The layers of the model, and the projections of their heads, those that are found."""
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList) and len(module) == n_layers]
    if len(lists) > 1:  # A tower of images has as many; text passes through one of them.
        called: set[nn.Module] = set()
        with ExitStack() as hooks:
            for layer in {layer for layers in lists for layer in layers}:
                hooks.enter_context(layer.register_forward_pre_hook(lambda module, _: called.add(module)))
            forward()
        lists = [layers for layers in lists if called.issuperset(layers)]
    layers = {str(number): layer for number, layer in enumerate(lists[0])} if lists else {}
    parts = {number: dict(layer.named_modules()) for number, layer in layers.items()}
    # An attention module knows its own number, which may differ by layer.
    heads = {
        number: (named[projection], getattr(named[projection.rpartition(".")[0]], "num_heads", n_heads))
        for number, named in parts.items()
        for projection in [name for name in PROJECTIONS if name in named][:1]
    }
    return layers, heads


def _states(model: nn.Module, kind: str, given: str) -> Callable[[Tensor], States]:
    # A cache of keys and values serves generation alone.
    more = {"use_cache": False} if kind == "causal" else {}

    def states(inputs: Tensor) -> States:
        # A copy, since some models scale their input in place.
        found = model(**{given: inputs.clone()}, output_hidden_states=True, **more)
        return States(found.hidden_states[-1], None if kind == "encoder" else found.logits)

    return states


def _largest(size: Any) -> int:
    """A size, or the largest where it differs by layer."""
    return int(max(size) if isinstance(size, list | tuple) else size)


@contextmanager
def in_one_sentence(what: str, instead: str = "") -> Iterator[None]:
    """Whatever transformers, or a stranger's configuration and model, raise: as a ModelError of one sentence."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:  # Many types.
        lines = str(error).strip().splitlines() or [""]
        raise ModelError(f"{what} ({type(error).__name__}: {lines[0][:300]}){instead}") from error
