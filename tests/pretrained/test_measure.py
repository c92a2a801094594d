"""`nsbench.measure`: a model in memory, and what its result says."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from scipy import stats

import nsbench
from nsbench.config.base import ConfigError
from nsbench.config.pretrained import Measurement
from nsbench.pretrained import cases, inputs
from nsbench.pretrained.sources import ModelError
from nsbench.report.measured import Measured
from tests import tiny_models
from tests.pretrained.small_models import loaded, text_of

SHORT: dict[str, Any] = {"n_tokens": 8, "n_sequences": 9, "device": "cpu"}


@pytest.fixture(scope="module")
def found(made: Path) -> Measured:
    return nsbench.measure(str(made / "causal"), texts=[tiny_models.TEXT], **SHORT)


def in_memory(made: Path) -> tuple[Any, Any]:
    kinds = transformers.AutoModelForCausalLM, transformers.AutoTokenizer
    return tuple(kind.from_pretrained(made / "causal") for kind in kinds)


def test_a_model_in_memory_gives_the_numbers_of_its_folder_and_stays_as_it_is(made: Path, found: Measured) -> None:
    model, tokenizer = in_memory(made)
    model.train()
    before = copy.deepcopy(model.state_dict())
    again = nsbench.measure(model, tokenizer, [tiny_models.TEXT], **SHORT)
    assert model.training
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    assert list(again.tables["models"]["origin"]) == ["in memory", "initialised with seed 0"]
    for part in ("influence", "sequences", "stability"):
        numbers = [result.tables[part].drop(columns="model") for result in (found, again)]
        pd.testing.assert_frame_equal(*numbers, check_exact=True)


def test_sequences_are_those_that_concentration_is_the_mean_of(found: Measured) -> None:
    keys = ["weights", "readout", "norm"]
    means = found.tables["concentration"].query("site == 'embeddings' and of == 'each'").set_index(keys)["n_half"]
    by_sequence = found.tables["sequences"].groupby(keys)["n_half"].mean()
    assert len(means) == 2 * 4 * 3
    pd.testing.assert_series_equal(by_sequence, means, check_like=True)


def test_what_cannot_be_measured_is_refused(made: Path) -> None:
    model, tokenizer = in_memory(made)
    with pytest.raises(ConfigError, match="there are no texts"):
        nsbench.measure(model, tokenizer)
    with pytest.raises(ConfigError, match="brings its tokenizer; give none"):
        nsbench.measure(made / "causal", tokenizer, [tiny_models.TEXT])
    with pytest.raises(ModelError, match=r"torch\.nn\.modules\.linear\.Linear is not measured"):
        nsbench.measure(torch.nn.Linear(2, 2), tokenizer, [tiny_models.TEXT])
    with pytest.raises(ModelError, match="NoneType is no tokenizer"):
        nsbench.measure(model, None, [tiny_models.TEXT])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"texts": [1]}, "texts has what is no text; a list of texts, or the path of a text file"),
        ({"texts": b"the"}, "texts has what is no text"),
        ({"texts": {"text": ["the"]}}, "texts has what is no text"),
        ({"name": "a b!"}, r"measure\.models\[0\]: 'a b!' is not allowed"),
        ({"rho": 0.5}, r"settings\.rho: 0\.5 is not allowed; allowed: a valid list"),
        ({"batch_size": -1}, "batch_size = -1 is not allowed"),
    ],
)
def test_settings_of_another_kind_are_named(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        nsbench.measure(None, None, **{"texts": (text for text in [tiny_models.TEXT]), **settings})


def scaled(model: Any) -> None:
    model.model.layers[0].register_forward_hook(lambda *given: given[-1] * 1.1)


def replaced(model: Any) -> None:
    forward = model.forward

    def own(*given: Any, **named: Any) -> Any:
        output = forward(*given, **named)
        output.logits = output.logits * 2
        return output

    model.forward = own


def reconfigured(model: Any) -> None:
    model.config.rms_norm_eps = 0.1  # which its norms have not seen


def with_bias(model: Any) -> None:
    model.lm_head.bias = torch.nn.Parameter(torch.linspace(0, 3, model.lm_head.out_features))


@pytest.mark.parametrize("change", [scaled, replaced, reconfigured, with_bias])
def test_a_model_that_is_not_its_class_with_its_weights_is_refused(made: Path, change: Callable[[Any], None]) -> None:
    """What a folder cannot bring would be left out in silence."""
    model, tokenizer = in_memory(made)
    change(model.train())
    with pytest.raises(ModelError, match="has other outputs than its class with its weights and configuration"):
        nsbench.measure(model, tokenizer, [tiny_models.TEXT], **SHORT)
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_model_in_half_precision_is_measured_as_its_copy(made: Path, dtype: torch.dtype) -> None:
    model, tokenizer = in_memory(made)
    few = {"inputs": ["text"], "readouts": ["pooled_norm"], "control": False, "rho": [0.5]}
    assert len(nsbench.measure(model.to(dtype), tokenizer, [tiny_models.TEXT], **SHORT, **few).tables["models"]) == 1


def changed(found: Measured, part: str, change: Callable[[pd.DataFrame], Any]) -> Measured:
    """A result with other numbers in one table."""
    other = copy.copy(found)
    other.tables = {name: table.copy() for name, table in found.tables.items()}
    change(other.tables[part])
    return other


@pytest.mark.parametrize(
    ("n_tokens", "own", "random", "words"),
    [
        (80, [8] * 9, [40] * 9, ("Influence is concentrated", "It is more concentrated than", "p = 0.0039")),
        (80, [20] * 9, [21, 19] * 4 + [20], ("Influence is partly", "It is not settled whether it is more", "p = 1")),
        (8, [3] * 9, [2] * 9, ("Influence is not concentrated", "It is less concentrated than", "p = 0.0039")),
        (8, [1, 4] * 4 + [2], [4] * 9, ("It is not settled whether influence is", "It is", "p = ")),
    ],
)
def test_concentration_is_told_by_exact_intervals(
    found: Measured, n_tokens: int, own: list[int], random: list[int], words: tuple[str, str, str]
) -> None:
    """Nine differences of one sign have the exact p-value 2 / 2^9."""
    assert stats.wilcoxon(np.ones(9), method="exact").pvalue == pytest.approx(0.0039, abs=1e-4)

    def put(table: pd.DataFrame) -> None:
        for weights, values in (("pretrained", own), ("random", random)):
            here = (table["weights"] == weights) & (table["norm"] == "l1") & (table["readout"] == "mean_top_logit")
            table.loc[here, "n_half"] = values

    other = changed(found, "sequences", put)
    other.tables["models"]["n_tokens"] = n_tokens
    first, second, _ = other.findings()
    assert first.startswith(words[0])
    assert second.startswith(words[1])
    assert words[2] in second
    assert f"half of it lies on {np.mean(own):.1f} ± {stats.sem(own):.1f} of {n_tokens} positions" in first


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (0.2, 0.04, "It is stabler than its random copy"),
        (-0.2, 0.04, "It is less stable than its random copy"),
        (0.2, 0.05, "It is not settled whether it is stabler than"),
    ],
)
def test_stability_is_told_by_an_interval_that_is_never_too_narrow(
    found: Measured, change: float, error: float, words: str
) -> None:
    """Of 9 sequences: 2.306 times the sum of both errors, 0.184 or 0.231."""

    def put(table: pd.DataFrame) -> None:
        own = table["weights"] == "pretrained"
        table["value"], table["standard_error"] = np.where(own, 0.5 + change, 0.5), error
        table["value"] = table["value"].astype(float)

    told = changed(found, "stability", put).findings()[2]
    assert told.startswith(words)
    margin = stats.t.ppf(0.975, 8) * 2 * error
    assert f"95% interval {100 * (change - margin):+.1f} to {100 * (change + margin):+.1f} or narrower" in told


def test_a_result_is_a_table_a_figure_and_a_page_without_links(found: Measured, tmp_path: Path) -> None:
    table = found.to_pandas().set_index(["weights", "readout", "quantity", "rho"])["value"]
    stability = found.tables["stability"]
    agrees = stability[(stability["reduction"] == "decision") & (stability["rho"] == 0.9)].set_index("weights")["value"]
    for weights in ("pretrained", "random"):
        assert table[weights, "output", "resampling decision", 0.9] == agrees[weights]
    assert len(found.plot().axes) >= 1
    page = found.to_html(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == page
    for part in ("data:image/png;base64,", "average sensitivity", 'data-head="readout">pooled_norm'):
        assert part.lower() in page.lower()
    assert "http" not in page
    assert found.summary(full=True).startswith(found.summary())


def test_untrained_weights_and_too_long_sequences_are_warned_of(made: Path, caplog: pytest.LogCaptureFixture) -> None:
    tokenizer = in_memory(made)[1]
    config = transformers.LlamaConfig(vocab_size=31, max_position_embeddings=4, **tiny_models.SHAPE)
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(config)
    with caplog.at_level(logging.WARNING):
        found = nsbench.measure(model, tokenizer, [tiny_models.TEXT], readouts=["pooled_norm"], **SHORT)
    assert "sequences of 8 tokens, more than its 4 positions" in caplog.text
    assert "8 tokens, more than its 4 positions" in found.summary()
    assert "the model equals its random copy" in found.summary()
    assert "p = 1," in found.findings()[1]


def test_few_sequences_settle_nothing(made: Path) -> None:
    told = nsbench.measure(made / "causal", texts=[tiny_models.TEXT], **SHORT | {"n_sequences": 2}).findings()
    assert all(sentence.startswith("It is not settled whether") for sentence in told)
    assert all("too few sequences for an interval" in sentence for sentence in told)
    assert "narrower" not in told[2]


def test_a_trained_model_is_not_called_untrained(found: Measured) -> None:
    assert "WARNING" not in found.summary()


@pytest.mark.parametrize("kind", ["causal", "encoder"])
def test_the_bar_counts_all_the_work(made: Path, kind: str) -> None:
    settings = Measurement(n_tokens=8, n_sequences=3, rho=[0.5, 0.9], n_replaced=3, n_draws=2)
    model, tokens = loaded(made, kind), text_of(made, kind)
    done, states = [], model.states
    for each in inputs.make_inputs(model, tokens, ["text", "gaussian"], 0, True)[0]:
        work, with_gradients = cases.passes(model, each, settings)

        def counted(x_NTC: torch.Tensor, weight: int = with_gradients) -> Any:
            done.append(len(x_NTC) * (weight if x_NTC.requires_grad else 1))
            return states(x_NTC)

        done.clear()
        model.states = counted
        cases.measure_case(model, each, tokens, settings, [(0, 0)], 2)
        model.states = states
        assert sum(done) == 3 * work
