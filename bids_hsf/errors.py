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
        ImageStorageError
        DiskError                       a disk takes nothing more, whatever is written

A run in which some scans failed exits with 1, one in which all failed with 65; see `workflow`.
"""


class BidsHsfError(Exception):
    """An internal error, or memory ran out; also the parent of all others, which are told without a traceback.

    Parameters
    ----------
    message : str
        What happened, to which file, what was expected and what was found.
    hint : str, optional
        What to do next; printed on a line of its own.

    Attributes
    ----------
    exit_code : int
        What the program leaves by.
    remedy : str
        What helps with errors of this kind; the documentation tells it where a message has no hint of its own.
    """

    exit_code = 70
    remedy = (
        "Run the same command again: finished scans are kept. If it comes back, report it with the newest file in "
        "logs/ of the output folder; where memory ran out, lower --nprocs or give the job more memory."
    )

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = (hint or "").strip() or None

    def __reduce__(self) -> tuple[type, tuple[str, str | None]]:
        """Keep the hint when the error crosses a process boundary."""
        return type(self), (self.message, self.hint)


class UsageError(BidsHsfError):
    """The command line asks for something impossible."""

    exit_code = 2
    remedy = "Look the option up in bids-hsf --help; the message names the nearest one that exists."


class InvalidDatasetError(BidsHsfError):
    """The input folder is not a BIDS dataset."""

    exit_code = 16
    remedy = (
        "Give the folder that holds dataset_description.json and the sub-* folders; a single image needs no "
        "dataset: bids-hsf scan_T1w.nii.gz OUTPUT_DIR."
    )


class UnknownAnalysisLevelError(BidsHsfError):
    """The analysis level is not participant, group or status."""

    exit_code = 17
    remedy = "The third word is the level; the message lists those that exist."


class NothingSelectedError(BidsHsfError):
    """No scan matches the filters, or a label does not exist."""

    exit_code = 18
    remedy = (
        "Compare labels, sessions and filters with the dataset; --dry-run shows what is found without any work done."
    )


class EmptyShardError(NothingSelectedError):
    """A slice of the participants has nothing to do; others may have: no reason for a job to fail."""

    remedy = "Nothing has to be done. An array of fewer tasks gives each of them some participants."


class ScanError(BidsHsfError):
    """One scan cannot be processed; the others are unharmed."""

    exit_code = 65
    remedy = "The other scans are whole. Mend or replace this one and run the same command again: only it is done."


class UnreadableImageError(ScanError):
    """The image cannot be read, or is not one three-dimensional scan."""

    remedy = "Open the image in a viewer; copy or convert it again from the original, then run the same command again."


class LocalizationError(ScanError):
    """The hippocampi were not found, or lie outside the field of view."""

    remedy = (
        "See whether the hippocampi are in the image and its orientation is right; --derivatives takes the "
        "place from another program's label maps."
    )


class MemoryLimitError(ScanError):
    """The scan would need more memory than is allowed."""

    remedy = "Raise --mem-mb or the job's memory, or lower --nprocs, then run the same command again."


class NoInputError(BidsHsfError):
    """The input, or the participant level's output, does not exist."""

    exit_code = 66
    remedy = "Check the path; in a container, check that the folder is mounted."


class ModelError(BidsHsfError):
    """A model cannot be had or used."""

    exit_code = 69
    remedy = "hsf-hub list shows the models; hsf-hub verify NAME checks the files of one."


class CardError(ModelError):
    """A model card is malformed."""

    remedy = "hsf-hub validate CARD.yaml tells the line; hsf-hub schema is the schema for your editor."


class FetchError(ModelError):
    """A model file cannot be fetched, or is not the one that its card names."""

    remedy = (
        "Fetch it where there is internet (hsf-hub fetch NAME --dest DIR) and set BIDS_HSF_CACHE=DIR; models "
        "named subfields_*, cobralab_* and longaxis_* need no download."
    )


class DeviceError(BidsHsfError):
    """The execution provider that was asked for cannot be used."""

    exit_code = 69
    remedy = "bids-hsf --device list shows what can be used here; --device cpu always works."


class ClusterError(BidsHsfError):
    """The cluster that was named cannot be reached, or its workers cannot run the app."""

    exit_code = 69
    remedy = (
        "Check that the scheduler runs and that its workers have bids-hsf of the same version, the dataset and the "
        "output folder under the same paths; without Dask: leave --executor out."
    )


class OutputError(BidsHsfError):
    """The output folder cannot be created or does not fit the request."""

    exit_code = 73
    remedy = "Choose another output folder, such as BIDS_DIR/derivatives/bids-hsf, or mend its permissions."


class StorageError(BidsHsfError):
    """Reading or writing failed: full disk, removed mount, permissions."""

    exit_code = 74
    remedy = (
        "Look at free space, quota, permissions and mounts, then run the same command again: finished scans are kept."
    )


class ImageStorageError(StorageError):
    """The disk or mount fails that an image lies on; where results are written may be another one."""

    remedy = (
        "Try to copy the image: if that fails, too, it is to be fetched again, onto a disk that works. If the mount "
        "was away for a while, the same command goes on with the scans that failed."
    )


class DiskError(StorageError):
    """A disk takes nothing more: it is full, over quota, read-only, fails, or is gone."""

    remedy = (
        "Free space or have the quota raised; see that the disk is mounted, and may be written to. Then run the same "
        "command again: finished scans are kept. After several of these in a row a run ends by itself."
    )
