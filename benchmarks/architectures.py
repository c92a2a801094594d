"""Every causal and masked class of transformers, built tiny from its configuration and given to `nsbench measure`.

Each should be measured, with logits that are equal for token ids and for their embeddings, or be refused in one
sentence with status 2. Equality is checked here again, on the class itself and on other tokens than the command has
looked at. Where the small sizes below do not fit each other the class is not built, and nothing is learned of it.

    python benchmarks/architectures.py [--only gpt2 bert] [--seconds 120] [--out architectures.csv]
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import logging
import multiprocessing
import os
import queue
import tempfile
import traceback
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import transformers
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers.models.auto import modeling_auto
from transformers.models.gpt2 import modeling_gpt2  # noqa: F401  Loaded once, for all processes.

from nsbench.cli import parser
from nsbench.pretrained import checks, models, run

CAUSAL, MASKED = modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
LARGEST = 20_000_000
"""Parameters of what is still tiny."""
N_LAYERS, N_WORDS = 2, 40
GIVEN = {
    32: "hidden_size d_model n_embd embedding_size dim emb_dim hidden_size_global embedding_dim pooler_hidden_size "
    "attention_hidden_size word_embed_proj_dim lru_width encoder_hidden_size projection_dim input_embedding_size "
    "output_embedding_size backbone_hidden_size out_hidden_size true_hidden_size mlp_dim prediction_head_size "
    "entity_emb_size image_size",
    2: "num_hidden_layers n_layer n_layers num_layers encoder_layers decoder_layers num_encoder_layers depth "
    "num_decoder_layers num_blocks num_layers_per_stack max_window_layers num_experts_per_tok num_experts_per_token "
    "moe_topk moe_k attn_layer_period expert_layer_period",
    1: "attn_layer_offset num_nextn_predict_layers num_kv_shared_layers first_k_dense_replace n_group topk_group",
    4: "num_attention_heads n_head n_heads num_heads num_kv_heads encoder_attention_heads decoder_attention_heads "
    "attention_heads num_encoder_attention_heads num_decoder_attention_heads swa_num_attention_heads index_n_heads "
    "swa_num_key_value_heads num_key_value_heads linear_num_heads linear_num_value_heads linear_num_key_heads "
    "num_query_groups num_experts n_routed_experts num_local_experts moe_num_experts zero_expert_num",
    8: "head_dim d_head attention_head_dim attention_head_size d_kv kv_channels dim_head linear_key_head_dim "
    "linear_value_head_dim linear_head_dim swa_head_dim v_head_dim qk_nope_head_dim qk_rope_head_dim index_head_dim "
    "rotary_dim hidden_size_per_layer_input mamba_n_heads mamba_num_heads mamba_d_head mamba_head_dim",
    16: "qk_head_dim q_lora_rank kv_lora_rank o_lora_rank mamba_d_state state_size ssm_state_size time_step_rank "
    "mamba_dt_rank laurel_rank gated_norm_rank hc_lowrank adapter_rank embedding_rank patch_size",
    64: "intermediate_size ffn_dim d_ff encoder_ffn_dim decoder_ffn_dim ffn_hidden_size d_inner dim_ff dff hidden_dim "
    "moe_intermediate_size shared_expert_intermediate_size shared_intermediate_size dense_intermediate_size "
    "shared_experts_intermediate_size expert_ffn_hidden_size intermediate_size_mlp feed_forward_size mamba_d_ssm "
    "moe_shared_expert_intermediate_size vocab_size vocab_size_per_layer_input unpadded_vocab_size entity_vocab_size "
    "decoder_vocab_size",
}
SIZES = {name: size for size, names in GIVEN.items() for name in names.split()}
OWN: dict[str, dict[str, Any]] = {
    "bamba": {"attn_layer_indices": [1]},
    "esm": {
        "vocab_size": 64,
        "pad_token_id": 0,
        "mask_token_id": 2,
        "token_dropout": True,
        "position_embedding_type": "rotary",
    },
    "gemma3n_text": {"num_kv_shared_layers": 0, "activation_sparsity_pattern": [0.0, 0.0]},
    "laguna": {"num_attention_heads_per_layer": [4, 2], "num_key_value_heads": 2},
    "mobilebert": {"true_hidden_size": 128, "intra_bottleneck_size": 128, "hidden_size": 512, "embedding_size": 128},
    "xmod": {"default_language": "en_XX"},
}
"""What some kinds need besides."""


def classes() -> dict[str, str]:
    """The causal and masked classes and their kinds of models."""
    pairs = [(name, kind) for mapping in (CAUSAL, MASKED) for kind, name in mapping.items()]
    return {name[0] if isinstance(name, tuple) else name: kind for name, kind in reversed(pairs)}


def tiny(model_type: str) -> Any:
    """A small configuration of a kind of models: widths of 32, two layers, four heads."""
    kind, own = transformers.CONFIG_MAPPING[model_type], OWN.get(model_type, {})
    defaults = {field.name: field.default for field in dataclasses.fields(kind)}
    small = {name: size for name, size in SIZES.items() if type(defaults.get(name)) is int and defaults[name] > size}
    try:
        config = kind(**small, **own)  # What follows from sizes, such as the kinds of layers, then fits them.
    except Exception:
        config = kind()
    _shrink(config)
    for name, value in own.items():
        setattr(config, name, value)
    return config


def _shrink(config: Any) -> None:
    for name, value in list(vars(config).items()):
        if isinstance(value, transformers.PretrainedConfig):
            _shrink(value)
        elif name.endswith(("token_id", "token_index")):
            ids = value if isinstance(value, list) else [value]
            if any(isinstance(number, int) and number >= SIZES["vocab_size"] for number in ids):
                setattr(config, name, 3)
        elif name in SIZES and type(value) is int and value > SIZES[name]:
            setattr(config, name, SIZES[name])
        elif name in SIZES and isinstance(value, list | tuple):
            setattr(config, name, [SIZES[name]] * N_LAYERS)
        elif isinstance(value, list) and len(value) > N_LAYERS and ("layer" in name or name.endswith("pattern")):
            # One layer of each kind, the last kinds first: attention often comes after others.
            kinds = [kind for place, kind in enumerate(value) if kind not in value[:place]]
            setattr(config, name, (kinds * N_LAYERS)[:N_LAYERS])


def write(model: Any, folder: Path) -> None:
    """A model with weights that everything depends on, as a folder."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1 and parameter.is_floating_point():
                parameter.normal_(std=0.15)
    model.save_pretrained(folder)


