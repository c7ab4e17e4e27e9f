"""One optimiser update through DeepSpeed. What is configured is a pure function (`deepspeed_config`).

The loss of an update is the mean cross-entropy over all its target tokens: micro-batches and ranks are weighted by
their number of targets, never averaged as if they had equally many.

Shape suffixes: B sequences, T tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.optim import AdamW

from sweeps.errors import RecordError, UsageError
from sweeps.language.science import EngineScience, OptimScience
from sweeps.language.stage import Execution
from workloads.contract import SequenceBatch
from workloads.training.feeds import IGNORED, labels_of
from workloads.training.model import (
    attend_without_mask,
    compile_body,
    parameter_groups,
    recompute_activations,
    summed_loss,
)
from workloads.training.process import Place

TAG = "engine"
"""DeepSpeed's sub-folder of a checkpoint."""
BUCKET_ELEMENTS = 50_000_000
"""Largest gradient bucket, elements; DeepSpeed allocates it whole, so small models get one of their own size."""


def share_of(optim: OptimScience, execution: Execution) -> int:
    """Return a rank's sequences of an update.

    Raises:
        UsageError: the ranks do not divide the batch.
    """
    share, rest = divmod(optim.batch_sequences, execution.ranks)
    if rest:
        raise UsageError(f"batch_sequences {optim.batch_sequences} is not divisible by {execution.ranks} ranks")
    return share


def micro_batch(optim: OptimScience, execution: Execution) -> int:
    """Return sequences per forward pass and rank.

    Raises:
        UsageError: ranks or micro-batch do not divide the batch.
    """
    share = share_of(optim, execution)
    micro = execution.sequences(share)
    if share % micro:
        raise UsageError(f"micro_batch {micro} does not divide a rank's share of the batch, {share} sequences")
    return micro


def deepspeed_config(
    optim: OptimScience, engine: EngineScience, execution: Execution, *, parameters: int
) -> dict[str, Any]:
    """Return DeepSpeed's configuration; pure.

    Args:
        optim: batch and clipping.
        engine: precision.
        execution: ranks, ZeRO stage, micro-batch.
        parameters: number of the model's parameters (bounds the buckets).

    Raises:
        UsageError: bf16 with ZeRO 0 (DeepSpeed 0.19.8 then takes a dummy Adam step), off-loading what this ZeRO stage
            does not part, or a batch that does not divide.
    """
    if engine.precision == "bf16" and execution.zero_stage == 0:
        raise UsageError("engine.precision bf16 needs ZeRO stage 1, 2 or 3 (DeepSpeed's stage 0 makes a dummy Adam "
                         "step in bf16); set zero_stage 1, or engine.precision autocast or fp32")
    micro = micro_batch(optim, execution)
    config: dict[str, Any] = {
        "train_batch_size": optim.batch_sequences,
        "train_micro_batch_size_per_gpu": micro,
        "gradient_accumulation_steps": optim.batch_sequences // (micro * execution.ranks),
        "gradient_clipping": optim.clip if execution.zero_stage else 0.0,  # else by `clip_gradients`
        "steps_per_print": 2**31 - 1,
        "wall_clock_breakdown": False,
        "zero_allow_untested_optimizer": True,
        "zero_optimization": _zero(execution, min(BUCKET_ELEMENTS, parameters)),
    }
    if execution.offload != "none":  # torch's fused AdamW works on the host; DeepSpeed's own would have to be compiled
        config["zero_force_ds_cpu_optimizer"] = False
    if engine.precision == "bf16":
        config["bf16"] = {"enabled": True, "check_grad_overflow": False}  # it waits; the loop looks at the norms
        config["data_types"] = {"grad_accum_dtype": "fp32"}
        config["communication_data_type"] = "fp32"
    if engine.precision == "autocast":
        config["torch_autocast"] = {"enabled": True, "dtype": "bfloat16"}
    return config


def _zero(execution: Execution, bucket: int) -> dict[str, Any]:
    stage, offload = execution.zero_stage, execution.offload
    if offload != "none" and stage < (1 if offload == "optimizer" else 3):
        raise UsageError(f"offload {offload} does not exist in ZeRO stage {stage}; optimizer needs stage 1, 2 or 3, "
                         "optimizer+parameters stage 3")
    zero: dict[str, Any] = {"stage": stage, "reduce_bucket_size": bucket, "allgather_bucket_size": bucket}
    if offload != "none":
        zero["offload_optimizer"] = {"device": "cpu"}
    if offload == "optimizer+parameters":
        zero["offload_param"] = {"device": "cpu"}
    return zero


