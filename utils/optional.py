"""Packages that only one feature needs, imported when it is used."""

import importlib

from utils.errors import RunError


def require(name, purpose):
    """The module of that name.

    Args:
        name: of the module, which is also the package's.
        purpose: what needs it, for the error.
    Raises:
        RunError: it is not installed, or fails to load.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        missing = isinstance(error, ModuleNotFoundError) and error.name == package
        reason = "which is not installed" if missing else f"which fails to load ({error})"
        raise RunError(f"{purpose} needs the package {package}, {reason}: pip install {package}") from error
