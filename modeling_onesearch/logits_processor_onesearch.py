"""A logits processor that holds `generate` to the SIDs of a trie.

Codes are numbered per level (0 … codebook size - 1); vocabulary ids appear only where tokens or logits of a model are touched.
Travels to the Hub with the weights, so it imports nothing from the rest of the package.
"""

from __future__ import annotations

import numpy as np
import torch
from transformers import LogitsProcessor

from .trie_onesearch import NONE, SidTrie
from .trie_view_onesearch import TrieView


class TrieLogitsProcessor(LogitsProcessor):
    """Masks every token that does not continue a SID of the trie. Works in `generate` with greedy decoding, beam search and sampling.

    It keeps no state: the prefix is read from `input_ids`, so one instance serves any number of calls and batches. After a complete SID
    only `eos_token_id` is allowed, and after that only `eos_token_id` again.

    Args:
        trie: the SIDs of the whole catalogue, or of the items that pass a filter.
        sid_offset: vocabulary id of code 0 of level 0.
        eos_token_id: the token that is allowed after a complete SID; None if generation stops by length.
        prompt_length: number of tokens of each row that precede the SID (1 for an encoder-decoder: the start token). If None, the SID is
            the run of codes of levels 0, 1, … at the end of the row; that serves prompts of any length, but none that ends in a SID.

    Raises:
        ValueError: from a call, if no SID of the trie has a row's prefix (an empty set of allowed tokens would lift the constraint).
    """

    def __init__(
        self,
        trie: SidTrie | TrieView,
        sid_offset: int,
        eos_token_id: int | None = None,
        prompt_length: int | None = None,
    ) -> None:
        self.trie = trie
        self.sid_offset = sid_offset
        self.eos_token_id = eos_token_id
        self.prompt_length = prompt_length
        bounds = np.concatenate([[0], np.cumsum(trie.codebook_sizes)]) + sid_offset
        self.level_bounds = torch.from_numpy(bounds)  # (levels + 1,)

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Mask the scores: (rows, length) token ids, (rows, vocabulary) scores → (rows, vocabulary), -inf where a token is not allowed."""
        depth = self._depth(input_ids)
        masked = torch.full_like(scores, float("-inf"))
        self.trie.to(input_ids.device)
        for length in depth.unique().tolist():
            rows = (depth == length).nonzero()[:, 0]
            if length == self.trie.levels:
                if self.eos_token_id is None:
                    raise ValueError(
                        f"generation went on after a complete SID of {length} codes; set max_new_tokens={length} or pass eos_token_id"
                    )
                masked[rows, self.eos_token_id] = scores[rows, self.eos_token_id]
                continue
            start = input_ids.shape[1] - length
            codes = input_ids[rows, start:] - self.level_bounds.to(input_ids.device)[:length]
            children = self.trie.expand(length, self._walk(codes))
            token = children.codes + self.level_bounds[length].item()
            row = rows[children.rows]
            masked[row, token] = scores[row, token]
        return masked  # type: ignore[return-value]  # full_like of a FloatTensor is declared as a Tensor

    def _walk(self, codes: torch.Tensor) -> torch.Tensor:
        states = self.trie.walk(codes)
        if (states == NONE).any():
            prefix = tuple(codes[(states == NONE).nonzero()[0, 0]].tolist())
            raise ValueError(f"no SID of the catalogue starts with the codes {prefix}: generation left the trie")
        return states

    def _depth(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Return the length of the SID prefix at the end of each row: (rows,)."""
        if self.prompt_length is not None:
            length = min(
                input_ids.shape[1] - self.prompt_length, self.trie.levels
            )  # tokens after a whole SID only repeat its end
            if length < 0:
                raise ValueError(f"prompt_length={self.prompt_length}, but the rows have {input_ids.shape[1]} tokens")
            return torch.full(input_ids.shape[:1], length, device=input_ids.device)
        tail = input_ids[:, -self.trie.levels :]
        bounds = self.level_bounds.to(input_ids.device)
        level = torch.bucketize(tail.contiguous(), bounds, right=True) - 1  # -1 before the SID slice, `levels` after it
        depth = torch.zeros(input_ids.shape[0], dtype=torch.long, device=input_ids.device)
        for length in range(1, tail.shape[1] + 1):
            expected = torch.arange(length, device=input_ids.device)
            complete = (level[:, tail.shape[1] - length :] == expected).all(1)
            depth = torch.where(complete, length, depth)
        return depth


__all__ = ["TrieLogitsProcessor"]
