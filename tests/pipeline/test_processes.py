"""The processes of one torchrun end together."""

from __future__ import annotations

from torch import distributed

from onesearch.pipeline.processes import leave_group


def test_the_group_is_ended_and_a_single_process_has_none(tmp_path):
    leave_group()
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'group'}", rank=0, world_size=1)
    leave_group()
    assert not distributed.is_initialized()
