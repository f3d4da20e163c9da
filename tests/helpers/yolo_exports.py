"""Small data sets as annotation tools export them, for tests of the importer."""

import json
import shutil

from tests.helpers.annotation_files import write_voc
from tests.helpers.dataset_files import write_image

SIZE = (64, 48)


def write_labeled(image, label_file, rows, seed):
    """Write an image and its label file; `rows` are (class id, cx, cy, w, h)."""
    write_image(image, *SIZE, seed=seed)
    label_file.parent.mkdir(parents=True, exist_ok=True)
    label_file.write_text("".join(f"{row[0]} {' '.join(map(repr, row[1:]))}\n" for row in rows), encoding="utf-8")


def write_all(images, place):
    """Write all images; `place` gives the paths of image and label file for a set and a name without suffix."""
    for seed, (key, name, rows) in enumerate(images):
        image, label_file = place(key, name)
        write_labeled(image, label_file, rows, seed)


def labelimg(folder, images, names):
    """Labels next to the images, and classes.txt. It has no sets."""
    write_all(images, lambda key, name: (folder / f"{name}.png", folder / f"{name}.txt"))
    (folder / "classes.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    return folder


def label_studio(folder, images, names):
    """images/, labels/, classes.txt and notes.json. It has no sets."""
    write_all(images, lambda key, name: (folder / "images" / f"{name}.png", folder / "labels" / f"{name}.txt"))
    (folder / "classes.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    notes = {"categories": [{"id": index, "name": name} for index, name in enumerate(names)], "info": {"year": 2024}}
    (folder / "notes.json").write_text(json.dumps(notes), encoding="utf-8")
    return folder


def roboflow(folder, images, names):
    """train/ and valid/ with images/ and labels/, and a data.yaml whose paths are wrong."""
    parts = {"train": "train", "val": "valid"}
    write_all(
        images,
        lambda key, name: (
            folder / parts[key] / "images" / f"{name}_jpg.rf.0a1b.png",
            folder / parts[key] / "labels" / f"{name}_jpg.rf.0a1b.txt",
        ),
    )
    lines = [f"{key}: ../{part}/images" for key, part in parts.items()]
    quoted = ", ".join("'" + name.replace("'", "''") + "'" for name in names)
    text = "\n".join([*lines, f"nc: {len(names)}", f"names: [{quoted}]", "roboflow:", "  version: 3"])
    (folder / "data.yaml").write_text(text + "\n", encoding="utf-8")
    return folder


def ultralytics(folder, images, names):
    """images/train and labels/train, and a YAML file with a path and names by id."""
    write_all(
        images,
        lambda key, name: (folder / "images" / key / f"{name}.png", folder / "labels" / key / f"{name}.txt"),
    )
    lines = ["path: ../datasets/mine", "train: images/train", "val: images/val", "names:"]
    lines += [f"  {index}: {json.dumps(name)}" for index, name in enumerate(names)]
    path = folder / "mine.yaml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def cvat(folder, images, names):
    """CVAT's "YOLO 1.1": obj.data, obj.names, obj_train_data/ and lists with paths that begin with data/."""
    folders = {"train": "obj_train_data", "val": "obj_valid_data"}
    write_all(images, lambda key, name: (folder / folders[key] / f"{name}.png", folder / folders[key] / f"{name}.txt"))
    lists = {"train": "train.txt", "val": "valid.txt"}
    for key, path in lists.items():
        lines = [f"data/{folders[key]}/{name}.png\n" for own, name, _ in images if own == key]
        (folder / path).write_text("".join(lines), encoding="utf-8")
    (folder / "obj.names").write_text("\n".join(names) + "\n", encoding="utf-8")
    text = (
        f"classes = {len(names)}\ntrain = data/train.txt\nvalid = data/valid.txt\nnames = data/obj.names\nbackup = b/\n"
    )
    (folder / "obj.data").write_text(text, encoding="utf-8")
    return folder / "obj.data"


def coco(folder, images, names):
    """Roboflow's COCO JSON: one folder with images and _annotations.coco.json per set, with a root category."""
    parts = {"train": "train", "val": "valid"}
    categories = [{"id": 0, "name": "root", "supercategory": "none"}]
    categories += [{"id": index, "name": name, "supercategory": "root"} for index, name in enumerate(names, 1)]
    for key, part in parts.items():
        entries, annotations = [], []
        for seed, (own, name, rows) in enumerate(images):
            if own != key:
                continue
            write_image(folder / part / f"{name}.png", *SIZE, seed=seed)
            entries.append({"id": seed, "file_name": f"{name}.png", "width": SIZE[0], "height": SIZE[1]})
            for class_id, *box in rows:
                x1, y1, x2, y2 = to_corners(box)
                box = [x1, y1, x2 - x1, y2 - y1]
                number = len(annotations)
                annotations.append({"id": number, "image_id": seed, "category_id": class_id + 1, "bbox": box})
        content = {"images": entries, "annotations": annotations, "categories": categories}
        (folder / part / "_annotations.coco.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def voc(folder, images, names):
    """VOC XML with ImageSets/Main; corners count from 0, with fractions."""
    lists = {"train": [], "val": []}
    for seed, (key, name, rows) in enumerate(images):
        write_image(folder / "JPEGImages" / f"{name}.png", *SIZE, seed=seed)
        objects = [(names[class_id], to_corners(box), False) for class_id, *box in rows]
        write_voc(folder / "Annotations" / f"{name}.xml", objects, SIZE, f"{name}.png")
        lists[key].append(name)
    (folder / "ImageSets" / "Main").mkdir(parents=True)
    for key, found in lists.items():
        (folder / "ImageSets" / "Main" / f"{key}.txt").write_text("\n".join(found) + "\n", encoding="utf-8")
    return folder


def to_corners(box):
    """Corners in pixels of a box (cx, cy, w, h)."""
    cx, cy, w, h = box
    width, height = SIZE
    return (cx - w / 2) * width, (cy - h / 2) * height, (cx + w / 2) * width, (cy + h / 2) * height


def zipped(write):
    """The same in a zip file."""

    def write_archive(folder, images, names):
        write(folder / "content", images, names)
        return shutil.make_archive(str(folder / "export 1.1"), "zip", folder / "content")

    write_archive.__name__ = f"zipped {write.__name__}"
    return write_archive
