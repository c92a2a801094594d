"""Pretrained models behind one interface: what they give for embeddings, their controls, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from nsbench.measures import readouts
from nsbench.pretrained import checks, inputs, models
from nsbench.pretrained.sources import ModelError
from tests import tiny_models
from tests.pretrained.small_models import CPU, loaded, text_of


@pytest.mark.parametrize(
    ("kind", "architecture"),
    [("causal", "LlamaForCausalLM"), ("masked", "BertForMaskedLM"), ("encoder", "BertModel")],
)
def test_a_model_is_what_transformers_makes_of_its_tokens(made: Path, kind: str, architecture: str) -> None:
    import transformers

    model = loaded(made, kind)
    tokens_NT = torch.arange(5, 21).view(2, 8)
    auto = getattr(transformers, architecture).from_pretrained(made / kind).eval()
    with torch.no_grad():
        wanted = auto(input_ids=tokens_NT, output_hidden_states=True)
        found = model.states(model.embed(tokens_NT))
    assert (model.kind, model.architecture) == (kind, architecture)
    if kind == "encoder":
        assert found.logits is None
        torch.testing.assert_close(found.hidden_NTC, wanted.last_hidden_state)
    else:
        torch.testing.assert_close(found.logits, wanted.logits)
        torch.testing.assert_close(found.hidden_NTC, wanted.hidden_states[-1])
    assert (model.n_layers, model.n_heads, model.d_model) == (2, 2, 16)
    assert list(model.layers) == list(model.heads) == ["0", "1"]
    assert not any(parameter.requires_grad for parameter in next(iter(model.layers.values())).parameters())


FAMILIES = {
    "GPT2LMHeadModel": ("GPT2Config", {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64}),
    "Gemma2ForCausalLM": ("Gemma2Config", {**tiny_models.SHAPE, "num_key_value_heads": 1, "head_dim": 8}),
    "OPTForCausalLM": ("OPTConfig", {"ffn_dim": 32, "word_embed_proj_dim": 16, "max_position_embeddings": 64}),
}
"""The architectures of the paper, and one that calls its layers past its base."""


@pytest.mark.parametrize("name", FAMILIES)
def test_embeddings_give_what_tokens_do_in_other_families(name: str, tmp_path: Path) -> None:
    import transformers

    config, shape = FAMILIES[name]
    if name == "OPTForCausalLM":
        shape = {**shape, **{key: tiny_models.SHAPE[key] for key in tiny_models.SHAPE if key != "intermediate_size"}}
    ids = {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
    torch.manual_seed(0)
    getattr(transformers, name)(getattr(transformers, config)(vocab_size=31, **shape, **ids)).save_pretrained(tmp_path)
    model = models.load("mine", tmp_path, CPU)
    tokens_NT = torch.arange(5, 25).view(2, 10)
    with torch.no_grad():
        auto = getattr(transformers, name).from_pretrained(tmp_path).eval()
        wanted = auto(input_ids=tokens_NT, output_hidden_states=True)
        found = model.states(model.embed(tokens_NT))
    torch.testing.assert_close(found.logits, wanted.logits)
    torch.testing.assert_close(found.hidden_NTC, wanted.hidden_states[-1])
    checks.try_out("mine", model, tokens_NT)
    assert (len(model.layers), len(model.heads), model.remarks) == (2, 2, [])


def test_a_control_has_the_shape_and_other_weights_and_leaves_torch_s_numbers_alone(made: Path) -> None:
    tokens_NT = torch.arange(5, 13)[None]
    torch.manual_seed(3)
    before = torch.get_rng_state()
    controls = [loaded(made, "masked", seed) for seed in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), before)
    weights = loaded(made, "masked")
    logits = [model.states(model.embed(tokens_NT)).logits for model in (*controls, weights)]
    assert torch.equal(logits[0], logits[1])
    assert not torch.allclose(logits[0], logits[2])
    assert not torch.allclose(logits[0], logits[3])
    assert controls[0].n_parameters == weights.n_parameters


def test_weights_that_a_folder_lacks_are_never_made_up(made: Path, tmp_path: Path) -> None:
    """An encoder's folder that calls itself a masked language model: its head would be random."""
    folder = shutil.copytree(made / "encoder", tmp_path / "encoder")
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, "architectures": ["BertForMaskedLM"]}))
    with pytest.raises(ModelError, match="lacks weights that BertForMaskedLM has, for example cls"):
        models.load("mine", folder, CPU)


