"""What models are measured on: sequences of a text, uniform token ids, and Gaussian embeddings."""

from __future__ import annotations

import itertools
import re
from array import array
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nsbench.measures.gaussian_stability import Standardisation, standardisation
from nsbench.pretrained.models import LanguageModel, in_one_sentence
from nsbench.pretrained.sources import ModelError
from nsbench.pretrained.texts import InputError
from nsbench.storage.seeding import torch_stream

PIECE, CONTEXT = 200_000, 1_000
"""Characters of a text that are tokenised at a time, and those around a cut that tell whether it changes tokens."""
END_OF_WORD = re.compile(r"(?<=\w)(?=\s)")
CUTS_TRIED = 100


@dataclass(frozen=True)
class Inputs:
    """N sequences of one kind."""

    name: str
    """text, uniform or gaussian."""
    embeddings_NTC: Tensor
    tokens_NT: Tensor | None
    """None where the embeddings are of no tokens."""
    labels: Tensor | None
    """Labels of the logits, -100 for none; None without tokens."""
    standard: Standardisation
    """Maps embeddings to mean 0 and variance 1, one scale for all coordinates."""


@dataclass(frozen=True)
class Tokens:
    """Sequences of a text as token ids, and the tokenizer's special ids."""

    text_NT: Tensor
    labels: Tensor | None
    """Where they are given with the sequences; None: as the model's kind has them."""
    regular_ids: Tensor
    """The ids that noise and uniform inputs draw from: all but special ones."""
    fixed_ids: Tensor
    """The special ids around each sequence: noise and uniform inputs keep them, and they are no labels."""
    n_special: int
    """Special tokens that the tokenizer adds to each sequence of text."""
    text: str
    """The text's name."""
    unknown: float = 0.0
    """Share of the text's tokens that stand for what the tokenizer does not know."""


