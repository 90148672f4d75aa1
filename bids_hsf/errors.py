"""Errors that users see, each with the exit code of the BIDS execution specification.

::

    BidsHsfError                    70  internal error, out of memory
      UsageError                     2  bad arguments
      InvalidDatasetError           16  the input is not a BIDS dataset
      UnknownAnalysisLevelError     17
      NothingSelectedError          18  the filters selected nothing
      ScanError                     65  one scan cannot be processed; the others go on
        UnreadableImageError
        LocalizationError
        MemoryLimitError
      NoInputError                  66  no such input
      ModelError                    69  a model that cannot be had or used
        CardError                       its card is wrong
        FetchError                      its files cannot be fetched or are damaged
      DeviceError                   69  an execution provider that cannot be had
      ClusterError                  69  a cluster that cannot be reached, or whose workers cannot run the app
      OutputError                   73  output cannot be created
      StorageError                  74  reading or writing failed

A run in which some scans failed exits with 1, one in which all failed with 65; see `workflow`.
"""


class BidsHsfError(Exception):
    """Base of all errors that are reported without a traceback.

    Parameters
    ----------
    message : str
        What happened, to which file, what was expected and what was found.
    hint : str, optional
        What to do next; printed on a line of its own.
    """

    exit_code = 70

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[type, tuple[str, str | None]]:
        """Keep the hint when the error crosses a process boundary."""
        return type(self), (self.message, self.hint)


class UsageError(BidsHsfError):
    """The command line asks for something impossible."""

    exit_code = 2


class InvalidDatasetError(BidsHsfError):
    """The input folder is not a BIDS dataset."""

    exit_code = 16


class UnknownAnalysisLevelError(BidsHsfError):
    """The analysis level is not participant, group or status."""

    exit_code = 17


class NothingSelectedError(BidsHsfError):
    """No scan matches the filters, or a label does not exist."""

    exit_code = 18


class ScanError(BidsHsfError):
    """One scan cannot be processed; the others are unharmed."""

    exit_code = 65


class UnreadableImageError(ScanError):
    """The image cannot be read, or is not one three-dimensional scan."""


class LocalizationError(ScanError):
    """The hippocampi were not found, or lie outside the field of view."""


class MemoryLimitError(ScanError):
    """The scan would need more memory than is allowed."""


class NoInputError(BidsHsfError):
    """The input, or the participant level's output, does not exist."""

    exit_code = 66


class ModelError(BidsHsfError):
    """A model cannot be had or used."""

    exit_code = 69


class CardError(ModelError):
    """A model card is malformed."""


class FetchError(ModelError):
    """A model file cannot be fetched, or is not the one that its card names."""


class DeviceError(BidsHsfError):
    """The execution provider that was asked for cannot be used."""

    exit_code = 69


class ClusterError(BidsHsfError):
    """The cluster that was named cannot be reached, or its workers cannot run the app."""

    exit_code = 69


class OutputError(BidsHsfError):
    """The output folder cannot be created or does not fit the request."""

    exit_code = 73


class StorageError(BidsHsfError):
    """Reading or writing failed: full disk, removed mount, permissions."""

    exit_code = 74
