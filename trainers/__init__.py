"""Training, on TRL and Accelerate.

Each kind of training has a folder, and all folders have the same shape:

* ``<kind>_config.py``: a dataclass on TRL's own config, with every default that differs;
* ``<kind>_trainer.py``: a subclass of TRL's trainer, or of `SidSFTTrainer`;
* ``data/`` or ``data.py``: rows of the market as examples, examples as batches;
* ``losses.py``: the loss, as functions of tensors, where it is not the model's own.

`sft` (supervised fine-tuning) comes first; `distillation` builds on it. Modules beside the folders are for every kind of training:

* ``training.py``: trains a run, stage after stage, and writes its checkpoint. It uses ``run_inputs.py`` (tables, codes, tokenizer),
  ``stages.py`` (one stage) and ``validation.py`` (retrieval metrics);
* ``configs.py`` and ``tasks.py``: the part ``training:`` of a recipe, which is read without torch, TRL and PEFT;
* ``models.py`` and ``lora.py``: the model that is trained, and adapters for it;
* ``linear_layers.py``: linear layers by the faster of torch's libraries while a trainer trains;
* ``checkpoints.py``, ``prompt_watch.py`` and ``trl_contract.py``: checks that the trainers share;
* ``recipes/``: the recipes that ship with the package.
"""
