"""Mixin of every model that emits Semantic IDs: its catalogue and its search settings are saved and loaded with its weights.

Travels to the Hub with the weights: imports nothing of this package.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from transformers.utils import cached_file

from .catalogue_onesearch import SID_INDEX_NAME, SID_UPDATES_NAME, SidIndex
from .constrained_onesearch import ConstrainedGenerateMixin
from .exports_onesearch import ExportMixin
from .history_onesearch import PromptViews
from .long_view_onesearch import LongViewMixin
from .publishing_onesearch import PublishMixin
from .search_config_onesearch import SEARCH_CONFIG_NAME, SearchConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    class _Base(ConstrainedGenerateMixin, ExportMixin, PublishMixin, PreTrainedModel):
        """For type checkers: the mixin stands before a model's class among its parents."""

        config: Any
        model: Any
        lm_head: Any
        generation_config: Any
else:

    class _Base(ConstrainedGenerateMixin, ExportMixin, PublishMixin):
        """The mixins of every model that emits Semantic IDs."""


HUB_ARGUMENTS = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder")
"""Arguments of `from_pretrained` that say where a file is loaded from."""


class SidModelMixin(_Base):
    """Catalogue, scores, search, saving and loading of a language model with a plain `lm_head`.

    Stands before the model's class among the parents. A subclass says how its backbone runs for beams (`_beam_decoder`) and which of its
    modules embeds the prompt (`_prompt_reader`).
    """

    def _prompt_reader(self) -> LongViewMixin:
        raise NotImplementedError

    def _finish(self, backbone: type, module: str = "modeling_onesearch") -> None:
        """End of a model's `__init__`: weights, in which `module` `AutoModel` finds the backbone, and how `generate` emits one SID."""
        config = self.config
        config.auto_map = {**(getattr(config, "auto_map", None) or {}), "AutoModel": f"{module}.{backbone.__name__}"}
        self.post_init()
        self.generation_config.update(**_sid_generation(config.sid_levels))
        used = {
            config.long_view_token_id: config.long_view_tokens,
            config.history_token_id: config.history_places,
            config.history_summary_token_id: len(config.history_summaries),
            config.query_vector_token_id: config.query_vector_size,
        }
        placeholders = [token for token, is_used in used.items() if is_used]
        if placeholders:  # a free `generate` must not emit a place of a vector, which a prompt has in one number only
            self.generation_config.suppress_tokens = placeholders
        self.generation_config._from_model_config = False  # or the settings above would be dropped when loading

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Self:
        """As in transformers; also loads the search settings and the item index that lie beside the weights.

        An adapter that PEFT itself has saved or pushed has neither: then those of its base are loaded.

        Raises:
            ValueError: the index belongs to other codebooks than the weights, a file is damaged, or the weights and the configuration have
                other layers, unless the caller asks for `output_loading_info`. Transformers would draw missing layers at random.
        """
        reports = kwargs.pop("output_loading_info", False)
        loaded: Any = super().from_pretrained(pretrained_model_name_or_path, *args, output_loading_info=True, **kwargs)
        model, report = loaded
        if not reports and not model._hf_peft_config_loaded:  # an adapter's own weights would count as missing
            _check_report(pretrained_model_name_or_path, report)
        where, hub = pretrained_model_name_or_path, _hub_arguments(kwargs)
        if model._hf_peft_config_loaded:  # `load_adapter` has loaded what lies beside the adapter
            where = next(iter(model.peft_config.values())).base_model_name_or_path or where
            hub = {name: value for name, value in hub.items() if name not in ("revision", "subfolder")}
        if "search_config" not in vars(model):
            model.search_config = SearchConfig.from_pretrained(where, **hub)
        if model.sid_index is None:
            model.load_sid_index(where, **hub)
        return loaded if reports else model

    def load_adapter(self, peft_model_id: str | None = None, *args: Any, **kwargs: Any) -> Any:
        """As in transformers; also takes over the search settings and the item index that lie beside the adapter, if there are any."""
        found = super().load_adapter(peft_model_id, *args, **kwargs)
        if peft_model_id is not None:
            hub = _hub_arguments({**kwargs, **(kwargs.get("adapter_kwargs") or {})})
            if cached_file(peft_model_id, SEARCH_CONFIG_NAME, _raise_exceptions_for_missing_entries=False, **hub) is not None:
                self.search_config = SearchConfig.from_pretrained(peft_model_id, **hub)
            self.load_sid_index(peft_model_id, **hub)
        return found

    def load_sid_index(self, folder_or_repo: str | os.PathLike, **kwargs: Any) -> bool:
        """Attach the item index in a folder or Hub repository, with its updates.

        `peft.PeftModel.from_pretrained(base, adapter)` leaves `base` with its own index: `load_sid_index(adapter)` gives it the adapter's.

        Args:
            folder_or_repo: folder or repository that holds `sid_index.safetensors`.
            kwargs: of these `cache_dir`, `force_download`, `local_files_only`, `token`, `revision` and `subfolder` are used.

        Returns:
            Whether there is an index.

        Raises:
            ValueError: the index belongs to other codebooks than the weights, or is damaged.
        """
        hub = _hub_arguments(kwargs)
        paths = [
            cached_file(folder_or_repo, name, _raise_exceptions_for_missing_entries=False, **hub)
            for name in (SID_UPDATES_NAME, SID_INDEX_NAME)  # the index looks for its updates beside it
        ]
        if paths[1] is not None:
            self.set_sid_index(SidIndex.load(paths[1]))
        return paths[1] is not None

    def save_pretrained(self, save_directory: str | os.PathLike, *args: Any, **kwargs: Any) -> None:
        """As in transformers; also writes the search settings, and the item index if one is set.

        Raises:
            ValueError: weights that the configuration ties have come apart: the checkpoint would hold one of them, and load as another
                model.
        """
        self._check_ties(kwargs.get("state_dict"))
        super().save_pretrained(save_directory, *args, **kwargs)
        if kwargs.get("is_main_process", True):
            self._save_search_files(save_directory)

    def _upload_modified_files(self, working_dir: str | os.PathLike, *args: Any, **kwargs: Any) -> Any:
        """See [`PublishMixin`]; within `save_pretrained(push_to_hub=True)` it runs before the line above has written the files."""
        self._save_search_files(working_dir)
        return super()._upload_modified_files(working_dir, *args, **kwargs)

    def _save_search_files(self, folder: str | os.PathLike) -> None:
        """Write the search settings and, if there is one, the item index."""
        self.search_config.save_pretrained(folder)
        if self.sid_index is not None:
            self.sid_index.save(os.path.join(folder, SID_INDEX_NAME))

    def _check_ties(self, state_dict: Mapping[str, torch.Tensor] | None) -> None:
        """Raise ValueError if weights that the configuration ties have different values in the model, or in `state_dict` if it is given."""
        tensors = dict(self.named_parameters(remove_duplicate=False)) if state_dict is None else state_dict
        for name, source in self.all_tied_weights_keys.items():
            one, other = tensors.get(name), tensors.get(source)
            if (
                one is None or other is None or one is other
            ):  # an adapter's wrapper has other names, and saves the adapter alone
                continue
            if one.shape != other.shape or not torch.equal(one, other):
                raise ValueError(
                    f"{name} and {source} are tied by the configuration but differ, as after PEFT's modules_to_save: a checkpoint holds "
                    "one of them and would load as another model. Train the rows of the SIDs by trainable_token_indices instead, or untie "
                    "the weights before training (tie_word_embeddings=False)"
                )

    def embed_prompts(self, input_ids: torch.Tensor, **views: torch.Tensor | None) -> torch.Tensor:
        """Input embeddings (batch, length, d_model) of prompts (batch, length), with long view, history and query vector in their places.

        Args:
            input_ids: (batch, length) prompts.
            views: `long_view_codes`, `history_items`, `history_vectors` and `query_vectors`; see `forward`.
        """
        return self._prompt_reader().embed_prompt(input_ids, views=PromptViews(**views))

    def set_long_view_centroids(self, tables: Sequence[np.ndarray | torch.Tensor]) -> None:
        """Fill the long view's frozen codebooks, which then belong to the checkpoint.

        Args:
            tables: (sid_codebook_sizes[level], long_view_dim) centroids of each of the first `long_view_levels` levels; for residual levels
                those of the residuals, as the codebooks hold them.

        Raises:
            ValueError: the model has no long view, or the shapes do not fit the model's.
        """
        reader = self._prompt_reader()
        if reader.long_view is None:
            raise ValueError("the model has no long view: its configuration has long_view_tokens=0")
        reader.long_view_pooling.set_centroids(tables)


