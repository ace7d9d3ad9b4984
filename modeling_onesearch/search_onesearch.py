"""What every model that emits Semantic IDs can do: hold a catalogue, score SIDs over their level's slice, and search.

Travels to the Hub with the weights: imports nothing of this package.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers.utils import cached_file

from .behaviour_onesearch import BehaviourMixin
from .decoding_onesearch import BeamDecoder
from .generation_onesearch import Beams, StepFunction, TrieLogitsProcessor, beam_search
from .index_onesearch import MAX_ITEMS_PER_SID, SID_INDEX_NAME, SID_UPDATES_NAME, Hit, ItemFilter, SidIndex

IGNORED = -100
"""Label of positions that do not count in the loss."""

HUB_ARGUMENTS = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder")

NORMALISATIONS = ("children", "level", "vocabulary")

ROWS_AT_ONCE = 128
"""Rows whose logits over the whole vocabulary are held at once."""


class SidModelMixin:
    """Catalogue, SID scores and search of a language model with a plain `lm_head` and the SID layout in its configuration.

    Stands before the model's class among the parents. A subclass says how its backbone runs for beams (`_beam_decoder`) and which of its
    modules embeds the prompt (`_prompt_reader`).
    """

    sid_index: SidIndex | None = None

    def _beam_decoder(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, behaviour_codes: torch.Tensor | None = None
    ) -> BeamDecoder:
        raise NotImplementedError

    def _prompt_reader(self) -> BehaviourMixin:
        raise NotImplementedError

    def _finish(self, backbone: type) -> None:
        """The end of a model's `__init__`: weights, where `AutoModel` finds the backbone, and how `generate` emits one SID."""
        config = self.config
        config.auto_map = {**(getattr(config, "auto_map", None) or {}), "AutoModel": f"modeling_onesearch.{backbone.__name__}"}
        self.post_init()
        self.generation_config.update(**_sid_generation(config.sid_levels))
        self.generation_config._from_model_config = False  # or the settings above would be dropped when loading

    # Loading and saving

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, **kwargs):  # noqa: ANN206 - parent's contract
        """As in transformers; also loads the item index that lies beside the weights, if there is one.

        Raises:
            ValueError: the index belongs to other codebooks than the weights, or is damaged.
        """
        loaded = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        hub = {name: kwargs[name] for name in HUB_ARGUMENTS if kwargs.get(name) is not None}
        paths = [
            cached_file(pretrained_model_name_or_path, name, _raise_exceptions_for_missing_entries=False, **hub)
            for name in (SID_UPDATES_NAME, SID_INDEX_NAME)  # the index looks for its updates beside it
        ]
        if paths[1] is not None:
            model.set_sid_index(SidIndex.load(paths[1]))
        return loaded

    def save_pretrained(self, save_directory: str | os.PathLike, *args, **kwargs) -> None:
        """As in transformers; also writes the item index, if one is set."""
        super().save_pretrained(save_directory, *args, **kwargs)
        if self.sid_index is not None and kwargs.get("is_main_process", True):
            self.sid_index.save(os.path.join(save_directory, SID_INDEX_NAME))

    def set_sid_index(self, index: SidIndex) -> None:
        """Attach the catalogue that `search` returns items of; ValueError if it has other widths or another digest than the model."""
        if tuple(index.widths) != tuple(self.config.sid_widths):
            raise ValueError(f"the item index has level widths {list(index.widths)}, the model {self.config.sid_widths}")
        if self.config.sid_digest is not None and index.digest != self.config.sid_digest:
            raise ValueError(
                f"the item index was made with codebooks {index.digest[:12]}…, the model was trained on {self.config.sid_digest[:12]}…: "
                "SIDs of one mean nothing to the other. Encode this catalogue with the model's codebooks, or train on these"
            )
        self.sid_index = index

    def set_behaviour_centroids(self, tables: Sequence[np.ndarray | torch.Tensor]) -> None:
        """Fill the long view's frozen codebooks, which then belong to the checkpoint.

        Args:
            tables: (sid_widths[level], behaviour_dim) centroids of each of the first `behaviour_levels` levels; for residual levels
                those of the residuals, as the codebooks hold them.

        Raises:
            ValueError: the model has no long view, or the shapes are not its own.
        """
        if self._prompt_reader().behaviour is None:
            raise ValueError("the model has no long view: its configuration has behaviour_tokens=0")
        self._prompt_reader().behaviour_pooling.set_centroids(tables)

    # Scores

    def score_targets(
        self, hidden_states: torch.Tensor, targets: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Log-probability of each target under its own softmax: its level's slice for SID tokens, the vocabulary for text.

        Args:
            hidden_states: (batch, length, d_model) of the decoder; targets: (batch, length) vocabulary ids or -100.

        Returns:
            log-probabilities with gradient, entropies and whether the target is the most likely token, each (batch, length); zero
            where ignored.
        """
        scores = hidden_states.new_zeros(3, *targets.shape, dtype=torch.float32)
        is_text = targets != IGNORED
        slices = [self.config.sid_slice(level) for level in range(self.config.sid_levels)]
        for start, stop in slices:
            is_text = is_text & ~((targets >= start) & (targets < stop))
        groups = [((targets >= start) & (targets < stop), start, stop) for start, stop in slices]
        groups.append((is_text, 0, self.config.vocab_size))
        for mask, start, stop in groups:
            if mask.any():
                logits = self.project(hidden_states[mask], start, stop).float()
                target = targets[mask] - start
                log_probs = logits.log_softmax(-1)
                with torch.no_grad():
                    entropy = -(log_probs.exp() * log_probs).sum(-1)
                    is_top = (logits.argmax(-1) == target).float()
                chosen = log_probs.gather(-1, target[:, None])[:, 0]
                scores = scores.masked_scatter(mask.expand_as(scores), torch.stack([chosen, entropy, is_top]))
        # A batch without any target still reaches every parameter of the head, which data parallelism waits for.
        log_probs = scores[0] + 0.0 * hidden_states.float().sum()
        return log_probs, scores[1].detach(), scores[2].detach()

    def sid_loss(
        self, hidden_states: torch.Tensor, targets: torch.Tensor, num_items_in_batch: torch.Tensor | int | None
    ) -> torch.Tensor:
        """Summed negative log-likelihood of `targets` over `num_items_in_batch`, or over their number in this call; see
        `score_targets`."""
        log_probs, _, _ = self.score_targets(hidden_states, targets)
        count = (targets != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch
        return -log_probs.sum() / torch.as_tensor(count, device=log_probs.device).clamp(min=1)

    def project(self, hidden_states: torch.Tensor, start: int, stop: int) -> torch.Tensor:
        """Logits of the vocabulary slice [start, stop): (..., d_model) → (..., stop - start)."""
        if type(self.lm_head) is nn.Linear:
            return F.linear(hidden_states, self.lm_head.weight[start:stop])
        return self.lm_head(hidden_states)[..., start:stop]  # an adapter wraps the head: go through it

    # Search

    def logits_processor(self, prompt_length: int | None = None, keep: ItemFilter | None = None) -> TrieLogitsProcessor:
        """A processor that holds `generate` to the catalogue.

        Args:
            prompt_length: tokens of `input_ids` that are no part of the SID; see [`TrieLogitsProcessor`].
            keep: only items that pass.
        """
        trie = self._require_index().trie if keep is None else keep.trie
        return TrieLogitsProcessor(trie, self.config.sid_offset, self.generation_config.eos_token_id, prompt_length)

    @torch.no_grad()
    def search(
        self,
        input_ids: torch.LongTensor,
        attention_mask: torch.Tensor | None = None,
        num_beams: int = 50,
        top_k: int = 10,
        items_per_sid: int = MAX_ITEMS_PER_SID,
        keep: ItemFilter | Sequence[ItemFilter | None] | None = None,
        normalize: str = "children",
        explain: bool = False,
        behaviour_codes: torch.LongTensor | None = None,
    ) -> list[list[Hit]]:
        """Find items by beam search over the catalogue's SIDs.

        Args:
            input_ids: (queries, length) prompts, padded on either side.
            attention_mask: (queries, length), 1 for tokens, 0 for padding.
            num_beams: SIDs kept at each level. (The paper serves with 512; our default of 50 is for a processor without GPU.)
            top_k: items returned per query.
            items_per_sid: items that one SID expands to at most, most popular first.
            keep: only items that pass the filter, or one filter (or None) per query; see `SidIndex.filter`. The beam runs over the
                SIDs of those items alone, so it loses no place to others.
            normalize: what the probability of a code is taken over: the `children` that the trie allows (as `generate` with
                `renormalize_logits=True`), the codes of the `level` (as in training), or the whole `vocabulary` (as `generate` without
                it; slower).
            explain: put the log-probability of each code into the hits.
            behaviour_codes: (queries, sequences, items, levels) codes of the users' long sequences, -1 where there is no item, for prompts
                with placeholders; see `forward`.

        Returns:
            One list of [`Hit`] per query, best first, without duplicates; fewer than `top_k` where the beams hold fewer items.
        """
        if top_k < 1 or items_per_sid < 1:
            raise ValueError(f"top_k={top_k}, items_per_sid={items_per_sid}: both must be at least 1")
        attention_mask = _checked_mask(input_ids, attention_mask)
        if behaviour_codes is not None and len(behaviour_codes) != len(input_ids):
            raise ValueError(f"behaviour_codes of {len(behaviour_codes)} rows for {len(input_ids)} prompts")
        index = self._require_index().snapshot()
        hits: list[list[Hit]] = [[] for _ in range(len(input_ids))]
        for rows, own in _by_filter(keep, len(input_ids)):
            codes = None if behaviour_codes is None else behaviour_codes[rows]
            beams = self._beams(index, input_ids[rows], attention_mask[rows], num_beams, own, normalize, codes)
            parts = beams.level_scores if explain else None
            found = index.hits(beams.leaves, beams.scores, top_k, items_per_sid, own, parts)
            for row, one in zip(rows, found):
                hits[row] = one
        return hits

    @torch.no_grad()
    def search_sids(
        self,
        input_ids: torch.LongTensor,
        attention_mask: torch.Tensor | None = None,
        num_beams: int = 50,
        keep: ItemFilter | None = None,
        normalize: str = "children",
        behaviour_codes: torch.LongTensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The SIDs behind `search`.

        Returns:
            codes (queries, beams, levels), -1 throughout where there is no SID, and scores (queries, beams), -inf there; best first.
        """
        index = self._require_index().snapshot()
        attention_mask = _checked_mask(input_ids, attention_mask)
        beams = self._beams(index, input_ids, attention_mask, num_beams, keep, normalize, behaviour_codes)
        return index.trie.sids_of(beams.leaves.flatten()).view(*beams.leaves.shape, -1), beams.scores

    def _beams(
        self,
        index: SidIndex,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        num_beams: int,
        keep: ItemFilter | None,
        normalize: str,
        behaviour_codes: torch.Tensor | None,
    ) -> Beams:
        if num_beams < 1:
            raise ValueError(f"num_beams={num_beams} must be at least 1")
        if normalize not in NORMALISATIONS:
            raise ValueError(f"normalize={normalize!r}: allowed are {', '.join(map(repr, NORMALISATIONS))}")
        trie = (index.trie if keep is None else index.checked(keep).trie).to(input_ids.device)
        step = self._beam_step(self._beam_decoder(input_ids, attention_mask, behaviour_codes), normalize)
        return beam_search(step, trie, len(input_ids), num_beams, settle=normalize == "children")

    def _beam_step(self, decoder: BeamDecoder, normalize: str) -> StepFunction:
        def step(codes: torch.Tensor | None, parents: torch.Tensor | None, level: int):  # noqa: ANN202 - see StepFunction
            if codes is None:
                hidden = decoder.start()
            else:
                hidden = decoder.step(codes + self.config.sid_slice(level - 1)[0], parents)
            logits = self.project(hidden, *self.config.sid_slice(level)).float()
            if normalize == "children":
                return logits, None
            if normalize == "level":
                return logits, logits.logsumexp(-1)
            parts = [self.project(part, 0, self.config.vocab_size) for part in hidden.split(ROWS_AT_ONCE)]
            return logits, torch.cat([part.float().logsumexp(-1) for part in parts])

        return step

    def _require_index(self) -> SidIndex:
        if self.sid_index is None:
            raise ValueError(f"the model has no item index: put {SID_INDEX_NAME} beside its weights or call set_sid_index")
        return self.sid_index


def _checked_mask(input_ids: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
    if attention_mask is None:
        return torch.ones_like(input_ids)
    if attention_mask.shape != input_ids.shape or not bool(attention_mask.any(1).all()):
        raise ValueError(
            f"input_ids {tuple(input_ids.shape)} and attention_mask {tuple(attention_mask.shape)} must have the same shape, and every "
            "query at least one token"
        )
    return attention_mask


def _sid_generation(levels: int) -> dict[str, object]:
    """Settings under which `generate` with `logits_processor` finds what `search` finds: one SID, renormalised over the trie."""
    fixed = {
        "max_new_tokens": levels or None,
        "min_new_tokens": levels or None,
        "eos_token_id": None,
        "forced_eos_token_id": None,
    }
    return {**fixed, "renormalize_logits": True}


def _by_filter(
    keep: ItemFilter | Sequence[ItemFilter | None] | None, queries: int
) -> list[tuple[list[int], ItemFilter | None]]:
    """Queries that are searched together, with their filter."""
    if keep is None or isinstance(keep, ItemFilter):
        return [(list(range(queries)), keep)]
    if len(keep) != queries:
        raise ValueError(f"{len(keep)} filters for {queries} queries: give one per query (None for no filter), or one for all")
    groups: dict[int, tuple[list[int], ItemFilter | None]] = {}
    for row, own in enumerate(keep):
        groups.setdefault(id(own), ([], own))[0].append(row)
    return list(groups.values())


__all__ = ["IGNORED", "SidModelMixin"]
