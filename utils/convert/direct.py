"""What --data accepts besides a .data file: a folder, data.yaml or obj.data, which is imported on first use."""

import os
import shlex
from pathlib import Path

from utils.convert.archive import is_archive
from utils.convert.importer import import_dataset
from utils.convert.options import ImportOptions, name_of
from utils.convert.write_darknet import SOURCE_MARK
from utils.errors import InputError
from utils.files import read_text

OUTPUT = Path("data")  # in the working directory


def import_once(source: Path) -> Path:
    """Import a data set to data/NAME, or use the import of an earlier run; NAME is the name of its folder.

    The folder of an import is also accepted.

    Returns:
        The .data file.

    Raises:
        InputError: the data set cannot be imported, it is an archive, or data/NAME was made from another one.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError(f"--data {source}: several processes cannot import it; import it first: {_command(source)}")
    if is_archive(source):
        raise InputError(f"--data {source}: a zip file has to be imported first: {_command(source)}")
    folder = (source if source.is_dir() else source.parent).resolve()
    name = name_of(folder)
    if folder == (OUTPUT / name).resolve():
        if (folder / f"{name}.data").exists():
            return OUTPUT / name / f"{name}.data"
        name += "-imported"
    path = OUTPUT / name / f"{name}.data"
    if not path.exists():
        import_dataset(ImportOptions(source=source, output=path.parent, place="auto"))
        print(f"later runs with --data {source} use {path}\n", flush=True)
        return path
    mark, _, origin = read_text(path).partition("\n")[0].partition(SOURCE_MARK)
    if mark or folder not in (Path(origin), Path(origin).parent):
        raise InputError(
            f"--data {source}: {path} exists and was not made from it; {_command(source)} imports it under another name"
        )
    print(f"using {path}, which was imported from {origin}; to import it again, remove {path.parent}\n", flush=True)
    return path


def _command(source: Path) -> str:
    """Return the command that imports a data set."""
    return f"python3 tools/import_dataset.py {shlex.quote(str(source))} --output data/NAME"
