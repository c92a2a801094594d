"""Noise-stability regularisation (Definition 6.1), at full or at less cost, for any callable from tokens to logits.

    regularizer = NoiseStabilityRegularizer(rho=0.25, gamma=0.75, symbols=113)
    loss = cross_entropy(logits, labels) + regularizer(model, tokens, clean_logits=logits)

and at about a tenth of the cost, by a tenth of the batch or every tenth step:

    regularizer = NoiseStabilityRegularizer(rho=0.25, gamma=0.75, symbols=113, share=0.1)
    regularizer = NoiseStabilityRegularizer(rho=0.25, gamma=0.75, symbols=113, every=10)
    loss = cross_entropy(logits, labels) + regularizer(model, tokens, clean_logits=logits, step=step)

Of a model of transformers, on a batch as its collators make it:

    regularizer = NoiseStabilityRegularizer(
        rho=0.25, gamma=0.75, symbols=len(tokenizer), special_ids=tokenizer.all_special_ids
    )
    output = model(**batch)
    loss = output.loss + regularizer(model, batch, clean_logits=output.logits)

Definition 6.1 keeps a token with probability (1 + rho) / 2 and redraws it uniformly otherwise, so
what it calls rho is a correlation of (1 + rho) / 2 between X and Y (`nsbench.theory.resampling_correlation`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from nsbench.perturbations.tokens import as_symbols, require_tokens, resample_tokens
from nsbench.regularizer.chunks import chunked_agreement
from nsbench.regularizer.stability import Output, agreement, require, stability_term
from nsbench.regularizer.term import Branch


class NoiseStabilityRegularizer(nn.Module):
    """gamma x R of Definition 6.1, to be added to a loss. A module without weights and without state.

    rho: in [-1, 1]. gamma: strength, at least 0. orientation: S; 1 rewards stability, 0 punishes it.
    symbols: U, meaning ids 0 ... U-1, or ids: a list, a range, a tensor. special_ids: ids that are
    neither redrawn nor drawn, such as a tokenizer's `all_special_ids`. same_symbol, fixed_ids: as in
    `resample_tokens`. gradient: the branch that gradients flow through, "both", "clean" (M(X)) or
    "noisy" (M(Y)). output: M is "probabilities" (softmax of the logits) or the "logits" themselves.
    n_draws: noisy copies per call, averaged; each costs one forward pass.

    Three ways to pay less, which combine and keep the mean strength:
    every: a whole number, at least 1; the regulariser acts at steps 0, every, 2 x every, ... alone, with
    gamma x every. share: in (0, 1]; it looks at the first ceil(share x batch) examples alone (shuffle
    the batch) and takes the mean over those. branch: "clean" or "noisy", in place of `gradient`: the
    gradient flows through M(X) or M(Y) alone, with 2 x gamma. For X uniform over all sequences, X and
    Y are exchangeable, so both branches have the same gradient in the mean and half of it can stand
    for the whole; for other X, such as a fixed training set, that is an approximation. "clean" needs
    no backward pass through M(Y). What is returned has the factors too: it is `every` or 2 times R.

    Logits in half precision are taken in float32, under autocast too. Gradients of float16 logits need a
    scaled loss, as `torch.amp.GradScaler` makes it: over many classes they are below the smallest float16.
    Beside the logits of both passes and their gradients, memory is needed for a part of the batch alone.

    Raises ValueError for a value outside these.
    """

    ids: Tensor
    fixed: Tensor

    def __init__(
        self,
        rho: float,
        gamma: float,
        orientation: Literal[0, 1] = 1,
        *,
        symbols: int | Sequence[int] | Tensor,
        special_ids: Sequence[int] | Tensor = (),
        same_symbol: bool = True,
        fixed_ids: Sequence[int] | Tensor | None = None,
        gradient: Branch = "both",
        output: Output = "probabilities",
        n_draws: int = 1,
        every: int = 1,
        share: float = 1.0,
        branch: Branch = "both",
    ) -> None:
        super().__init__()
        require(-1 <= rho <= 1, f"rho = {rho} is outside [-1, 1]")
        require(n_draws in range(1, 10**6), f"n_draws = {n_draws} is not a whole number of 1 or more")
        self.rho, self.n_draws, self.output, self.same_symbol = rho, n_draws, output, same_symbol
        self.term = stability_term(
            gamma, orientation, gradient=gradient, output=output, every=every, share=share, branch=branch
        )
        special = id_tensor(special_ids, "special_ids")
        fixed = id_tensor(() if fixed_ids is None else fixed_ids, "fixed_ids")
        wanted = as_symbols(symbols)
        ids = torch.arange(max(wanted, 0)) if isinstance(wanted, int) else wanted.unique()
        ids = ids[~torch.isin(ids, special)]
        least = 1 if same_symbol else 2
        require(len(ids) >= least, f"symbols has {len(ids)} ids to draw; a redraw needs at least {least}")
        self.first_id, self.last_id = int(ids[0]), int(ids[-1])
        require(self.first_id >= 0, f"symbols has the id {self.first_id}; 0 or more is allowed")
        # Not in a state_dict: a model that has the regulariser as a part saves and loads as without it.
        self.register_buffer("ids", ids, persistent=False)
        self.register_buffer("fixed", torch.cat([special, fixed]), persistent=False)

    def extra_repr(self) -> str:
        return f"rho={self.rho:g}, strength={self.term.strength:g}, symbols={len(self.ids)}"

    def resample(self, tokens: Tensor, generator: torch.Generator | None = None, mask: Tensor | None = None) -> Tensor:
        """One draw of Y for `tokens`. mask: of their shape; where it is 0 or False a token stays.

        Without a generator, torch's own seeds the draw, with the rank of a distributed process beside it: ranks of one
        seed draw differently. Ranks that share a batch (tensor parallel) need a generator.
        """
        allowed = torch.iinfo(require_tokens(tokens).dtype).max
        require(self.last_id <= allowed, f"symbols has the id {self.last_id}; tokens of {tokens.dtype} allow {allowed}")
        ids, fixed, n_ids = self.ids.to(tokens.device), self.fixed.to(tokens.device), len(self.ids)
        # Drawn among places in `ids`, of which a token that is no symbol has none: n_ids.
        place = torch.searchsorted(ids, tokens.long().contiguous()).clamp_(max=n_ids - 1)
        place = torch.where(ids[place] == tokens, place, n_ids)
        rank, world = _rank_and_world()
        if generator is None and torch.compiler.is_compiling():
            # No generator can be made there: each rank draws for all, and takes its own.
            drawn = resample_tokens(place.expand(world, *place.shape), self.rho, n_ids, same_symbol=self.same_symbol)
            drawn = drawn[rank]
        else:
            generator = _generator(tokens.device, rank) if generator is None else generator
            drawn = resample_tokens(place, self.rho, n_ids, generator, same_symbol=self.same_symbol)
        stays = (drawn == n_ids) | torch.isin(tokens, fixed)
        if mask is not None:
            stays |= mask == 0
        return torch.where(stays, tokens, ids[drawn.clamp(max=n_ids - 1)].to(tokens.dtype))

    def penalty(self, clean_logits: Tensor, noisy_logits: Tensor) -> Tensor:
        """gamma x R(X) of Equation 6 for each example: logits (..., class) -> (...), float32 of half precision too.

        Raises ValueError where their shapes differ, and for one class, whose probability is 1 for every input.
        """
        shape, noisy_shape = _shape(clean_logits), _shape(noisy_logits)
        require(
            shape == noisy_shape, f"clean_logits has the shape {shape}; {noisy_shape}, that of noisy_logits, is allowed"
        )
        require(isinstance(shape, tuple), f"the logits are of {shape}; tensors of floating-point numbers are allowed")
        require(
            self.output == "logits" or shape[-1:] not in ((), (0,), (1,)),
            f"the logits have the shape {shape}, (..., class); 2 classes or more are allowed, or output = 'logits'",
        )
        clean = clean_logits.detach() if self.term.gradient == "noisy" else clean_logits
        noisy = noisy_logits.detach() if self.term.gradient == "clean" else noisy_logits
        agree = chunked_agreement(clean, noisy) if self.output == "probabilities" else agreement(clean, noisy, "logits")
        return self.term.strength * agree

    def forward(
        self,
        model: Callable[..., Any],
        tokens: Tensor | Mapping[str, Any],
        *,
        clean_logits: Tensor | None = None,
        mask: Tensor | None = None,
        labels: Tensor | None = None,
        ignore_index: int = -100,
        shift_labels: bool | None = None,
        n_targets: int | Tensor | None = None,
        generator: torch.Generator | None = None,
        step: int | None = None,
        **model_kwargs: Any,
    ) -> Tensor:
        """gamma times the mean of R over the targets of the batch (or its share), a scalar; 0 at a step without it.

        model: from tokens (batch, position) to logits (batch, class), or (batch, ..., class), where Equation 6 is
        applied at each place; or to a tuple that begins with these, or what has them as `.logits`. tokens: a tensor of
        integers, or a batch for `model(**batch)` with `input_ids`. model_kwargs: what else the model takes.
        clean_logits: the model's logits for `tokens`, where they are known already.

        mask: (batch, position), which tokens are real; others are not redrawn, and the mean leaves their places out.
        `attention_mask` stands for it where there is one. labels: whose places with `ignore_index` the mean leaves out;
        a batch's own where it has some. shift_labels: whether the label of a place stands one further on, as causal
        models of transformers have it; None: where the model is such a one. n_targets: divides the sum in place of the
        number of targets: those of all micro-batches of an optimiser step, so that their sum is one large batch's.

        generator: on the device of `tokens`; see `resample` for None. step: number of the step, from 0, needed where
        `every` is more than 1.

        Raises ValueError where it is needed and None, for tokens that are no tensor of integers, for symbols that the
        model has no embedding for, and for logits, labels or a mask of another shape than these.
        """
        if isinstance(tokens, Mapping):
            require("input_ids" in tokens, f"the batch has {', '.join(map(str, tokens))}; input_ids are needed")
            model_kwargs = {**tokens, **model_kwargs}
            tokens, own_labels = model_kwargs.pop("input_ids"), model_kwargs.pop("labels", None)
            labels, name = own_labels if labels is None else labels, "input_ids"
        else:
            name = None
        require(
            require_tokens(tokens).numel() > 0 < tokens.ndim,
            f"tokens has the shape {tuple(tokens.shape)}; (batch, position) is needed, with some in it",
        )
        term, batch, device = self.term, len(tokens), tokens.device
        require(term.every == 1 or step is not None, f"step is not given; with every = {term.every} it is needed")
        require(step is None or (step >= 0 and step % 1 == 0), f"step = {step} is not a whole number of 0 or more")
        if step is not None and not term.is_due(step):
            return torch.zeros((), device=device)
        self._check_symbols(model)
        attention = model_kwargs.get("attention_mask")
        if mask is None and isinstance(attention, Tensor) and attention.shape == tokens.shape:
            mask = attention
        if mask is not None:
            require(mask.shape == tokens.shape, _shapes("mask", mask, tokens.shape, "of tokens"))
        n_rows = term.rows(batch)
        if n_rows < batch:
            tokens, mask, labels = tokens[:n_rows], _rows(mask, batch, n_rows), _rows(labels, batch, n_rows)
            model_kwargs = {key: _rows(value, batch, n_rows) for key, value in model_kwargs.items()}
        graded = torch.is_grad_enabled()

        def logits(ids: Tensor, with_gradient: bool) -> Tensor:
            with torch.set_grad_enabled(graded and with_gradient):
                found = model(ids, **model_kwargs) if name is None else model(**{name: ids}, **model_kwargs)
            return _logits(found, ids)

        clean = logits(tokens, term.gradient != "noisy") if clean_logits is None else None
        total = 0.0
        for _ in range(self.n_draws):
            noisy = logits(self.resample(tokens, generator, mask), term.gradient != "clean")
            if clean is None:
                clean = _of_batch(clean_logits, (batch, *noisy.shape[1:]))[:n_rows]
            total = total + self.penalty(clean, noisy)
        value = total / self.n_draws
        shifts = labels is not None and (_shifts_labels(model) if shift_labels is None else shift_labels)
        counted = _counted(value, mask, labels, ignore_index, shifts)
        if counted is not None:
            value = value.masked_fill(~counted, 0.0)
        if n_targets is not None:
            return value.sum() / n_targets * (batch / n_rows)
        return value.mean() if counted is None else value.sum() / counted.sum().clamp(min=1)

    def _check_symbols(self, model: Any) -> None:
        """Raise ValueError for symbols that a model of transformers has no embedding for."""
        embeddings = getattr(_unwrapped(model), "get_input_embeddings", None)
        if callable(embeddings) and not torch.compiler.is_compiling():
            n_known = getattr(embeddings(), "num_embeddings", None)
            require(
                n_known is None or self.last_id < n_known,
                f"symbols has the id {self.last_id}; the model has embeddings of 0 ... {n_known and n_known - 1}",
            )


def id_tensor(ids: Sequence[int] | Tensor, name: str) -> Tensor:
    """Ids as a tensor with one axis. Raises ValueError where they are no integers."""
    try:
        found = as_symbols(ids)
    except ValueError as error:
        raise ValueError(str(error).replace("symbols", name, 1)) from None
    return torch.as_tensor(found, dtype=torch.int64).flatten()


def _rank_and_world() -> tuple[int, int]:
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def _generator(device: torch.device, rank: int) -> torch.Generator:
    """Seeded by a number of torch's own generator, and the rank."""
    seed = int(torch.randint(2**62, ())) + rank * 0x9E3779B97F4A7C15
    return torch.Generator(device).manual_seed(seed % 2**63)


