"""The .data file: what is read, and what is said about every kind of bad one."""

import dataclasses
import re
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model import STRIDES
from utils.config import read_config, read_names
from utils.errors import InputError

GOOD = {
    "model_name": "small",
    "epochs": "300",
    "steps": "150,250",
    "batch_size": "64",
    "subdivisions": "2",
    "learning_rate": "0.001",
    "pre_weights": "None",
    "classes": "2",
    "width": "352",
    "height": "320",
    "anchor_num": "3",
    "anchors": "12.64,19.39, 37.88,51.48, 55.71,138.31, 126.91,78.23, 131.57,214.55, 279.92,258.87",
    "train": "train.txt",
    "val": "val.txt",
    "names": "small.names",
}


def lines(**changes):
    """The good file's lines with some values changed, or left out (None)."""
    values = GOOD | changes
    return [f"{key}={value}" for key, value in values.items() if value is not None]


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes small.data (and its names) and returns its path; the working directory is another one."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")

    def write(content, names="helmet\nhead\n"):
        path = tmp_path / "small.data"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        if names is not None:
            (tmp_path / "small.names").write_bytes(names if isinstance(names, bytes) else names.encode())
        return path

    return write


def without_path(config, path):
    """Everything in a Config as plain values, paths relative to the .data file's folder."""
    values = dataclasses.asdict(config)
    for key in ("path", "train", "val", "names"):
        if values[key] is not None and values[key].is_absolute():
            values[key] = values[key].relative_to(path.parent)
    return values


# Good files


def test_every_value(write, capsys):
    path = write("\n".join(lines()))
    for name in ("train.txt", "val.txt"):
        (path.parent / name).touch()
    config = read_config(path)
    assert without_path(config, path) == {
        "path": Path("small.data"),
        "model_name": "small",
        "epochs": 300,
        "steps": (150, 250),
        "batch_size": 64,
        "subdivisions": 2,
        "learning_rate": 0.001,
        "pre_weights": None,
        "classes": 2,
        "width": 352,
        "height": 320,
        "anchor_num": 3,
        "anchors": (
            ((12.64, 19.39), (37.88, 51.48), (55.71, 138.31)),
            ((126.91, 78.23), (131.57, 214.55), (279.92, 258.87)),
        ),
        "train": Path("train.txt"),
        "val": Path("val.txt"),
        "names": Path("small.names"),
        "class_names": ("helmet", "head"),
        "conf": 0.3,
    }
    assert capsys.readouterr().err == ""


def test_it_is_frozen(write):
    config = read_config(write("\n".join(lines())))
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.epochs = 1


ORIGINAL_STYLE = """
[name]
model_name=small

[train-configure]
epochs=300  # train epochs
steps=150,250#decay
batch_size = 64
subdivisions   =\t2
# learning_rate=5
learning_rate=0.001

   [model-configure]
pre_weights=None
classes=2
width=352
  height=320
anchor_num=3
anchors=12.64,19.39, 37.88,51.48, 55.71,138.31, 126.91,78.23, 131.57,214.55, 279.92,258.87

[data-configure]
train=train.txt # the list
val=val.txt
names=small.names
"""


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(ORIGINAL_STYLE, id="sections, comments and blanks"),
        pytest.param(ORIGINAL_STYLE.strip(), id="no line end at the end"),
        pytest.param(ORIGINAL_STYLE.replace("\n", "\r\n"), id="CRLF"),
        pytest.param(ORIGINAL_STYLE.replace("\n", "\r"), id="CR"),
        pytest.param(b"\xef\xbb\xbf" + ORIGINAL_STYLE.strip().encode(), id="byte-order mark"),
        pytest.param(b"\xef\xbb\xbf" + ORIGINAL_STYLE.replace("\n", "\r\n").encode(), id="byte-order mark and CRLF"),
        pytest.param("\n".join(reversed(lines())), id="any order"),
        pytest.param("\n".join(lines(pre_weights=None)), id="pre_weights may be left out"),
        pytest.param("\n".join(lines(pre_weights="")), id="pre_weights may be empty"),
        pytest.param("\n".join(lines(steps="150.0, 250.0")), id="steps as the original read them"),
        pytest.param("\n".join(lines(learning_rate="1e-3")), id="scientific notation"),
    ],
)
def test_same_values_in_every_spelling(write, content, capsys):
    expected = without_path(read_config(write("\n".join(lines()))), write("\n".join(lines())))
    path = write(content)
    assert without_path(read_config(path), path) == expected
    assert capsys.readouterr().err == ""


