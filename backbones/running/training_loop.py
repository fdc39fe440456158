"""The loop that every trainer runs: one step, one log line, one evaluation, one saved state at a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from backbones.running import distributed
from backbones.running.command_line import Interrupted
from backbones.running.interrupts import noticing_interrupts
from backbones.running.progress import Progress, progress
from backbones.running.run_folder import RunFolder
from backbones.running.run_options import Resolved
from backbones.running.training_state import TrainingState

_STEPS_BETWEEN_QUESTIONS = 10
"""Several processes ask each other whether to stop; each time the host waits for the device."""


class ScalarWriter:
    """TensorBoard files of numbers over iterations; none where that is not installed, or on other processes than the
    main one.

    Args:
        folder: the run folder; files go to ``tensorboard`` in it.
        wanted: False writes nothing.
    """

    def __init__(self, folder: Path, wanted: bool) -> None:
        self._writer: Any = None
        if wanted and distributed.is_main() and find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(folder / "tensorboard")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Add one point to the curve of each name."""
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)
            self._writer.flush()


class Job(Protocol):
    """One run, as the loop sees it."""

    folder: RunFolder
    state: TrainingState

    def on_device(self) -> AbstractContextManager[Any]:
        """What has to surround this job's work on the device (a stream, where several jobs share it)."""
        return nullcontext()

    def batches(self) -> Iterable[Any]:
        """What the steps from ``state.step`` on work on."""

    def train_step(self, batch: Any) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """One step of the optimizer. Returns losses, and other means to log, as scalars on their device."""

    def learning_rate(self) -> float:
        """That of the last step."""
        return float(self.state.optimizer.param_groups[0]["lr"])

    def evaluate(self) -> dict[str, float]:
        """Marks on the validation split, on all processes together; what only the main process knows."""

    def done(self) -> bool:
        """Whether the run ends before its last iteration; the same on all processes."""
        return False


def run_jobs(jobs: Sequence[Job], options: Resolved, resume: str) -> None:
    """Train jobs of the same pace side by side, to their end.

    Args:
        jobs: usually one; several seeds share the device.
        options: theirs, but for the seed: how long the runs are and how often what happens, in iterations; the last
            iteration does all of it.
        resume: the command that goes on with the run, for whoever interrupts it.

    Raises:
        Interrupted: a signal asked to stop; the states are saved.
    """
    if all(job.done() for job in jobs):
        return
    first = min(job.state.step for job in jobs)
    writers = [ScalarWriter(job.folder.path, options.tensorboard) for job in jobs]
    streams = [job.state.meter.timed(job.batches()) for job in jobs]
    length = options.iterations
    with noticing_interrupts() as interrupted, progress("training", length, first, options.quiet) as bar:
        for step in range(first + 1, length + 1):
            # A kill between two jobs' checkpoints leaves one behind: it catches up first.
            behind = [number for number, job in enumerate(jobs) if job.state.step < step]
            for job, batch in [(jobs[number], next(streams[number])) for number in behind]:
                with job.on_device():
                    job.state.meter.add(*job.train_step(batch))
                    job.state.step += 1
            bar.advance()
            stop = _all_stop(interrupted(), step)
            for job, writer in [(jobs[number], writers[number]) for number in behind]:
                with job.on_device():
                    if _due(step, options.log_every, length):
                        _log(job, options.batch_size, writer, bar)
                    with job.state.meter.paused():
                        if _due(step, options.evaluate_every, length):
                            _record(job, job.evaluate(), writer)
                        if _due(step, options.checkpoint_every, length) or stop or job.done():
                            _checkpoint(job)
            if all(job.done() for job in jobs):
                return
            if stop and step < length:
                raise Interrupted(f"go on with: {resume}")


def _due(step: int, every: int, length: int) -> bool:
    """Whether what happens every so often happens after ``step`` iterations."""
    return step % every == 0 or step == length


def _all_stop(asked: bool, step: int) -> bool:
    """Whether to stop after this step: the same answer on all processes, which a signal reaches at different steps."""
    if distributed.world_size() == 1:
        return asked
    return step % _STEPS_BETWEEN_QUESTIONS == 0 and any(distributed.gather_objects(asked))


def _log(job: Job, batch_size: int, writer: ScalarWriter, bar: Progress) -> None:
    losses, clock = job.state.meter.read(batch_size)
    rate = job.learning_rate()
    shown = "  ".join(f"{name} {value:.3f}" for name, value in losses.items())
    waiting = f"  waiting {clock['waiting']:.0%}" if clock["waiting"] >= 0.01 else ""
    bar.report(f"{shown}  rate {rate:.4g}  {clock['images_per_second']:.1f} images/s{waiting}")
    _record(job, {"learning_rate": rate, **losses, "time": clock}, writer)


def _record(job: Job, values: dict[str, Any], writer: ScalarWriter) -> None:
    if values and distributed.is_main():
        job.folder.record({"step": job.state.step, **values})
        writer.write(job.state.step, {**{k: v for k, v in values.items() if k != "time"}, **values.get("time", {})})


def _checkpoint(job: Job) -> None:
    job.state.save(job.folder.state)
    distributed.barrier()