def _counted(
    value: Tensor, mask: Tensor | None, labels: Tensor | None, ignore_index: int, shifts: bool
) -> Tensor | None:
    """Which places of `value` are targets, of its shape; None: all."""
    of_mask = None if mask is None or mask.shape != value.shape else mask != 0
    if labels is None:
        return of_mask
    require(labels.shape == value.shape, _shapes("labels", labels, value.shape, "of the logits' places"))
    of_labels = labels.to(value.device) != ignore_index
    if shifts and value.ndim == 2:
        of_labels = nn.functional.pad(of_labels[:, 1:], (0, 1), value=False)
    return of_labels if of_mask is None else of_labels & of_mask


def _shifts_labels(model: Any) -> bool:
    """Whether a model is a causal one of transformers, which predicts the label of the next place."""
    model = _unwrapped(model)
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        return False
    # Wrappers as PEFT's have the ending; models with older names have no loss_type.
    names = (str(getattr(model, "loss_type", None)), type(model).__name__)
    older = ("BertLMHeadModel", "CTRLLMHeadModel", "GPT2LMHeadModel", "OpenAIGPTLMHeadModel")
    return any(name.endswith("ForCausalLM") or name in older for name in names)


def _unwrapped(model: Any) -> Any:
    """The model inside of torch.compile and DistributedDataParallel."""
    model = getattr(model, "_orig_mod", model)
    return getattr(model, "module", model)