def test_no_steps_and_no_lists(write):
    config = read_config(write("\n".join(lines(steps="None", train="None", val="", pre_weights="w#1.pth # ours"))))
    assert config.steps == ()
    assert config.train is None
    assert config.val is None
    assert config.pre_weights == "w#1.pth"


def test_text_may_hold_equals_signs_and_other_scripts(write):
    config = read_config(write("\n".join(lines(model_name="ü-模型_v2.1", pre_weights="a=b ü.pth"))))
    assert (config.model_name, config.pre_weights) == ("ü-模型_v2.1", "a=b ü.pth")


def test_the_shipped_file(repo, monkeypatch, tmp_path, capsys):
    for folder in (repo, tmp_path):
        monkeypatch.chdir(folder)
        config = read_config(repo / "data" / "coco.data")
        assert (config.model_name, config.classes, config.width, config.height) == ("coco", 80, 352, 352)
        assert (config.epochs, config.steps, config.batch_size, config.subdivisions) == (300, (150, 250), 128, 1)
        assert (config.learning_rate, config.pre_weights) == (0.001, None)
        assert config.anchors[0][0] == (12.64, 19.39)
        assert config.anchors[1][2] == (279.92, 258.87)
        assert len(STRIDES) == len(config.anchors)
        assert (config.class_names[0], config.class_names[-1]) == ("person", "toothbrush")
    assert capsys.readouterr().err == ""


# Paths


def test_paths_prefer_the_working_directory(write, tmp_path):
    path = write("\n".join(lines(train="sub/train.txt")))
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "train.txt").touch()
    assert read_config(path).train == tmp_path / "sub" / "train.txt"
    Path("sub").mkdir()
    Path("sub/train.txt").touch()
    assert read_config(path).train == Path("sub/train.txt")


def test_names_prefer_the_working_directory(write):
    path = write("\n".join(lines()))
    Path("small.names").write_text("a\nb\n")
    assert read_config(path).class_names == ("a", "b")


def test_absolute_paths(write, tmp_path):
    path = write("\n".join(lines(names=tmp_path / "small.names", val=tmp_path / "somewhere" / "val.txt")))
    config = read_config(path)
    assert config.names == tmp_path / "small.names"
    assert config.val == tmp_path / "somewhere" / "val.txt"


def test_a_missing_list_is_expected_next_to_the_data_file(write, tmp_path):
    """Detecting needs no lists, so read_config does not check whether they exist."""
    assert read_config(write("\n".join(lines(train="nowhere/train.txt")))).train == tmp_path / "nowhere/train.txt"


def test_relative_data_file(write, tmp_path, monkeypatch):
    write("\n".join(lines()))
    monkeypatch.chdir(tmp_path)
    assert read_config("small.data").names == Path("small.names")


# Bad files: the error begins with the file, line and key, and has these parts.


def bad(*parts, **changes):
    """One changed value, and what its error must contain."""
    ((key, value),) = changes.items()
    line = list(GOOD).index(key) + 1
    return pytest.param(
        "\n".join(lines(**changes)), f":{line}: {key}: expected ", (*parts, repr(value)[:70]), id=f"{key}={value}"
    )


def malformed(content, start, *parts, name):
    return pytest.param(content, start, parts, id=name)


