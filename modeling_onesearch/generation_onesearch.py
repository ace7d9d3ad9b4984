"""Constrained decoding: the trie of all Semantic IDs, its logits processor for `generate`, and beam search over SIDs alone.

Codes are level-local throughout (0 .. width-1); vocabulary ids appear only where a model's logits or tokens are touched.
Travels to the Hub with the weights: imports nothing of this package.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from transformers import LogitsProcessor

SID_INDEX_NAME = "sid_index.safetensors"
"""File of the item index, beside the weights of a checkpoint."""

INDEX_FORMAT = "onesearch-sid-index/1"

MAX_ITEMS_PER_SID = 5
"""Items that one SID expands to at most (PRQ-KMeans' evaluation protocol, arXiv 2026)."""


@dataclass(frozen=True, slots=True)
class Hit:
    """One item found.

    Args:
        item_id: the item.
        sid: its codes, one per level.
        score: log-probability of the SID, renormalised over the allowed codes of each level; at most 0.
    """

    item_id: str
    sid: tuple[int, ...]
    score: float


class SidTrie:
    """Prefix tree of a set of SIDs in compressed rows: the children of a node are a contiguous run of the next level.

    Nodes of a level are numbered in lexicographic order of their prefixes, so a child's number is its edge's position and needs no
    pointer. The node number at the last level is the rank of the SID among all distinct SIDs.

    Args:
        codes: (items, levels) integer array, duplicates allowed.
        widths: number of codes of each level.
    """

    def __init__(self, codes: np.ndarray, widths: Sequence[int]):
        codes = _checked_codes(codes, widths)
        self.widths = tuple(int(width) for width in widths)
        self.sids = np.unique(codes, axis=0)  # sorted lexicographically
        new_prefix = np.ones(self.sids.shape, dtype=bool)  # (sids, levels): a prefix of length l+1 starts at this row
        if len(self.sids) > 1:
            differs = self.sids[1:] != self.sids[:-1]
            new_prefix[1:] = np.logical_or.accumulate(differs, axis=1)
        starts = [np.flatnonzero(new_prefix[:, level]) for level in range(self.levels)]
        self.child_codes = [torch.from_numpy(self.sids[rows, level].astype(np.int64)) for level, rows in enumerate(starts)]
        bounds = [np.append(np.searchsorted(below, rows), len(below)) for rows, below in zip(starts, starts[1:])]
        self.offsets = [torch.tensor([0, len(starts[0])]), *(torch.from_numpy(bound) for bound in bounds)]

    @property
    def levels(self) -> int:
        """Codes in one SID."""
        return len(self.widths)

    def __len__(self) -> int:
        return len(self.sids)

    def to(self, device: torch.device | str) -> SidTrie:
        """Move the tables to `device`, in place."""
        self.child_codes = [codes.to(device) for codes in self.child_codes]
        self.offsets = [offsets.to(device) for offsets in self.offsets]
        return self

    def expand(self, level: int, nodes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """All children of `nodes` in one ragged gather.

        Args:
            level: level of the children, 0 for the children of the root.
            nodes: (rows,) node numbers at `level - 1` (all 0 for the root); -1 has no children.

        Returns:
            For every child: the row of its parent, its code and its node number, each (children,).
        """
        alive = nodes >= 0
        safe = nodes.clamp(min=0)
        start = self.offsets[level][safe]
        degree = torch.where(alive, self.offsets[level][safe + 1] - start, 0)
        total = int(degree.sum())
        row = torch.repeat_interleave(degree, output_size=total)  # index of each parent, repeated
        first = degree.cumsum(0) - degree
        child = torch.arange(total, device=nodes.device) + (start - first)[row]
        return row, self.child_codes[level][child], child

    def walk(self, codes: torch.Tensor) -> torch.Tensor:
        """Node reached by each prefix.

        Args:
            codes: (rows, depth) level-local codes, depth from 0 to `levels`.

        Returns:
            (rows,) node numbers at level `depth - 1`; -1 where the prefix is not in the trie, 0 for the empty prefix.
        """
        node = torch.zeros(codes.shape[0], dtype=torch.long, device=codes.device)
        for level in range(codes.shape[1]):
            node = self._child(level, node, codes[:, level])
        return node

    def _child(self, level: int, node: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
        """Bisect each node's run of children for `code`, all rows at once."""
        alive = node >= 0
        safe = node.clamp(min=0)
        low = self.offsets[level][safe]
        stop = torch.where(alive, self.offsets[level][safe + 1], low)
        high = stop.clone()
        last = len(self.child_codes[level]) - 1
        widest = int((high - low).max()) if len(node) else 0
        for _ in range(widest.bit_length()):
            middle = (low + high) // 2
            less = (self.child_codes[level][middle.clamp(max=last)] < code) & (low < high)
            low = torch.where(less, middle + 1, low)
            high = torch.where(less, high, torch.minimum(middle, high))
        found = (low < stop) & (self.child_codes[level][low.clamp(max=last)] == code)
        return torch.where(found, low, -1)


class TrieLogitsProcessor(LogitsProcessor):
    """Masks every token that does not continue a SID of the trie. Works inside `generate` for greedy, beam search and sampling.

    Stateless: the prefix is the run of SID tokens of levels 0, 1, … at the end of each row of `input_ids`, so one instance serves any
    number of calls, batches and prompts (a decoder-only prompt must not end inside a SID). After a complete SID only `eos_token_id`
    is allowed.

    Args:
        trie: the SIDs of the whole catalogue.
        sid_offset: vocabulary id of code 0 of level 0.
        eos_token_id: allowed after a complete SID; may be None when generation stops by length.

    Raises:
        ValueError: from a call, when a prefix is in no SID of the trie (an empty allowed set would silently lift the constraint).
    """

    def __init__(self, trie: SidTrie, sid_offset: int, eos_token_id: int | None = None):
        self.trie = trie
        self.sid_offset = sid_offset
        self.eos_token_id = eos_token_id
        bounds = np.concatenate([[0], np.cumsum(trie.widths)]) + sid_offset
        self.level_bounds = torch.from_numpy(bounds)  # (levels + 1,)

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """`input_ids`: (rows, length); `scores`: (rows, vocabulary). Returns the masked scores, same shape."""
        depth = self._depth(input_ids)
        masked = torch.full_like(scores, float("-inf"))
        for length in depth.unique().tolist():
            rows = (depth == length).nonzero()[:, 0]
            if length == self.trie.levels:
                if self.eos_token_id is None:
                    raise ValueError(
                        f"generation went on after a complete SID of {length} codes; set max_new_tokens={length} or pass eos_token_id"
                    )
                masked[rows, self.eos_token_id] = scores[rows, self.eos_token_id]
                continue
            codes = input_ids[rows, input_ids.shape[1] - length :] - self.level_bounds.to(input_ids.device)[:length]
            nodes = self.trie.walk(codes)
            if (nodes < 0).any():
                prefix = tuple(codes[(nodes < 0).nonzero()[0, 0]].tolist())
                raise ValueError(f"no SID of the catalogue starts with the codes {prefix}: generation left the trie")
            row, code, _ = self.trie.expand(length, nodes)
            token = code + self.level_bounds[length].item()
            masked[rows[row], token] = scores[rows[row], token]
        return masked

    def _depth(self, input_ids: torch.Tensor) -> torch.Tensor:
        """(rows,) length of the SID prefix at the end of each row."""
        tail = input_ids[:, -self.trie.levels :]
        bounds = self.level_bounds.to(input_ids.device)
        level = torch.bucketize(tail.contiguous(), bounds, right=True) - 1  # -1 before the SID slice, `levels` after it
        depth = torch.zeros(input_ids.shape[0], dtype=torch.long, device=input_ids.device)
        for length in range(1, tail.shape[1] + 1):
            expected = torch.arange(length, device=input_ids.device)
            complete = (level[:, tail.shape[1] - length :] == expected).all(1)
            depth = torch.where(complete, length, depth)
        return depth


StepFunction = Callable[[torch.Tensor | None, torch.Tensor | None, int], torch.Tensor]
"""`step(codes, parents, level)` → (queries * beams, widths[level]) logits of one level. `codes`: (queries, beams) of the level before
(None at the root); `parents`: (queries * beams,) rows of the previous step that these beams extend."""


def beam_search(step: StepFunction, trie: SidTrie, queries: int, num_beams: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Beam search over the SIDs of a trie, level by level; only allowed children are scored.

    Scores are log-probabilities renormalised over the allowed children of each prefix, as `generate` gives them with
    `TrieLogitsProcessor` and `renormalize_logits=True`. A query with fewer SIDs than beams gets fewer.

    Args:
        step: the model (see `StepFunction`).
        trie: the catalogue.
        queries: number of queries in the batch.
        num_beams: beams kept per query.

    Returns:
        codes (queries, beams, levels) and scores (queries, beams), best first; a score of -inf marks a place without a SID.
    """
    scores: torch.Tensor | None = None  # (queries, beams)
    nodes = codes = parents = None
    for level in range(trie.levels):
        logits = step(None if codes is None else codes[..., -1], parents, level).float()
        if scores is None:
            scores = logits.new_zeros(queries, 1)
            nodes = torch.zeros(queries, 1, dtype=torch.long, device=logits.device)
            codes = nodes.new_zeros(queries, 1, 0)
        beams = scores.shape[1]
        row, code, child = trie.expand(level, nodes.view(-1))
        candidates = _renormalised(logits[row, code], row, queries * beams) + scores.view(-1)[row]
        scores, picked = _top_per_query(candidates, row // beams, queries, num_beams)
        kept = picked >= 0
        picked = picked.clamp(min=0)
        parents = row[picked]  # (queries, beams); a place without a candidate borrows row 0, its score is -inf
        parents = torch.where(kept, parents, torch.arange(queries, device=parents.device)[:, None] * beams)
        codes = torch.cat([codes.view(queries * beams, -1)[parents], code[picked][..., None]], dim=-1)
        nodes = torch.where(kept, child[picked], -1)
        parents = parents.reshape(-1)
    return codes, scores


def _renormalised(values: torch.Tensor, row: torch.Tensor, rows: int) -> torch.Tensor:
    """Log-softmax of a ragged list: `values` (entries,) normalised within each `row` (entries,)."""
    top = values.new_full((rows,), float("-inf")).scatter_reduce(0, row, values, "amax")
    shifted = values - top[row]
    total = values.new_zeros(rows).index_add(0, row, shifted.exp())
    return shifted - total.log()[row]


def _top_per_query(values: torch.Tensor, query: torch.Tensor, queries: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Best `count` of a ragged list per query; `query` is ascending.

    Returns:
        values (queries, k) padded with -inf, and positions in the list (queries, k) padded with -1; k ≤ count.
    """
    sizes = torch.bincount(query, minlength=queries)
    first = sizes.cumsum(0) - sizes
    place = torch.arange(len(values), device=values.device) - first[query]
    padded = values.new_full((queries, int(sizes.max())), float("-inf"))
    padded[query, place] = values
    top, index = padded.topk(min(count, padded.shape[1]), dim=1)
    return top, torch.where(index < sizes[:, None], first[:, None] + index, -1)


class SidIndex:
    """Which item has which SID: the bridge from what the model emits back to the catalogue.

    Args:
        item_ids: one string per item.
        codes: (items, levels) codes.
        popularity: (items,) order inside a SID shared by several items, larger first; equal values keep catalogue order.
        widths: number of codes of each level.
        digest: digest of the codebooks.
    """

    def __init__(self, item_ids: Sequence[str], codes: np.ndarray, popularity: np.ndarray, widths: Sequence[int], digest: str):
        self.item_ids = list(item_ids)
        self.codes = _checked_codes(codes, widths)
        self.popularity = np.asarray(popularity, dtype=np.float32)
        self.widths = tuple(int(width) for width in widths)
        self.digest = digest
        if not len(self.item_ids) == len(self.codes) == len(self.popularity):
            raise ValueError(
                f"{len(self.item_ids)} item ids, {len(self.codes)} SIDs and {len(self.popularity)} popularities: counts must agree"
            )
        self._trie: SidTrie | None = None
        self._buckets: tuple[np.ndarray, np.ndarray] | None = None
        self._row_of: dict[str, int] | None = None

    def __len__(self) -> int:
        return len(self.item_ids)

    @property
    def trie(self) -> SidTrie:
        """Trie of the whole catalogue, built at first use."""
        if self._trie is None:
            self._trie = SidTrie(self.codes, self.widths)
        return self._trie

    def sid_of(self, item_id: str) -> tuple[int, ...]:
        """Codes of one item; KeyError names an item that is not in the catalogue."""
        return tuple(self.codes_of([item_id])[0].tolist())

    def codes_of(self, item_ids: Sequence[str]) -> np.ndarray:
        """(items, levels) codes of `item_ids`; KeyError names an item that is not in the catalogue."""
        if self._row_of is None:
            self._row_of = {item_id: row for row, item_id in enumerate(self.item_ids)}
        try:
            rows = [self._row_of[item_id] for item_id in item_ids]
        except KeyError as error:
            raise KeyError(f"item {error.args[0]!r} is not in the catalogue of {len(self):,} items") from None
        return self.codes[rows]

    def items_of(self, leaves: np.ndarray, limit: int = MAX_ITEMS_PER_SID) -> list[list[str]]:
        """Items of each SID, most popular first, at most `limit`.

        Args:
            leaves: (n,) ranks of SIDs among the distinct ones, as `SidTrie.walk` gives them for complete SIDs.
        """
        bounds, order = self._item_buckets()
        return [
            [self.item_ids[row] for row in order[bounds[leaf] : min(bounds[leaf + 1], bounds[leaf] + limit)]] for leaf in leaves
        ]

    def hits(
        self, codes: torch.Tensor, scores: torch.Tensor, top_k: int, items_per_sid: int = MAX_ITEMS_PER_SID
    ) -> list[list[Hit]]:
        """Expand beams to items: beam order, then popularity inside a SID; places scored -inf are dropped.

        Args:
            codes: (queries, beams, levels); scores: (queries, beams), best first.

        Returns:
            Per query at most `top_k` hits, no item twice; a SID that no item has gives none.
        """
        leaves = self.trie.walk(codes.flatten(0, 1)).view(codes.shape[:2])
        alive = (leaves >= 0) & (scores > float("-inf"))
        results = []
        for row in range(len(codes)):
            kept = alive[row].nonzero()[:top_k, 0]  # every SID holds an item, so more beams cannot be needed
            items = self.items_of(leaves[row, kept].cpu().numpy(), items_per_sid)
            beams = zip(items, codes[row, kept].tolist(), scores[row, kept].tolist())
            results.append([Hit(item_id, tuple(sid), score) for item_ids, sid, score in beams for item_id in item_ids][:top_k])
        return results

    def save(self, path: str | os.PathLike) -> None:
        """Write the index as safetensors; the file appears whole or not at all."""
        encoded = [item_id.encode("utf-8") for item_id in self.item_ids]
        tensors = {
            "codes": self.codes.astype(np.int32),
            "popularity": self.popularity,
            "item_id_bytes": np.frombuffer(b"".join(encoded), dtype=np.uint8),
            "item_id_ends": np.cumsum([len(text) for text in encoded], dtype=np.int64),
        }
        metadata = {"format": INDEX_FORMAT, "widths": json.dumps(self.widths), "digest": self.digest}
        path = Path(path)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, temporary, metadata=metadata)
        os.replace(temporary, path)

    @classmethod
    def load(cls, path: str | os.PathLike) -> SidIndex:
        """Read an index; a damaged file or one of another format raises ValueError with its path."""
        if not os.path.isfile(path):
            raise FileNotFoundError(f"{path} does not exist; build it with `onesearch sids build`")
        try:
            with safe_open(path, framework="np") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}
        except SafetensorError as error:
            raise ValueError(f"{path} is damaged or no safetensors file ({error}); copy it again or rebuild it") from error
        if metadata.get("format") != INDEX_FORMAT:
            raise ValueError(f"{path} has format {metadata.get('format')!r}, expected {INDEX_FORMAT!r}; rebuild it")
        raw, ends = tensors["item_id_bytes"].tobytes(), tensors["item_id_ends"].tolist()
        item_ids = [raw[start:end].decode("utf-8") for start, end in zip([0, *ends], ends)]
        return cls(item_ids, tensors["codes"], tensors["popularity"], json.loads(metadata["widths"]), metadata["digest"])

    def _item_buckets(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows sorted by (SID, popularity), and where each SID's run starts: (sids + 1,), (items,)."""
        if self._buckets is None:
            leaf = self.trie.walk(torch.from_numpy(self.codes).to(self.trie.offsets[0].device)).cpu().numpy()
            order = np.lexsort((-self.popularity, leaf))
            bounds = np.searchsorted(leaf[order], np.arange(len(self.trie) + 1))
            self._buckets = bounds, order
        return self._buckets


def _checked_codes(codes: np.ndarray, widths: Sequence[int]) -> np.ndarray:
    """Codes as (items, levels) int64, or ValueError naming the first entry out of range."""
    codes = np.asarray(codes, dtype=np.int64)
    if codes.ndim != 2 or codes.shape[1] != len(widths):
        raise ValueError(f"codes have shape {codes.shape}, expected (items, {len(widths)}) for widths {tuple(widths)}")
    if not len(codes):
        raise ValueError("the catalogue holds no item: a trie needs at least one SID")
    wrong = (codes < 0) | (codes >= np.asarray(widths))
    if wrong.any():
        row, level = np.argwhere(wrong)[0].tolist()
        raise ValueError(f"item {row}: code {codes[row, level]} at level {level} is outside 0..{widths[level] - 1}")
    return codes


__all__ = ["Hit", "SidIndex", "SidTrie", "TrieLogitsProcessor", "beam_search"]
