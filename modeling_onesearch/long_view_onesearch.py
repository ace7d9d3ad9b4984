"""The long view in a prompt: up to 1,000 items per sequence (clicks, purchases, …) as a few vectors among the prompt's embeddings.

The vectors replace the embeddings of `long_view_tokens` copies of a placeholder token, so masks and lengths are those of any prompt.
Travels to the Hub with the weights: imports nothing of this package.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import nn
from transformers import initialization as init
from transformers.utils import is_torchdynamo_compiling

from .history_onesearch import NO_VIEWS, HistoryMixin, HistoryReader, PromptViews
from .query_vector_onesearch import QueryVectorMixin, QueryVectorReader
from .resampler_onesearch import EMPTY, CentroidPooling, LongViewResampler


class LongViewMixin(HistoryMixin, QueryVectorMixin):
    """Long view, history and query vector of the module that embeds the prompt (`embed_tokens`): BART's encoder, or the decoder-only
    backbone.

    The module's `__init__` ends with `_add_views`; its `forward` runs on the embeddings that `embed_prompt` returns.
    """

    long_view: LongViewResampler | None
    long_view_pooling: CentroidPooling

    def _add_views(self, width: int, heads: int, dropout: float, scale: float) -> None:
        """Add resampler and centroids, and the readers of histories and of query vectors, as far as the configuration asks for them.
        Without them no random number is drawn.

        Args:
            width: width of the model's hidden states.
            heads: attention heads of the model.
            dropout: dropout probability of the resampler.
            scale: initial size of the vectors' entries.
        """
        self.long_view = None
        config = self.config
        self._add_history(width, scale)
        self._add_query_reader(width, scale)
        if config.long_view_tokens:
            codebook_sizes = config.sid_codebook_sizes[: config.long_view_levels]
            self.long_view = LongViewResampler(config, width, heads, dropout, scale)
            self.long_view_pooling = CentroidPooling(codebook_sizes, config.long_view_dim, config.long_view_sequences)
            self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, LongViewResampler | HistoryReader | QueryVectorReader):
            module.reset_parameters()
        elif isinstance(module, CentroidPooling):
            init.zeros_(module.centroids)

    @torch.no_grad()
    def match_long_view_scale(self) -> None:
        """Set the initial size of the vectors of long view and history to that of the embeddings, after trained embeddings were loaded."""
        some = torch.arange(min(self.config.vocab_size, 4096), device=self.embed_tokens.weight.device)
        size = self.embed_tokens(some).float().square().mean().sqrt()
        self.match_history_scale(size)
        if self.query_reader is not None:
            self.query_reader.norm.weight.fill_(size)
        if self.long_view is not None:
            self.long_view.norm.weight.fill_(size)

    def embed_prompt(
        self,
        input_ids: torch.Tensor | None,
        inputs_embeds: torch.Tensor | None = None,
        views: PromptViews = NO_VIEWS,
        is_start: bool = True,
    ) -> torch.Tensor:
        """Input embeddings of prompts, with long view, history and query vector in the places of their placeholders.

        Args:
            input_ids: (batch, length) prompts, or None if `inputs_embeds` are given.
            inputs_embeds: (batch, length, width) embeddings, which are returned as they are.
            views: long view, history and query vector of each prompt. `long_view_codes` None stands for empty sequences.
            is_start: False in later steps of `generate`, whose inputs no longer hold the prompt.

        Returns:
            (batch, length, width).

        Raises:
            ValueError: there are both prompts and embeddings or neither, or the views do not fit the prompts or the model.
        """
        long_view_codes = views.long_view_codes
        self._check_views(input_ids, inputs_embeds, views)
        if input_ids is None:
            return cast(torch.Tensor, inputs_embeds)
        embeddings = self.embed_tokens(input_ids)
        embeddings = self.place_history(input_ids, embeddings, views.history_items, views.history_vectors, is_start)
        embeddings = self.place_query(input_ids, embeddings, views.query_vectors, is_start)
        if self.long_view is None:
            return embeddings
        is_place = input_ids == cast(int, self.config.long_view_token_id)  # (batch, length)
        if is_torchdynamo_compiling():
            has_places = input_ids.shape[1] >= self.config.long_view_tokens
        else:
            # A later step reads what was generated: a placeholder there is an ordinary token.
            has_places = is_start and self._check_places(is_place, long_view_codes)
        if not has_places and not (self.training and torch.is_grad_enabled()):
            return embeddings
        if long_view_codes is None or not has_places:
            empty = (1, self.config.long_view_sequences, 0, self.config.long_view_levels)
            long_view_codes = input_ids.new_full(empty, EMPTY)
        vectors = self.long_view(*self.long_view_pooling(long_view_codes)).to(embeddings.dtype)
        if not has_places:
            # Data parallelism waits for every parameter, also in a batch of prompts without a long view.
            return embeddings + 0.0 * vectors.sum()
        number = (is_place.long().cumsum(1) - 1).clamp(0, vectors.shape[1] - 1)[
            ..., None
        ]  # which vector of its row a place gets
        vectors = vectors.expand(input_ids.shape[0], -1, -1).gather(1, number.expand(-1, -1, vectors.shape[2]))
        return torch.where(is_place[..., None], vectors, embeddings)

    def _check_views(self, input_ids: torch.Tensor | None, inputs_embeds: torch.Tensor | None, views: PromptViews) -> None:
        """ValueError where there are both prompts and embeddings or neither, or views that nothing reads."""
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("pass either input_ids or inputs_embeds")
        if views.long_view_codes is not None and self.long_view is None:
            raise ValueError("long_view_codes for a model without a long view: its configuration has long_view_tokens=0")
        if inputs_embeds is not None and views.history_items is not None:
            raise ValueError(
                "history_items go with input_ids, not inputs_embeds: history_token_id marks the places of the items"
            )
        if inputs_embeds is not None and views.query_vectors is not None:
            raise ValueError("query_vectors go with input_ids, not inputs_embeds: query_vector_token_id marks their place")
        if inputs_embeds is not None and views.long_view_codes is not None:
            raise ValueError(
                "long_view_codes go with input_ids, not inputs_embeds: long_view_token_id marks the long view's places"
            )

    def _check_places(self, is_place: torch.Tensor, codes: torch.Tensor | None) -> bool:
        """Whether any row has placeholders; ValueError where placeholders and codes do not fit each other."""
        tokens, name = self.config.long_view_tokens, f"long_view_token_id={self.config.long_view_token_id}"
        counts = is_place.sum(1)
        wrong = ((counts != 0) & (counts != tokens)).nonzero()[:, 0]
        if len(wrong):
            row = int(wrong[0])
            raise ValueError(
                f"row {row} holds {int(counts[row])} copies of {name}: a prompt has none, or {tokens} (long_view_tokens), one per vector "
                "of the long view; a prompt that was cut may have lost some"
            )
        if codes is not None and len(codes) != len(is_place):
            raise ValueError(
                f"long_view_codes of {len(codes)} rows for {len(is_place)} prompts; both need the same number of rows"
            )
        if codes is not None:
            lost = (codes >= 0).flatten(1).any(1) & (counts == 0)
            if bool(lost.any()):
                raise ValueError(
                    f"rows {lost.nonzero()[:, 0].tolist()} have long_view_codes, but their prompts no place for them: put {tokens} copies "
                    f"of {name} there, or {EMPTY} throughout their codes"
                )
        return bool(counts.any())


__all__ = ["LongViewMixin"]
