"""Inputs of pretrained models: sequences of a text, random ones, and their labels."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nsbench.measures import readouts
from nsbench.pretrained import inputs, models, run, texts
from tests import tiny_models
from tests.pretrained.small_models import CPU, STAMP, loaded, spec_of, text_of


def test_sequences_are_apart_evenly_spread_and_dressed_as_the_tokenizer_does(made: Path) -> None:
    tokenizer = models.load_tokenizer("masked", made / "masked")
    whole = tokenizer(tiny_models.TEXT, add_special_tokens=False)["input_ids"]
    found = text_of(made, "masked", n_tokens=8, count=4)
    assert found.n_special == 2
    assert found.text_NT.shape == (4, 8)
    n_windows = len(whole) // 6
    for place, row in enumerate(found.text_NT.tolist()):
        start = 6 * (n_windows * place // 4)
        assert row == [2, *whole[start : start + 6], 3]
    bare = text_of(made, "masked", n_tokens=8, count=4, special=False)
    assert bare.n_special == 0
    assert bare.text_NT[0].tolist() == whole[:8]
    assert text_of(made, "causal").n_special == 0


def test_regular_ids_are_all_but_the_special_ones_and_the_frame_is_fixed(made: Path) -> None:
    found = text_of(made, "masked")
    assert found.fixed_ids.tolist() == [2, 3]
    assert found.regular_ids.tolist() == list(range(5, 5 + len(tiny_models.WORDS)))


def test_a_text_shorter_than_a_sequence_is_refused_and_a_short_one_gives_what_it_has(made: Path) -> None:
    tokenizer = models.load_tokenizer("causal", made / "causal")
    lines = (" ".join(tiny_models.WORDS[:9]),)
    assert inputs.tokenise("m", tokenizer, lines, "t", 4, 5, True).text_NT.shape == (2, 4)
    with pytest.raises(texts.InputError, match=r"t: has 9 tokens of m's tokenizer; at least 10 are needed"):
        inputs.tokenise("m", tokenizer, lines, "t", 10, 5, True)


def test_a_text_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(texts.InputError, match=r"bytes\.txt: is not UTF-8 at byte 0"):
        texts.read_lines(tmp_path / "bytes.txt")
    with pytest.raises(texts.InputError, match=r"gone\.txt: cannot be read"):
        texts.read_lines(tmp_path / "gone.txt")


def test_a_text_of_which_the_tokenizer_knows_no_word_is_refused(made: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("xyzzy " * 100)
    with pytest.raises(
        texts.InputError, match=r"text\.txt: all tokens are the same; give a text that mine's tokenizer knows"
    ):
        run.measure_model(spec_of(made / "causal"), tmp_path / "text.txt", tmp_path / "out", CPU, STAMP)


def test_each_kind_of_inputs_is_what_it_says(made: Path) -> None:
    model, tokens = loaded(made, "masked"), text_of(made, "masked", count=400)
    (text, uniform, gaussian), scale = inputs.make_inputs(model, tokens, ["text", "uniform", "gaussian"], 0, True)
    assert scale == float(text.standard.std_C[0])
    torch.testing.assert_close(text.embeddings_NTC, model.embed(tokens.text_NT))
    special_NT = torch.isin(tokens.text_NT, tokens.fixed_ids)
    assert torch.equal(uniform.tokens_NT[special_NT], tokens.text_NT[special_NT])
    drawn = uniform.tokens_NT[~special_NT]
    assert set(drawn.tolist()) == set(tokens.regular_ids.tolist())
    counts = torch.bincount(drawn)[5:].double()
    assert (counts - counts.mean()).abs().max() < 5 * counts.mean().sqrt()
    torch.testing.assert_close(uniform.embeddings_NTC, model.embed(uniform.tokens_NT))
    assert gaussian.tokens_NT is gaussian.labels is None
    standard_NTC = text.standard.to_standard(gaussian.embeddings_NTC)
    n = standard_NTC.numel()
    assert abs(float(standard_NTC.mean())) < 5 / n**0.5
    assert abs(float(standard_NTC.var()) - 1) < 5 * (2 / n) ** 0.5
    assert abs(float(text.standard.to_standard(text.embeddings_NTC).mean())) < 1e-6
    again, same = inputs.make_inputs(model, tokens, ["gaussian", "uniform"], 0, True)
    assert same == scale
    assert torch.equal(again[0].embeddings_NTC, gaussian.embeddings_NTC)
    assert torch.equal(again[1].tokens_NT, uniform.tokens_NT)
    assert not torch.equal(inputs.make_inputs(model, tokens, ["uniform"], 1, True)[0][0].tokens_NT, uniform.tokens_NT)


def test_labels_are_the_next_token_or_the_token_itself_and_never_a_special_one(made: Path) -> None:
    tokens_NT = torch.tensor([[2, 7, 8, 9, 3]])
    frame = torch.tensor([2, 3])
    none = readouts.NO_LABEL
    assert loaded(made, "causal").labels(tokens_NT, frame).tolist() == [[7, 8, 9, none, none]]
    assert loaded(made, "masked").labels(tokens_NT, frame).tolist() == [[none, 7, 8, 9, none]]