def clip_gradients(parameters: Sequence[torch.nn.Parameter], limit: float) -> torch.Tensor:
    """Scale gradients down to a global norm of `limit` (0: leave them), and return the norm that they had.

    What DeepSpeed 0.19.8 does under ZeRO 0, to the bit. Its own copies tensors and asks other ranks, whose gradients
    are the same by then; what that costs is in benchmarks/README.md.
    """
    grads = [p.grad for p in parameters if p.grad is not None]
    norm = torch.stack([g.float().norm(2.0) for g in grads]).pow(2.0).sum().pow(0.5)
    if limit:
        torch._foreach_mul_(grads, torch.clamp(torch.tensor(limit) / (norm + 1e-6), max=1.0))
    return norm


class Engine:
    """A model, AdamW and DeepSpeed around both."""

    def __init__(
        self, model: Any, optim: OptimScience, engine: EngineScience, execution: Execution, place: Place
    ) -> None:
        """Wrap `model`, whose parameters become the engine's.

        Raises:
            UsageError: the layout is impossible.
        """
        if place.world != execution.ranks:
            raise UsageError(f"{place.world} processes were started for a stage of {execution.ranks} ranks")
        self._parameters = list(model.parameters())
        self.parameters = sum(p.numel() for p in self._parameters)
        config = deepspeed_config(optim, engine, execution, parameters=self.parameters)
        import deepspeed

        self.place = place
        self.zero_stage = execution.zero_stage
        self._micro = config["train_micro_batch_size_per_gpu"]
        self._accumulation = config["gradient_accumulation_steps"]
        self._summed = optim.summed_steps
        self._clip = optim.clip
        self._chunk = engine.loss_chunk
        self._compiled = engine.compile
        self._config_json = model.config.to_json_string()
        attend_without_mask(model)
        if execution.activation_checkpointing:
            recompute_activations(model)
        if engine.compile:
            compile_body(model, zero_stage=execution.zero_stage)
        optimiser = AdamW(
            list(parameter_groups(model, optim.weight_decay)), lr=optim.lr, betas=(optim.beta1, optim.beta2),
            eps=optim.epsilon, fused=True,
        )
        self._engine, *_ = deepspeed.initialize(model=model, optimizer=optimiser, config=config)
        if place.world == 1 and self.zero_stage == 0:
            self._engine.enable_backward_allreduce = False
        self._engine.train()

    @property
    def config_json(self) -> str:
        """The model's configuration as Hugging Face writes it."""
        return str(self._config_json)

    def update(self, batch: SequenceBatch, *, lr: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Make one optimiser update, without waiting for the device.

        An update is made whatever its gradient is: the caller looks at the norms before anything is kept.

        Args:
            batch: this rank's sequences of the update.
            lr: learning rate.

        Returns:
            This rank's part of the update's mean loss, nats per token (the parts of all ranks add up to it), and the
            norm of the gradient before clipping (times `summed_steps`); both on the device.
        """
        for group in self._engine.optimizer.param_groups:
            group["lr"] = lr
        labels_BT = labels_of(batch)
        targets = self._targets(labels_BT)
        scale = self._accumulation * self.place.world * self._summed / targets
        part = torch.zeros((), device=self.place.device)
        norm = part
        for tokens, labels in self._micro_batches(batch.tokens_BT, labels_BT):
            total = summed_loss(self._engine, tokens, labels, self._chunk)
            self._engine.backward(total * scale)
            part = part + total.detach() / targets
            if self.zero_stage == 0 and self._engine.is_gradient_accumulation_boundary():
                norm = clip_gradients(self._parameters, self._clip)
            self._engine.step()
        return part, self._norm() if self.zero_stage else norm

    def _norm(self) -> torch.Tensor:
        """Return the norm that ZeRO found; its bf16 optimiser under ZeRO 1 says -1 of one that is not finite."""
        norm: torch.Tensor = self._engine.get_global_grad_norm()
        return norm.masked_fill(norm < 0, math.inf)

    def _targets(self, labels_BT: np.ndarray) -> int:
        own = int((labels_BT != IGNORED).sum())
        return max(1, own if self.place.world == 1 else int(self.place.total(torch.tensor(own, dtype=torch.int64))))

    def _micro_batches(
        self, tokens_BT: np.ndarray, labels_BT: np.ndarray
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for first in range(0, len(tokens_BT), self._micro):
            rows = slice(first, first + self._micro)
            yield self._tensor(tokens_BT[rows]), self._tensor(labels_BT[rows])

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        host = torch.from_numpy(np.ascontiguousarray(array, dtype=np.int64))
        if self.place.device.type == "cuda":  # only from pinned memory does a copy not wait
            host = host.pin_memory()
        return host.to(self.place.device, non_blocking=True)

    def held_out_loss(self, batch: SequenceBatch) -> tuple[float, int]:
        """Return the summed cross-entropy in nats of a batch, without gradients or dropout, and its number of targets.

        Every rank must call it with the same batch (ZeRO 3 gathers weights).
        """
        labels_BT = labels_of(batch)
        self._engine.eval()
        try:
            with torch.no_grad(), torch.compiler.set_stance("force_eager") if self._compiled else nullcontext():
                total = summed_loss(self._engine, self._tensor(batch.tokens_BT), self._tensor(labels_BT), self._chunk)
        finally:
            self._engine.train()
        return float(total), int((labels_BT != IGNORED).sum())

    def adam_steps(self) -> int:
        """Return Adam's own counter: it must equal the number of updates since the beginning of the run.

        Raises:
            RecordError: parameters disagree.
        """
        counts = {int(state["step"]) for state in self._adam.state.values() if "step" in state}
        if len(counts) > 1:
            raise RecordError(f"Adam's counters differ between parameters: {sorted(counts)}")
        return counts.pop() if counts else 0

    @property
    def _adam(self) -> AdamW:
        """The optimiser inside ZeRO's."""
        return getattr(self._engine.optimizer, "optimizer", self._engine.optimizer)  # type: ignore[no-any-return]

    def weights(self) -> dict[str, torch.Tensor]:
        """Return the fp32 weights on the CPU, by name; complete on every rank, which must all call it."""
        from deepspeed.utils import safe_get_full_fp32_param

        module = self._engine.module
        tied = {id(p): n for n, p in reversed(list(module.named_parameters()))}
        found = {}
        for name, parameter in module.named_parameters():
            if tied[id(parameter)] == name:
                full = safe_get_full_fp32_param(parameter) if self.zero_stage else parameter.detach()
                found[name] = full.detach().to("cpu", torch.float32).clone()
        return found

    def save(self, folder: Path, write: Callable[[Any, Path], None]) -> None:
        """Hand DeepSpeed's checkpoint to `write`, one file after another; every rank must call it.

        Args:
            folder: where it lies.
            write: given a state, whose tensors are those that the next update changes, and the path of its file.
        """
        self._engine.checkpoint_engine.save = lambda state_dict, path: write(state_dict, Path(path))
        self._engine.save_checkpoint(str(folder), tag=TAG, save_latest=False)

    def load(self, folder: Path, *, universal: bool = False) -> None:
        """Load DeepSpeed's checkpoint from `folder`; every rank must call it.

        Args:
            folder: where.
            universal: it fits any number of ranks (`workloads.training.universal`).

        Raises:
            RecordError: DeepSpeed found nothing there.
        """
        groups = [{k: v for k, v in g.items() if k != "params"} for g in self._engine.optimizer.param_groups]
        self._engine._config.load_universal_checkpoint = universal
        path, _ = self._engine.load_checkpoint(str(folder), tag=TAG)
        if path is None:
            raise RecordError(f"DeepSpeed found no checkpoint in {folder / TAG}")
        if universal:
            self._mend(groups)

    def _mend(self, groups: list[dict[str, Any]]) -> None:
        """Undo what loading a universal checkpoint does under ZeRO 3 (DeepSpeed 0.19.8, read and tested).

        Every group gets the first one's fields, so that norms would decay; and all parameters share one counter, so
        that each of them would count for all.
        """
        for group, own in zip(self._engine.optimizer.param_groups, groups, strict=True):
            group.update(own)
        for parameter, state in self._adam.state.items():
            state["step"] = state["step"].to(parameter.device, torch.float32, copy=True)

    def close(self) -> None:
        """Give back what DeepSpeed registered in this process."""
        self._engine.destroy()
