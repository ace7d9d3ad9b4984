"""The results that a search must have, computed from plain lists and sets, and catalogues to try it on."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np
import torch
from hypothesis import strategies as st
from tiny import tiny_index

from onesearch.modeling_onesearch.active_sids_onesearch import ActiveSids
from onesearch.modeling_onesearch.trie_onesearch import NONE, SidTrie
from onesearch.modeling_onesearch.trie_view_onesearch import TrieView

SIZES = (1, 2, 3, 5, 256, 257, 32_768, 32_769)
"""Codebook sizes on both sides of every change of the code's type."""

LAYOUTS = ((512,) * 7, (256,) * 8, (1 << 14,) * 5)
"""63 bits, which fit into one integer, and 64 and 70, which do not."""


@st.composite
def catalogues(draw):
    """Codes (items, levels) and codebook sizes: duplicates, single items and codebook sizes of 1 included."""
    codebook_sizes = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    sid = st.tuples(*(st.integers(0, size - 1) for size in codebook_sizes))
    return np.array(draw(st.lists(sid, min_size=1, max_size=25))), tuple(codebook_sizes)


@st.composite
def wide_catalogues(draw, largest=25):
    """As `catalogues`, of any codebook size; SIDs share prefixes, since few codes of each level occur."""
    codebook_sizes = draw(
        st.one_of(st.lists(st.sampled_from(SIZES), min_size=1, max_size=4).map(tuple), st.sampled_from(LAYOUTS))
    )
    used = [sorted({0, 1, size // 2, size - 1} & set(range(size))) for size in codebook_sizes]
    sid = st.tuples(*map(st.sampled_from, used))
    return np.array(draw(st.lists(sid, min_size=1, max_size=largest))), codebook_sizes


any_catalogues = st.one_of(catalogues(), wide_catalogues())


def distinct(codes):
    """SIDs of a table of codes, in order."""
    return sorted({tuple(row) for row in np.asarray(codes).tolist()})


def children(sids, prefix):
    """Codes that follow `prefix` in any of the SIDs."""
    depth = len(prefix)
    return sorted({int(row[depth]) for row in sids if tuple(row[:depth]) == tuple(prefix)})


def prefixes_of(sids, codebook_sizes, depth):
    """All prefixes of the SIDs, and others beside them; in small trees simply all there are."""
    if np.prod(codebook_sizes[:depth], dtype=float) <= 100:
        return list(itertools.product(*(range(size) for size in codebook_sizes[:depth])))
    known = sorted({sid[:depth] for sid in sids})
    beside = {(*prefix[:-1], (prefix[-1] + 1) % codebook_sizes[depth - 1]) for prefix in known}
    return known + sorted(beside - set(known))


def tensor(prefixes, depth):
    """(prefixes, depth), also where there is none or the prefixes are empty."""
    return torch.tensor(prefixes, dtype=torch.long).view(len(prefixes), depth)


@st.composite
def tries(draw, catalogue=any_catalogues):
    """A trie of any kind, the name of each of its active SIDs, and the codebook sizes.

    Kinds: whole, subset (whose names are those of the trie it was cut from), and views with inactive SIDs, added ones, or both.
    """
    codes, codebook_sizes = draw(catalogue)
    sids = distinct(codes)
    role = st.sampled_from(["active", "active", "inactive", "added"])
    roles = draw(st.lists(role, min_size=len(sids), max_size=len(sids)))
    roles[0] = draw(st.sampled_from(["active", "inactive"])) if "active" in roles[1:] or "added" in roles[1:] else "active"
    in_base = [sid for sid, role in zip(sids, roles) if role != "added"]
    in_added = [sid for sid, role in zip(sids, roles) if role == "added"]
    base = SidTrie.build(np.array(in_base), codebook_sizes)
    names = dict(zip(in_base, base.leaf_of(base.walk(tensor(in_base, len(codebook_sizes)))).tolist()))
    active = [sid for sid, role in zip(sids, roles) if role == "active"]
    kept = torch.zeros(len(base), dtype=torch.bool)
    kept[[names[sid] for sid in active]] = True
    if not in_added and draw(st.booleans()):
        return base.subset(kept.nonzero()[:, 0]), {sid: names[sid] for sid in active}, codebook_sizes
    if not in_added and len(active) == len(sids) and draw(st.booleans()):
        return base, names, codebook_sizes
    added = SidTrie.build(np.array(in_added), codebook_sizes) if in_added else None
    view = TrieView(base, None if len(active) == len(in_base) and draw(st.booleans()) else ActiveSids.of(base, kept), added)
    own = added.leaf_of(added.walk(tensor(in_added, len(codebook_sizes)))).tolist() if in_added else []
    return (
        view,
        {sid: names[sid] for sid in active} | {sid: len(base) + leaf for sid, leaf in zip(in_added, own)},
        codebook_sizes,
    )


class PrefixLogits:
    """A step function whose logits are random, but fixed by query and prefix. Follows its beams as a decoder does.

    Args:
        totals: `None`, or what the log-sum over the level is increased by to give the normaliser of a row.
    """

    def __init__(self, codebook_sizes, queries, seed=0, totals=None):
        self.codebook_sizes, self.queries, self.seed, self.totals = codebook_sizes, queries, seed, totals
        self.prefixes = []

    def logits(self, query, prefix):
        """(codes,) logits of the codes after `prefix`."""
        random = np.random.default_rng([self.seed, query, len(prefix), *prefix])
        return random.normal(0, 2, self.codebook_sizes[len(prefix)]).astype(np.float32)

    def total(self, query, prefix):
        """Normaliser of the codes after `prefix`."""
        return float(np.logaddexp.reduce(self.logits(query, prefix).astype(np.float64))) + self.totals

    def __call__(self, codes, parents, level):
        if level == 0:
            assert codes is None and parents is None
            self.prefixes = [()] * self.queries
        else:
            assert codes.shape[0] == self.queries and parents.shape == (codes.numel(),)
            self.prefixes = [(*self.prefixes[row], code) for row, code in zip(parents.tolist(), codes.flatten().tolist())]
        live = len(self.prefixes) // self.queries
        rows = [(row // live, prefix) for row, prefix in enumerate(self.prefixes)]
        logits = torch.from_numpy(np.stack([self.logits(*row) for row in rows]))
        return logits, None if self.totals is None else torch.tensor([self.total(*row) for row in rows])

    def best(self, sids, query, beams):
        """Exhaustive beam search: the best SIDs of a query with the log-probabilities of their codes, best first."""
        found = [((), ())]
        for _ in self.codebook_sizes:
            longer = []
            for prefix, parts in found:
                row = self.logits(query, prefix).astype(np.float64)
                allowed = children(sids, prefix)
                total = np.logaddexp.reduce(row[allowed]) if self.totals is None else self.total(query, prefix)
                longer += [((*prefix, code), (*parts, row[code] - total)) for code in allowed]
            found = sorted(longer, key=lambda one: -sum(one[1]))[:beams]
        return found


def found_sids(beams, names, query):
    """SIDs of the beams of one query; every place with a score names a active SID, every other one none."""
    sid_of = {name: sid for sid, name in names.items()}
    leaves, scores = beams.leaves[query].tolist(), beams.scores[query].tolist()
    assert all((leaf == NONE) == (score == -np.inf) for leaf, score in zip(leaves, scores))
    return [sid_of[leaf] for leaf in leaves if leaf != NONE]


class ForcedLogits(PrefixLogits):
    """A model's logits by teacher forcing: one forward call of the model per query and prefix, without padding or cache."""

    def __init__(self, model, input_ids, attention_mask, normalize="children"):
        super().__init__(model.config.sid_codebook_sizes, len(input_ids), totals=None if normalize == "children" else 0.0)
        self.model, self.normalize, self.known = model, normalize, {}
        self.prompts = [row[mask.bool()] for row, mask in zip(input_ids, attention_mask)]

    def vocabulary(self, query, prefix):
        """(vocabulary,) logits after the prompt and `prefix`."""
        if (query, prefix) not in self.known:
            self.known[query, prefix] = forced_logits(self.model, self.prompts[query], [prefix])[0, -1].float().numpy()
        return self.known[query, prefix]

    def logits(self, query, prefix):
        start, stop = self.model.config.sid_slice(len(prefix))
        return self.vocabulary(query, prefix)[start:stop]

    def total(self, query, prefix):
        row = self.vocabulary(query, prefix) if self.normalize == "vocabulary" else self.logits(query, prefix)
        return float(np.logaddexp.reduce(row.astype(np.float64)))


@torch.no_grad()
def forced_logits(model, prompt, prefixes):
    """(prefixes, depth + 1, vocabulary) logits from which the codes of each prefix, and the one after it, are predicted."""
    depth = len(prefixes[0])
    starts = torch.tensor([model.config.sid_slice(level)[0] for level in range(depth)], dtype=torch.long)
    codes = tensor(prefixes, depth) + starts
    if model.config.is_encoder_decoder:
        codes = torch.cat([torch.full((len(codes), 1), model.config.decoder_start_token_id), codes], dim=1)
        return model(input_ids=prompt.expand(len(codes), -1), decoder_input_ids=codes).logits
    return model(input_ids=torch.cat([prompt.expand(len(codes), -1), codes], dim=1)).logits[:, len(prompt) - 1 :]


# Items

PATHS = [(), ("shoes",), ("shoes", "boots"), ("coats",), ("coats", "rain", "boots"), ("food", "Äpfel")]
"""Category paths of items."""


def hits_of(index, sids, top_k=1000, items_per_sid=1000, item_filter=None):
    """Return the item ids of SIDs in this order, through `hits`."""
    trie = index.trie if item_filter is None else item_filter.trie
    leaves = trie.leaf_of(trie.walk(torch.tensor(sids)))
    (hits,) = index.hits(leaves[None], -torch.arange(len(sids)).float()[None], top_k, items_per_sid, item_filter)
    assert all(index.sid_of(hit.item_id) == hit.sid for hit in hits)
    return [hit.item_id for hit in hits]


@dataclass
class CatalogueOracle:
    """The catalogue as plain lists."""

    codebook_sizes: tuple
    codes: list
    popularity: list
    paths: list
    ids: list = field(default_factory=list)

    def __post_init__(self):
        self.codes, self.popularity, self.paths = [
            list(map(list, self.codes.tolist())),
            list(self.popularity),
            list(self.paths),
        ]
        self.ids = [f"item-{row}" for row in range(len(self.codes))]

    def add(self, ids, codes, popularity, paths):
        self.ids += ids
        self.codes += codes.tolist()
        self.popularity += popularity.tolist()
        self.paths += paths

    def remove(self, ids):
        held = [place for place, item_id in enumerate(self.ids) if item_id not in ids]
        for name in ("ids", "codes", "popularity", "paths"):
            setattr(self, name, [getattr(self, name)[place] for place in held])

    def index(self):
        return tiny_index(self.codes, self.codebook_sizes, self.ids, np.array(self.popularity), categories=self.paths)
