"""The errors a user can meet, each with the exit code that a script sees.

Every message says in one or two lines what was wrong, where, and what to do.
"""


class TuidlError(Exception):
    """An error that is told to the user without a traceback; `exit_code` is what the process ends with."""

    exit_code = 1


class UsageError(TuidlError):
    """A command, preset, key, value or run name that cannot be used."""

    exit_code = 2


class OwnershipError(UsageError):
    """The run belongs to another trainer now."""


class DataError(TuidlError):
    """A data set that is absent, damaged or cannot be fetched."""

    exit_code = 3


class DivergedError(TuidlError):
    """The loss or the gradient is no longer finite."""

    exit_code = 4


class DeviceError(TuidlError):
    """A device that does not exist, failed, or ran out of memory."""

    exit_code = 5


class StorageError(TuidlError):
    """A disk that is full or a directory that cannot be written; `full` tells that space may return by itself."""

    exit_code = 6

    def __init__(self, message: str, full: bool = False) -> None:
        super().__init__(message)
        self.full = full
