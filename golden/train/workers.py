"""Training on several processes: what torchrun says about them, and torch.distributed while a run lasts.

``torchrun --nproc-per-node 2 -m shiftforge.cli train ...`` starts one process per worker. Each computes its share of every batch;
DistributedDataParallel makes the gradient that of the whole batch. BatchNorm uses the statistics of each share.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor, distributed

from shiftforge.errors import InputError


@dataclass(frozen=True)
class Workers:
    """The number of this process among all, and how many there are."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes files and shows progress."""
        return self.rank == 0

    def mean(self, value: Tensor) -> Tensor:
        """The mean of every worker's ``value``, the same on all of them."""
        if self.count == 1:
            return value
        total = value.detach().clone()
        distributed.all_reduce(total)
        return total / self.count


ALONE = Workers()


def from_environment() -> Workers:
    """The workers that torchrun started, or one."""
    try:
        workers = Workers(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))
    except ValueError:
        raise InputError("RANK and WORLD_SIZE must be integers, as torchrun sets them") from None
    if not 0 <= workers.rank < workers.count:
        raise InputError(f"RANK must be 0..{workers.count - 1}, not {workers.rank!r}")
    return workers


@contextmanager
def joined(device: str = "cpu") -> Iterator[Workers]:
    """The workers of this run, with torch.distributed ready between them where there are several."""
    workers = from_environment()
    if workers.count == 1:
        yield workers
        return
    distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield workers
    finally:
        distributed.destroy_process_group()
