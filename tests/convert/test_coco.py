"""COCO JSON files; broken ones are tested in test_bad_inputs.py."""

import json

import pytest

from tests.helpers.annotation_files import write_coco
from utils.convert import coco
from utils.convert.annotations import Problems
from utils.convert.options import ImportOptions
from utils.errors import InputError

IMAGE = {"id": 1, "file_name": "a.png", "width": 320, "height": 240}
BOX = {"image_id": 1, "category_id": 1, "bbox": [80, 60, 160, 120], "area": 19200}


def read(path, **values):
    """Return the annotations and the problems of a COCO JSON file."""
    problems = Problems()
    options = ImportOptions(path, path.parent / "out", **values)
    return coco.read(options.sets_of(options.source)["train"], options, problems), problems


def read_content(folder, annotations, images=(IMAGE,), categories=({"id": 1, "name": "cat"},), **values):
    path = folder / "a.json"
    content = {"images": images, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(content), encoding="utf-8")
    return read(path, **values)


def boxes_of(annotations):
    return [(box.class_name, box.corners) for image in annotations.images for box in image.boxes]


def test_categories_are_in_the_order_of_their_ids(tmp_path):
    annotations, problems = read(write_coco(tmp_path)[0])
    assert annotations.class_names == ("traffic light", "猫", "dog")
    assert problems == Problems()


@pytest.mark.parametrize("keep", [False, True])
def test_crowds(keep, tmp_path):
    path, content = write_coco(tmp_path)
    for annotation in content["annotations"][:4]:
        annotation["iscrowd"] = 1
    path.write_text(json.dumps(content), encoding="utf-8")
    annotations, problems = read(path, keep_crowds=keep)
    crowds = 0 if keep else 4
    assert sum(len(image.boxes) for image in annotations.images) == len(content["annotations"]) - crowds
    assert problems.skipped.total() == crowds
    assert problems.dropped == []


@pytest.mark.parametrize("size", [{}, {"width": None, "height": None}])
def test_images_without_size(size, tmp_path):
    path, content = write_coco(tmp_path, ["a.png"])
    content["images"] = [{"id": 1, "file_name": "a.png", **size}]
    path.write_text(json.dumps(content), encoding="utf-8")
    annotations, problems = read(path)
    assert [image.size for image in annotations.images] == [None]
    assert problems == Problems()


def test_ids_as_text_and_as_numbers_are_the_same(tmp_path):
    annotations, problems = read_content(
        tmp_path,
        [{**BOX, "image_id": "1", "category_id": "0"}, {**BOX, "image_id": 1.0, "category_id": 0.0}],
        images=[{**IMAGE, "id": "1"}],
        categories=[{"id": 0, "name": "LP"}],
    )
    assert boxes_of(annotations) == [("LP", (80, 60, 240, 180))] * 2
    assert problems == Problems()


def test_boxes_to_ignore_are_crowds(tmp_path):
    given = [BOX, {**BOX, "ignore": 1}, {**BOX, "iscrowd": "1"}, {**BOX, "ignore": 0, "iscrowd": 0.0}]
    annotations, problems = read_content(tmp_path, given)
    assert len(boxes_of(annotations)) == 2
    assert problems.skipped.total() == 2
    assert "--keep-crowds" in next(iter(problems.skipped))
    annotations, problems = read_content(tmp_path, given, keep_crowds=True)
    assert len(boxes_of(annotations)) == 4
    assert problems == Problems()


ROOT = {"id": 0, "name": "fishes", "supercategory": "none"}


def test_the_root_category_of_roboflow_is_no_class(tmp_path):
    categories = [ROOT, *({"id": n, "name": f"fish{n}", "supercategory": "fishes"} for n in (1, 2))]
    annotations, problems = read_content(tmp_path, [BOX], categories=categories)
    assert annotations.class_names == ("fish1", "fish2")
    (note,) = problems.notes
    assert "categories[0]: 'fishes'" in note
    same_name = [{**ROOT, "name": "helmet"}, {"id": 1, "name": "helmet", "supercategory": "helmet"}]
    assert read_content(tmp_path, [BOX], categories=same_name)[0].class_names == ("helmet",)


