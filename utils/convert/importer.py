"""Import annotations of another format as a darknet data set.

tools/import_dataset.py calls `import_dataset`. Scripts whose --data is a folder, data.yaml or obj.data call
`import_once`, which imports the data set on first use.
"""

import contextlib
import os
import shlex
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from utils.convert.annotations import Problems, choose_classes
from utils.convert.archive import extract, is_archive
from utils.convert.formats import find_sets
from utils.convert.locate import LabeledImage, find_images, label_images
from utils.convert.options import DEFAULT_SPLIT, ImportOptions, name_of
from utils.convert.output_names import separate_names
from utils.convert.split import split_images
from utils.convert.write_darknet import SOURCE_MARK, images_to_label, write_dataset
from utils.errors import InputError, RunError, warn
from utils.files import read_text, write_text
from utils.text import align_columns, counted

SHOWN = 20  # problems that are printed; problems.txt has all
OUTPUT = Path("data")  # in the working directory; folder of the imports of `import_once`

_PLACED = {"link": "links to the images", "copy": "copies of the images", "in-place": "the images stay where they are"}


def import_dataset(options: ImportOptions) -> int:
    """Import a data set and print what was done.

    Returns:
        The exit status: 1 if broken entries were dropped, else 0.

    Raises:
        InputError: the annotations or the images cannot be used, or an option does not fit the format.
        RunError: no box is left.
    """
    problems = Problems()
    with _extracted(options) as source:
        sets, class_names = _read_sets(source, options, problems)
        _add_val(sets, options)
        if not sets["train"]:
            raise InputError(f"{options.source}: no image is left to train on{problems.reasons}")
        sets, place, unlabeled = _choose_place(sets, len(class_names), options.place, problems)
        print(_count_table(sets, class_names))
        path = write_dataset(sets, class_names, options, place, unlabeled)
    _report_problems(problems, options.output / "problems.txt")
    print(f"wrote {path}, names, lists, labels ({_PLACED[place]})")
    if "test" in sets:
        name = f"{options.name}-test.txt"
        print(f"{options.output / name} is not used for training; to evaluate on it, set val={name} in {path}")
    data = shlex.quote(str(path))
    print(f"next: python3 tools/check_dataset.py --data {data}")
    if "val" in sets:
        print(f"then: python3 train.py --data {data}")
    else:
        print(f"train.py and evaluation.py need a val list: set val= in {path}")
    return 1 if problems.dropped else 0


@contextlib.contextmanager
def _extracted(options: ImportOptions) -> Iterator[Path]:
    """Yield the source; an archive is extracted to OUTPUT/source.

    If the import fails, OUTPUT is removed, or emptied if it existed before.
    """
    source, existed = options.source, options.output.exists()
    try:
        if is_archive(source):
            source = options.output / "source"
            extract(options.source, source)
        yield source
    except BaseException:
        shutil.rmtree(options.output, ignore_errors=True)
        if existed:
            options.output.mkdir(exist_ok=True)
        raise


def _read_sets(
    source: Path, options: ImportOptions, problems: Problems
) -> tuple[dict[str, list[LabeledImage]], tuple[str, ...]]:
    """Read all sets of a source; return their labeled images and the class names."""
    reader, parts = find_sets(source, options)
    if options.split is not None and "val" in parts:
        raise InputError(f"--split: {options.source} has its own val set: {parts['val'].source}")
    annotations = {key: reader.read(part, options, problems) for key, part in parts.items()}
    class_names = choose_classes(annotations, options.names)
    if not class_names:
        raise InputError(f"{options.source}: expected annotations with objects, found none{problems.reasons}")
    sets = {}
    for key, part in parts.items():
        folder, paths = find_images(annotations[key].images, part.image_folders)
        print(f"{key}: {reader.TITLE}: {part.source}; images in {folder}")
        sets[key] = label_images(annotations[key].images, paths, folder, class_names, problems)
    for note in dict.fromkeys(problems.notes):
        print(f"note: {note}")
    if any(sets.values()) and not any(image.labels for images in sets.values() for image in images):
        raise RunError(f"{options.source}: no box is left{problems.reasons}")
    return sets, class_names


def _add_val(sets: dict[str, list[LabeledImage]], options: ImportOptions) -> None:
    """Move a share of the training set to a val set if the source has none."""
    share = options.split or DEFAULT_SPLIT
    if "val" in sets or share == 1:
        return
    why = "" if options.split else "no val set; "
    print(f"{why}split by class: {share:g} for train, the rest for val, seed {options.seed} (--split changes it)")
    sets["train"], sets["val"] = split_images(sets["train"], share, options.seed)


def _choose_place(
    sets: dict[str, list[LabeledImage]], classes: int, place: str, problems: Problems
) -> tuple[dict[str, list[LabeledImage]], str, set[Path]]:
    """Replace "auto" by "in-place" or "link", and give each image its own label file if label files are written.

    Returns:
        (sets, place, images whose labels have to be written if they stay in place)
    """
    if place == "auto":
        with contextlib.suppress(InputError):
            if not images_to_label(sets, classes):  # images may share a label file if none is written
                return sets, "in-place", set()
        place = "link"
    sets = separate_names(sets, place, problems)
    return sets, place, images_to_label(sets, classes) if place == "in-place" else set()


def _count_table(sets: dict[str, list[LabeledImage]], class_names: Sequence[str]) -> str:
    boxes = [Counter(row[0] for image in images for row in image.labels) for images in sets.values()]
    rows = [
        ["", *sets],
        ["images", *(len(images) for images in sets.values())],
        ["images without boxes", *(sum(not image.labels for image in images) for images in sets.values())],
        ["boxes", *(counter.total() for counter in boxes)],
        *(
            [f"{class_id} {name}", *(counter[class_id] for counter in boxes)]
            for class_id, name in enumerate(class_names)
        ),
    ]
    return align_columns([list(map(str, row)) for row in rows])


def _report_problems(problems: Problems, path: Path) -> None:
    for kind, count in problems.skipped.items():
        print(f"skipped: {count} {kind}")
    lines = [*(f"dropped: {line}" for line in problems.dropped), *(f"changed: {line}" for line in problems.changed)]
    if lines:
        for line in lines[:SHOWN]:
            warn(line)
        # Names of files need not be valid UTF-8.
        write_text(path, "\n".join(lines).encode("utf-8", "backslashreplace").decode() + "\n")
        dropped = counted(len(problems.dropped), "entry", "entries")
        print(f"dropped: {dropped}, changed: {len(problems.changed)}; {path} lists them")


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
    if changed := _changed_folder(folder, path):
        warn(f"{changed}: files were added or removed since the import; {path} has the images of that time")
    return path


def _changed_folder(folder: Path, data: Path) -> str | None:
    """Return a folder in which entries were added or removed since the .data file was written, if there is one."""
    imported = data.stat().st_mtime
    return next((name for name, _, _ in os.walk(folder) if os.stat(name).st_mtime > imported), None)


def _command(source: Path) -> str:
    """Return the command that imports a data set."""
    return f"python3 tools/import_dataset.py {shlex.quote(str(source))} --output data/NAME"
