"""Read the object boxes of a COCO JSON file.

Format: https://cocodataset.org/#format-data. A box is [x, y, width, height] in pixels, x and y of its upper left
corner.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from utils.convert.annotations import AnnotatedImage, Annotations, Box, Problems, distinct_names
from utils.convert.coco_entries import parse, polygon_box, read_entries, show
from utils.convert.options import ImportOptions, SetSource, set_of
from utils.errors import InputError, warn
from utils.files import MAX_PATH, read_bytes
from utils.text import list_names

TITLE = "a COCO JSON file"

_KEYS = (b'"images"', b'"annotations"', b'"categories"')
_LAYOUT_SAMPLE = 10_000  # boxes that are used to find out whether boxes are written as two corners
_ROUNDING = 1.01  # tolerance: a factor of areas, and pixels at the borders


def recognize(source: Path) -> bool:
    """Return whether `source` is a file of this format."""
    return source.is_file() and source.suffix.lower() == ".json"


def find_sets(source: Path, options: ImportOptions) -> dict[str, SetSource]:
    """Find the sets of a COCO JSON file, or of a folder with one such file per set."""
    if recognize(source):
        return options.sets_of(source)
    if not source.is_dir():
        return {}
    files = [path for path in sorted(source.rglob("*.json")) if _is_coco(path)]
    if len(files) == 1:
        return options.sets_of(files[0])
    # Roboflow: train/_annotations.coco.json; COCO: annotations/instances_train2017.json and other kinds of annotations.
    files = [path for path in files if path.stem.startswith("instances")] or files
    sets = defaultdict(list)
    for path in files:
        sets[set_of(path.stem) or set_of(path.parent.name)].append(path)
    if files and ("train" not in sets or any(len(found) > 1 for found in sets.values())):
        names = list_names([str(path.relative_to(source)) for path in files])
        raise InputError(f"{source}: expected one COCO JSON file per set, found {names}; name one as SOURCE")
    return {key: SetSource(path, options.images or _folder_of_set(path, key), None) for key, (path,) in sets.items()}


def _folder_of_set(path: Path, key: str) -> Path | None:
    """Return the only folder near a JSON file that is named after its set, as train2017/ is next to annotations/."""
    if set_of(path.parent.name):
        return None  # the file itself is in such a folder
    parents = (path.parent, path.parent.parent, path.parent.parent / "images")
    folders = [folder for parent in parents if parent.is_dir() for folder in parent.iterdir() if folder.is_dir()]
    named = [folder for folder in folders if set_of(folder.name) == key]
    return named[0] if len(named) == 1 else None


def _is_coco(path: Path) -> bool:
    content = read_bytes(path)
    return all(key in content for key in _KEYS)


def read(part: SetSource, options: ImportOptions, problems: Problems) -> Annotations:
    """Read a COCO JSON file; broken images and annotations are added to `problems`.

    The classes are all categories in the order of their ids, which need not be contiguous.

    Raises:
        InputError: not JSON, not the structure of COCO, a broken category, or boxes that are written as two corners.
    """
    path = part.source
    content = parse(path)
    names = _category_names(path, content, problems)
    images = _read_images(path, content, problems)
    _fill_boxes(path, content, problems)
    layouts = {}  # {(image, bbox): (fits as x, y, width, height; fits as x1, y1, x2, y2)}
    for where, entry in read_entries(path, content, "annotations", problems.dropped):
        image, class_name = images.get(entry["image_id"]), names.get(entry["category_id"])
        if image is None:
            problems.dropped.append(f"{where}: image_id: expected the id of an image, got {show(entry['image_id'])}")
        elif class_name is None:
            got = show(entry["category_id"])
            problems.dropped.append(f"{where}: category_id: expected the id of a category, got {got}")
        elif (entry["iscrowd"] or entry["ignore"]) and not options.keep_crowds:
            problems.skipped["boxes marked with iscrowd or ignore (--keep-crowds keeps them)"] += 1
        else:
            x, y, width, height = entry["bbox"]
            image.boxes.append(Box(class_name, (x, y, x + width, y + height), where))
            if image.size and len(layouts) < _LAYOUT_SAMPLE:
                layouts[(image.where, x, y, width, height)] = _possible_layouts(entry, image.size)
    _check_layout(path, Counter(layouts.values()))
    if len(layouts) > 1 and max(max(box) for _, *box in layouts) <= 1:
        raise InputError(f"{path}: bbox: expected [x, y, width, height] in pixels, got no value above 1: fractions?")
    return Annotations(list(images.values()), tuple(names.values()))


def _category_names(path: Path, content: dict, problems: Problems) -> dict[int | str, str]:
    """Return {category id: name} in the order of the ids."""
    broken = []
    categories = list(read_entries(path, content, "categories", broken))
    root = _find_root(path, content, [entry for _, entry in categories])
    names = {}
    for where, entry in categories:
        name = " ".join(entry["name"].split())
        if entry is root:
            problems.notes.append(f"{where}: {name!r} is not a class: it only groups the others, and no box has it")
            continue
        if entry["id"] in names:
            broken.append(f"{where}: expected a unique id, got {show(entry)}")
        names[entry["id"]] = name
    if broken:
        raise InputError(broken[0])
    # The format says that ids are integers; other texts are accepted and sorted after them.
    ids = sorted(names, key=lambda category_id: (isinstance(category_id, str), category_id))
    return dict(zip(ids, distinct_names([names[category_id] for category_id in ids], path), strict=True))


def _find_root(path: Path, content: dict, categories: Sequence[dict]) -> dict | None:
    """Return the category that Roboflow adds as the parent of all others, if no annotation has it."""
    groups = {entry.get("supercategory") for entry in categories if isinstance(entry.get("supercategory"), str)}
    for root in categories:
        if root["id"] == 0 and root.get("supercategory") == "none" and root["name"] in groups:
            annotations = read_entries(path, content, "annotations", [])
            return None if any(entry["category_id"] == 0 for _, entry in annotations) else root
    return None


def _read_images(path: Path, content: dict, problems: Problems) -> dict[int | str, AnnotatedImage]:
    """Return {image id: image without boxes}."""
    entries = list(read_entries(path, content, "images", problems.dropped))
    ends = Counter(_parts(name)[-1] for name in {entry["file_name"] for _, entry in entries})
    images = {}
    for where, entry in entries:
        name, size = entry["file_name"], (entry["width"], entry["height"])
        image = AnnotatedImage(_possible_names(name, ends), size if None not in size else None, [], where)
        first = images.setdefault(entry["id"], image)
        if first is not image:
            problems.dropped.append(f"{where}: id: expected a unique id, got that of {show(first.file_names[0])}")
    return images


def _parts(name: str) -> list[str]:
    return name.replace("\\", "/").split("/")


def _possible_names(name: str, ends: Counter[str]) -> tuple[str, ...]:
    """Return the name, then the name without its first folder, without its first two folders, and so on.

    Many programs write the folders of the annotator's computer or of a server. If two images have the same name in
    different folders, only the whole name is returned, because the shorter ones do not distinguish them.

    Args:
        ends: count of the images per last part of the name.
    """
    parts = _parts(name)
    if ends[parts[-1]] > 1 or len(name) > MAX_PATH:
        return (name,)
    return (name, *("/".join(parts[start:]) for start in range(1, len(parts)) if ".." not in parts[start:]))


def _fill_boxes(path: Path, content: dict, problems: Problems) -> None:
    """Give annotations that have polygons but no box the bounding box of the polygons."""
    count = 0
    for entry in content["annotations"]:
        if isinstance(entry, dict) and not entry.get("bbox"):
            box = polygon_box(entry.get("segmentation"))
            if box:
                entry["bbox"] = box
                count += 1
    if count:
        problems.notes.append(f"{path}: {count} annotations without bbox get the bounding box of their segmentation")


def _possible_layouts(entry: dict, size: tuple[float, float]) -> tuple[bool, bool]:
    """Return whether a bbox is inside its image if read as x, y, width, height, and if read as x1, y1, x2, y2."""
    a, b, c, d = entry["bbox"]
    right, bottom = (side + _ROUNDING for side in size)
    inside = min(a, b) >= -_ROUNDING
    fits_corners = inside and a < c <= right and b < d <= bottom
    area = entry.get("area")
    if fits_corners and isinstance(area, (int, float)):
        fits_corners = area <= (c - a) * (d - b) * _ROUNDING
    return inside and a + c <= right and b + d <= bottom, fits_corners


def _check_layout(path: Path, layouts: Counter[tuple[bool, bool]]) -> None:
    """Check that boxes are not written as two corners; the keys are those of `_possible_layouts`.

    Raises:
        InputError: most boxes extend beyond their image as x, y, width, height, but nearly all fit as two corners.
    """
    total = layouts.total()
    as_corners = layouts[True, True] + layouts[False, True]
    outside = layouts[False, True] + layouts[False, False]
    if total < 2 or as_corners < 0.95 * total:
        return
    expected = f"{path}: bbox: expected [x, y, width, height]"
    if outside > total / 2:
        raise InputError(f"{expected}, got corners [x1, y1, x2, y2], as which {as_corners} of {total} boxes fit")
    warn(f"{expected}, but {as_corners} of {total} boxes would also fit as corners [x1, y1, x2, y2]; check the boxes")
