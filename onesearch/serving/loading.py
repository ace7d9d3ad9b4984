"""Loading the parts of a checkpoint that a search needs, with errors that name a missing or damaged file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, cast

from onesearch.views.default_histories import FILE_NAME as DEFAULTS_NAME
from onesearch.views.default_histories import DefaultHistories

if TYPE_CHECKING:
    from onesearch.modeling_onesearch.modeling_onesearch import OneSearchForCausalLM, OneSearchForConditionalGeneration
    from onesearch.tokenization_sid.sids.sid_encoder import SidEncoder
    from onesearch.tokenization_sid.tokenization_sid import SidTokenizer
    from onesearch.views.history_table import HistoryTable

    from .dense_index import DenseIndex
    from .reranker import Reranker
    from .shown_items import ShownItems
    from .text_index import TextIndex

    OneSearchModel: TypeAlias = OneSearchForConditionalGeneration | OneSearchForCausalLM
    """Models that a searcher can search with."""

QUERY_ENCODER_NAME = "query_encoder"
"""Folder of a checkpoint that holds the encoder which makes the SIDs of queries."""

REWARD_NAME = "reward.json"
"""File that every folder of a reward model holds."""

FILE_ARGUMENTS = ("cache_dir", "local_files_only", "token", "revision", "subfolder")
"""Arguments of the Auto classes that say where a single file is loaded from."""


class CheckpointParts(NamedTuple):
    """The loaded parts of a checkpoint. Query encoder and default histories are None where its prompts do not need them, the reranker where
    it has no reward model, the text index, the shown items and the dense index where it has none, the history table where prompts show
    items as tokens."""

    model: OneSearchModel
    tokenizer: SidTokenizer
    query_encoder: SidEncoder | None
    defaults: DefaultHistories | None
    reranker: Reranker | None
    text_index: TextIndex | None
    shown: ShownItems | None
    history_table: HistoryTable | None
    dense: DenseIndex | None


def load_parts(
    checkpoint: str | Path, hub: Mapping[str, Any], with_reward: bool = True, plain: bool = False
) -> CheckpointParts:
    """Load a checkpoint folder or Hub repository.

    Args:
        checkpoint: folder or repository with config, weights, tokenizer and ``sid_index.safetensors``.
        hub: arguments of the Auto classes (``revision``, ``token``, ``dtype``, ...). The dtype ``"fastest"`` is ours: bfloat16 where this
            processor multiplies it much faster than float32, else float32; see `precision.py`.
        with_reward: False leaves the reward model out, so that a damaged one can be replaced.
        plain: load generator and reward model without transformers' model classes where that can be done; see `plain_model.py`.

    Raises:
        OSError: the folder or a part of it is missing (FileNotFoundError), or the repository cannot be reached.
        ValueError: a file is damaged.
    """
    _check_place(checkpoint, Path(checkpoint, hub.get("subfolder") or ""))
    files = {name: value for name, value in hub.items() if name != "dtype"}
    loaded = _plain_model_and_tokenizer(checkpoint) if plain and not hub else None
    model, tokenizer = _model_and_tokenizer(checkpoint, hub, files) if loaded is None else loaded
    encoder, defaults = _query_encoder(checkpoint, tokenizer, files), _defaults(checkpoint, tokenizer, files)
    text_index, shown = _text_index(checkpoint, files), _shown_items(checkpoint, files)
    reranker = _reranker(checkpoint, files, plain) if with_reward else None
    return CheckpointParts(
        model.eval(),
        tokenizer,
        encoder,
        defaults,
        reranker,
        text_index,
        shown,
        _history_table(checkpoint, tokenizer, files),
        _dense_index(checkpoint, files),
    )


def _model_and_tokenizer(
    checkpoint: str | Path, hub: Mapping[str, Any], files: Mapping[str, Any]
) -> tuple[OneSearchModel, SidTokenizer]:
    """Load both by the Auto classes of transformers."""
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

    from .precision import FASTEST, in_fastest_dtype

    is_fastest = hub.get("dtype") == FASTEST
    hub = files if is_fastest else hub
    try:
        config = AutoConfig.from_pretrained(checkpoint, **files)
        auto_class = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
        model: Any = auto_class.from_pretrained(checkpoint, **hub)
        tokenizer: Any = AutoTokenizer.from_pretrained(checkpoint, **files)
        model = in_fastest_dtype(model) if is_fastest else model
    except SafetensorError as error:
        raise ValueError(
            f"the weights in {checkpoint} (model.safetensors) are damaged ({error}); copy the checkpoint again"
        ) from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(
            f"a JSON file in {checkpoint} (tokenizer.json or tokenizer_config.json) is damaged ({error}); copy the checkpoint again"
        ) from error
    return model, tokenizer


def _plain_model_and_tokenizer(checkpoint: str | Path) -> tuple[OneSearchModel, SidTokenizer] | None:
    """Load both without transformers' model classes; None where the generator needs them."""
    from onesearch.tokenization_sid.tokenization_sid import SidTokenizer

    from .plain_model import load_plain_model

    model = load_plain_model(Path(checkpoint))
    return None if model is None else (cast("OneSearchModel", model), SidTokenizer.from_pretrained(checkpoint))


