"""The card of a trainer tells of its training, in place of TRL's text for chat models, and keeps what people wrote."""

from __future__ import annotations

from types import SimpleNamespace

from huggingface_hub import ModelCard
from tiny import tiny_model
from trl import SFTTrainer

from onesearch.modeling_onesearch.card_onesearch import NO_RESULTS
from onesearch.trainers.sft.sft_config import SidSFTConfig
from onesearch.trainers.sft.sft_trainer import SidSFTTrainer
from onesearch.trainers.training_card import TrainingCardMixin

LOG = [
    {"loss": 3.0, "epoch": 0.5},
    {"eval_loss": 2.5, "eval_hr@10": 0.125, "eval_runtime": 3.0, "epoch": 1.0},
    {"eval_loss": 2.25, "eval_hr@10": 0.25, "eval_runtime": 3.0, "epoch": 2.0},
]


def trainer(folder, log=LOG):
    """What `create_model_card` reads of a trainer."""
    args = SidSFTConfig(output_dir=str(folder), learning_rate=0.002, use_cpu=True, bf16=False)
    own = {"args": args, "model": tiny_model(), "_name": "OneSearch SFT", "state": SimpleNamespace(log_history=log)}
    return SimpleNamespace(**own, is_world_process_zero=lambda: True)


def test_the_card_tells_of_the_training(tmp_path):
    assert SidSFTTrainer.create_model_card is TrainingCardMixin.create_model_card is not SFTTrainer.create_model_card
    TrainingCardMixin.create_model_card(trainer(tmp_path / "shop"), dataset_name="x")
    text = (tmp_path / "shop" / "README.md").read_text()
    assert (
        "# shop\n" in text
        and "learning_rate 0.002" in text
        and "| 1.00 | 2.5000 | 0.1250 |\n| 2.00 | 2.2500 | 0.2500 |" in text
    )
    assert NO_RESULTS in text and "runtime" not in text
    assert not any(word in text for word in ("None", "time machine", "Quick start", "pipeline("))
    assert ModelCard(text).data.base_model is None
    path = tmp_path / "shop" / "README.md"
    path.write_text(text + "\nMine.\n")
    TrainingCardMixin.create_model_card(trainer(tmp_path / "shop", [*LOG, {"eval_loss": 2.0, "eval_hr@10": 0.5, "epoch": 3.0}]))
    assert path.read_text().endswith("\nMine.\n") and "| 3.00 | 2.0000 | 0.5000 |" in path.read_text()