def tokenizer() -> Any:
    """A tokenizer of a few words."""
    words = Tokenizer(WordLevel({f"w{number}": number for number in range(N_WORDS)}, unk_token="w3"))
    words.pre_tokenizer = Whitespace()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=words, unk_token="w3")


def text() -> str:
    """Words of the tokenizer in an order without a short period."""
    return " ".join(f"w{4 + (7 * number + number * number // 3) % (N_WORDS - 4)}" for number in range(400))


def difference(folder: Path) -> float:
    """Between the logits for ids and for their embeddings, as a share of the largest; NaN where there are none."""
    mine = models.load("mine", folder, torch.device("cpu"))
    ids = torch.randint(4, N_WORDS, (3, 12), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted, found = mine.of_tokens(ids).logits, mine.states(mine.embed(ids)).logits
    return float("nan") if found is None else float((wanted - found).abs().max() / wanted.abs().max())


def outcome(name: str, model_type: str, folder: Path) -> dict[str, Any]:
    """What becomes of a class: the outcome in a word, and the difference or the sentence."""
    row = {"class": name, "model_type": model_type, "outcome": "not built", "detail": ""}
    torch.manual_seed(0)
    try:
        build, config = getattr(transformers, name), tiny(model_type)
        with torch.device("meta"):
            n_parameters = sum(parameter.numel() for parameter in build(config).parameters())
        if n_parameters > LARGEST:
            return row | {"detail": f"{n_parameters / 1e6:.0f}M parameters"}
        write(build(config).eval(), folder / "model")
    except Exception as error:
        return row | {"detail": f"{type(error).__name__}: {error}".splitlines()[0]}
    (folder / "text.txt").write_text(text())
    given = [folder / "model", "--text", folder / "text.txt", "--device", "cpu"]
    short = ["--n-tokens", 12, "--n-sequences", 3, "--rho", 0.5, "--readouts", "top_logit_last", "pooled_norm"]
    short += ["--no-control"]
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            status = parser.main(["measure", *map(str, given + short)])
        except BaseException:
            return row | {"outcome": "traceback", "detail": traceback.format_exc().strip().splitlines()[-1]}
    if status == 2:
        return row | {"outcome": "refused", "detail": said.getvalue().strip().splitlines()[-1]}
    found = difference(folder / "model")
    equal = "measured, logits equal" if found <= checks.LARGEST_DIFFERENCE else "measured, logits NOT equal"
    remark = said.getvalue().partition("parameters")[2].splitlines()[0].lstrip("; ")
    return row | {"outcome": equal if status == 0 else f"status {status}", "detail": f"{found:.2g} {remark}"}


def main() -> None:
    """Print the table of all classes, or of some, each in a process of its own."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--only", nargs="+", metavar="CLASS")
    options.add_argument("--seconds", type=float, default=120.0, help="of one class")
    options.add_argument("--out", type=Path)
    given = options.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # More threads than one slow tiny models down.
    logging.disable(logging.WARNING)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    run.models.load_tokenizer = lambda *_: tokenizer()
    processes, rows = multiprocessing.get_context("fork"), []
    for name, model_type in classes().items():
        if given.only and name not in given.only:
            continue
        answers = processes.Queue()
        with tempfile.TemporaryDirectory() as folder:
            ask = lambda: answers.put(outcome(name, model_type, Path(folder)))  # noqa: B023, E731
            process = processes.Process(target=ask)
            process.start()
            try:
                row = answers.get(timeout=given.seconds)
            except queue.Empty:
                row = {"class": name, "model_type": model_type, "outcome": "no answer", "detail": f"{given.seconds} s"}
                os.kill(process.pid, 9)
            process.join()
        rows.append(row)
        print(*row.values(), sep=" | ", flush=True)
    table = pd.DataFrame(rows)
    if given.out:
        table.to_csv(given.out, index=False)
    print(table["outcome"].value_counts().to_string())


if __name__ == "__main__":
    main()
