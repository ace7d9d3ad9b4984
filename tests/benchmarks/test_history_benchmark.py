"""A prompt with 50 items of a history: one place per item (`item_form: vector`) against the tokens of their SIDs, five each."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from harness import Report, alternate, sized

from onesearch import OneSearchConfig, OneSearchForConditionalGeneration, PromptLayout, SidTokenizer
from onesearch.modeling_onesearch.history_onesearch import PromptViews
from onesearch.tokenization_sid.ragged import Ragged, offsets_of
from onesearch.tokenization_sid.templates import PLAIN_LAYOUT
from onesearch.trainers.sft.data.collators import Seq2SeqCollator
from onesearch.views.history_table import HistoryEvents, HistoryTable
from onesearch.views.reward.facets import ItemFacets
from onesearch.views.reward.inputs import ItemTable
from onesearch.views.reward.item_files import KnownItems

CODEBOOK_SIZES = (512, 256, 128, 64, 64)
ITEMS, HISTORY, FACETS, OF_ITEM, VECTOR = 2000, 50, 2000, 12, 64
SIZES = sized(
    {"128x2": (128, 2, 32)},
    {"128x2": (128, 2, 32), "256x3": (256, 3, 32), "768x6": (768, 6, 8)},
)
"""Width, layers of encoder and of decoder, and batch of each model."""

SUMMARIES = ("brand", "color")


def layout_of(form: str) -> PromptLayout:
    summaries = SUMMARIES if form == "vector" else ()
    values = {**PLAIN_LAYOUT.__dict__, "items": HISTORY, "item_form": form, "item_summaries": summaries}
    return PromptLayout(**values)


def table_of(random: np.random.Generator, layout: PromptLayout, codes: np.ndarray) -> HistoryTable:
    """Items with random facets of two kinds and random text vectors."""
    half = FACETS // 2
    facets = np.sort(random.integers(0, FACETS, (ITEMS, OF_ITEM)), axis=1).ravel()
    of_items = Ragged(facets, offsets_of(np.full(ITEMS, OF_ITEM)))
    kinds = np.repeat([0, 1], [half, FACETS - half])
    known = ItemFacets(SUMMARIES, kinds, of_items, np.zeros(ITEMS, np.int64), tuple(map(str, range(FACETS))))
    vectors = random.normal(size=(ITEMS, VECTOR)).astype(np.float32)
    ids = [f"item-{row}" for row in range(ITEMS)]
    return HistoryTable(KnownItems(ids, ItemTable(vectors, codes, known, np.zeros(ITEMS, np.int64))), layout)


class Side:
    """A model and its prompts in one of the two forms."""

    def __init__(self, form: str, size: str) -> None:
        width, layers, self.batch = SIZES[size]
        random = np.random.default_rng(0)
        codes = np.stack([random.integers(0, count, ITEMS) for count in CODEBOOK_SIZES], axis=1)
        layout = layout_of(form)
        self.tokenizer = SidTokenizer.train(["red running shoe", "blue rain coat"], CODEBOOK_SIZES, 400, prompt=layout)
        self.rows = random.integers(0, ITEMS, (self.batch, HISTORY))
        self.codes = codes
        fields: dict[str, object] = {}
        self.table = table_of(random, layout, codes) if form == "vector" else None
        if self.table is not None:
            tokens = {
                "history_token_id": self.tokenizer.history_token_id,
                "history_summary_token_id": self.tokenizer.history_summary_token_id,
            }
            fields = {**self.table.model_fields(), **tokens}
        heads = max(4, width // 64)
        both = {
            f"{side}_{name}": value
            for side in ("encoder", "decoder")
            for name, value in {"layers": layers, "attention_heads": heads, "ffn_dim": 2 * width}.items()
        }
        torch.manual_seed(0)
        self.model = OneSearchForConditionalGeneration(
            OneSearchConfig(
                vocab_size=len(self.tokenizer),
                d_model=width,
                max_position_embeddings=512,
                sid_codebook_sizes=list(CODEBOOK_SIZES),
                sid_offset=self.tokenizer.sid_offset,
                bos_token_id=0,
                pad_token_id=1,
                eos_token_id=2,
                decoder_start_token_id=2,
                **both,
                **fields,
            )
        )
        self.optimiser = torch.optim.AdamW(self.model.parameters(), lr=1e-4)

    def inputs(self) -> dict[str, torch.Tensor]:
        """A batch as the collator makes it: the time of the look-up counts."""
        prompts = self.tokenizer.encode_prompts(["red running shoe"] * self.batch, [self.codes[rows] for rows in self.rows])
        labels = self.tokenizer.sids_to_ids(self.codes[: self.batch])
        examples = [{"input_ids": prompt, "labels": label} for prompt, label in zip(prompts, labels)]
        return Seq2SeqCollator(1, 2, None, None if self.table is None else self.history)(examples)

    def history(self, examples: object) -> dict[str, np.ndarray]:
        rows = Ragged(self.rows.ravel(), offsets_of(np.full(self.batch, HISTORY)))
        kinds = np.zeros(self.rows.size, dtype=np.int64)
        assert self.table is not None
        return self.table.arrays(HistoryEvents(rows, self.codes[rows.values], kinds, kinds))

    def train(self) -> int:
        """One optimiser step; returns the number of tokens of a prompt."""
        batch = self.inputs()
        self.model.train()
        self.model(**batch, use_cache=False).loss.backward()
        self.optimiser.step()
        self.optimiser.zero_grad()
        return int(batch["attention_mask"].sum(1).max())

    def encode(self, batch: dict[str, torch.Tensor]) -> None:
        """The start of a search: the encoder on prompts, and the keys and values that the beams read."""
        views = PromptViews(history_items=batch.get("history_items"), history_vectors=batch.get("history_vectors"))
        with torch.inference_mode():
            self.model._beam_decoder(self.model.model, batch["input_ids"], batch["attention_mask"], views)


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
def test_a_prompt_of_fifty_items(size):
    sides = {form: Side(form, size) for form in ("tokens", "vector")}
    with Report(f"history-{size}", f"Prompts with {HISTORY} items, {size}, CPU time, one thread") as report:
        training = alternate({form: side.train for form, side in sides.items()}, rounds=5)
        batches = {form: side.inputs() for form, side in sides.items()}
        for side in sides.values():
            side.model.eval()
        many = alternate({form: lambda form=form: sides[form].encode(batches[form]) for form in sides}, rounds=5)
        one = {form: {name: tensor[:1] for name, tensor in batch.items()} for form, batch in batches.items()}
        alone = alternate(
            {form: lambda form=form: [sides[form].encode(one[form]) for _ in range(10)] for form in sides}, rounds=5
        )
        for form, side in sides.items():
            row = {"form": form, "tokens per prompt": training[form].result, "examples/s": side.batch / training[form].cpu}
            row |= {"training ×": training["tokens"].cpu / training[form].cpu}
            row |= {
                f"encoder, {side.batch} prompts, ms": 1000 * many[form].cpu,
                "encoder ×": many["tokens"].cpu / many[form].cpu,
            }
            row |= {"encoder, one prompt, ms": 100 * alone[form].cpu, "one ×": alone["tokens"].cpu / alone[form].cpu}
            report.add(**row)
