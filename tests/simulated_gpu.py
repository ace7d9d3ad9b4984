"""A GPU that is none: its tensors lie on the processor, say that they are on device ``sim:0``, and meet no tensor of the processor.

Run as a script, it trains every kind of model of this package on that device, so that a tensor that was forgotten on one of the two sides
is found without a GPU: ``python tests/simulated_gpu.py FOLDER``. The device is registered for the whole process, and cannot be removed.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils import backend_registration as registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

NAME = "sim"
DEVICE = f"{NAME}:0"

VARIABLE = "ACCELERATE_TORCH_DEVICE"

COPIES = ("aten::_to_copy", "aten::copy_")
"""Operations that move values between devices."""

INDEXED = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_")
"""Operations on a GPU's tensor whose indices may lie on the processor, as with CUDA."""


HALF = {
    "linear", "matmul", "rmatmul", "mm", "mv", "bmm", "addmm", "addmv", "baddbmm", "einsum", "linalg_vecdot",
    "scaled_dot_product_attention",
}  # fmt: skip
SINGLE = {
    "binary_cross_entropy_with_logits", "cdist", "cosine_similarity", "cross_entropy", "cumprod", "cumsum", "exp", "expm1", "kl_div",
    "layer_norm", "log", "log1p", "log_softmax", "logsumexp", "mse_loss", "nll_loss", "norm", "normalize", "pow", "prod", "reciprocal",
    "rpow", "rsqrt", "rtruediv", "smooth_l1_loss", "softmax", "softplus", "sum",
}  # fmt: skip
WIDEST = {"addcdiv", "addcmul", "cat", "dot", "index_put", "scatter_add", "stack", "tensordot"}
"""Functions whose arguments CUDA's autocast makes bfloat16, float32, and as wide as the widest, by torch's ATen/autocast_mode.h. All others
take what they get, and may refuse a mixture."""


class Simulated(torch.Tensor):
    """A tensor on the simulated GPU; `held` has its values."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: torch.Tensor):
        layout = {"strides": held.stride(), "storage_offset": held.storage_offset(), "dtype": held.dtype, "layout": held.layout}
        return torch.Tensor._make_wrapper_subclass(cls, held.size(), **layout, device=torch.device(DEVICE))

    def __init__(self, held: torch.Tensor) -> None:
        self.held = held

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        return dispatched(operation, args, kwargs or {})

    # What torch reads without an operation.
    def untyped_storage(self):
        return self.held.untyped_storage()

    def data_ptr(self):
        return self.held.data_ptr()

    def tolist(self):
        return self.held.detach().tolist()

    def __repr__(self, **options):
        return f"Simulated({self.held!r})"

    def __format__(self, form):
        return format(self.held.item() if self.dim() == 0 else repr(self), form)


class CudaAutocast(TorchFunctionMode):
    """What CUDA's autocast does to the arguments of a function, while autocast is on for the simulated GPU."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if torch.is_autocast_enabled(NAME):
            name = getattr(function, "__name__", "").strip("_")
            wide = name in SINGLE or (name in WIDEST and torch.float32 in _floats((args, kwargs)))
            if wide or name in HALF:
                before, after = (torch.bfloat16, torch.float32) if wide else (torch.float32, torch.bfloat16)
                args, kwargs = tree_map(lambda leaf: _cast(leaf, before, after), (args, kwargs))
        return function(*args, **kwargs)


def _floats(values: Any) -> set[torch.dtype]:
    return {leaf.dtype for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor)}


def _cast(leaf: Any, before: torch.dtype, after: torch.dtype) -> Any:
    on_gpu = isinstance(leaf, torch.Tensor) and leaf.device.type == NAME
    return leaf.to(after) if on_gpu and leaf.dtype is before else leaf


class SimulatedGPU(TorchDispatchMode):
    """While it is open, tensors can be made on, and moved to, the simulated GPU. `operations` counts those that ran there."""

    operations = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        return dispatched(operation, args, kwargs or {})


