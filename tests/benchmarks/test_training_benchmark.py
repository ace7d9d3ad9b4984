"""Training: the whole step of `SidSFTTrainer` against transformers' `Seq2SeqTrainer` with stock BART, prompts with and without their
padding, and collation on its own."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from datasets import Dataset
from harness import Report, alternate, sized
from torch.utils.data import DataLoader
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    PreTrainedTokenizerFast,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    TrainerCallback,
)

from onesearch import (
    OneSearchConfig,
    OneSearchForCausalLM,
    OneSearchForConditionalGeneration,
    OneSearchQwen3Config,
    SidSFTConfig,
    SidSFTTrainer,
)
from onesearch.modeling_onesearch import packing_onesearch
from onesearch.trainers.sft.data.collators import CausalCollator, Seq2SeqCollator
from onesearch.trainers.sft.data.rows import ArrowRows

CODEBOOK_SIZES = {50_000: (4096, 1024, 512, 256, 256), 8_000: (512, 256, 128, 64, 64)}
"""Codes per level by size of the vocabulary: the paper's, and those of a smaller catalogue."""

SIZES = {
    "128x2": {"d_model": 128, "layers": 2, "attention_heads": 4, "ffn_dim": 512},  # the demo's
    "256x3": {"d_model": 256, "layers": 3, "attention_heads": 4, "ffn_dim": 1024},
    "768x6": {"d_model": 768, "layers": 6, "attention_heads": 12, "ffn_dim": 3072},  # BART-base
}
CASES = sized(
    [("128x2", 50_000, 32), ("128x2", 8_000, 32)],
    [(size, vocabulary, batch) for size in ("128x2", "256x3") for vocabulary in CODEBOOK_SIZES for batch in (32, 128)]
    + [("768x6", 50_000, 16), ("768x6", 8_000, 16)],
)
STEPS = sized(6, 10)


def config_of(size, vocabulary, cls, **extra):
    sizes = dict(SIZES[size])
    shared = {name: sizes.pop(name) for name in ("layers", "attention_heads", "ffn_dim")}
    both = {f"{side}_{name}": value for side in ("encoder", "decoder") for name, value in shared.items()}
    special = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2}
    return cls(vocab_size=vocabulary, max_position_embeddings=128, **sizes, **both, **special, **extra)


def examples(rows, vocabulary, longest=48):
    """Prompts of 8 to `longest` tokens: a query with up to five items of history has at most 48."""
    codebook_sizes = CODEBOOK_SIZES[vocabulary]
    offset, random = vocabulary - sum(codebook_sizes), np.random.default_rng(0)
    lengths = random.integers(8, longest, rows)
    prompts = [random.integers(4, offset, length).tolist() for length in lengths]
    starts = offset + np.cumsum((0, *codebook_sizes[:-1]))
    labels = (random.integers(0, codebook_sizes, (rows, len(codebook_sizes))) + starts).tolist()
    return Dataset.from_dict({"input_ids": prompts, "labels": labels, "length": [len(prompt) for prompt in prompts]})


class Clock(TrainerCallback):
    """CPU seconds from the end of the first step to the end of the last: a warm-up step, then everything that a step costs."""

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 1:
            self.start = time.process_time()
        self.seconds = time.process_time() - self.start


def train(cls, settings, model, dataset, folder, batch, **kwargs):
    """A trainer's run over `STEPS` steps and a first one that does not count; returns seconds per example."""
    arguments = settings(
        output_dir=str(folder),
        use_cpu=True,
        per_device_train_batch_size=batch,
        max_steps=STEPS + 1,
        train_sampling_strategy="sequential",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        logging_steps=STEPS + 1,
        learning_rate=1e-4,
    )
    clock = Clock()
    cls(model=model, args=arguments, train_dataset=dataset, callbacks=[clock], **kwargs).train()
    return clock.seconds / (STEPS * batch)