BAD = [
    *(bad(epochs=value) for value in ("", "x", "0", "-1", "1.5", "1e3", "nan", "3 0", "1,2", "None")),
    *(bad(batch_size=value) for value in ("many", "0", "32x")),
    *(bad(subdivisions=value) for value in ("", "0", "-4")),
    *(bad(classes=value) for value in ("", "0", "two", "2.0")),
    *(bad(width=value) for value in ("352x352", "-32", "0")),
    *(bad(height=value) for value in ("tall", "0")),
    *(bad(anchor_num=value) for value in ("three", "0", "")),
    *(bad("32", width=value) for value in ("350", "1", "33")),
    bad("32", height="353"),
    bad("subdivisions (2)", batch_size="63"),
    malformed(
        "\n".join(lines(subdivisions="7")), ":4: batch_size: ", "subdivisions (7)", "'64'", name="subdivisions=7"
    ),
    *(bad(learning_rate=value) for value in ("", "x", "0", "-0.1", "nan", "inf", "0,001")),
    *(bad(steps=value) for value in ("a", "150;250", "150,,250", "150,", "-1", "1.5", "nan", "1e999")),
    *(bad(anchors=value) for value in ("", "1,2,x", "1 2 3", "0,1", "-1,2", "nan,1", "1,inf", "1,2,")),
    bad("12 numbers", "found 2", anchors="1,2"),
    bad("12 numbers", "found 11", anchors="1,2,3,4,5,6,7,8,9,10,11"),
    bad("12 numbers", "found 13", anchors="1,2,3,4,5,6,7,8,9,10,11,12,13"),
    malformed("\n".join(lines(anchor_num="2")), ":12: anchors: ", "8 numbers", "found 12", name="anchor_num=2"),
    *(
        bad(model_name=name)
        for name in ("", "../evil", "/abs", "a/b", "..", "-rf", ".hidden", "a b", "a\\b", "a\x1b[31m")
    ),
    bad(model_name="x" * 101),
    bad("8192", width="320000"),
    *(
        bad("1,000,000", **{key: str(10**30)})
        for key in ("epochs", "batch_size", "subdivisions", "classes", "anchor_num", "steps", "width", "height")
    ),
    bad("1000", learning_rate="1e300"),
    bad(anchors=",".join(["1e300"] * 12)),
    bad(names="small\0.names"),
    *(bad("2", "small.names", classes=value) for value in ("80", "1")),
    *(bad(names=value) for value in ("", "None", "nowhere.names", "x" * 300, "~nobody-of-this-name/x.names")),
    malformed("", ": missing key ", *(repr(key) for key in GOOD if key != "pre_weights"), name="empty"),
    *(
        malformed("\n".join(lines(**{key: None})), ": missing key ", repr(key), name=f"no {key}")
        for key in GOOD
        if key != "pre_weights"
    ),
    malformed("\n".join(lines(width=None, val=None)), ": missing key ", "'width'", "'val'", name="two missing"),
    malformed("\n".join([*lines(), "epochs=2"]), ":16: epochs: ", "line 2", name="duplicate key"),
    malformed("\n".join(["epochs", *lines()]), ":1: ", "key=value", "'epochs'", name="no equals sign"),
    malformed("\n".join([*lines(), "epochs: 3"]), ":16: ", "key=value", "'epochs: 3'", name="a colon"),
    malformed(b"\xff\xfea\x00", ": ", "UTF-8", "0xff", "offset 0", name="UTF-16"),
    malformed(b"model_name=caf\xe9", ": ", "UTF-8", "0xe9", "offset 14", name="Latin-1"),
]


@pytest.mark.parametrize(("content", "start", "parts"), BAD)
def test_bad_files_get_one_clear_line(write, content, start, parts):
    path = write(content)
    with pytest.raises(InputError) as caught:
        read_config(path)
    message = str(caught.value)
    assert message.startswith(f"{path}{start}")
    assert "\n" not in message
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "{0}: cannot read: No such file or directory"),
        (lambda path: path.mkdir(), "{0}: cannot read: Is a directory"),
    ],
    ids=["missing", "folder"],
)
def test_no_file(tmp_path, make, message):
    make(tmp_path / "x.data")
    with pytest.raises(InputError) as caught:
        read_config(tmp_path / "x.data")
    assert str(caught.value) == message.format(tmp_path / "x.data")


