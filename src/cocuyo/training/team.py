"""The processes that fit one network together, as torch's own launcher starts them.

``torchrun --nproc-per-node 2 -m cocuyo train unet ...`` starts the command twice. Each process
prepares its share of the recordings and of every batch; gradients are averaged before each step, so
that all networks stay equal. The first process alone writes. Without the launcher there is one.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, distributed, nn

from cocuyo.core import CocuyoError, Progress, ProgressCallback, SettingsError

_Part = TypeVar("_Part")
# One process may simulate for hours while the others wait. The launcher ends all where one dies.
_PATIENCE = timedelta(days=7)


@dataclass(frozen=True)
class Team:
    """Which of the processes this one is.

    Attributes
    ----------
    rank : int
        From 0, which leads: it alone writes and shows progress.
    size : int
        Number of processes; 1 without the launcher.
    device : torch.device or None
        Where this process trains; None without the launcher, where each network has its place.
    """

    rank: int = 0
    size: int = 1
    device: torch.device | None = None

    @property
    def leads(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def share(self, n: int) -> slice:
        """Say which of several things in a row are this process's.

        Parameters
        ----------
        n : int
            How many there are, at least 0.

        Returns
        -------
        slice
            Shares differ by one at most, follow on each other, and may be empty; the first one is
            not, where there is anything.

        Examples
        --------
        >>> [list(range(5))[Team(rank, 2).share(5)] for rank in range(2)]
        [[0, 1, 2], [3, 4]]
        """
        start, stop = (-(-rank * n // self.size) for rank in (self.rank, self.rank + 1))
        return slice(start, stop)

    def own(self, rng: np.random.Generator) -> np.random.Generator:
        """Give a generator for what only this process draws.

        Parameters
        ----------
        rng : numpy.random.Generator
            The generator of the step, in the same state in all processes.

        Returns
        -------
        numpy.random.Generator
            The same one where there is one process; otherwise one for each.
        """
        return rng if self.size == 1 else rng.spawn(self.size)[self.rank]

    def join(self, network: nn.Module, loss: Tensor | None, weight: float) -> float:
        """Average gradients and running statistics over all processes.

        Parameters
        ----------
        network : nn.Module
            After the backward pass; gradients and buffers are changed in place.
        loss : Tensor or None
            The scalar loss of this process's share; None where the share is empty.
        weight : float
            Weight of the share: how many examples it has.

        Returns
        -------
        float
            The mean loss.

        Raises
        ------
        CocuyoError
            If another process has ended.
        """
        if self.size == 1:
            assert loss is not None
            return float(loss.detach())
        parts: list[Tensor] = [buffer for buffer in network.buffers() if buffer.is_floating_point()]
        for parameter in network.parameters():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            parts.append(parameter.grad)
        with torch.no_grad():
            told = parts[0].new_tensor([0.0 if loss is None else float(loss.detach()), 1.0])
            joined = weight * torch.cat([*(part.flatten() for part in parts), told])
            with _others():
                distributed.all_reduce(joined)
            joined /= joined[-1].clone()
            pieces = torch.split(joined[:-2], [part.numel() for part in parts])
            for part, piece in zip(parts, pieces, strict=True):
                part.copy_(piece.view(part.shape))
        return float(joined[-2])

    def agree(self, value: _Part) -> _Part:
        """Give all processes what the first one has.

        Parameters
        ----------
        value : object
            Numbers and tensors on the processor; counts in the first process only.

        Returns
        -------
        object
            That of the first process.

        Raises
        ------
        CocuyoError
            If another process has ended.
        """
        if self.size == 1:
            return value
        told: list[Any] = [value]
        with _others():
            distributed.broadcast_object_list(told, src=0, device=torch.device("cpu"))
        return told[0]  # type: ignore[no-any-return]  # what the first one put in

    def wait(self) -> None:
        """Wait until all processes have come here.

        Raises
        ------
        CocuyoError
            If another process has ended.
        """
        if self.size > 1:
            with _others():
                distributed.all_reduce(torch.zeros(1))  # on processors: no GPU is woken by it


ALONE = Team()
"""One process, without the launcher."""


@contextmanager
def _others() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # gloo's
        first = str(error).splitlines()[0]
        msg = f"Another process of this training has ended; its own error says why ({first})."
        raise CocuyoError(msg) from error


@contextmanager
def open_team() -> Iterator[Team]:
    """Find the other processes where torch's launcher has started this one.

    Yields
    ------
    Team
        `ALONE` without the launcher; otherwise connected while this lasts.

    Raises
    ------
    SettingsError
        If this torch cannot connect processes, there are fewer GPUs than processes, or the others
        do not answer.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield ALONE
        return
    rank, size, local_rank, n_local = (
        int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    )
    n_gpus = torch.cuda.device_count()
    if n_gpus and n_gpus < n_local:
        msg = (
            f"{n_local} processes on this machine and {n_gpus} GPUs; give torchrun "
            f"--nproc-per-node {n_gpus}, or train on processors with CUDA_VISIBLE_DEVICES= (empty)."
        )
        raise SettingsError(msg)
    device = torch.device("cuda", local_rank) if n_gpus else torch.device("cpu")
    if size == 1:
        yield Team(device=device)
        return
    _connect("cpu:gloo,cuda:nccl" if n_gpus else "gloo", rank, size)
    team = Team(rank, size, device)
    yield team
    # After an error the others may be gone: the process ends without asking them.
    team.wait()  # for what the first one writes
    distributed.destroy_process_group()


def _connect(backend: str, rank: int, size: int) -> None:
    usable = distributed.is_available()
    for name, is_there in (
        ("gloo", usable and distributed.is_gloo_available()),
        ("nccl", usable and distributed.is_nccl_available()),
    ):
        if name in backend and not is_there:
            msg = (
                f"Training in {size} processes needs {name}, which this PyTorch was built without; "
                "install the usual build, or train without torchrun."
            )
            raise SettingsError(msg)
    try:
        distributed.init_process_group(backend, rank=rank, world_size=size, timeout=_PATIENCE)
    except (RuntimeError, ValueError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        msg = f"Process {rank} of {size} could not connect to the others: {first}"
        raise SettingsError(msg) from error


def collect(
    one: Callable[[int], _Part],
    seeds: Sequence[int],
    *,
    n_workers: int,
    stage: str,
    progress: ProgressCallback,
    team: Team = ALONE,
) -> list[_Part]:
    """Collect from each recording, in several processes where asked.

    Parameters
    ----------
    one : callable
        What a recording teaches, by its seed, kept on disk once made; can be pickled.
    seeds : sequence of int
        The recordings.
    n_workers : int
        Processes that this one starts.
    stage : str
        Name for the progress.
    progress : callable
        Called after each recording.
    team : Team, optional
        Those who fit the network: each makes a part of the recordings, all read them all.

    Returns
    -------
    list
        In the order of the seeds.
    """
    if team.size > 1:
        _collect(one, seeds[team.rank :: team.size], n_workers, stage, progress)
        team.wait()
        return [one(seed) for seed in seeds]
    return _collect(one, seeds, n_workers, stage, progress)


def _collect(
    one: Callable[[int], _Part],
    seeds: Sequence[int],
    n_workers: int,
    stage: str,
    progress: ProgressCallback,
) -> list[_Part]:
    parts: list[_Part] = []

    def add(found: Iterable[_Part]) -> None:
        for part in found:
            parts.append(part)
            progress(Progress(stage, len(parts), len(seeds)))

    if n_workers <= 1:
        add(map(one, seeds))
    else:
        with ProcessPoolExecutor(n_workers) as pool:
            add(pool.map(one, seeds))
    return parts
