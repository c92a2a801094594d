"""Kinds of model: what may be registered, what old settings mean, and what does not fit a task."""

from __future__ import annotations

import re
from typing import Any

import pytest

from nsbench.config.base import ConfigError
from nsbench.config.shape import Shape
from nsbench.training import models
from nsbench.training.models import Model, Transformer, read_model
from tests.conftest import train_spec


class Empty(Model):
    """A model that says nothing."""


@pytest.mark.parametrize(
    ("kind", "cls", "told"),
    [
        (
            "transformer",
            Empty,
            "the kind of model 'transformer' is taken by nsbench.training.models.transformer.Transformer",
        ),
        ("My-Model", Empty, "'My-Model' is no kind of model; allowed: at most 50 of a-z"),
        ("number", int, "'number' registers <class 'int'>; a subclass of nsbench.Model is allowed"),
        ("empty", Empty, "'empty' has no build; a model needs this method"),
    ],
)
def test_what_cannot_be_registered_is_refused(kind: str, cls: Any, told: str) -> None:
    before = dict(models.MODELS)
    with pytest.raises(ConfigError, match=re.escape(told)):
        models.model(kind)(cls)
    assert before == models.MODELS


def test_settings_without_a_kind_are_a_transformer_s() -> None:
    """As all settings, checkpoints and records were written before there were kinds."""
    for settings in (train_spec(model={"kind": "transformer", "d_model": 8}).model, train_spec().model):
        assert settings == Transformer(d_model=8)
    assert read_model('{"d_model":8}') == Transformer(d_model=8)
    assert read_model(Transformer(d_model=8).model_dump_json()) == Transformer(d_model=8)


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ({"kind": "mpl"}, "model.kind: 'mpl' is not allowed, did you mean 'mlp'?; allowed: "),
        ({"d_modle": 8}, "model.d_modle: unknown key, did you mean 'd_model'?"),
        ({"n_heads": 3}, "model: d_model = 8 is not divisible by n_heads = 3; a multiple of it is allowed"),
        (
            {"d_model": 16384, "n_layers": 256},
            "model: d_model = 16384, n_layers = 256, n_heads = 2, max_length = 512 make 8.25e+11 parameters",
        ),
        (
            {"kind": "mlp", "widths": [65536] * 6},
            "model: widths = [65536, 65536, 65536, 65536, 65536, 65536] make 2.15e+10 parameters",
        ),
    ],
)
def test_settings_that_no_model_has_are_told(model: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        train_spec(model=model)
    assert str(caught.value).startswith(told)


@pytest.mark.parametrize(
    ("settings", "length", "every_position", "told"),
    [
        ({"max_length": 8}, 9, False, "have 9 tokens, more than model.max_length = 8; at least 9 is allowed"),
        ({"pooling": "mean"}, 8, True, "model.pooling = 'mean' does not fit the targets"),
        ({"pooling": "none"}, 8, False, "with one target 'mean' or 'last'"),
    ],
)
def test_sequences_and_targets_that_do_not_fit_are_told(
    settings: dict[str, Any], length: int, every_position: bool, told: str
) -> None:
    Transformer(pooling="none").check(Shape(512), True)
    with pytest.raises(ValueError, match=re.escape(told)):
        Transformer(**settings).check(Shape(length), every_position)
