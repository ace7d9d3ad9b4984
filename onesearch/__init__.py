"""OneSearch: open generative search.

A model reads a query and a user's history and generates the Semantic IDs of items; a trie allows only the items of the catalogue.
Importing this package registers the models with the Auto classes of transformers. It imports neither torch nor transformers until a class
is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from .registration import register_auto_classes

__version__ = "0.1.0"

_MODULE_OF = {
    "UserContext": "onesearch.data.requests",
    "Hit": "onesearch.modeling_onesearch.hits_onesearch",
    "ItemFilter": "onesearch.modeling_onesearch.filters_onesearch",
    "SidLoraConfig": "onesearch.trainers.configs",
    "Market": "onesearch.data.market",
    "OneSearchConfig": "onesearch.modeling_onesearch.configuration_onesearch",
    "OneSearchForConditionalGeneration": "onesearch.modeling_onesearch.modeling_onesearch",
    "OneSearchForCausalLM": "onesearch.modeling_onesearch.modeling_onesearch",
    "OneSearchModel": "onesearch.modeling_onesearch.modeling_onesearch",
    "OneSearchQwen3Config": "onesearch.modeling_onesearch.configuration_onesearch",
    "OneSearchQwen3Model": "onesearch.modeling_onesearch.modeling_onesearch",
    "OneSearchRewardConfig": "onesearch.modeling_onesearch.configuration_reward_onesearch",
    "OneSearchRewardModel": "onesearch.modeling_onesearch.modeling_reward_onesearch",
    "PromptLayout": "onesearch.tokenization_sid.templates",
    "RQOPQ": "onesearch.tokenization_sid.quantizers.rq_opq",
    "RQOPQConfig": "onesearch.tokenization_sid.quantizers.configs",
    "Request": "onesearch.data.requests",
    "RunFolder": "onesearch.files",
    "Searcher": "onesearch.serving.searcher",
    "SearchConfig": "onesearch.modeling_onesearch.search_config_onesearch",
    "SidDPOConfig": "onesearch.trainers.dpo.dpo_config",
    "SidDPOTrainer": "onesearch.trainers.dpo.dpo_trainer",
    "SidDistillationConfig": "onesearch.trainers.distillation.distillation_trainer",
    "SidDistillationTrainer": "onesearch.trainers.distillation.distillation_trainer",
    "SidGRPOConfig": "onesearch.trainers.grpo.grpo_config",
    "SidGRPOTrainer": "onesearch.trainers.grpo.grpo_trainer",
    "SidIndex": "onesearch.modeling_onesearch.catalogue_onesearch",
    "SidSFTConfig": "onesearch.trainers.sft.sft_config",
    "SidSFTTrainer": "onesearch.trainers.sft.sft_trainer",
    "SidTokenizer": "onesearch.tokenization_sid.tokenization_sid",
    "SidTrie": "onesearch.modeling_onesearch.trie_onesearch",
    "TrieLogitsProcessor": "onesearch.modeling_onesearch.logits_processor_onesearch",
    "UniSearchConfig": "onesearch.modeling_onesearch.configuration_unisearch",
    "UniSearchForConditionalGeneration": "onesearch.modeling_onesearch.modeling_unisearch",
    "UniSearchModel": "onesearch.modeling_onesearch.modeling_unisearch",
    "evaluate": "onesearch.evaluation.evaluator",
    "new_run": "onesearch.pipeline.new",
}

if TYPE_CHECKING:
    from .data.market import Market
    from .data.requests import Request, UserContext
    from .evaluation.evaluator import evaluate
    from .files import RunFolder
    from .modeling_onesearch.catalogue_onesearch import SidIndex
    from .modeling_onesearch.configuration_onesearch import OneSearchConfig, OneSearchQwen3Config
    from .modeling_onesearch.configuration_reward_onesearch import OneSearchRewardConfig
    from .modeling_onesearch.configuration_unisearch import UniSearchConfig
    from .modeling_onesearch.filters_onesearch import ItemFilter
    from .modeling_onesearch.hits_onesearch import Hit
    from .modeling_onesearch.logits_processor_onesearch import TrieLogitsProcessor
    from .modeling_onesearch.modeling_onesearch import (
        OneSearchForCausalLM,
        OneSearchForConditionalGeneration,
        OneSearchModel,
        OneSearchQwen3Model,
    )
    from .modeling_onesearch.modeling_reward_onesearch import OneSearchRewardModel
    from .modeling_onesearch.modeling_unisearch import UniSearchForConditionalGeneration, UniSearchModel
    from .modeling_onesearch.search_config_onesearch import SearchConfig
    from .modeling_onesearch.trie_onesearch import SidTrie
    from .pipeline.new import new_run
    from .serving.searcher import Searcher
    from .tokenization_sid.quantizers.configs import RQOPQConfig
    from .tokenization_sid.quantizers.rq_opq import RQOPQ
    from .tokenization_sid.templates import PromptLayout
    from .tokenization_sid.tokenization_sid import SidTokenizer
    from .trainers.configs import SidLoraConfig
    from .trainers.distillation.distillation_trainer import SidDistillationConfig, SidDistillationTrainer
    from .trainers.dpo.dpo_config import SidDPOConfig
    from .trainers.dpo.dpo_trainer import SidDPOTrainer
    from .trainers.grpo.grpo_config import SidGRPOConfig
    from .trainers.grpo.grpo_trainer import SidGRPOTrainer
    from .trainers.sft.sft_config import SidSFTConfig
    from .trainers.sft.sft_trainer import SidSFTTrainer

__all__ = [*sorted(_MODULE_OF), "__version__"]


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)


register_auto_classes()
