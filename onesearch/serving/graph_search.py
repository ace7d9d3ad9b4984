"""Search with exported graphs: onnxruntime runs the model, and the beam search, the trie and the items are those of `model.search`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from onesearch.extras import require
from onesearch.files import read_json
from onesearch.modeling_onesearch.catalogue_onesearch import SID_INDEX_NAME, SidIndex
from onesearch.modeling_onesearch.generation_onesearch import StepFunction, beam_search
from onesearch.modeling_onesearch.search_config_onesearch import SearchConfig, check_count

from .graph_export import ENCODER_NAME, FORMAT, GRAPH_NAME, STEP_NAME

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

    from onesearch.modeling_onesearch.filters_onesearch import ItemFilter
    from onesearch.modeling_onesearch.hits_onesearch import Hit


class GraphSearcher:
    """Finds items with the graphs of `export_graphs`; prompts are those of the checkpoint's tokenizer.

    Args:
        encoder: session of ``encoder.onnx``.
        step: session of ``step.onnx``.
        description: contents of ``graph.json``.
        index: item index.
        search_config: default settings of a search. The reward model is not part of an export.

    Example:
        >>> searcher = GraphSearcher.from_pretrained("exported")  # doctest: +SKIP
        >>> searcher.search(**tokenizer(["<s>red shoes</s>"], return_tensors="pt"))  # doctest: +SKIP
        >>> searcher.search(**Searcher.from_pretrained("checkpoint").model_inputs(requests))  # doctest: +SKIP
    """

    def __init__(
        self,
        encoder: InferenceSession,
        step: InferenceSession,
        description: dict[str, Any],
        index: SidIndex,
        search_config: SearchConfig,
    ) -> None:
        self.encoder = encoder
        self.step = step
        self.description = description
        self.index = index
        self.search_config = search_config

    @classmethod
    def from_pretrained(cls, folder: str | Path, threads: int = 0) -> GraphSearcher:
        """Load an export.

        Args:
            folder: folder that `export_graphs` wrote.
            threads: threads of onnxruntime; 0 takes one for each core.

        Raises:
            MissingExtraError: the extra ``onnx`` is not installed.
            FileNotFoundError: a file is missing.
            ValueError: the export has another format.
        """
        require("onnx", "onnxruntime", needed_by="GraphSearcher")
        from onnxruntime import InferenceSession, SessionOptions

        folder = Path(folder)
        description = read_json(folder / GRAPH_NAME)
        if description.get("format") != FORMAT:
            raise ValueError(
                f"{folder / GRAPH_NAME} has format {description.get('format')!r}, expected {FORMAT!r}; export again"
            )
        options = SessionOptions()
        options.intra_op_num_threads = threads
        encoder, step = (
            InferenceSession(str(folder / name), options, providers=["CPUExecutionProvider"])
            for name in (ENCODER_NAME, STEP_NAME)
        )
        index = SidIndex.load(folder / SID_INDEX_NAME)
        return cls(encoder, step, description, index, SearchConfig.from_pretrained(folder))

    def search(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        num_beams: int | None = None,
        top_k: int = 10,
        item_filter: ItemFilter | None = None,
        **views: torch.Tensor,
    ) -> list[list[Hit]]:
        """The hits of the model's own `search`, which documents the arguments.

        Args:
            input_ids: (queries, length) prompts.
            attention_mask: (queries, length), 0 where padded.
            num_beams: SIDs kept at each level.
            top_k: number of items per query.
            item_filter: only items that pass the filter.
            views: what the prompts hold besides tokens: `history_items`, `history_vectors`, `query_vectors`, `long_view_codes`, as far as
                the model reads them; one that is left out is empty for all queries.

        Raises:
            ValueError: a view is given that the graphs do not read.
        """
        config = self.search_config
        num_beams = config.num_beams if num_beams is None else num_beams
        check_count("num_beams", num_beams)
        check_count("top_k", top_k)
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        index = self.index.snapshot()
        trie = index.trie if item_filter is None else index.checked(item_filter).trie
        beams = beam_search(self._step(input_ids, mask, views), trie, len(input_ids), num_beams, finish_early=True)
        return index.hits(beams.leaves, beams.scores, top_k, config.items_per_sid, item_filter, None, config.rank_by)

    def _views(self, queries: int, given: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
        """Every view that the graphs read; one that is not given is empty."""
        read = self.description["views"]
        unknown = [name for name in given if name not in read]
        if unknown:
            raise ValueError(f"the graphs read no {', '.join(unknown)}; they read {', '.join(read) or 'tokens alone'}")
        found = {}
        for name, (shape, value) in read.items():
            kind = np.int64 if value < 0 else np.float32
            if name in given:
                found[name] = given[name].numpy().astype(kind)
                continue
            found[name] = np.full((queries, *shape), value, kind)
            if name == "history_items":  # gap and own embedding of no item
                found[name][..., len(self.description["sid_codebook_sizes"]) + 1 : -1] = 0
        return found

    def _step(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, views: Mapping[str, torch.Tensor]) -> StepFunction:
        """The graphs on some prompts, which are read here, once."""
        about = self.description
        sizes, offset = about["sid_codebook_sizes"], about["sid_offset"]
        starts = [offset + sum(sizes[:level]) for level in range(len(sizes))]
        mask = attention_mask.numpy().astype(np.int64)
        prompt = {"input_ids": input_ids.numpy().astype(np.int64), "attention_mask": mask, **self._views(len(mask), views)}
        cross_keys, cross_values = self.encoder.run(None, prompt)
        shape = (about["layers"], len(mask), about["heads"], 0, about["head_size"])
        own = [np.zeros(shape, np.float32), np.zeros(shape, np.float32)]

        def step(codes: torch.Tensor | None, parents: torch.Tensor | None, level: int) -> tuple[torch.Tensor, None]:
            """See `StepFunction`."""
            if codes is None or parents is None:
                own[:] = [np.zeros(shape, np.float32), np.zeros(shape, np.float32)]
                tokens, rows = np.full((len(mask), 1), about["decoder_start_token_id"]), np.arange(len(mask))
            else:
                tokens, rows = codes.numpy() + starts[level - 1], parents.numpy()
            inputs = {
                "tokens": tokens.astype(np.int64),
                "position": np.array([[level]], np.int64),
                "attention_mask": mask,
                "cross_keys": cross_keys,
                "cross_values": cross_values,
                "own_keys": own[0],
                "own_values": own[1],
                "parents": rows.astype(np.int64),
                "vocabulary": np.arange(starts[level], starts[level] + sizes[level]),
            }
            logits, own[0], own[1] = self.step.run(None, inputs)
            return torch.from_numpy(logits), None

        return step


__all__ = ["GraphSearcher"]
