"""Fine-tune a checkpoint with TRL: any prompts, and the Semantic IDs of the items that they should lead to.

Run `make demo` first, then: python examples/fine_tune.py
"""

from datasets import Dataset
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from onesearch import SidSFTConfig, SidSFTTrainer

model = AutoModelForSeq2SeqLM.from_pretrained("runs/demo/checkpoint")
tokenizer = AutoTokenizer.from_pretrained("runs/demo/checkpoint")
item_ids = model.sid_index.item_ids[:64]
dataset = Dataset.from_dict(
    {
        "input_ids": tokenizer.encode_prompts([f"spring sale {number}" for number in range(len(item_ids))]),
        "labels": tokenizer.sids_to_ids(model.sid_index.codes_of(item_ids)).tolist(),
    }
)
arguments = SidSFTConfig(output_dir="runs/fine-tuned/training", max_steps=4, per_device_train_batch_size=16, logging_steps=1)
trainer = SidSFTTrainer(model=model, args=arguments, train_dataset=dataset, processing_class=tokenizer)
trainer.train()
trainer.save_model("runs/fine-tuned/checkpoint")
tokenizer.save_pretrained("runs/fine-tuned/checkpoint")
print([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
