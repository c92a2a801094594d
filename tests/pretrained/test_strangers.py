"""What strangers' models do: each is measured as what it is, or refused in one sentence before work begins."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from benchmarks import architectures
from nsbench.config.pretrained import Measurement, MeasureSpec
from nsbench.pretrained import checks, inputs, models, run, texts
from nsbench.pretrained.sources import ModelError
from tests.pretrained.small_models import CPU, STAMP, loaded, measured, spec_of

TOKENS_NT = torch.arange(5, 25).view(2, 10)
MEASURED = {
    "GPTNeoXForCausalLM": "",
    "CTRLLMHeadModel": "attention heads not found",
    "EsmForMaskedLM": "",
    "Gemma3ForConditionalGeneration": "",
    "JambaForCausalLM": "attention heads found in 1 of 2 layers",
    "MixtralForCausalLM": "",
    "ModernBertForMaskedLM": "",
    "XLMWithLMHeadModel": "attention heads not found",
}
REFUSED = {
    "BertLMHeadModel": "is called causal, but sees tokens that follow",
    "HYV4ForCausalLM": "has layers that take",
    "XLNetLMHeadModel": "is called causal, but sees tokens that follow",
    "Gemma3nForCausalLM": "gives hidden_NTC of shape",
    "Gemma4ForCausalLM": "cannot be measured at 10 tokens",
    "MambaForCausalLM": "mamba has no attention layers",
}


def built(name: str, folder: Path) -> Path:
    config = architectures.tiny(architectures.classes()[name])
    torch.manual_seed(0)
    architectures.write(getattr(transformers, name)(config).eval(), folder)
    return folder


@pytest.mark.parametrize("name", MEASURED)
def test_tokens_and_their_embeddings_give_the_same_logits(name: str, tmp_path: Path) -> None:
    model = models.load("mine", built(name, tmp_path), CPU)
    checks.try_out("mine", model, TOKENS_NT)
    theirs = getattr(transformers, name).from_pretrained(tmp_path).eval()
    with torch.no_grad():
        wanted, found = theirs(input_ids=TOKENS_NT, use_cache=False).logits, model.states(model.embed(TOKENS_NT)).logits
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6 * float(wanted.abs().max()))
    assert (model.architecture, "; ".join(model.remarks)) == (name, MEASURED[name])


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_measured_is_refused_before_work_begins(name: str, tmp_path: Path) -> None:
    folder = built(name, tmp_path)
    with pytest.raises(ModelError, match=REFUSED[name]) as refused:
        checks.try_out("mine", models.load("mine", folder, CPU), TOKENS_NT)
    assert "\n" not in str(refused.value)


def test_a_model_that_does_something_to_tokens_alone_is_refused(made: Path) -> None:
    model = loaded(made, "causal")
    plain = model.of_tokens
    model.of_tokens = lambda tokens_NT: plain(tokens_NT + (tokens_NT == 20).long())  # One token in a row of others.
    checks.try_out("mine", model, TOKENS_NT[:, :4])
    with pytest.raises(ModelError, match="gives other outputs for tokens than for their embeddings"):
        checks.try_out("mine", model, TOKENS_NT)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda weight: weight[1].fill_(float("nan")), "embed_tokens.weight has numbers that are not finite"),
        (lambda weight: weight.mul_(1e37), "not finite; other weights are needed"),
        (lambda weight: weight.zero_(), "gradients that are all 0 or not finite"),
    ],
)
def test_weights_that_give_no_numbers_are_refused(made: Path, tmp_path: Path, spoil: Any, words: str) -> None:
    theirs = transformers.AutoModelForCausalLM.from_pretrained(made / "causal")
    with torch.no_grad():
        for parameter in theirs.parameters():
            spoil(parameter)
    theirs.save_pretrained(shutil.copytree(made / "causal", tmp_path / "spoilt"))
    with pytest.raises(ModelError, match=words):
        run.measure_model(spec_of(tmp_path / "spoilt"), made / "text.txt", tmp_path / "out", CPU, STAMP)
    assert not (tmp_path / "out").exists()


def with_settings(made: Path, folder: Path, kind: str, **changes: Any) -> Path:
    shutil.copytree(made / kind, folder)
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | changes))
    return folder


def test_what_is_read_without_its_head_says_so(made: Path, tmp_path: Path) -> None:
    for number, (named, reason) in enumerate(
        {
            "LlamaForSequenceClassification": "LlamaForSequenceClassification is read without its head",
            None: "a model whose config.json names no class in architectures is read without its head",
            "LlamaModel": "the model has no language-model head",
        }.items()
    ):
        folder = with_settings(made, tmp_path / str(number), "causal", architectures=named and [named])
        assert models.load("mine", folder, CPU).headless == reason


def test_a_folder_decides_nothing_but_its_model(made: Path, tmp_path: Path) -> None:
    """Neither code of its own, nor the code of attention, nor which file has the weights; what is skipped is told."""
    folder = with_settings(
        made, tmp_path / "own", "causal",
        auto_map={"AutoModelForCausalLM": "modeling.Own"}, _attn_implementation="someone/kernel",
        attn_implementation="someone/kernel", transformers_weights="other/model.safetensors",
    )  # fmt: skip
    model, plain = models.load("mine", folder, CPU), loaded(made, "causal")
    assert model.remarks == ["the folder's own code (auto_map) is not run"]
    for found, wanted in zip(model.of_tokens(TOKENS_NT), plain.of_tokens(TOKENS_NT), strict=True):
        assert torch.equal(found, wanted)


def least(folder: Path) -> MeasureSpec:
    few = Measurement(n_tokens=8, n_sequences=2, n_replaced=1, rho=[0.5], inputs=["text"], readouts=["pooled_norm"])
    return spec_of(folder).model_copy(update={"measurement": few})


def test_more_tokens_than_rotary_positions_are_told(made: Path, tmp_path: Path) -> None:
    folder = with_settings(made, tmp_path / "short", "causal", max_position_embeddings=7)
    run.measure_model(least(folder), made / "text.txt", tmp_path / "out", CPU, STAMP)
    assert set(measured(tmp_path / "out")["models"]["remark"]) == {"8 tokens, more than its 7 positions"}


def test_a_text_of_another_alphabet_is_told(made: Path, tmp_path: Path) -> None:
    for number, (text, told) in enumerate({"the a of zz ": "25% of the text's tokens unknown", "the a ": ""}.items()):
        (tmp_path / "text.txt").write_text(text * 20)
        run.measure_model(least(made / "causal"), tmp_path / "text.txt", tmp_path / str(number), CPU, STAMP)
        assert set(measured(tmp_path / str(number))["models"]["remark"]) == {told}


def test_each_layer_has_its_own_number_of_heads(tmp_path: Path) -> None:
    heads = models.load("mine", built("LagunaForCausalLM", tmp_path), CPU).heads
    assert [n_heads for _, n_heads in heads.values()] == [4, 2]


def test_layers_are_those_that_text_passes(tmp_path: Path) -> None:
    """A tower of images with as many layers stands before them."""
    model = models.load("mine", built("Gemma3ForConditionalGeneration", tmp_path), CPU)
    assert {type(layer).__name__ for layer in model.layers.values()} == {"Gemma3DecoderLayer"}


# --- tokenizers and texts ----------------------------------------------------------------------------------------


def fast(vocabulary: dict[str, int], special: tuple[str, ...] = (), **more: Any) -> Any:
    from tokenizers import AddedToken, Tokenizer, pre_tokenizers
    from tokenizers.models import WordLevel

    made = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.add_special_tokens([AddedToken(token, special=True) for token in special])
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, unk_token="[UNK]", **more)


def test_noise_draws_no_reserved_token_and_ids_may_have_gaps() -> None:
    tokenizer = fast({"[UNK]": 0, "a": 1, "b": 5, "<r0>": 6, "<r1>": 9}, ("<r0>", "<r1>"))
    found = inputs.tokenise("m", tokenizer, ("a b " * 9,), "t", 4, 2, True)
    assert found.regular_ids.tolist() == [1, 5]


def test_a_python_tokenizer_of_proteins_gives_what_transformers_gives(tmp_path: Path) -> None:
    residues = "LAGVSERTIDPKQNFYMHWC"
    (tmp_path / "vocab.txt").write_text("\n".join(["<cls>", "<pad>", "<eos>", "<unk>", *residues, "<mask>"]))
    tokenizer = transformers.EsmTokenizer(tmp_path / "vocab.txt")
    protein = "".join(residues[(7 * n + n * n // 3) % 20] for n in range(1100))
    assert inputs._token_ids(tokenizer, protein).tolist() == [4 + residues.index(letter) for letter in protein]
    found = inputs.tokenise("m", tokenizer, (protein,), "t", 12, 5, True)
    assert (found.fixed_ids.tolist(), found.n_special) == ([0, 2], 2)
    assert found.regular_ids.tolist() == list(range(4, 24))


def byte_level(text: str) -> Any:
    from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
    from tokenizers.models import BPE

    made = Tokenizer(BPE())
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    made.train_from_iterator([text], trainer)
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made)


def sentence_like(text: str) -> Any:
    """As SentencePiece: a blank before the text, and blanks within tokens."""
    from tokenizers import Tokenizer, pre_tokenizers, trainers
    from tokenizers.models import Unigram

    made = Tokenizer(Unigram())
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.train_from_iterator([text], trainers.UnigramTrainer(vocab_size=200, unk_token="<unk>"))
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>")


@pytest.mark.parametrize("kind", [byte_level, sentence_like])
def test_a_text_in_pieces_has_the_tokens_of_the_whole(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """And no call of the tokenizer has more than a piece, so that memory does not grow with the text."""
    words = ["the", "river", "of", "music,", "1914.", "  blanks", "\n", "\n\n  after", "don't", "Zürich"]
    text = " ".join(words[(7 * n + n * n // 5) % len(words)] for n in range(3000))
    tokenizer, lengths = kind(text), []

    def watched(part: str, **given: Any) -> Any:
        lengths.append(len(part))
        return tokenizer(part, **given)

    for name in ("all_special_tokens", "added_tokens_decoder"):
        setattr(watched, name, getattr(tokenizer, name))
    monkeypatch.setattr(inputs, "PIECE", 500)
    monkeypatch.setattr(inputs, "CONTEXT", 60)
    found = inputs._token_ids(watched, text).tolist()
    assert found == tokenizer(text, add_special_tokens=False)["input_ids"]
    assert max(lengths) < 700 < len(text) / 20


def test_a_text_that_the_tokenizer_cannot_read_is_refused() -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel({"a": 0})))
    with pytest.raises(ModelError, match="t: m's tokenizer cannot read it"):
        inputs.tokenise("m", tokenizer, ("xyz",), "t", 4, 2, True)


def test_utf_16_without_a_mark_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_bytes("the river".encode("utf-16-le"))
    with pytest.raises(texts.InputError, match=r"text\.txt: has a NUL at character 1, as UTF-16 has"):
        texts.read_lines(tmp_path / "text.txt")


def test_a_sentencepiece_file_alone_is_read_or_its_package_is_named(made: Path, tmp_path: Path) -> None:
    for file in models.SENTENCEPIECE:
        folder = shutil.copytree(made / "causal", tmp_path / file)
        (folder / "tokenizer.json").unlink()
        (folder / file).write_bytes(b"\n\x0e\n\x05<unk>\x15\x00\x00\x00\x00\x18\x02")
        with pytest.raises(ModelError, match=f"{file} needs pip install sentencepiece") as refused:
            models.load_tokenizer("mine", folder)
        assert "\n" not in str(refused.value)
