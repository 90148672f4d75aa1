"""How long a cluster of Dask may be without any worker: hours in the queue of a batch system, but not for ever."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from bids_hsf.errors import ClusterError

logger = logging.getLogger(__name__)

ASKING_SECONDS = 60.0  # without any worker, before that is said, and the batch system asked


@dataclass(frozen=True)
class Supply:
    """Where the workers of a run come from.

    Attributes
    ----------
    n_expected : int
        Workers that were asked for, beside those that are there.
    n_waiting : callable
        Counts their jobs that a batch system has not begun; None where it does not say.
    advice : callable
        Says what to do where no worker comes.
    """

    n_expected: int
    n_waiting: Callable[[], int | None]
    advice: Callable[[], str]


class Absence:
    """The time without any worker.

    Parameters
    ----------
    supply : Supply
    patience : float
        Seconds that it may take, from the last job on that waited in a queue.
    """

    def __init__(self, supply: Supply, patience: float) -> None:
        self._supply = supply
        self._patience = patience
        self._n_told: int | None = 0
        self.ends()

    def ends(self) -> None:
        """Take note that a worker is there."""
        self._since = self._asked_at = time.monotonic()

    def goes_on(self) -> None:
        """Take note that none is.

        Raises
        ------
        ClusterError
            That has been so for too long.
        """
        now = time.monotonic()
        if now - self._asked_at < min(ASKING_SECONDS, self._patience):
            return
        self._asked_at = now
        n_waiting = self._supply.n_waiting()
        if n_waiting == 0 and now - self._since >= self._patience:
            minutes = f"{self._patience / 60:g} minute(s)"
            raise ClusterError(f"No worker of Dask has been there for {minutes}", self._supply.advice())
        if n_waiting == 0:
            left = (self._patience - now + self._since) / 60
            logger.warning("No worker of Dask is there; waiting for one, for %.3g more minute(s)", left)
        else:
            self._since = now
            self._tell(n_waiting)
        self._n_told = n_waiting

    def _tell(self, n_waiting: int | None) -> None:
        """Say whom the run waits for, once: it may take a night."""
        if n_waiting is None:
            logger.warning("No worker of Dask is there, and the batch system does not tell its queue; waiting")
        elif n_waiting != self._n_told:
            logger.warning("No worker of Dask is there: %d job(s) wait in the queue of the batch system", n_waiting)
