"""Text encoders that turn items and queries into vectors: a small static one trained offline, or any sentence-transformers model by name.

The static encoder is one vector per token, averaged: the rows start as latent semantic analysis of the market's own texts and are then
trained contrastively on what followed what in the training sessions.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from onesearch.data.market import Market
from onesearch.data.requests import Request, build_requests
from onesearch.data.text import item_texts

from .configs import TextEncoderConfig

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

logger = logging.getLogger(__name__)

MIN_ALPHABET = 1000
"""So many letters always have a place in the static encoder's vocabulary, if the texts have so many; ours."""

SPECIAL_TOKENS = ("[PAD]", "[UNK]")

ALPHABET_SHARE = 0.75
"""Share of the vocabulary that letters may take beyond that: 6,000 of 8,000, what Chinese product texts need; ours."""


def build_text_encoder(market: Market, config: TextEncoderConfig) -> SentenceTransformer:
    """The encoder of a market: loaded by name, or trained on the market's texts and training sessions."""
    encoder = base_encoder(market, config)
    requests = build_requests(market, "train") if config.model is None and config.epochs else []
    if requests:
        with blank_rows(encoder):
            _train(encoder, market, requests, config)
    return encoder


def base_encoder(market: Market, config: TextEncoderConfig) -> SentenceTransformer:
    """An encoder that has seen no behaviour: loaded by name, or latent semantic analysis of the market's item texts."""
    from sentence_transformers import SentenceTransformer

    if config.model is None:
        return static_encoder(item_texts(market), config)
    return SentenceTransformer(config.model)


def static_encoder(texts: Sequence[str], config: TextEncoderConfig) -> SentenceTransformer:
    """A static encoder whose token vectors come from latent semantic analysis of `texts` (tf-idf, truncated SVD)."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Normalize, StaticEmbedding

    tokenizer = _word_piece_tokenizer(texts, config.vocab_size)
    vectors = _latent_semantic_vectors(tokenizer, texts, config.dimension, config.seed)
    encoder = SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_weights=vectors), Normalize()], device="cpu")
    _clear_special_rows(encoder)
    return encoder


def embed_texts(
    encoder: SentenceTransformer, texts: Sequence[str], batch_size: int = 1024, progress: bool = False
) -> np.ndarray:
    """Unit vectors of `texts`, (texts, dimension) float32. The static encoder gives a text without any known token the zero vector."""
    if not len(texts):
        return np.zeros((0, encoder.get_embedding_dimension()), dtype=np.float32)
    vectors = encoder.encode(list(texts), batch_size=batch_size, show_progress_bar=progress, convert_to_numpy=True)
    return unit_rows(vectors)


@contextmanager
def blank_rows(encoder: SentenceTransformer) -> Iterator[None]:
    """Training inside the block leaves padding and unknown words of a static encoder the zero vector, if they have it now.

    A text that has the zero vector gets no gradient meanwhile: that of normalising it is of the order of 10²³, and clipping the norm of all
    gradients would leave nothing of the others.
    """
    import torch
    from sentence_transformers.models import StaticEmbedding

    if not isinstance(encoder[0], StaticEmbedding):
        yield
        return
    weight = encoder[0].embedding.weight
    rows = [row for token in SPECIAL_TOKENS if (row := encoder.tokenizer.token_to_id(token)) is not None]
    blank = [row for row in rows if not weight[row].any()]
    hook = encoder[0].register_forward_hook(_drop_gradient_of_zeros)
    yield
    hook.remove()
    with torch.no_grad():
        weight[blank] = 0


def _drop_gradient_of_zeros(module, inputs, output) -> None:  # noqa: ANN001 - torch's hook
    vectors = output["sentence_embedding"]
    if vectors.requires_grad:
        zero = ~vectors.detach().any(dim=1, keepdim=True)
        vectors.register_hook(lambda gradient: gradient.masked_fill(zero, 0))


def _clear_special_rows(encoder: SentenceTransformer) -> None:
    """Give padding and unknown words the zero vector: the factorisation leaves noise there, which normalising blows up to a meaning."""
    import torch

    rows = [encoder.tokenizer.token_to_id(token) for token in SPECIAL_TOKENS]
    with torch.no_grad():
        encoder[0].embedding.weight[rows] = 0


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1 (zero rows stay zero), float32."""
    vectors = np.asarray(vectors, dtype=np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)


def alphabet_limit(vocab_size: int) -> int:
    """Letters of the static encoder at most, the most frequent ones; a word with another letter is unknown.

    Follows the vocabulary. Scripts with few letters never reach it; Chinese characters are words of their own there and do.
    """
    return max(MIN_ALPHABET, int(ALPHABET_SHARE * vocab_size))


