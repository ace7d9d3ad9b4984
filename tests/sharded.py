"""Run by torchrun from test_invariants: a step of a model that FSDP2 shards over the processes against the step of a whole one.

Accelerate shards on accelerators only (on a processor it quietly falls back to DDP), so torch's own `fully_shard` is called, on the
modules that Accelerate's `TRANSFORMER_BASED_WRAP` would choose.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from toy import MODELS, trainer_of


def step(model, batch, part, count):
    own = {name: value[part] for name, value in batch.items()}
    loss = model(**own, fused_lm_head=True, num_items_in_batch=count).loss
    loss.backward()
    return loss.detach()


def compare(kind, folder):
    """Loss, gradients and ties of both; raises where they differ."""
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    trainer = trainer_of(MODELS[kind](), folder)
    whole = trainer.model.train()
    batch = trainer.data_collator([trainer.train_dataset[row] for row in range(8)])
    count = int((batch["shift_labels"] != -100).sum())
    expected = step(whole, batch, slice(None), count)
    sharded = trainer_of(MODELS[kind](), folder).model.train()
    mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (world,))
    for module in sharded.modules():
        if type(module).__name__ in sharded._no_split_modules:
            fully_shard(module, mesh=mesh)
    fully_shard(sharded, mesh=mesh)
    assert sharded.lm_head.weight is sharded.get_input_embeddings().weight, "the tie is gone"
    rows = slice(rank * 8 // world, (rank + 1) * 8 // world)
    loss = step(sharded, batch, rows, count / world)  # FSDP averages over processes, as TRL's factor expects
    dist.all_reduce(loss)
    torch.testing.assert_close(loss / world, expected)
    gradients = {name: parameter.grad for name, parameter in whole.named_parameters()}
    for name, parameter in sharded.named_parameters():
        torch.testing.assert_close(parameter.grad.full_tensor(), gradients[name], atol=1e-6, rtol=1e-4, msg=name)
    optimizer = torch.optim.AdamW(sharded.parameters(), lr=0.1)
    optimizer.step()
    assert sharded.lm_head.weight is sharded.get_input_embeddings().weight
    dist.destroy_process_group()
