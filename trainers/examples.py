"""Training examples: columns `input_ids` and `labels`, tokenised once.

Histories come from `build_requests`, which splits before it cuts any window, so no example sees its target or anything later.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from datasets import Dataset, Features, List, Value, concatenate_datasets

from onesearch.data.market import Market
from onesearch.data.requests import Request
from onesearch.data.text import item_texts
from onesearch.modeling_onesearch.index_onesearch import SidIndex
from onesearch.tokenization_sid.tokenization_sid import SidTokenizer

EXAMPLE_FEATURES = Features({"input_ids": List(Value("int32")), "labels": List(Value("int32")), "length": Value("int32")})


def request_examples(requests: Sequence[Request], index: SidIndex, tokenizer: SidTokenizer, *, clicks: bool = True) -> Dataset:
    """Query and history → SID of an item that was bought or clicked (OneSearch's third stage, the personalised one).

    Every session is an example of its own with the window that precedes it, which is the paper's sliding-window augmentation.

    Args:
        clicks: also learn clicked items; otherwise purchases only.
    """
    queries, histories, targets = [], [], []
    for request in requests:
        wanted = dict.fromkeys((*request.purchased, *request.clicked) if clicks else request.purchased)
        past = index.codes_of(request.history)
        for item_id in wanted:
            queries.append(request.query)
            histories.append(past)
            targets.append(item_id)
    prompts = tokenizer.encode_prompts(queries, histories)
    return _dataset(prompts, tokenizer.sids_to_ids(index.codes_of(targets)))


def item_text_examples(
    market: Market, index: SidIndex, tokenizer: SidTokenizer, *, words: int = 0, copies: int = 1, seed: int = 0
) -> Dataset:
    """Item text → its SID (OneSearch's first stage, semantic alignment).

    Args:
        words: 0 for the whole text; otherwise up to so many words of the text, drawn at random and kept in order, which stands in for
            queries of a catalogue that has none.
        copies: examples per item; each draws its own words.
        seed: of the draws.
    """
    texts = item_texts(market)
    codes = tokenizer.sids_to_ids(index.codes_of(market.items["item_id"]))
    random = np.random.default_rng(seed)
    parts = []
    for _ in range(copies):
        drawn = [_some_words(text, words, random) for text in texts] if words else texts
        name = None if words else "item-text/1"
        parts.append(_dataset(tokenizer.encode_prompts(drawn, name=name), codes))
    return concatenate_datasets(parts)


def _some_words(text: str, most: int, random: np.random.Generator) -> str:
    words = text.split()
    count = min(len(words), int(random.integers(1, most + 1)))
    return " ".join(words[place] for place in np.sort(random.choice(len(words), count, replace=False))) if words else text


def _dataset(prompts: list[list[int]], labels: np.ndarray) -> Dataset:
    columns = {"input_ids": prompts, "labels": list(labels), "length": [len(prompt) for prompt in prompts]}
    return Dataset.from_dict(columns, features=EXAMPLE_FEATURES)
