"""The folder of a checkpoint: the files that a new training replaces, and those that it writes."""

from __future__ import annotations

from pathlib import Path

from onesearch.modeling_onesearch.catalogue_onesearch import SID_INDEX_NAME
from onesearch.modeling_onesearch.search_config_onesearch import SearchConfig
from onesearch.serving.dense_index import FOLDER_NAME as DENSE_NAME
from onesearch.serving.loading import QUERY_ENCODER_NAME
from onesearch.serving.shown_items import SHOWN_ITEMS_NAME, ShownItems
from onesearch.signed_text import is_unedited
from onesearch.views.default_histories import FILE_NAME as DEFAULTS_NAME
from onesearch.views.history_table import FOLDER_NAME as HISTORY_NAME
from onesearch.views.reward.reward_folder import FOLDER_NAME as REWARD_NAME

from .models import SidModel
from .run_inputs import RunInputs

CHECKPOINT_PARTS = (
    *("*_onesearch.py", "*_unisearch.py"),
    *("tokenization_sid.py", "prompts.py", "ragged.py", "user_ids.py", "templates.py", "bpe.py"),
    *("*.safetensors", "*.safetensors.index.json"),
    *("config.json", "generation_config.json", "search_config.json", "adapter_config.json"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt"),
    *(QUERY_ENCODER_NAME, DEFAULTS_NAME, REWARD_NAME, DENSE_NAME, SHOWN_ITEMS_NAME, HISTORY_NAME),
)
"""Patterns of what a checkpoint holds, which a new training replaces. Other files in its folder stay, an edited card among them."""

CARD_NAME = "README.md"
"""The card of a checkpoint. It tells of one training: the next one removes it, unless somebody has edited it."""


def check_target(checkpoint: Path, overwrite: bool) -> None:
    """Refuse to replace a folder that is no checkpoint, and a checkpoint unless `overwrite`."""
    if not overwrite and (checkpoint / SID_INDEX_NAME).is_file():
        raise FileExistsError(
            f"{checkpoint} holds a trained checkpoint; --overwrite replaces it, --resume continues its training"
        )
    if checkpoint.is_dir() and any(checkpoint.iterdir()) and not (checkpoint / SID_INDEX_NAME).is_file():
        raise FileExistsError(f"{checkpoint} holds no checkpoint of this package (no {SID_INDEX_NAME}); move it away")


def replaced_files(checkpoint: Path) -> list[str]:
    """Patterns of what the new checkpoint replaces in the folder of an older one."""
    card = checkpoint / CARD_NAME
    unedited = card.is_file() and is_unedited(card.read_text(encoding="utf-8", errors="replace"))
    return [*CHECKPOINT_PARTS, CARD_NAME] if unedited else [*CHECKPOINT_PARTS]


def save_checkpoint(folder: Path, model: SidModel, inputs: RunInputs, search: SearchConfig) -> None:
    """Write everything that a search needs: weights, item index, search settings, tokenizer, query encoder, default histories and
    the items of histories; and the titles, brands and prices that its hits carry."""
    model.search_config = search
    model.save_pretrained(folder)
    inputs.tokenizer.save_pretrained(folder)
    ShownItems.save(inputs.builder.market, folder / SHOWN_ITEMS_NAME)
    if inputs.query_encoder is not None:
        inputs.query_encoder.save_pretrained(folder / QUERY_ENCODER_NAME)
    if inputs.defaults is not None:
        inputs.defaults.save(folder / DEFAULTS_NAME)
    if inputs.history_table is not None:
        inputs.history_table.save(folder / HISTORY_NAME, inputs.encoder)


__all__ = ["CARD_NAME", "CHECKPOINT_PARTS", "check_target", "replaced_files", "save_checkpoint"]
