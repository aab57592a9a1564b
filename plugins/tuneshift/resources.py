"""Packaged data as paths: prompt sets, pair files, the embedded models, report templates."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from .errors import UsageError


def data_folder(package: str) -> Path:
    """Folder of a data package: ``fixtures``, ``reports`` or ``suites``.

    Raises UsageError where the package was imported from a zip file, because weights and templates are read by path.
    """
    folder = Path(str(files(f"tuneshift.{package}")))
    if not folder.is_dir():
        raise UsageError(f"tuneshift's data lies in {folder}, which is not a folder; install it unzipped.")
    return folder


def fixture(relative: str) -> Path:
    """Path of a file or folder below ``fixtures``, whether or not it exists."""
    return data_folder("fixtures") / relative


def checked_templates(folder: Path) -> Path:
    """A user's folder of report templates. Raises UsageError where it is not there, or no folder."""
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "is not there"
        raise UsageError(
            f"The folder of templates {folder} {what}. Name a folder whose templates are called like those in "
            f"{data_folder('reports') / 'templates'}; what it lacks is taken from there."
        )
    return folder
