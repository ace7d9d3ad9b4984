"""The reference of a preference loss: the policy as it was before the training, in one of three forms.

* ``copy``: a frozen copy of the model. Costs its memory, and a forward pass per step.
* ``adapter``: the policy with its adapter switched off, where only an adapter is trained. Costs a forward pass per step.
* ``precomputed``: log-probabilities that were computed once and are stored beside the candidates. Only for candidates known beforehand.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from transformers import PreTrainedModel

from .likelihoods import Likelihoods, candidate_likelihoods

if TYPE_CHECKING:
    from peft import PeftModel

REFERENCES = ("copy", "adapter", "precomputed")
"""Forms of the reference."""

REFERENCE_ADAPTER = "ref"
"""Name under which TRL keeps the copy of an adapter that was trained before."""

ModelT = TypeVar("ModelT", bound=PreTrainedModel)


def frozen_copy(model: ModelT) -> ModelT:
    """A copy of a model that takes no gradients and drops nothing out. Both share one item index, which is not copied."""
    index = vars(model).get("sid_index")
    frozen = copy.deepcopy(model, {id(index): index} if index is not None else {})
    frozen.requires_grad_(False)
    return frozen.eval()


@contextmanager
def without_adapter(model: PreTrainedModel | PeftModel) -> Iterator[None]:
    """Switch the trained adapter off: the base model answers, or the copy of an adapter that was trained before (`REFERENCE_ADAPTER`).

    Args:
        model: a model with an adapter, not wrapped for distribution.

    Raises:
        ValueError: the model has no adapter.
    """
    if isinstance(model, PreTrainedModel):
        if not model._hf_peft_config_loaded:
            raise ValueError("the model has no adapter to switch off; its reference must be a copy or be precomputed")
        model.disable_adapters()
        try:
            yield
        finally:
            model.enable_adapters()
    elif REFERENCE_ADAPTER in model.peft_config:
        active = model.active_adapter
        model.set_adapter(REFERENCE_ADAPTER)
        try:
            yield
        finally:
            model.set_adapter(active)
    else:
        with model.disable_adapter():
            yield


@torch.no_grad()
def reference_likelihoods(
    policy: Any,
    reference: PreTrainedModel | None,
    prompts: Mapping[str, torch.Tensor],
    sids: torch.Tensor,
    softmax: str = "children",
) -> Likelihoods:
    """Log-probabilities of candidates under the reference, without gradients and without dropout; see `candidate_likelihoods`.

    Args:
        policy: the model that is trained, not wrapped for distribution. Its adapter is switched off if there is no `reference`.
        reference: a frozen copy, or None.
        prompts: as for `candidate_likelihoods`.
        sids: as for `candidate_likelihoods`.
        softmax: as for the policy.

    Raises:
        ValueError: there is neither a reference nor an adapter, or as for `candidate_likelihoods`.
    """
    if reference is not None:
        return candidate_likelihoods(reference, prompts, sids, softmax)
    modes = [(module, module.training) for module in policy.modules()]
    policy.eval()
    try:
        with without_adapter(policy):
            return candidate_likelihoods(policy, prompts, sids, softmax)
    finally:
        for module, training in modes:
            module.training = training


__all__ = ["REFERENCES", "REFERENCE_ADAPTER", "frozen_copy", "reference_likelihoods", "without_adapter"]
