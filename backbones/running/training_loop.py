"""The loop that every trainer runs: one step, one log line, one evaluation, one saved state at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from typing import Any, Protocol

from torch import Tensor

from backbones.running import distributed
from backbones.running.command_line import Interrupted
from backbones.running.interrupts import noticing_interrupts
from backbones.running.progress import Progress, progress
from backbones.running.run_folder import RunFolder
from backbones.running.run_options import Resolved
from backbones.running.tensorboard import ScalarWriter
from backbones.running.training_state import TrainingState

_STEPS_BETWEEN_QUESTIONS = 10
"""Several processes ask each other whether to stop; each time the host waits for the device."""


@dataclass(frozen=True)
class Pace:
    """How long a run is, and how often what happens, in iterations.

    Attributes:
        iterations: length of the run.
        batch_size: images of a step, over all processes.
        log_every, evaluate_every, checkpoint_every: iterations between them; the last iteration does all three.
    """

    iterations: int
    batch_size: int
    log_every: int
    evaluate_every: int
    checkpoint_every: int

    @classmethod
    def of(cls, options: Resolved) -> Pace:
        """That of a run's resolved options."""
        return cls(*(getattr(options, item.name) for item in fields(cls)))

    def due(self, step: int, every: int) -> bool:
        """Whether what happens every so often happens after ``step`` iterations."""
        return step % every == 0 or step == self.iterations


class Job(Protocol):
    """One run, as the loop sees it."""

    folder: RunFolder
    state: TrainingState

    def on_device(self) -> AbstractContextManager[Any]:
        """What has to surround this job's work on the device (a stream, where several jobs share it)."""

    def batches(self) -> Iterable[Any]:
        """What the steps from ``state.step`` on work on."""

    def train_step(self, batch: Any) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """One step of the optimizer. Returns losses, and other means to log, as scalars on their device."""

    def learning_rate(self) -> float:
        """That of the last step."""

    def evaluate(self) -> dict[str, float]:
        """Marks on the validation split, on all processes together; what only the main process knows."""

    def done(self) -> bool:
        """Whether the run ends before its last iteration; the same on all processes."""


def run_jobs(jobs: Sequence[Job], pace: Pace, *, resume: str, quiet: bool, tensorboard: bool = False) -> None:
    """Train jobs of the same pace side by side, to their end.

    Args:
        jobs: usually one; several seeds share the device.
        resume: the command that goes on with the run, for whoever interrupts it.
        quiet: no log lines.
        tensorboard: write TensorBoard files.

    Raises:
        Interrupted: a signal asked to stop; the states are saved.
    """
    if all(job.done() for job in jobs):
        return
    first = min(job.state.step for job in jobs)
    writers = [ScalarWriter(job.folder.path, tensorboard) for job in jobs]
    streams = [job.state.meter.timed(job.batches()) for job in jobs]
    with noticing_interrupts() as interrupted, progress("training", pace.iterations, first, quiet) as bar:
        for step in range(first + 1, pace.iterations + 1):
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
                    if pace.due(step, pace.log_every):
                        _log(job, pace, writer, bar)
                    with job.state.meter.paused():
                        if pace.due(step, pace.evaluate_every):
                            _record(job, job.evaluate(), writer)
                        if pace.due(step, pace.checkpoint_every) or stop or job.done():
                            _checkpoint(job)
            if all(job.done() for job in jobs):
                return
            if stop and step < pace.iterations:
                raise Interrupted(f"go on with: {resume}")


def _all_stop(asked: bool, step: int) -> bool:
    """Whether to stop after this step: the same answer on all processes, which a signal reaches at different steps."""
    if distributed.world_size() == 1:
        return asked
    return step % _STEPS_BETWEEN_QUESTIONS == 0 and any(distributed.gather_objects(asked))


def _log(job: Job, pace: Pace, writer: ScalarWriter, bar: Progress) -> None:
    losses, clock = job.state.meter.read(pace.batch_size)
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
