"""Training, on TRL and Accelerate.

Each kind of training has a folder, and all folders have the same shape:

* ``<kind>_config.py``: a dataclass on TRL's own config, with every default that differs;
* ``<kind>_trainer.py``: a subclass of TRL's trainer;
* ``losses.py``: the loss, as functions of tensors;
* ``data/`` or ``data.py``: rows of the market as examples, examples as batches.

`sft` (supervised fine-tuning) comes first; `distillation` builds on it. Modules beside the folders are for every kind of training:

* ``training.py``, ``stages.py``, ``run_inputs.py``, ``validation.py``: train a run, stage after stage, and write its checkpoint;
* ``configs.py``, ``tasks.py``: the part ``training:`` of a recipe, which is read without torch, TRL and PEFT;
* ``models.py``, ``lora.py``: the model that is trained, and adapters for it;
* ``checkpoints.py``, ``prompt_watch.py``, ``trl_contract.py``: guards of the trainers;
* ``recipes/``: the recipes that ship with the package.
"""
