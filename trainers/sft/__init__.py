"""Supervised fine-tuning: config, trainer, data and losses. Needs TRL and PEFT."""

from onesearch.extras import require

require("train", needed_by="training")
