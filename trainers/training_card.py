"""The card that a trainer writes and pushes: what was trained, how, and what the validation split measured; in place of TRL's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from onesearch.modeling_onesearch.card_onesearch import CARD_NAME, block, merge_cards, plain_card

from .lora import base_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from trl.trainer.base_trainer import _BaseTrainer as _Base
else:
    _Base = object

SHOWN = (
    "num_train_epochs",
    "max_steps",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "learning_rate",
    "lr_scheduler_type",
    "warmup_steps",
    "weight_decay",
    "seed",
)
"""Arguments of the trainer that the card shows."""


class TrainingCardMixin(_Base):
    """Stands before a TRL trainer among the parents: its card tells of this training and claims nothing else."""

    _name: str

    def create_model_card(  # type: ignore[override]  # TRL's own differs from transformers' in the same way
        self, model_name: str | None = None, dataset_name: str | None = None, tags: str | list[str] | None = None
    ) -> None:
        """Write ``README.md`` into `output_dir`. A card that is there keeps what people wrote, and its generated parts are renewed.

        Args:
            model_name: title; default: the name of `output_dir`.
            dataset_name: Hub id of the training data.
            tags: further tags.
        """
        if not self.is_world_process_zero():
            return
        path = Path(str(self.args.output_dir)) / CARD_NAME
        name = model_name or Path(str(self.args.output_dir)).name
        text = training_card(
            base_of(cast("PreTrainedModel", self.model)), name, self._name, self.args.to_dict(), self.state.log_history
        )
        if path.is_file():
            text = merge_cards(path.read_text(encoding="utf-8"), text).text
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def training_card(model: PreTrainedModel, name: str, trainer: str, arguments: dict[str, Any], log: list[dict[str, Any]]) -> str:
    """The card of a model in training.

    Args:
        model: the model.
        name: title.
        trainer: name of the trainer.
        arguments: its arguments.
        log: its log; of the entries of evaluations the loss and the retrieval metrics are shown.
    """
    settings = ", ".join(f"{key} {arguments[key]}" for key in SHOWN if key in arguments)
    parts = [f"Trained with {trainer}: {settings}."]
    measured = [entry for entry in log if "eval_loss" in entry]
    columns = [key for key in (measured[-1] if measured else {}) if key == "eval_loss" or "@" in key]
    if columns:
        names = [key.removeprefix("eval_") for key in columns]
        lines = [f"| epoch | {' | '.join(names)} |", "|---" * (1 + len(columns)) + "|"]
        for entry in measured:
            cells = [f"{entry[key]:.4f}" if key in entry else "–" for key in columns]
            lines.append(f"| {entry.get('epoch', 0):.2f} | {' | '.join(cells)} |")
        parts.append("On the validation split:\n\n" + "\n".join(lines))
    training = block("training", "\n\n".join(parts))
    return plain_card(model, name).replace("## Results\n", f"## Training\n\n{training}\n\n## Results\n")


__all__ = ["TrainingCardMixin", "training_card"]
