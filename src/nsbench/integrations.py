"""The regulariser in other libraries' training loops, none of which is imported here.

With Trainer of transformers:

    class StableTrainer(NoiseStabilityMixin, Trainer):
        pass

    trainer = StableTrainer(model, arguments, train_dataset=texts, regularizer=regularizer)
    trainer.train()

With accelerate, where a causal model of transformers accumulates the gradients of several batches:

    for batches in optimizer_steps:
        n_targets = sum((batch["labels"][:, 1:] != -100).sum() for batch in batches)
        n_targets = accelerator.gather(n_targets).sum()
        for batch in batches:
            with accelerator.accumulate(model):
                output = model(**batch, num_items_in_batch=n_targets)
                term = regularizer(model, batch, clean_logits=output.logits, n_targets=n_targets)
                factor = accelerator.gradient_accumulation_steps * accelerator.num_processes
                accelerator.backward((output.loss + term) * factor)
                optimizer.step()
                optimizer.zero_grad()

With Lightning, which takes the mean over the batches that it accumulates, and over processes:

    class StableModule(lightning.LightningModule):
        def __init__(self, model, regularizer):
            super().__init__()
            self.model, self.regularizer = model, regularizer

        def training_step(self, batch, batch_idx):
            output = self.model(**batch)
            term = self.regularizer(self.model, batch, clean_logits=output.logits, step=self.global_step)
            return output.loss + term

        def configure_optimizers(self):
            return torch.optim.AdamW(self.parameters(), lr=1e-4)

    trainer.fit(StableModule(model, regularizer), loader)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nsbench.regularizer.module import NoiseStabilityRegularizer


class NoiseStabilityMixin:
    """Adds the regulariser to the loss of transformers' Trainer while it trains; evaluation has the plain loss.

    The term is averaged over the same targets as the loss: where Trainer divides the loss by the targets of all
    accumulated batches (and of all processes), it is divided by these too. So accumulating changes no gradient.
    Older Trainers count first tokens as targets of causal models, of loss and term alike.

    Raises ValueError for several GPUs in one process, which Trainer drives with DataParallel.
    """

    def __init__(self, *args: Any, regularizer: NoiseStabilityRegularizer, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.args.n_gpu > 1:
            raise ValueError(f"{self.args.n_gpu} GPUs in one process; torchrun, with one process a GPU, is allowed")
        self.regularizer = regularizer.to(self.args.device)

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None, **kwargs: Any
    ) -> Any:
        # A copy: Trainer takes the labels out where it smooths them.
        loss, outputs = super().compute_loss(
            model, dict(inputs), return_outputs=True, num_items_in_batch=num_items_in_batch, **kwargs
        )
        if model.training:
            is_sum = self.model_accepts_loss_kwargs or self.compute_loss_func is not None
            n_targets = num_items_in_batch if is_sum else None
            term = self.regularizer(
                model,
                inputs,
                clean_logits=_logits_beside_loss(outputs),
                n_targets=n_targets,
                step=self.state.global_step,
            )
            # Targets of all processes divide; DistributedDataParallel then takes the mean over processes.
            over_all = n_targets is not None and self.args.average_tokens_across_devices
            loss = loss + term * (self.accelerator.num_processes if over_all else 1)
        return (loss, outputs) if return_outputs else loss


def _logits_beside_loss(outputs: Any) -> Any:
    """The logits of an output with a loss; None where a fused loss keeps none."""
    if isinstance(outputs, Mapping):
        return outputs.get("logits")
    return getattr(outputs, "logits", None) if not isinstance(outputs, tuple) else outputs[1]