@pytest.mark.parametrize(
    ("line", "warning"),
    [
        ("epoch=3", "unknown key 'epoch' ignored; the nearest known key is 'epochs'"),
        ("batchsize=3", "unknown key 'batchsize' ignored; the nearest known key is 'batch_size'"),
        ("lr_rate=3", "unknown key 'lr_rate' ignored; the nearest known key is 'learning_rate'"),
        ("Names=x", "unknown key 'Names' ignored; the nearest known key is 'names'"),
        ("=x", "unknown key '' ignored"),
        ("模型=3", "unknown key '模型' ignored"),
        ("fliplr=0.5", "unknown key 'fliplr' ignored"),
    ],
)
def test_unknown_keys_are_warned_about(write, capsys, line, warning):
    path = write("\n".join([line, *lines()]))
    assert read_config(path).epochs == 300
    assert capsys.readouterr().err == f"warning: {path}:1: {warning}\n"


def test_many_unknown_keys_cause_ten_warnings(write, capsys):
    read_config(write("\n".join([*(f"key{number}=3" for number in range(300)), *lines()])))
    warnings = capsys.readouterr().err.splitlines()
    assert len(warnings) == 10
    assert "more" in warnings[-1]


def test_keys_of_darknet_that_are_ignored_do_not_count_as_warnings(write, capsys):
    read_config(write("\n".join(["backup=x", *(f"key{number}=3" for number in range(10)), *lines()])))
    warnings = capsys.readouterr().err.splitlines()
    assert len(warnings) == 10
    read_config(write("\n".join(["backup=x", *(f"key{number}=3" for number in range(9)), *lines()])))
    assert "more" not in capsys.readouterr().err


def test_a_data_file_of_darknet_is_not_one_of_this_project(tmp_path, capsys):
    """As exported by CVAT: it has no anchors."""
    path = tmp_path / "obj.data"
    path.write_text("classes = 2\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n", encoding="utf-8")
    with pytest.raises(InputError, match=rf"^{re.escape(str(path))}: .*import_dataset\.py {re.escape(str(tmp_path))} "):
        read_config(path)
    assert not capsys.readouterr().err


# Names


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("helmet\nhead", ("helmet", "head")),
        ("helmet\nhead\n\n \n", ("helmet", "head")),
        (" helmet \r\nno mask\r\n", ("helmet", "no mask")),
        ("\ufeffヘルメット\nголова\n", ("ヘルメット", "голова")),
        ("#1\n=\n", ("#1", "=")),
    ],
)
def test_names(tmp_path, content, names):
    path = tmp_path / "x.names"
    path.write_bytes(content.encode())
    assert read_names(path) == names


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "{}:1: expected a class name, got a blank line"),
        (b"\n\n", "{}:1: expected a class name, got a blank line"),
        (b"a\n\nb\n", "{}:2: expected a class name, got a blank line"),
        (b"\na\n", "{}:1: expected a class name, got a blank line"),
        (b"caf\xe9\n", "{}: expected UTF-8 text, got byte 0xe9 at offset 3"),
        (None, "{}: cannot read: No such file or directory"),
    ],
)
def test_bad_names(tmp_path, content, message):
    path = tmp_path / "x.names"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_names(path)
    assert str(caught.value) == message.format(path)


def test_bad_names_in_a_data_file(write, tmp_path):
    with pytest.raises(InputError) as caught:
        read_config(write("\n".join(lines()), names="a\n\nb\n"))
    assert str(caught.value) == f"{tmp_path / 'small.names'}:2: expected a class name, got a blank line"