def _check_report(source: object, report: Mapping[str, Any]) -> None:
    """Raise ValueError if a checkpoint lacks weights of the model, or has layers that the model lacks.

    Long view, history and query vector may be missing: `from_pretrained(..., long_view_tokens=…)` adds one to a model without.

    Args:
        source: folder or repository of the checkpoint.
        report: loading information of transformers.
    """
    views = ("long_view", "history_reader", "query_reader")
    missing = sorted(name for name in report["missing_keys"] if not any(view in name for view in views))
    left = sorted(name for name in report["unexpected_keys"] if ".layers." in name)
    if missing or left:
        problem = (
            f"no {missing[0]}, which its configuration asks for"
            if missing
            else f"{left[0]}, which its configuration leaves out"
        )
        raise ValueError(
            f"the weights of {source} have {problem} ({len(missing)} missing, {len(left)} left over): correct the sizes in config.json, or "
            "pass output_loading_info=True to load it as it is"
        )


def _hub_arguments(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `kwargs` that say where a file is loaded from."""
    return {name: kwargs[name] for name in HUB_ARGUMENTS if kwargs.get(name) is not None}


def _sid_generation(levels: int) -> dict[str, object]:
    """Settings under which `generate` with `logits_processor` finds the SIDs of `search`: one SID, renormalised over the trie."""
    fixed = {
        "max_new_tokens": levels or None,
        "min_new_tokens": levels or None,
        "eos_token_id": None,
        "forced_eos_token_id": None,
    }
    return {**fixed, "renormalize_logits": True}


__all__ = ["SidModelMixin"]
