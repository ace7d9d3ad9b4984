"""Self-distillation on top of supervised fine-tuning (OneSearch-V2). Needs TRL and PEFT."""

from onesearch.extras import require

require("train", needed_by="training")
