"""The training stage of a run: tables and codes in, a checkpoint out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from datasets import Dataset, concatenate_datasets
from transformers import AutoTokenizer, PreTrainedModel, set_seed
from transformers.trainer_utils import get_last_checkpoint

from onesearch.data.market import Market
from onesearch.data.requests import Request, build_requests
from onesearch.data.text import item_texts
from onesearch.evaluation.evaluator import evaluate, sample_requests
from onesearch.files import RunFolder, atomic_folder, write_json
from onesearch.modeling_onesearch.configuration_onesearch import OneSearchConfig
from onesearch.modeling_onesearch.index_onesearch import SID_INDEX_NAME, SidIndex
from onesearch.modeling_onesearch.modeling_onesearch import OneSearchForConditionalGeneration
from onesearch.serving.searcher import Searcher
from onesearch.tokenization_sid.tokenization_sid import SidTokenizer

from .examples import item_text_examples, request_examples
from .sft_config import SidSFTConfig
from .sft_trainer import SidSFTTrainer

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelPlan:
    """Sizes of the model; the paper's is BART-base (768, 6 + 6 layers, 12 heads, 3072). The small defaults are ours.

    Args:
        bart: folder or Hub id of a BART checkpoint to start from, with its tokenizer; None starts from scratch with these sizes.
        text_vocab_size: of the tokenizer trained on the market's texts.
    """

    bart: str | None = None
    text_vocab_size: int = 4000
    d_model: int = 128
    encoder_layers: int = 2
    decoder_layers: int = 2
    attention_heads: int = 4
    ffn_dim: int = 512
    dropout: float = 0.1
    max_position_embeddings: int = 256


@dataclass(frozen=True)
class ExamplePlan:
    """What the model is trained on.

    Args:
        clicks: learn clicked items besides bought ones.
        max_history: most recent items in the prompt, 0 for none; the paper's explicit short view has at most 5.
        item_text: item text → SID examples for every item.
        word_samples: per item so many examples of a few of its words → SID; stands in for queries of a catalogue that has none.
        words: most words of such an example.
    """

    clicks: bool = True
    max_history: int = 5
    item_text: bool = True
    word_samples: int = 0
    words: int = 4


@dataclass(frozen=True)
class TrainingPlan:
    """The whole training stage.

    Args:
        arguments: fields of `SidSFTConfig`.
        validation_requests: so many requests of the validation split are searched at every evaluation; 0 evaluates the loss only.
        validation_beams: beams of those searches.
    """

    model: ModelPlan = field(default_factory=ModelPlan)
    examples: ExamplePlan = field(default_factory=ExamplePlan)
    arguments: dict[str, Any] = field(default_factory=dict)
    validation_requests: int = 500
    validation_beams: int = 20


def train_run(run: RunFolder, plan: TrainingPlan, resume: bool = False, progress: bool = True) -> None:
    """Train on ``market/`` and ``sids/`` of a run and write ``checkpoint/``, whole or not at all.

    Args:
        resume: go on from the last state in ``training/``, if there is one.
        progress: show progress bars.

    Raises:
        FileNotFoundError: an earlier stage has not run.
        ValueError: there is nothing to train on.
    """
    market = Market.load(run.require("market", "onesearch data"))
    index = SidIndex.load(run.require("sids", "onesearch sids build") / SID_INDEX_NAME)
    arguments = SidSFTConfig(**{"output_dir": str(run.training), "disable_tqdm": not progress, **plan.arguments})
    set_seed(arguments.seed)
    requests, held_out = build_requests(market, "train"), build_requests(market, "validation")
    tokenizer, model = build_model(plan.model, market, requests, index)
    tokenizer.prompt = replace(tokenizer.prompt, max_history=plan.examples.max_history)
    train, evaluation = _examples(plan.examples, market, requests, held_out, index, tokenizer)
    trainer = SidSFTTrainer(
        model=model,
        args=arguments,
        train_dataset=train,
        eval_dataset=evaluation,
        processing_class=tokenizer,
        retrieval_metrics=_validation(plan, held_out, tokenizer),
    )
    last = get_last_checkpoint(str(run.training)) if resume and run.training.is_dir() else None
    trainer.train(resume_from_checkpoint=last)
    if trainer.is_world_process_zero():
        with atomic_folder(run.checkpoint) as folder:
            trainer.accelerator.unwrap_model(trainer.model).save_pretrained(folder)
            tokenizer.save_pretrained(folder)
        write_json(run.training / "log.json", trainer.state.log_history)
    trainer.accelerator.wait_for_everyone()


def build_model(
    plan: ModelPlan, market: Market, requests: Sequence[Request], index: SidIndex
) -> tuple[SidTokenizer, OneSearchForConditionalGeneration]:
    """Tokenizer and model for the codes of an index, from scratch or from a BART checkpoint.

    Args:
        market, requests: their item texts and queries train a tokenizer from scratch; `requests` are those of the training split.
    """
    if plan.bart is not None:
        tokenizer = SidTokenizer.extend(AutoTokenizer.from_pretrained(plan.bart), index.widths, index.digest)
        model = OneSearchForConditionalGeneration.from_bart(
            plan.bart, len(tokenizer), index.widths, tokenizer.sid_offset, index.digest
        )
    else:
        texts = item_texts(market) + sorted({request.query for request in requests})
        tokenizer = SidTokenizer.train(texts, index.widths, plan.text_vocab_size, index.digest)
        model = OneSearchForConditionalGeneration(_config(plan, tokenizer))
    model.set_sid_index(index)
    return tokenizer, model


def _config(plan: ModelPlan, tokenizer: SidTokenizer) -> OneSearchConfig:
    return OneSearchConfig(
        vocab_size=len(tokenizer),
        d_model=plan.d_model,
        encoder_layers=plan.encoder_layers,
        decoder_layers=plan.decoder_layers,
        encoder_attention_heads=plan.attention_heads,
        decoder_attention_heads=plan.attention_heads,
        encoder_ffn_dim=plan.ffn_dim,
        decoder_ffn_dim=plan.ffn_dim,
        dropout=plan.dropout,
        max_position_embeddings=plan.max_position_embeddings,
        bos_token_id=tokenizer.bos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.eos_token_id,
        sid_widths=list(tokenizer.sid_widths),
        sid_offset=tokenizer.sid_offset,
        sid_digest=tokenizer.sid_digest,
    )


def _examples(
    plan: ExamplePlan,
    market: Market,
    requests: Sequence[Request],
    held_out: Sequence[Request],
    index: SidIndex,
    tokenizer: SidTokenizer,
) -> tuple[Dataset, Dataset | None]:
    parts = []
    if requests:
        parts.append(request_examples(requests, index, tokenizer, clicks=plan.clicks))
    if plan.item_text:
        parts.append(item_text_examples(market, index, tokenizer))
    if plan.word_samples:
        parts.append(item_text_examples(market, index, tokenizer, words=plan.words, copies=plan.word_samples))
    if not parts:
        raise ValueError("nothing to train on: the market has no training sessions and item_text and word_samples are off")
    train = concatenate_datasets(parts)
    evaluation = request_examples(held_out[:2000], index, tokenizer, clicks=plan.clicks) if held_out else None
    logger.info("%s training examples, %.1f prompt tokens on average", f"{len(train):,}", np.mean(train.data.column("length")))
    return train, evaluation


def _validation(
    plan: TrainingPlan, held_out: Sequence[Request], tokenizer: SidTokenizer
) -> Callable[[PreTrainedModel], dict[str, float]] | None:
    """HR@10 and MRR@10 on validation requests, by the evaluator that reports the final figures."""
    requests = [request for request in held_out if request.purchased]
    if not requests or not plan.validation_requests:
        return None
    requests, sample = sample_requests(requests, plan.validation_requests)

    def measure(model: PreTrainedModel) -> dict[str, float]:
        searcher = Searcher(model, tokenizer, num_beams=plan.validation_beams)
        report = evaluate([searcher], requests, targets=("purchase",), bootstrap_samples=1, progress=False, sample=sample)
        return {metric.lower(): report.value(searcher.name, metric) for metric in ("HR@10", "MRR@10")}

    return measure
