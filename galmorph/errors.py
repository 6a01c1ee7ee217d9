"""Errors, with messages for users. The command line turns them into exit codes."""

from __future__ import annotations


class GalmorphError(Exception):
    """Wrong usage or unusable input: nothing was written. The message says what, which file or target, and what to do.

    Attributes
    ----------
    exit_code : int
        The exit code of the command line (2 here; children override it).
    """

    exit_code = 2


class CatalogError(GalmorphError):
    """A table that cannot be read, understood or written without loss."""


class CutoutError(GalmorphError):
    """A file that is not a usable cutout of a galaxy: in a catalog a flag of one target, never the end of a run."""


class ModelError(GalmorphError):
    """Weights, a card or a backbone that cannot be used."""


class WeightsUnavailable(ModelError):
    """Pretrained weights that are neither on the disk nor to be fetched."""


class SampleError(GalmorphError):
    """Labelled data that cannot be used for training or evaluation."""


class OutputError(GalmorphError):
    """An output that exists already or cannot be written."""


class CannotContinue(GalmorphError):
    """The run cannot go on (a service is down, the disk is full); what is done is kept and the run can be resumed."""

    exit_code = 3


class Interrupted(GalmorphError):
    """SIGINT or SIGTERM; what is done is kept and the run can be resumed."""

    exit_code = 130