def tokenise(
    name: str, tokenizer: Any, lines: tuple[str, ...], label: str, n: int, count: int, special: bool
) -> Tokens:
    """`count` sequences of n tokens from a text, evenly spread over it, none overlapping.

    Lines are joined by line ends, blank ones left out. Special tokens that the tokenizer puts before and after a
    text count among the n. Where the text has fewer sequences than `count`, all of them are taken. Raises InputError
    for a text shorter than one sequence.
    """
    joined = "\n".join(line for line in lines if line.strip())
    with in_one_sentence(f"{label}: {name}'s tokenizer cannot read it"):
        before, after = _specials(tokenizer, joined[:40]) if special else ([], [])
        ids = _token_ids(tokenizer, joined)
        added = getattr(tokenizer, "added_tokens_decoder", {})
        # Reserved tokens, which have no role, are special too.
        special_ids = {*tokenizer.all_special_ids, *(number for number, token in added.items() if token.special)}
        regular_ids = sorted(set(tokenizer.get_vocab().values()) - special_ids)
    inside = n - len(before) - len(after)
    if inside < 1:
        raise ModelError(f"{name}: n_tokens = {n} leaves no room beside the special tokens; at least {n - inside + 1}")
    n_windows = len(ids) // inside
    if n_windows < 1:
        raise InputError(
            f"{label}: has {len(ids)} tokens of {name}'s tokenizer; at least {inside} are needed for a sequence of {n}"
        )
    kept = min(count, n_windows)
    starts = [inside * (n_windows * place // kept) for place in range(kept)]
    rows = [[*before, *ids[start : start + inside], *after] for start in starts]
    texts = [token for row in rows for token in row[len(before) : n - len(after)]]
    if len(set(texts)) < 2:
        raise InputError(f"{label}: all tokens are the same; give a text that {name}'s tokenizer knows")
    fixed = torch.tensor(sorted({*before, *after}), dtype=torch.long)
    regular, n_special = torch.tensor(regular_ids, dtype=torch.long), len(before) + len(after)
    unknown = texts.count(tokenizer.unk_token_id) / len(texts)
    return Tokens(torch.tensor(rows), None, regular, fixed, n_special, label, unknown)


def make_inputs(
    model: LanguageModel, tokens: Tokens, kinds: list[str], seed: int, labels_wanted: bool
) -> tuple[list[Inputs], float]:
    """The inputs of each kind, as many as there are sequences of text; the same for a model and its control.

    uniform: token ids drawn from `regular_ids`, what stands round each sequence left in place. gaussian: embeddings
    N(mean, scale^2) at every position, with the mean of each coordinate, and the one scale, of the text's; that
    scale is returned too.
    """
    text_NT, fixed_ids = tokens.text_NT.to(model.device), tokens.fixed_ids.to(model.device)

    def of_tokens(name: str, tokens_NT: Tensor, labels: Tensor | None) -> Inputs:
        if bool((tokens_NT == tokens_NT[0, 0]).all()):
            raise InputError(f"{name}: all tokens are the same; give a text that the tokenizer knows")
        embeddings_NTC = model.embed(tokens_NT)
        return Inputs(name, embeddings_NTC, tokens_NT, labels, standardisation(embeddings_NTC))

    def own_labels(tokens_NT: Tensor) -> Tensor | None:
        return model.labels(tokens_NT, fixed_ids) if labels_wanted else None

    given = tokens.labels
    text = of_tokens("text", text_NT, own_labels(text_NT) if given is None else given.to(model.device))
    found = []
    for kind in kinds:
        generator = torch_stream(seed, "pretrained", kind, device=model.device)
        if kind == "text":
            found.append(text)
        elif kind == "uniform":
            ids = regular_ids(model, tokens)
            drawn_NT = ids[torch.randint(len(ids), text_NT.shape, generator=generator, device=model.device)]
            mixed_NT = torch.where(torch.isin(text_NT, fixed_ids), text_NT, drawn_NT)
            # Labels that came with the text are no labels of other tokens.
            found.append(of_tokens("uniform", mixed_NT, own_labels(mixed_NT) if given is None else None))
        else:
            z_NTC = torch.randn(text.embeddings_NTC.shape, generator=generator, device=model.device)
            found.append(Inputs("gaussian", text.standard.from_standard(z_NTC), None, None, text.standard))
    return found, float(text.standard.std_C[0])


def trial_tokens(model: LanguageModel, tokens: Tokens) -> Tensor:
    """(2, T): a sequence of text, and one of ids from all over the vocabulary within the same frame.

    Raises ModelError for a token that the model has no embedding of.
    """
    if int(tokens.text_NT.max()) >= model.n_vocabulary:
        largest = int(tokens.text_NT.max())
        raise ModelError(
            f"the tokenizer gives token {largest}, and the model has {model.n_vocabulary} embeddings; give a folder "
            "with the model's own tokenizer"
        )
    first_T, ids = tokens.text_NT[0], regular_ids(model, tokens).cpu()
    spread_T = ids[torch.arange(len(first_T)) * len(ids) // len(first_T)]
    return torch.stack([first_T, torch.where(torch.isin(first_T, tokens.fixed_ids), first_T, spread_T)])


def regular_ids(model: LanguageModel, tokens: Tokens) -> Tensor:
    """The ids that may be drawn: the tokenizer's, special ones left out, that the model has embeddings of.

    Raises ModelError for fewer than two.
    """
    ids = tokens.regular_ids[tokens.regular_ids < model.n_vocabulary]
    if len(ids) < 2:
        raise ModelError(f"the tokenizer has {len(ids)} tokens besides special ones; at least 2 are needed")
    return ids.to(model.device)


def _token_ids(tokenizer: Any, text: str) -> array[int]:
    """The ids of a text. It is tokenised piece by piece, cut where that changes no token: memory is that of a piece.

    A cut at the end of a word is taken where the tokens of the letters before it stay the same when what follows is
    added; the tokens after it are then those that are added. Where no such cut is found the rest is one piece.
    """
    # A text that writes "<unk>" means these letters, not the tokenizer's own token.
    split = any(token in text for token in tokenizer.all_special_tokens)
    split |= any(token.special and token.content in text for token in tokenizer.added_tokens_decoder.values())

    def ids(part: str) -> list[int]:
        return tokenizer(part, add_special_tokens=False, split_special_tokens=split, verbose=False)["input_ids"]

    found, start, stop = array("l"), 0, 0
    while stop < len(text):
        known: list[int] = ids(text[max(0, start - CONTEXT) : start]) if start else []
        stop = len(text)
        for cut in itertools.islice(END_OF_WORD.finditer(text, start + PIECE), CUTS_TRIED):
            end = cut.start()
            before = ids(text[end - CONTEXT : end])
            if ids(text[end - CONTEXT : end + CONTEXT])[: len(before)] == before:
                stop = end
                break
        found.extend(ids(text[max(0, start - CONTEXT) : stop])[len(known) :])
        start = stop
    return found


def _specials(tokenizer: Any, text: str) -> tuple[list[int], list[int]]:
    """The ids that a tokenizer puts before and after a text of its own accord."""
    plain = tokenizer(text, add_special_tokens=False)["input_ids"]
    dressed = tokenizer(text)["input_ids"]
    for start in range(len(dressed) - len(plain) + 1):
        if dressed[start : start + len(plain)] == plain:
            return dressed[:start], dressed[start + len(plain) :]
    return [], []