def _rows(value: Any, batch: int, n_rows: int) -> Any:
    """The first rows of what has one for each example."""
    return value[:n_rows] if isinstance(value, Tensor) and value.ndim and len(value) == batch else value


def _logits(output: Any, tokens: Tensor) -> Tensor:
    """The logits in a model's output for `tokens`. Raises ValueError where there are none."""
    found = output
    if isinstance(output, Mapping):
        found = output.get("logits")
    elif isinstance(output, tuple) and output and not hasattr(output, "logits"):
        found = output[0]
    elif not isinstance(output, Tensor):
        found = getattr(output, "logits", None)
    if not isinstance(found, Tensor):
        raise ValueError(
            f"the model gives a {type(output).__name__}; logits are allowed, a tuple that begins with them, or an "
            "object or mapping that has them as logits"
        )
    shape, of = tuple(found.shape), tuple(tokens.shape)
    # Classes before positions, as cross_entropy takes them.
    is_transposed = len(shape) == 3 and len(of) == 2 and shape[2] == of[1] != shape[1]
    require(
        found.is_floating_point() and len(shape) >= 2 and shape[0] == of[0] and not is_transposed,
        f"the model gives {found.dtype} of the shape {shape} for tokens of the shape {of}; logits (batch, class) or "
        "(batch, ..., class) are allowed",
    )
    return found


def _of_batch(clean_logits: Any, wanted: tuple[int, ...]) -> Tensor:
    shape = _shape(clean_logits)
    require(shape == wanted, f"clean_logits has the shape {shape}; {wanted}, that of the model's logits, is allowed")
    return clean_logits


def _shape(logits: Any) -> tuple[int, ...] | str:
    """The shape of logits; of what can be none the kind."""
    if isinstance(logits, Tensor):
        return tuple(logits.shape) if logits.is_floating_point() else str(logits.dtype)
    return type(logits).__name__


def _shapes(name: str, found: Tensor, allowed: Sequence[int], of: str) -> str:
    return f"{name} has the shape {tuple(found.shape)}; {tuple(allowed)}, that {of}, is allowed"