@pytest.mark.parametrize(
    ("annotations", "categories"),
    [
        ([{**BOX, "category_id": 0}], [ROOT, {"id": 1, "name": "fish", "supercategory": "fishes"}]),
        ([BOX], [ROOT, {"id": 1, "name": "fish", "supercategory": "none"}]),
        ([BOX], [{**ROOT, "supercategory": "animals"}, {"id": 1, "name": "fish", "supercategory": "fishes"}]),
    ],
)
def test_categories_that_only_look_like_a_root_are_classes(annotations, categories, tmp_path):
    annotations, problems = read_content(tmp_path, annotations, categories=categories)
    assert annotations.class_names == ("fishes", "fish")
    assert problems == Problems()


@pytest.mark.parametrize("missing", [{}, {"bbox": None}, {"bbox": []}])
def test_polygons_without_box(missing, tmp_path):
    entry = {"image_id": 1, "category_id": 1, **missing, "segmentation": [[80, 60, 240, 60, 240, 180]]}
    annotations, problems = read_content(tmp_path, [entry])
    assert boxes_of(annotations) == [("cat", (80, 60, 240, 180))]
    (note,) = problems.notes
    assert "1 annotations without bbox" in note
    _, problems = read_content(tmp_path, [{**entry, "id": 7, "segmentation": [[1, 2]]}])
    assert len(problems.dropped) == 1
    assert "annotation id 7: bbox: " in problems.dropped[0]


def test_boxes_given_by_two_corners_are_refused(tmp_path):
    corners = [(80, 60, 300, 220), (200, 100, 310, 230), (10, 10, 60, 60)]
    with pytest.raises(InputError, match=r"a\.json: bbox: .*3 of 3 boxes"):
        read_content(tmp_path, [{**BOX, "area": None, "bbox": box} for box in corners])


def test_boxes_as_fractions_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"a\.json: bbox: .*pixels"):
        read_content(tmp_path, [{**BOX, "area": None, "bbox": box} for box in ((0.1, 0.2, 0.5, 0.5), (0, 0, 1, 1))])


@pytest.mark.parametrize(
    ("boxes", "areas", "warned"),
    [
        ([(80, 60, 240, 180), (10, 10, 60, 60)], (None, None), True),  # fit both ways
        ([(80, 60, 240, 180), (10, 10, 60, 60)], (43200, 3600), False),  # the areas are width times height
        ([(80, 60, 240, 180), (80, 60, 240, 180)], (None, None), False),  # only one box
        ([(80, 60, 240, 180), (100, 100, 60, 60)], (None, None), False),  # x2 < x1
        ([(80, 60, 300, 220), (200, 100, 30, 23)], (None, None), False),  # one broken box
    ],
)
def test_boxes_that_may_be_corners_cause_a_warning(boxes, areas, warned, tmp_path, capsys):
    given = [{**BOX, "area": area, "bbox": box} for box, area in zip(boxes, areas, strict=True)]
    annotations, _ = read_content(tmp_path, given)
    assert boxes_of(annotations)[0][1] == (80, 60, 80 + boxes[0][2], 60 + boxes[0][3])
    assert ("corners" in capsys.readouterr().err) == warned


def names_of(*file_names, folder):
    images = [{**IMAGE, "id": number, "file_name": name} for number, name in enumerate(file_names)]
    return [image.file_names for image in read_content(folder, [], images)[0].images]


def test_folders_of_other_computers_are_left_out(tmp_path):
    ((*names,),) = names_of("..\\..\\label-studio\\media\\a.jpg", folder=tmp_path)
    assert names[0].startswith("..")
    assert names[-2:] == ["media/a.jpg", "a.jpg"]
    assert names_of("C:\\x/a.jpg", "/home/me/b.jpg", folder=tmp_path) == [
        ("C:\\x/a.jpg", "x/a.jpg", "a.jpg"),
        ("/home/me/b.jpg", "home/me/b.jpg", "me/b.jpg", "b.jpg"),
    ]
    # One of them could be taken for the other.
    assert names_of("x/a.jpg", "y/a.jpg", folder=tmp_path) == [("x/a.jpg",), ("y/a.jpg",)]
    assert names_of("a.jpg", "a.jpg", folder=tmp_path) == [("a.jpg",), ("a.jpg",)]