def dispatched(operation: Any, args: tuple, kwargs: dict) -> Any:
    """Run an operation on the values that its tensors hold.

    Raises:
        RuntimeError: tensors of the simulated GPU and of the processor meet. Numbers (tensors without dimensions) may, as with CUDA.
    """
    name, device = operation._schema.name, kwargs.get("device")
    if name == "aten::_pin_memory":
        return args[0]
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    is_there = any(isinstance(tensor, Simulated) for tensor in tensors)
    if not is_there and device is None:
        return operation(*args, **kwargs)
    if is_there and name not in COPIES:
        _refuse_mixed(name, args, tensors)
        SimulatedGPU.operations += 1
    moved = {**kwargs, "device": "cpu"} if device is not None else kwargs
    own_args, own_kwargs = tree_map(_held, (args, {key: value for key, value in moved.items() if key != "pin_memory"}))
    found = operation(*own_args, **own_kwargs)
    if not operation._schema.returns:
        return None
    if "out" in kwargs:
        return kwargs["out"]
    if name.endswith("_") and operation._schema.is_mutable:
        return args[0]
    stays = torch.device(device).type == NAME if device is not None else is_there
    return tree_map(_simulated, found) if stays else found


def _refuse_mixed(name: str, args: tuple, tensors: list[torch.Tensor]) -> None:
    if name in INDEXED and isinstance(args[0], Simulated):
        tensors = [leaf for leaf in (args[0], *args[2:3]) if isinstance(leaf, torch.Tensor)]
    if any(not isinstance(tensor, Simulated) and tensor.dim() for tensor in tensors):
        shapes = ", ".join(f"{tuple(tensor.shape)} on {tensor.device}" for tensor in tensors)
        raise RuntimeError(f"{name}: tensors on two devices: {shapes}")


def _held(value: Any) -> Any:
    return value.held if isinstance(value, Simulated) else value


def _simulated(value: Any) -> Any:
    return Simulated(value) if isinstance(value, torch.Tensor) and not isinstance(value, Simulated) else value


class _Backend(registration._DummyBackendModule):
    def get_amp_supported_dtype(self):
        return [torch.bfloat16]


def install() -> tuple[torch.library.Library, torch.library.Library]:
    """Register the device, and make it the one that transformers and this package train on. Keep what it returns as long as it is used."""
    import sentence_transformers  # noqa: F401  before the next line, which it would not understand
    from transformers import TrainingArguments, training_args

    import onesearch.devices

    torch.inference_mode = torch.no_grad  # a tensor without a version cannot be wrapped
    registration._setup_privateuseone_for_python_backend(NAME, _Backend())
    torch.__future__.set_swap_module_params_on_conversion(True)  # tied weights stay tied where a module moves
    kernels = torch.library.Library("aten", "IMPL")
    kernels.impl("empty_strided", _empty_strided, "PrivateUse1")
    kernels.impl("_copy_from", _copy_from, "PrivateUse1")
    autocast = torch.library.Library("_", "IMPL")
    autocast.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")  # `CudaAutocast` casts
    onesearch.devices.count_gpus = lambda: 1
    training_args.is_torch_bf16_gpu_available = lambda: True
    made = TrainingArguments.__post_init__

    def __post_init__(arguments):  # Accelerate takes the device of this variable, also for trainings that stay on the processor
        os.environ.pop(VARIABLE, None) if arguments.use_cpu else os.environ.update({VARIABLE: DEVICE})
        made(arguments)

    TrainingArguments.__post_init__ = __post_init__
    return kernels, autocast


def _empty_strided(size, stride, dtype=None, layout=None, device=None, pin_memory=None):
    return Simulated(torch.empty_strided(size, stride, dtype=dtype, device="cpu"))


def _copy_from(source, target, non_blocking=False):
    _held(target).copy_(_held(source))
    return target