def _check_place(checkpoint: str | Path, folder: Path) -> None:
    """Refuse a path that leads to no checkpoint, before the Hub is asked for it."""
    if folder.is_dir():
        if (folder / "tokenizer.json").is_file():
            return
        if (folder / "checkpoint" / "tokenizer.json").is_file():
            raise FileNotFoundError(f"{folder} is the folder of a run; its checkpoint is {folder / 'checkpoint'}")
        raise FileNotFoundError(f"{folder / 'tokenizer.json'} does not exist; copy the checkpoint again")
    parts = Path(checkpoint).parts
    if isinstance(checkpoint, Path) or len(parts) > 2 or Path(parts[0]).is_dir():
        raise FileNotFoundError(
            f"{checkpoint}: there is no such folder; give the folder of a checkpoint, or organisation/name of one on the Hub"
        )


def _query_encoder(checkpoint: str | Path, tokenizer: SidTokenizer, files: Mapping[str, Any]) -> SidEncoder | None:
    """The encoder of queries, if the tokenizer's prompts hold their SIDs or vectors."""
    if not tokenizer.prompt.needs_query_encoder:
        return None
    from onesearch.tokenization_sid.sids.sid_encoder import SidEncoder

    subfolder = "/".join(part for part in (files.get("subfolder"), QUERY_ENCODER_NAME) if part)
    return SidEncoder.from_pretrained(checkpoint, subfolder, files.get("revision"))


def _reranker(checkpoint: str | Path, files: Mapping[str, Any], plain: bool) -> Reranker | None:
    """The reranker of a checkpoint, if it has a reward model."""
    from onesearch.views.reward.reward_folder import FOLDER_NAME

    folder = _local_folder(checkpoint, FOLDER_NAME, REWARD_NAME, files)
    if folder is None:
        return None
    from .reranker import Reranker

    return Reranker.from_pretrained(folder, plain)


def _dense_index(checkpoint: str | Path, files: Mapping[str, Any]) -> DenseIndex | None:
    """The dense index of a checkpoint, if it has one."""
    from .dense_index import FOLDER_NAME, ITEMS_NAME, DenseIndex

    folder = _local_folder(checkpoint, FOLDER_NAME, ITEMS_NAME, files)
    return None if folder is None else DenseIndex.from_pretrained(folder)


def _history_table(checkpoint: str | Path, tokenizer: SidTokenizer, files: Mapping[str, Any]) -> HistoryTable | None:
    """What is known of the items of histories, if the tokenizer's prompts show them as vectors."""
    if not tokenizer.prompt.has_vectors:
        return None
    from onesearch.views.history_table import FOLDER_NAME, SETTINGS_NAME, HistoryTable

    folder = _local_folder(checkpoint, FOLDER_NAME, SETTINGS_NAME, files)
    if folder is None:
        raise FileNotFoundError(f"{checkpoint} has no {FOLDER_NAME}/{SETTINGS_NAME}; copy the checkpoint again")
    return HistoryTable.load(folder, tokenizer.prompt)


def _local_folder(checkpoint: str | Path, name: str, held: str, files: Mapping[str, Any]) -> Path | None:
    """Folder of a checkpoint on this machine, fetched from the Hub where it lies there; None if it does not hold the file `held`."""
    from transformers.utils import cached_file

    hub = {argument: files[argument] for argument in FILE_ARGUMENTS if argument in files}
    folder = Path(checkpoint, hub.get("subfolder") or "", name)
    if not Path(checkpoint).is_dir():
        path = cached_file(checkpoint, f"{name}/{held}", _raise_exceptions_for_missing_entries=False, **hub)
        if path is None:
            return None
        folder = Path(path).parent
        _download_folder(checkpoint, name, hub)
    return folder if (folder / held).is_file() else None


def _download_folder(repository: str | Path, name: str, hub: Mapping[str, Any]) -> None:
    """Fetch a folder of a Hub repository, next to its files in the cache."""
    from huggingface_hub import snapshot_download

    pattern = "/".join(part for part in (hub.get("subfolder"), name, "*") if part)
    asked = {key: value for key, value in hub.items() if key != "subfolder"}
    snapshot_download(str(repository), allow_patterns=[pattern], **asked)


def _text_index(checkpoint: str | Path, files: Mapping[str, Any]) -> TextIndex | None:
    """The text index of a checkpoint, if it has one."""
    from transformers.utils import cached_file

    from .text_index import TEXT_INDEX_NAME, TextIndex

    hub = {name: files[name] for name in FILE_ARGUMENTS if name in files}
    path = cached_file(checkpoint, TEXT_INDEX_NAME, _raise_exceptions_for_missing_entries=False, **hub)
    return None if path is None else TextIndex.load(path)


def _shown_items(checkpoint: str | Path, files: Mapping[str, Any]) -> ShownItems | None:
    """Titles, brands and prices of a checkpoint, if it has any; the file is read when a hit is shown."""
    from transformers.utils import cached_file

    from .shown_items import SHOWN_ITEMS_NAME, ShownItems

    hub = {name: files[name] for name in FILE_ARGUMENTS if name in files}
    path = cached_file(checkpoint, SHOWN_ITEMS_NAME, _raise_exceptions_for_missing_entries=False, **hub)
    return None if path is None else ShownItems(path)


def _defaults(checkpoint: str | Path, tokenizer: SidTokenizer, files: Mapping[str, Any]) -> DefaultHistories | None:
    """The default histories, if the tokenizer's prompts use them."""
    if not tokenizer.prompt.default_history:
        return None
    from transformers.utils import cached_file

    path = cached_file(checkpoint, DEFAULTS_NAME, **{name: files[name] for name in FILE_ARGUMENTS if name in files})
    if path is None:
        raise FileNotFoundError(f"{checkpoint} has no {DEFAULTS_NAME}; copy the checkpoint again")
    return DefaultHistories.load(path)


__all__ = ["QUERY_ENCODER_NAME", "CheckpointParts", "load_parts"]
