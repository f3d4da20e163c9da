"""Hostile data.yaml, obj.data and class name files of exports."""

import pytest

from utils.config import read_names
from utils.convert.annotations import distinct_names
from utils.convert.yolo_files import find_moved, read_description, read_name_file
from utils.errors import InputError

LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))


@pytest.mark.parametrize(
    "text",
    [
        LAUGHS + "names: *a59\n",
        LAUGHS + "train: *a59\n",
        LAUGHS + "names: [x]\nnc: *a59\n",
        "names: [x]\nnc: " + "1" * 5000,
        'names: ["\\ud800"]',
        'names: ["a\\0"]',
        "names: {0: a, 1: {}}",
        "train: [[a]]",
        'train: "a\\0b"',
        "names: " + "[" * 5000,
    ],
    ids=lambda text: text[-30:],
)
def test_hostile_yaml_gets_one_line(tmp_path, text):
    path = tmp_path / "data.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"data\.yaml:") as raised:
        read_description(path)
    assert len(str(raised.value)) < len(str(path)) + 300


@pytest.mark.parametrize("null", ["", "~", "null"])
def test_null_is_no_value(tmp_path, null):
    path = tmp_path / "data.yaml"
    path.write_text(f"train: images\ntest: {null}\nnames: {null}\nnc: {null}\npath: {null}\n", encoding="utf-8")
    description = read_description(path)
    assert description.sets == {"train": ["images"]}
    assert description.class_names is None
    assert description.folders == (tmp_path,)


@pytest.mark.parametrize("root", ["~\\0", "a/" * 20_000, "/" * 20_000, "~" * 300])
def test_odd_roots_are_ignored(tmp_path, root):
    path = tmp_path / "data.yaml"
    path.write_text(f'path: "{root}"\nnames: [x]\n', encoding="utf-8")
    assert read_description(path).class_names == ("x",)


def test_long_paths_are_not_searched(tmp_path):
    assert find_moved("a/" * 20_000, [tmp_path]) is None
    (tmp_path / "obj.data").write_text("names=~\0\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"obj\.data: names"):
        read_description(tmp_path / "obj.data")


@pytest.mark.parametrize("names", [["x"] * 100_000, [str(number) for number in range(100_000)]])
def test_many_names_take_no_time(tmp_path, names, capsys):
    path = tmp_path / "classes.txt"
    path.write_text("\n".join(names), encoding="utf-8")
    assert read_names(path) == tuple(names)
    assert len(set(distinct_names(names, path))) == len(names)
    assert capsys.readouterr().err.count("\n") <= 20


def test_a_repeated_name_causes_one_warning(tmp_path, capsys):
    (tmp_path / "classes.txt").write_text("cat\ndog\ncat\n", encoding="utf-8")
    assert read_name_file(tmp_path / "classes.txt") == ("cat", "dog", "cat (2)")
    (line,) = capsys.readouterr().err.splitlines()
    assert "class 2" in line


def test_names_that_are_not_text(tmp_path):
    (tmp_path / "classes.txt").write_text("a\n\0\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"classes\.txt:2: "):
        read_names(tmp_path / "classes.txt")
    (tmp_path / "notes.json").write_text('{"categories": [{"id": 0, "name": "\\ud800"}]}', encoding="utf-8")
    with pytest.raises(InputError, match=r"notes\.json: "):
        read_name_file(tmp_path / "notes.json")