def tokenizer_of(vocabulary):
    from tokenizers import Tokenizer, models

    backend = Tokenizer(models.WordLevel({"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}, unk_token="<unk>"))
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", pad_token="<pad>", eos_token="</s>")


@pytest.mark.slow
@pytest.mark.parametrize(("size", "vocabulary", "batch"), CASES)
def test_a_training_step_against_stock_bart(tmp_path, size, vocabulary, batch):
    about = f"Training, batch {batch}, {STEPS} whole steps (batch, forward, backward, clipping, AdamW), CPU seconds, one thread"
    dataset, tokenizer = examples(batch * (STEPS + 1), vocabulary), tokenizer_of(vocabulary)
    sid = {"sid_codebook_sizes": list(CODEBOOK_SIZES[vocabulary]), "sid_offset": vocabulary - sum(CODEBOOK_SIZES[vocabulary])}

    def ours():
        torch.manual_seed(0)
        model = OneSearchForConditionalGeneration(config_of(size, vocabulary, OneSearchConfig, **sid))
        return train(SidSFTTrainer, SidSFTConfig, model, dataset, tmp_path, batch, processing_class=tokenizer)

    def stock():
        torch.manual_seed(0)
        model = BartForConditionalGeneration(config_of(size, vocabulary, BartConfig))
        model.final_logits_bias = torch.zeros(1, vocabulary)
        collator, columns = Seq2SeqCollator(1, 2), ("input_ids", "attention_mask", "decoder_input_ids", "labels")
        return train(
            Seq2SeqTrainer,
            Seq2SeqTrainingArguments,
            model,
            dataset.with_format("numpy"),
            tmp_path,
            batch,
            data_collator=lambda rows: {name: value for name, value in collator(rows).items() if name in columns},
        )

    with Report(f"training_{size}_{vocabulary}_{batch}", about) as report:
        timings = alternate({"ours": ours, "stock": stock}, rounds=3, budget=sized(20.0, 120.0))
        seconds = {name: timing.result for name, timing in timings.items()}
        report.add(
            size=size,
            vocabulary=vocabulary,
            batch=batch,
            ours_examples_per_s=1 / seconds["ours"],
            stock_examples_per_s=1 / seconds["stock"],
            ratio=seconds["stock"] / seconds["ours"],
        )


def causal_model(size, vocabulary, **sid):
    """Qwen3 of about the same size: layers of both sides one after another."""
    sizes = SIZES[size]
    heads = {"num_attention_heads": sizes["attention_heads"], "num_key_value_heads": sizes["attention_heads"]}
    width = {"hidden_size": sizes["d_model"], "head_dim": sizes["d_model"] // sizes["attention_heads"]}
    deep = {"num_hidden_layers": 2 * sizes["layers"], "intermediate_size": sizes["ffn_dim"], "max_position_embeddings": 128}
    return OneSearchForCausalLM(OneSearchQwen3Config(vocab_size=vocabulary, **heads, **width, **deep, **sid))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["encoder-decoder", "decoder-only"])
@pytest.mark.parametrize(("size", "batch"), sized([("128x2", 64)], [("128x2", 64), ("256x3", 64), ("768x6", 16)]))
def test_batches_without_their_padding(kind, size, batch, monkeypatch):
    """Forward and backward with the padding left out of all but the attention, and with it."""
    about = f"Training, prompts of 8 to 47 tokens at random, batch {batch}, forward and backward, CPU seconds, one thread"
    sid = {"sid_codebook_sizes": list(CODEBOOK_SIZES[8_000]), "sid_offset": 8_000 - sum(CODEBOOK_SIZES[8_000])}
    torch.manual_seed(0)
    if kind == "encoder-decoder":
        model = OneSearchForConditionalGeneration(config_of(size, 8_000, OneSearchConfig, dropout=0.0, **sid)).train()
        collated = Seq2SeqCollator(1, 2)(list(examples(batch, 8_000)))
    else:
        model = causal_model(size, 8_000, **sid).train()
        collated = CausalCollator(1)(list(examples(batch, 8_000)))
    inputs = {name: collated[name] for name in ("input_ids", "attention_mask", "labels")}

    worthwhile = packing_onesearch.WORTHWHILE

    def step(share):
        monkeypatch.setattr(packing_onesearch, "WORTHWHILE", share)
        model(**inputs).loss.backward()

    with Report(f"packing_{kind}_{size}_{batch}", about) as report:
        timings = alternate({"packed": lambda: step(worthwhile), "padded": lambda: step(0.0)}, rounds=5)
        rates = {name: batch / timing.cpu for name, timing in timings.items()}
        share = float(inputs["attention_mask"].float().mean())
        report.add(kind=kind, size=size, batch=batch, real_tokens=share, **rates, ratio=rates["packed"] / rates["padded"])


@pytest.mark.slow
@pytest.mark.parametrize("longest", [48, 256])
def test_collation(longest):
    """From the table to the batch: rows as Python lists (before), in datasets' numpy format, and as views of Arrow's buffers."""
    rows, batch, collator = sized(8_192, 65_536), 128, Seq2SeqCollator(1, 2)
    dataset = examples(rows, 50_000, longest)
    forms = {"lists": dataset, "numpy": dataset.with_format("numpy"), "arrow": ArrowRows(dataset)}
    order = np.random.default_rng(1).permutation(rows).tolist()
    sides = {}
    for name, form in forms.items():
        loader = DataLoader(form, batch_size=batch, sampler=order, collate_fn=collator)
        sides[name] = lambda loader=loader: sum(len(one["input_ids"]) for one in loader)
    with Report(f"collation_{longest}", f"Reading and collating {rows:,} examples, batch {batch}, examples/s") as report:
        timings = alternate(sides, rounds=3)
        rates = {name: rows / timing.cpu for name, timing in timings.items()}
        report.add(longest=longest, **rates, ratio=rates["arrow"] / rates["lists"])