def test_weights_that_are_not_used_are_told(made: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(made / "encoder", tmp_path / "encoder")
    weights = load_file(folder / "model.safetensors")
    save_file({**weights, "more.weight": torch.zeros(2)}, folder / "model.safetensors", {"format": "pt"})
    assert models.load("mine", folder, CPU).remarks == ["1 weights not used, for example more.weight"]


def test_a_folder_without_a_tokenizer_is_refused(made: Path, tmp_path: Path) -> None:
    """transformers would make an empty one for some models, and all tokens would be unknown."""
    folder = shutil.copytree(made / "encoder", tmp_path / "encoder")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"has no tokenizer; one of tokenizer\.json"):
        models.load_tokenizer("mine", folder)


def test_models_that_are_no_causal_or_masked_ones_are_refused(made: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(made / "causal", tmp_path / "causal")
    (folder / "config.json").write_text(json.dumps({"model_type": "t5"}))
    with pytest.raises(ModelError, match="is not measured; a causal or masked language model is allowed"):
        models.load("mine", folder, CPU)


def test_a_control_has_the_spread_that_is_asked_for(made: Path) -> None:
    spreads = [
        float(models.load("mine", made / "causal", CPU, 0, spread).embed(torch.arange(31)[None]).std())
        for spread in (None, 0.2)
    ]
    assert spreads == pytest.approx([0.02, 0.2], rel=0.1)


def test_more_tokens_than_a_model_has_positions_are_refused(made: Path) -> None:
    model = loaded(made, "masked")
    checks.try_out("mine", model, torch.arange(128).view(2, 64) % 31)
    with pytest.raises(ModelError, match="mine: BertForMaskedLM cannot be measured at 65 tokens"):
        checks.try_out("mine", model, torch.arange(130).view(2, 65) % 31)


def test_a_model_that_takes_positions_first_is_refused(made: Path) -> None:
    model = loaded(made, "encoder")
    states, turned = model.states, torch.nn.Identity()
    model.layers, model.heads = {"0": turned}, {}
    model.states = lambda x_NTC: states(turned(x_NTC.transpose(0, 1)).transpose(0, 1))
    with pytest.raises(ModelError, match=r"has layers that take \(8, 2, 16\), not sequences first"):
        checks.try_out("mine", model, torch.arange(5, 21).view(2, 8))


def test_a_tokenizer_of_another_model_is_refused(made: Path) -> None:
    model, tokens = loaded(made, "causal"), text_of(made, "causal")
    model.n_vocabulary = int(tokens.text_NT.max())
    with pytest.raises(ModelError, match="the tokenizer gives token"):
        inputs.trial_tokens(model, tokens)


def test_what_a_text_calls_special_is_text(made: Path, tmp_path: Path) -> None:
    """`[SEP]` and unknown words in a text are no frame: they are redrawn and are labels like others."""
    tokenizer = models.load_tokenizer("masked", made / "masked")
    lines = ("the [SEP] river xyzzy " * 30,)
    found = inputs.tokenise("m", tokenizer, lines, "t", 8, 3, True)
    assert not (found.text_NT[:, 1:-1] == 3).any()
    assert (found.text_NT[:, 1:-1] == 1).any()
    model = loaded(made, "masked")
    (uniform,), _ = inputs.make_inputs(model, found, ["uniform"], 0, True)
    assert not (uniform.tokens_NT[:, 1:-1] < 5).any()
    (text,), _ = inputs.make_inputs(model, found, ["text"], 0, True)
    assert (text.labels[:, 1:-1] != readouts.NO_LABEL).all()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("config.json", '{"model_type": "llama", "hidden_size": "many"}', "is no model that transformers knows"),
        ("config.json", '{"model_type": "llama", "hidden_size": 0}', "transformers cannot load"),
        ("config.json", '{"model_type": "no_such_model"}', "is no model that transformers knows"),
        ("model.safetensors", "broken", "transformers cannot load"),
        ("tokenizer.json", "broken", "has no tokenizer that transformers can load"),
    ],
)
def test_a_broken_folder_is_refused_in_one_sentence(
    made: Path, tmp_path: Path, name: str, content: str, words: str
) -> None:
    folder = shutil.copytree(made / "causal", tmp_path / "causal")
    (folder / name).write_text(content)
    read = models.load_tokenizer if name == "tokenizer.json" else lambda *given: models.load(*given, CPU)
    with pytest.raises(ModelError, match=words) as refused:
        read("mine", folder)
    assert "\n" not in str(refused.value)