def test_a_name_twice_causes_a_warning(write, tmp_path, capsys):
    path = write("\n".join(lines(classes=4)))
    (tmp_path / "small.names").write_text("cat\ndog\ncat\ncat\n", encoding="utf-8")
    assert read_config(path).class_names == ("cat", "dog", "cat", "cat")
    warnings = capsys.readouterr().err.splitlines()
    assert [re.search(r"small\.names:(\d): class (\d) .*class (\d)", line).groups() for line in warnings] == [
        ("3", "2", "0"),
        ("4", "3", "0"),
    ]


# Properties

counts = st.integers(1, 10**6)
sizes = st.floats(0.01, 1e4).map(lambda value: float(f"{value:.6g}"))
blanks = st.text(" \t", max_size=3)
names = st.from_regex(r"\A\w[\w.-]{0,20}\Z")
words = st.text(string.ascii_letters + string.digits + "._-äж/", min_size=1, max_size=20).filter(lambda w: w != "None")


@st.composite
def good_files(draw):
    """Texts of good files in random spelling, with the values they hold."""
    anchor_num = draw(st.integers(1, 6))
    subdivisions = draw(st.integers(1, 50))
    values = {
        "model_name": draw(names),
        "epochs": draw(counts),
        "steps": tuple(draw(st.lists(counts, max_size=4))),
        "batch_size": subdivisions * draw(st.integers(1, 50)),
        "subdivisions": subdivisions,
        "learning_rate": draw(sizes.map(lambda value: value / 10)),
        "pre_weights": draw(st.none() | words),
        "classes": 2,
        "width": 32 * draw(st.integers(1, 256)),
        "height": 32 * draw(st.integers(1, 40)),
        "anchor_num": anchor_num,
        "anchors": tuple(draw(st.lists(sizes, min_size=4 * anchor_num, max_size=4 * anchor_num))),
    }
    entries = []
    for key, value in (values | {"train": "t.txt", "val": "v.txt", "names": "small.names"}).items():
        separator = "," + draw(blanks)
        text = separator.join(map(str, value)) if isinstance(value, tuple) else str(value)
        comment = draw(st.sampled_from(["", " # note", "\t#=[,"]))
        entries.append(draw(blanks) + key + draw(blanks) + "=" + draw(blanks) + text + comment)
        entries += draw(st.lists(st.sampled_from(["", "  ", "# x=1", "[section]"]), max_size=2))
    order = draw(st.permutations(entries))
    text = draw(st.sampled_from(["\n", "\r\n"])).join(order)
    return draw(st.sampled_from(["", "\ufeff"])) + text, values


@given(good_files())
def test_good_files_are_read_as_written(tmp_path_factory, file):
    text, values = file
    folder = tmp_path_factory.mktemp("data")
    (folder / "small.names").write_text("a\nb\n")
    (folder / "x.data").write_bytes(text.encode())
    config = read_config(folder / "x.data")
    flat = tuple(number for scale in config.anchors for pair in scale for number in pair)
    read = dataclasses.asdict(config) | {"anchors": flat}
    assert {key: read[key] for key in values} == values
    assert [len(scale) for scale in config.anchors] == [values["anchor_num"]] * 2


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_give_a_config_error(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("data") / "x.data"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"^[^\n]*x\.data[^\n]*$"):
        read_config(path)


@given(st.sampled_from(list(GOOD)), st.text(max_size=30))
def test_any_value_gives_a_config_or_an_error_with_its_line(tmp_path_factory, key, value):
    folder = tmp_path_factory.mktemp("data")
    (folder / "small.names").write_text("a\nb\n")
    path = folder / "x.data"
    path.write_bytes("\n".join(lines(**{key: value})).encode(errors="replace"))
    message = ""
    try:
        assert read_config(path).path == path
    except InputError as error:
        message = str(error)
    assert "\n" not in message
    # An entry that names a file which cannot be read: the message begins with that file.
    assert message == "" or message.startswith(str(folder)) or message.startswith(f"{value.strip()}: cannot read")
