"""Packages that only one feature needs, imported when that feature is used."""

import importlib
from types import ModuleType

from utils.errors import RunError


def require(name: str, purpose: str) -> ModuleType:
    """Import a module.

    Args:
        name: name of the module; its first part is also the name of the package.
        purpose: the feature that needs the module, for the error message.

    Raises:
        RunError: the package is not installed, or fails to load.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        missing = isinstance(error, ModuleNotFoundError) and error.name == package
        reason = "which is not installed" if missing else f"which fails to load ({error})"
        raise RunError(f"{purpose} needs the package {package}, {reason}: pip install {package}") from error