def recipes():
    """Name → a recipe of seconds: one with every kind of training of OneSearch, and UniSearch."""
    from conftest import tiny_recipe

    from onesearch.pipeline.recipe import EvaluationConfig
    from onesearch.trainers.configs import SidLoraConfig, StageConfig
    from onesearch.trainers.dense.dense_config import DenseConfig
    from onesearch.trainers.dpo.list_config import BeamListConfig
    from onesearch.trainers.dpo.preference_config import PreferenceConfig, PreferenceStage
    from onesearch.trainers.reward.negatives import NegativeSampling
    from onesearch.trainers.reward.reward_config import RewardConfig
    from onesearch.trainers.soft.soft_config import SoftTargetConfig
    from onesearch.trainers.unisearch.unisearch_config import UniSearchTrainingConfig

    tiny = tiny_recipe()
    reward = RewardConfig(hidden_size=8, attention_heads=2, tower_size=8, searches=40, negatives=NegativeSampling(category=4))
    few = {
        "bf16": True,
        "max_steps": 4,
        "per_device_train_batch_size": 8,
        "logging_steps": 2,
        "eval_strategy": "no",
        "save_strategy": "no",
    }
    beams = {"lists": BeamListConfig(num_beams=8), "arguments": {**few, "refresh_steps": 2}}
    preference = PreferenceConfig(
        stages=(
            PreferenceStage("dpo-1", **beams),
            PreferenceStage("dpo-2", **beams),
            PreferenceStage("grpo", method="grpo", preset="tpma", arguments={**few, "num_generations": 8}),
        ),
        validation_requests=5,
    )
    training = replace(
        tiny.training,
        prompt=replace(
            tiny.training.prompt, items=20, item_form="vector", item_summaries=("brand", "category"), query_vector=True
        ),
        soft_targets=SoftTargetConfig(weight=0.5, paths=2, reward=reward),
        stages=(StageConfig("alignment"), StageConfig("personalised")),
        arguments={
            **few,
            "eval_strategy": "steps",
            "eval_steps": 4,
            "sid_softmax": "children",
            "sid_smoothing": 0.1,
            "weight_average": "ema",
            "history_dropout": 0.1,
            "item_dropout": 0.1,
            "history_cuts": 0.1,
        },
        validation_requests=5,
    )
    market = replace(tiny.market, options={**tiny.market.options, "items": 150, "sessions": 300})
    base = replace(tiny, market=market, processes=2, evaluation=EvaluationConfig(sample=10), reward=reward)
    plain = replace(tiny.training.prompt, queries=0, sid=False, user=False, long_view_tokens=0, default_history=False)
    joint = UniSearchTrainingConfig(codebook_sizes=(8, 8), item_tokens=8, warm_up=0.4, freeze=0.6, refresh_steps=2)
    return {
        "onesearch": replace(base, training=training, dense=DenseConfig(epochs=1, searches=40), preference=preference),
        "decoder-only": replace(
            base,
            reward=None,
            training=replace(
                tiny.training,
                arguments=few,
                distillation={},
                lora=SidLoraConfig(r=4, dropout=0.1),
                model=replace(tiny.training.model, backbone="qwen3"),
            ),
        ),
        "unisearch": replace(
            base,
            training=replace(tiny.training, prompt=plain, unisearch=joint, arguments={**few, "max_steps": 12}),
        ),
    }


def _check_that_it_refuses() -> None:
    there, here = torch.ones(2, device=DEVICE), torch.ones(2)
    assert (there + there.sum()).cpu().tolist() == [3.0, 3.0]
    try:
        there + here
    except RuntimeError as error:
        assert "two devices" in str(error)
    else:
        raise AssertionError("tensors of two devices were added")


def _check_that_it_searches(checkpoint: Path) -> None:
    """The hits of a model on the GPU are those of the same model on the processor, by every kind of candidates and by the reward model."""
    from onesearch import Searcher

    here, there = Searcher.from_pretrained(checkpoint), Searcher.from_pretrained(checkpoint)
    history = here.index.item_ids[:3]
    with SimulatedGPU():
        there.model.to(DEVICE)
        for settings in ({}, {"rerank": False}, {"candidates": "beam+text"}, {"exclude": history[:1], "explain": True}):
            expected, found = (searcher.search("blue shoe", history=history, top_k=5, **settings) for searcher in (here, there))
            assert [hit.item_id for hit in expected] == [hit.item_id for hit in found], settings
        prompt = there.tokenizer(there.tokenizer.render_prompt("blue shoe"), return_tensors="pt").to(DEVICE)
        assert len(there.model.generate(**prompt, num_beams=4, num_return_sequences=4)) == 4


def main(folder: Path) -> None:
    """Run every recipe on the simulated GPU, and print how many operations ran there."""
    from onesearch.files import RunFolder
    from onesearch.pipeline.run import run_recipe

    kernels = install()
    with SimulatedGPU():
        _check_that_it_refuses()
    for name, recipe in recipes().items():
        before = SimulatedGPU.operations
        with SimulatedGPU(), CudaAutocast():
            run_recipe(recipe, RunFolder(folder / name), progress=False, baselines=False)
        if recipe.reward is not None:
            _check_that_it_searches(folder / name / "checkpoint")
        print(f"{name}: {SimulatedGPU.operations - before} operations")
    del kernels


if __name__ == "__main__":
    main(Path(sys.argv[1]))
