"""Where a pretrained model's files come from: a folder, a package, GGUF weights, the hub."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from nsbench.config.base import parse
from nsbench.config.pretrained import FolderModel, HubModel, PackageModel
from nsbench.data import hub
from nsbench.pretrained import gguf, sources
from nsbench.pretrained.sources import ModelError, Unavailable


def test_a_folder_is_taken_as_it_is(made: Path) -> None:
    found = sources.fetch("mine", FolderModel(source="folder", path=str(made / "causal")))
    weights = (made / "causal/model.safetensors").read_bytes()
    assert found == (made / "causal", hashlib.sha256(weights).hexdigest())


def into_subfolder(folder: Path) -> None:
    """transformers would read these weights; their digest would be that of nothing."""
    (folder / "deep").mkdir()
    (folder / "model.safetensors").rename(folder / "deep/model.safetensors")
    names = load_file(folder / "deep/model.safetensors")
    index = {"metadata": {}, "weight_map": dict.fromkeys(names, "deep/model.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def quantise(folder: Path) -> None:
    """transformers would take the numbers as they are, and leave out the scales."""
    weights = load_file(folder / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    weights |= {name: weights[name].to(torch.float8_e4m3fn), f"{name}_scale_inv": torch.ones(1)}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


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
        (lambda folder: into_subfolder(folder), ["does not have all its weights as safetensors beside config.json"]),
        (quantise, ["model.safetensors has model.layers.0.mlp.up_proj.weight as F8_E4M3; BF16, F16, F32, F64 are"]),
        (lambda folder: (folder / "adapter_config.json").write_text("{}"), ["has an adapter; merge it into its model"]),
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
    assert found.folder == made / "causal"
    assert sources.origin(package(made)) == "weights 1.0"
    with pytest.raises(ModelError, match="has the sha256"):
        sources.fetch("mine", package(made, sha256="0" * 64))
    with pytest.raises(ModelError, match=r"has no file gone\.safetensors"):
        sources.fetch("mine", package(made, file="causal/gone.safetensors"))
    with pytest.raises(Unavailable, match=r"weights 1\.0 is installed, not 2\.0; pip install"):
        sources.fetch("mine", package(made, version="2.0"))


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
    assert len(list((tmp_path / "cache/models").iterdir())) == 2  # the folder and its lock


def test_a_conversion_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "weights.gguf").write_bytes(b"x")

    def fail(source: Path, folder: Path) -> None:
        (folder / "half").write_text("x")
        raise OSError("disk full")

    monkeypatch.setattr(gguf, "convert", fail)
    with pytest.raises(OSError, match="disk full"):
        sources._converted("mine", "weights.gguf", [tmp_path / "weights.gguf"], "0" * 64, tmp_path / "cache")
    assert [path.suffix for path in (tmp_path / "cache/models").iterdir()] == [".lock"]


def write_llama(file: Path, layers: int) -> None:
    """A GGUF file of a model that should have so many layers, with the weights of one."""
    import gguf as library

    writer, d, width = library.GGUFWriter(file, "llama"), 16, 32
    writer.add_context_length(32)
    writer.add_embedding_length(d)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(width)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(8)
    writer.add_tokenizer_model("llama")
    writer.add_token_list([f"t{number}" for number in range(8)])
    writer.add_token_scores([0.0] * 8)
    writer.add_token_types([1] * 8)
    shapes = {"token_embd": (8, d), "output": (8, d), "output_norm": (d,)}
    shapes |= {f"blk.0.{name}": (d, d) for name in ("attn_q", "attn_k", "attn_v", "attn_output")}
    shapes |= {"blk.0.ffn_gate": (width, d), "blk.0.ffn_up": (width, d), "blk.0.ffn_down": (d, width)}
    shapes |= {f"blk.0.{name}_norm": (d,) for name in ("attn", "ffn")}
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", np.zeros(shape, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.filterwarnings("ignore")  # of transformers
@pytest.mark.parametrize(
    ("layers", "cut", "words"),
    [
        (2, 0, "it lacks weights, for example model.layers.1.input_layernorm.weight, which would be random"),
        (1_000_000, 0, "it claims 1000000 layers; at most 1000 are allowed"),
        (1, 500, "model.gguf cannot be converted ("),
        (1, 10**6, "model.gguf cannot be converted ("),
    ],
    ids=["lacking", "bomb", "cut", "empty"],
)
def test_a_gguf_file_that_claims_more_than_it_has_is_told(tmp_path: Path, layers: int, cut: int, words: str) -> None:
    file = tmp_path / "model.gguf"
    write_llama(file, layers)
    file.write_bytes(file.read_bytes()[:-cut] if cut else file.read_bytes())
    with pytest.raises(
        ModelError, match=r"^mine: model\.gguf cannot be converted \(.*\); name another file$"
    ) as caught:
        sources._converted("mine", file.name, [file], "0" * 64, tmp_path / "cache")
    assert words in str(caught.value)
    assert [path.suffix for path in (tmp_path / "cache/models").iterdir()] == [".lock"]


REVISION = "0123456789abcdef0123456789abcdef01234567"
HUB = HubModel(source="hub", repository="someone/model", revision=REVISION)


def test_the_hub_s_folder_is_taken_at_its_revision(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(hub, "download_model", lambda *given: asked.append(given) or made / "masked")
    assert sources.fetch("mine", HUB).folder == made / "masked"
    assert sources.origin(HUB) == "someone/model at 0123456789ab"
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