def _word_piece_tokenizer(texts: Sequence[str], vocab_size: int) -> Tokenizer:
    """Word pieces of `texts`, the same for the same texts.

    Left alone, the trainer numbers the letters inside words as a hash map yields them and breaks ties by those numbers, so that no two
    runs get the same vocabulary. Here all letters are numbered beforehand.
    """
    normalizer, splitter = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    letters: Counter[str] = Counter()
    inside: set[str] = set()
    for text in texts:
        for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text)):
            letters.update(word)
            inside.update(word[1:])
    alphabet = sorted(letters, key=lambda letter: (-letters[letter], letter))[: alphabet_limit(vocab_size)]
    special = list(SPECIAL_TOKENS)
    trained = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    trained.normalizer, trained.pre_tokenizer = normalizer, splitter
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        special_tokens=[*special, *(f"##{letter}" for letter in sorted(inside.intersection(alphabet)))],
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    trained.train_from_iterator(texts, trainer)
    tokenizer = Tokenizer(models.WordPiece(trained.get_vocab(), unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, splitter
    tokenizer.add_special_tokens(special)
    return tokenizer


def _latent_semantic_vectors(tokenizer: Tokenizer, texts: Sequence[str], dimension: int, seed: int) -> np.ndarray:
    """(vocabulary, dimension) float32: right singular vectors of the idf-weighted text-token matrix, scaled by idf."""
    from scipy.sparse import csr_matrix
    from sklearn.utils.extmath import randomized_svd

    encodings = tokenizer.encode_batch(list(texts), add_special_tokens=False)
    columns = np.concatenate([np.asarray(encoding.ids, dtype=np.int64) for encoding in encodings])
    ends = np.cumsum([0] + [len(encoding.ids) for encoding in encodings])
    size = tokenizer.get_vocab_size()
    counts = csr_matrix((np.ones(len(columns), dtype=np.float32), columns, ends), shape=(len(texts), size))
    counts.sum_duplicates()
    document_frequency = np.bincount(counts.indices, minlength=size)
    idf = np.log((1 + len(texts)) / (1 + document_frequency)).astype(np.float32)
    weighted = counts.multiply(idf).tocsr()
    weighted.data = np.log1p(weighted.data)
    rank = min(dimension, min(weighted.shape) - 1)
    _, _, right = randomized_svd(weighted, n_components=rank, random_state=seed)
    vectors = np.zeros((size, dimension), dtype=np.float32)
    vectors[:, :rank] = right.T * idf[:, None]
    mean_length = float(np.linalg.norm(vectors, axis=1).mean()) or 1.0
    return vectors / mean_length


def positive_pairs(market: Market, requests: Sequence[Request], limit: int, seed: int) -> tuple[list[str], list[str]]:
    """Texts that belong together in the training sessions: query and item, and items of one user one after the other.

    Args:
        limit: a seeded sample of so many pairs is kept at most.

    Returns:
        Anchors and positives, aligned.
    """
    text_of = dict(zip(market.items["item_id"], item_texts(market)))
    pairs: list[tuple[str, str]] = []
    for request in requests:
        targets = request.purchased or request.clicked
        pairs.extend((request.query, text_of[item]) for item in targets)
        if request.history:
            pairs.extend((text_of[request.history[-1]], text_of[item]) for item in targets if item != request.history[-1])
    if len(pairs) > limit:
        chosen = np.random.default_rng(seed).choice(len(pairs), limit, replace=False)
        pairs = [pairs[row] for row in np.sort(chosen)]
    return [anchor for anchor, _ in pairs], [positive for _, positive in pairs]


def _train(encoder: SentenceTransformer, market: Market, requests: Sequence[Request], config: TextEncoderConfig) -> None:
    """In-batch contrastive training of the token vectors on `positive_pairs`; equal texts in a batch are no negatives."""
    from datasets import Dataset
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.losses import MultipleNegativesRankingLoss
    from sentence_transformers.training_args import BatchSamplers

    anchors, positives = positive_pairs(market, requests, config.max_pairs, config.seed)
    batch_size = min(config.batch_size, max(2, len(anchors) // 4))
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(Path(".")),
        num_train_epochs=config.epochs,
        per_device_train_batch_size=batch_size,
        learning_rate=config.learning_rate,
        batch_sampler=BatchSamplers.BATCH_SAMPLER,
        lr_scheduler_type="linear",
        seed=config.seed,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        logging_steps=max(1, math.ceil(len(anchors) / batch_size)),
        use_cpu=True,
    )
    encoder.model_card_data.generate_widget_examples = False  # no card is written
    trainer = SentenceTransformerTrainer(
        model=encoder,
        args=arguments,
        train_dataset=Dataset.from_dict({"anchor": anchors, "positive": positives}),
        loss=MultipleNegativesRankingLoss(encoder),
    )
    trainer.train()
