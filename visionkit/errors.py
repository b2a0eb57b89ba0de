"""What can go wrong for a user, and the exit code each kind gives the command line.

A message reads fact, rule, remedy: "image size must be divisible by 32, got 333; use 352".
Library functions raise these; only `visionkit.cli` prints them and exits.
"""


class VisionkitError(Exception):
    """Failed while running. The command line exits with 1."""

    exit_code = 1


class UsageError(VisionkitError):
    """The call's words are off: an unknown name, a flag out of range, two flags that disagree."""

    exit_code = 2


class ConfigError(VisionkitError):
    """A recipe has an unknown key, a wrong type or a value out of bounds."""

    exit_code = 2


class DataError(VisionkitError):
    """A dataset, an annotation file or an image is missing, broken or contradicts itself."""

    exit_code = 2


class CheckpointError(VisionkitError):
    """A weights or state file is missing, damaged, or made for something else."""

    exit_code = 2
