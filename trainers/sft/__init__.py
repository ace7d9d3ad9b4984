"""Supervised fine-tuning: config, trainer and data. Needs TRL and PEFT."""

from onesearch.extras import require

require("train", needed_by="training")
