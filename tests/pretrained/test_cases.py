"""A case of a pretrained model: all measures of it on one kind of inputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from nsbench.pretrained import cases, inputs
from nsbench.schemas.pretrained import NONE
from tests.pretrained.small_models import SMALL, case, loaded, text_of


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
            ends.append(torch.stack(cases.values(model.states(moved_NTC), text.labels, names)).double())
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
    assert found.per_input.empty  # No bound is proved on text.


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


@pytest.mark.parametrize("law", ["gaussian", "uniform"])
def test_numbers_of_each_input_have_the_means_that_bounds_are_made_of(made: Path, law: str) -> None:
    found = case(made, "causal", law, n_sequences=3)
    means = found.per_input.groupby(["readout", "quantity"])["value"].mean()
    assert set(found.per_input["input"]) == {0, 1, 2}
    assert set(means.index.get_level_values("readout")) == set(SMALL.readouts) - {"cross_entropy"}
    moments = found.moments.set_index("readout")
    half = found.stability[found.stability["reduction"] == "half_square"].set_index(["noise", "readout"])
    squared = found.concentration.query("site == 'embeddings' and norm == 'squared_l2' and of == 'mean'")
    for readout, quantities in means.groupby("readout"):
        mean = quantities.droplevel("readout")
        assert mean["readout"] == pytest.approx(moments.loc[readout, "mean"])
        noise = "gaussian" if law == "gaussian" else "resampling"
        assert mean["half_square"] == pytest.approx(half.loc[(noise, readout), "value"])
        total = squared.set_index("readout")["total"] * moments["scale"] ** 2
        influence = total if law == "gaussian" else half.loc["replacement", "value"]
        assert mean["influence"] == pytest.approx(influence[readout])
    correlation = found.per_input.groupby("quantity")["correlation"].first()["half_square"]
    assert correlation == (0.5 if law == "gaussian" else 0.75)


@pytest.mark.parametrize(("kind", "which"), [("causal", "text"), ("encoder", "gaussian")])
def test_results_do_not_depend_on_the_batch_size(made: Path, kind: str, which: str) -> None:
    one, many = (case(made, kind, which, batch_size=size) for size in (1, 3))
    for part in cases.Found._fields:
        alone, together = getattr(one, part), getattr(many, part)
        for column in alone:
            if alone[column].dtype == float:
                np.testing.assert_allclose(alone[column], together[column], rtol=2e-3, atol=2e-5, err_msg=column)
            else:
                assert alone[column].tolist() == together[column].tolist()


def test_what_a_model_cannot_give_is_said(made: Path) -> None:
    encoder = case(made, "encoder", "text").measured.set_index("readout")
    assert encoder["status"].to_dict() == {
        name: "measured" if name == "pooled_norm" else "not_applicable" for name in SMALL.readouts
    }
    assert encoder.loc["top_logit_last", "reason"] == "the model has no language-model head"
    nothing = case(made, "encoder", "text", readouts=["top_logit_last", "cross_entropy"])
    assert nothing.measured["status"].tolist() == ["not_applicable"] * 2
    assert nothing.influence.empty
    assert nothing.stability.empty
    gaussian = case(made, "causal", "gaussian").measured.set_index("readout")
    assert gaussian.loc["cross_entropy", "reason"] == "these inputs have no tokens to predict"
