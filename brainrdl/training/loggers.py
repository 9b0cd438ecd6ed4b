"""Fabric's loggers: what they were given is on disk when a training ends, however it ends."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from lightning_fabric.loggers.logger import Logger

from brainrdl.training.stopping import Stopped


@contextmanager
def closed(loggers: Sequence[Logger]) -> Iterator[None]:
    """Finalize loggers behind the block: with ``success``, ``failed``, or ``aborted`` where the process was ended."""
    status = "failed"
    try:
        yield
        status = "success"
    except (Stopped, KeyboardInterrupt, SystemExit):
        status = "aborted"
        raise
    finally:
        _each(loggers, lambda logger: logger.finalize(status))


def save(loggers: Sequence[Logger]) -> None:
    """Let loggers write what they hold: a process that is killed closes nothing."""
    _each(loggers, lambda logger: logger.save())


def _each(loggers: Sequence[Logger], act: Callable[[Logger], None]) -> None:
    """Do something with each logger once; what goes wrong costs neither the training nor the error that ended it."""
    for logger in {id(logger): logger for logger in loggers}.values():
        try:
            act(logger)
        except Exception as error:  # whatever a logger of the user's raises
            warnings.warn(
                f"the {type(logger).__name__} could not write what it holds ({type(error).__name__}: {error}); what it "
                "was given last may be missing from its files",
                stacklevel=4,
            )
