"""The index of a data set: content, cache, warnings and errors."""

import os
import pickle
import shutil
import tempfile
import tracemalloc
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.helpers.dataset_files import write_image
from utils.dataset import index as dataset_index
from utils.dataset.index import load_index, open_list, scan_dataset
from utils.dataset.index_cache import cache_path, file_keys
from utils.errors import InputError


@pytest.fixture
def source(tmp_path):
    """List of three images: one with two boxes, one with an empty label file, one with a box in labels/."""
    for position, name in enumerate(("a.jpg", "v1.0 ä/b.PNG", "images/c.bmp")):
        write_image(tmp_path / name, width=64 + position, seed=position)
    (tmp_path / "a.txt").write_text("0 .5 .5 .1 .1\n1 .25 .5 .1 .1\n", encoding="utf-8")
    (tmp_path / "v1.0 ä" / "b.txt").write_text("\n", encoding="utf-8")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "c.txt").write_text("1 .5 .5 1 1\n", encoding="utf-8")
    (tmp_path / "train.txt").write_text("a.jpg\nv1.0 ä\\b.PNG\nimages/c.bmp\n", encoding="utf-8")
    return tmp_path / "train.txt"


@pytest.fixture
def scans(monkeypatch):
    """The calls that read all files."""
    calls = []

    scan = dataset_index._scan

    def count(*arguments):
        calls.append(arguments)
        return scan(*arguments)

    monkeypatch.setattr(dataset_index, "_scan", count)
    return calls


def assert_same(one, other):
    assert one.images == other.images
    assert (one.sizes == other.sizes).all()
    assert [labels.tolist() for labels in one.labels] == [labels.tolist() for labels in other.labels]
    for name in ("source", "missing_labels", "changes", "image_key"):
        assert getattr(one, name) == getattr(other, name)


def test_content(source, capsys):
    index = load_index(source, classes=2)
    assert Path(index.images[1]) == source.parent / "v1.0 ä" / "b.PNG"
    assert index.sizes.tolist() == [[64, 48], [65, 48], [66, 48]]
    assert [labels[:, 0].tolist() for labels in index.labels] == [[0, 1], [], [1]]
    assert index.labels[0][1].tolist() == pytest.approx([1, 0.25, 0.5, 0.1, 0.1])
    assert all(labels.dtype == np.float32 and labels.shape[1] == 5 for labels in index.labels)
    assert (len(index), index.missing_labels, any(index.changes.values())) == (3, 0, False)
    assert capsys.readouterr() == ("", "")


def test_real_data(shared, tmp_path):
    for name, images, classes in (("helmet/val", 467, [1175, 938]), ("mask/train", 610, [2439, 636])):
        index = load_index(shared / f"{name}.txt", classes=2, cache=False)
        assert len(index) == images
        assert np.bincount(np.concatenate(index.labels)[:, 0].astype(int)).tolist() == classes
        assert index.sizes.min() > 50
        assert index.sizes.max() <= 416
    index = load_index(shared / "coco-val128" / "val.txt", classes=80, cache=False)
    assert (len(index), sum(map(len, index.labels))) == (128, 898)


# The cache


def test_second_load_uses_the_cache(source, scans):
    first = load_index(source, classes=2)
    assert cache_path(source) == source.with_name("train.txt.cache")
    second = load_index(str(source), classes=2)
    assert len(scans) == 1
    assert_same(first, second)
    assert_same(first, load_index(source, classes=2, cache=False))
    assert len(scans) == 2


def test_cache_is_valid_for_any_working_directory(source, scans, monkeypatch):
    load_index(source)
    for folder, name in ((source.parent, "train.txt"), (source.parent / "labels", "../train.txt")):
        monkeypatch.chdir(folder)
        index = load_index(name)
        assert all(map(os.path.exists, index.images))
    assert len(scans) == 1


def test_folders_and_lists_have_their_own_caches(source, scans):
    folder = source.parent / "v1.0 ä"
    for _ in range(2):
        assert len(load_index(source)) == 3
        assert len(load_index(folder)) == 1
    assert cache_path(folder) == source.parent / "v1.0 ä.cache"
    assert len(scans) == 2
    load_index(source.parent / "*.jpg")
    load_index(source.parent / "a.jpg")
    assert {path.name for path in source.parent.glob("*.cache")} == {"train.txt.cache", "v1.0 ä.cache"}


def rewrite(path, content):
    """Write other content of the same length, with another modification time."""
    status = path.stat()
    path.write_text(content, encoding="utf-8")
    assert path.stat().st_size == status.st_size
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000))


def replace(path, content):
    """Write other content of the same length, and restore the modification time, as unpacking an archive does."""
    status = path.stat()
    path.write_text(content, encoding="utf-8")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)


CHANGES = {
    "label replaced": lambda folder: replace(folder / "a.txt", "1 .5 .5 .1 .1\n1 .25 .5 .1 .1\n"),
    "label edited": lambda folder: rewrite(folder / "a.txt", "1 .5 .5 .1 .1\n1 .25 .5 .1 .1\n"),
    "label longer": lambda folder: (folder / "a.txt").write_text("0 .5 .5 .1 .1\n" * 3, encoding="utf-8"),
    "label removed": lambda folder: (folder / "a.txt").unlink(),
    "label emptied": lambda folder: (folder / "a.txt").write_text("", encoding="utf-8"),
    "label next to the image added": lambda folder: (folder / "images" / "c.txt").write_text("", encoding="utf-8"),
    "image replaced": lambda folder: write_image(folder / "a.jpg", width=32),
    "image added": lambda folder: (folder / "train.txt").write_text("a.jpg\nimages/c.bmp\na.jpg\n", encoding="utf-8"),
    "order changed": lambda folder: (folder / "train.txt").write_text("images/c.bmp\na.jpg\n", encoding="utf-8"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_changes_invalidate_the_cache(source, scans, change):
    load_index(source)
    change(source.parent)
    changed = load_index(source)
    assert len(scans) == 2
    assert_same(changed, load_index(source, cache=False))
    assert_same(changed, load_index(source))
    assert len(scans) == 3


def cut(content):
    return content[: len(content) // 2]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: b"not a cache",
        cut,
        lambda content: content[:-1],
        lambda content: content.replace(b"train", b"TRAIN").replace(b"\x00\x00\x80\x3f", b"\x00\x00\x80\x3e"),
        lambda content: content[:200] + bytes(300) + content[500:],
        lambda content: pickle.dumps({"images": []}),
    ],
    ids=["empty", "text", "half", "a byte short", "a value changed", "zeros inside", "pickle"],
)
def test_damaged_cache_is_rebuilt_silently(source, scans, capsys, damage):
    first = load_index(source)
    path = cache_path(source)
    content = path.read_bytes()
    path.write_bytes(damage(content))
    assert_same(first, load_index(source))
    assert_same(first, load_index(source))
    assert len(scans) == 2
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["counts", "labels", "sizes", "changes", "version", "key"])
def test_cache_with_other_shapes_is_rebuilt(source, scans, name):
    first = load_index(source)
    with np.load(cache_path(source)) as file:
        arrays = dict(file)
    for value in (np.zeros((2, 2, 2)), None):
        changed = {key: array for key, array in arrays.items() if key != name}
        if value is not None:
            changed[name] = value
        with cache_path(source).open("wb") as file:
            np.savez(file, **changed)
        assert_same(first, load_index(source))
    assert len(scans) == 3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("labels", [-5, 0.5, 0.5, 0.1, 0.1]),
        ("labels", [0.5, 0.5, 0.5, 0.1, 0.1]),
        ("labels", [1e9, 0.5, 0.5, 0.1, 0.1]),
        ("labels", [0, np.nan, 0.5, 0.1, 0.1]),
        ("labels", [np.nan, 0.5, 0.5, 0.1, 0.1]),
        ("labels", [0, 0.5, 0.5, np.inf, 0.1]),
        ("labels", [0, 1.5, 0.5, 0.1, 0.1]),
        ("labels", [0, 0.5, 0.5, 0.1, 0]),
        ("labels", [0, 0.5, 0.5, -0.1, 0.1]),
        ("counts", [-1, 3, 1]),
        ("counts", [2**62, 2**62, 3]),
        ("sizes", [-1, 48]),
        ("changes", [0, -1, 0]),
        ("labels", np.array(["text"])),
        ("labels", np.array([{}], object)),
        ("labels", np.zeros((3, 5), np.float64)),
        ("counts", np.array([2, 0, 1], np.int32)),
        ("counts", np.array([2.0, 0.0, 1.0])),
        ("labels", np.asfortranarray(np.full((3, 5), 1, np.float32))),
        ("key", np.array("x" * 64)),
    ],
)
def test_cache_with_odd_content_is_rebuilt(source, scans, capsys, name, value):
    first = load_index(source)
    with np.load(cache_path(source)) as file:
        arrays = dict(file)
    if isinstance(value, np.ndarray):
        arrays[name] = value
    else:
        arrays[name].flat[: len(value)] = value
    with cache_path(source).open("wb") as file:
        np.savez(file, **arrays)
    assert_same(first, load_index(source))
    assert len(scans) == 2
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("boxes", [10_000, 2**40])
def test_cache_is_not_inflated_beyond_what_its_label_files_can_hold(source, scans, boxes):
    """Zeros are compressed a thousand times; a header may claim any shape."""
    first = load_index(source)
    with np.load(cache_path(source)) as file:
        arrays = dict(file)
    arrays["counts"][0] = boxes
    with zipfile.ZipFile(cache_path(source), "w", zipfile.ZIP_DEFLATED) as file:
        for name, array in arrays.items():
            with file.open(f"{name}.npy", "w") as entry:
                shape = (int(arrays["counts"].sum()), 5) if name == "labels" else array.shape
                header = {"descr": array.dtype.str, "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(entry, header)
                entry.write(bytes(10_000 * 20) if name == "labels" else array.tobytes())
    tracemalloc.start()
    try:
        assert_same(first, load_index(source))
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()
    assert len(scans) == 2


def test_cache_that_cannot_be_written(source, scans, capsys):
    cache_path(source).mkdir()
    assert_same(load_index(source), load_index(source))
    assert len(scans) == 2
    assert capsys.readouterr() == ("", "")
    assert not [path for path in source.parent.iterdir() if path.name.startswith(".")]


@pytest.fixture
def drop_permissions():
    """Drop root's permissions if the tests run as root."""
    if not hasattr(os, "seteuid"):
        pytest.skip("folders cannot be made read-only here")
    user = os.geteuid()
    yield lambda: os.seteuid(65534 if user == 0 else user)
    os.seteuid(user)


def test_read_only_folder(source, scans, capsys, drop_permissions):
    first = load_index(source)
    # Not tmp_path: other users cannot read its parents.
    with tempfile.TemporaryDirectory() as copy:
        copy = Path(copy)
        shutil.copytree(source.parent, copy, dirs_exist_ok=True)
        cache_path(copy / "train.txt").unlink()
        copy.chmod(0o555)
        scans.clear()
        drop_permissions()
        with pytest.raises(PermissionError):
            (copy / "x").touch()
        for _ in range(2):
            assert [labels.tolist() for labels in load_index(copy / "train.txt").labels] == [
                labels.tolist() for labels in first.labels
            ]
        os.seteuid(os.getuid())
        copy.chmod(0o755)
        assert len(scans) == 2
        assert not list(copy.glob("*.cache"))
    assert capsys.readouterr() == ("", "")


def test_problems_are_not_cached(source):
    (source.parent / "a.txt").write_text("5 .5 .5 .1 .1\n", encoding="utf-8")
    for _ in range(2):
        with pytest.raises(InputError, match=r"a\.txt:1: expected class 0…1, got 5"):
            load_index(source, classes=2)
    # An index that was cached without a class count must still be rejected with one.
    assert len(load_index(source)) == 3
    with pytest.raises(InputError, match=r"a\.txt:1: expected class 0…1, got 5"):
        load_index(source, classes=2)
    assert len(load_index(source, classes=6)) == 3


# Warnings and errors


def test_missing_labels_cause_one_warning(source, capsys):
    (source.parent / "a.txt").unlink()
    (source.parent / "labels" / "c.txt").unlink()
    for _ in range(2):  # also when they come from the cache
        index = load_index(source)
        assert index.missing_labels == 2
        assert [len(labels) for labels in index.labels] == [0, 0, 0]
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"warning: {source}: 2 of 3 images have no label file")


def test_polygons_and_scores_cause_one_warning_each(source, capsys):
    text = "0 .1 .1 .2 .1 .2 .3\n0 .1 .1 .2 .1 .2 .3\n0 .5 .5 .1 .1 .9\n"
    (source.parent / "a.txt").write_text(text, encoding="utf-8")
    for _ in range(2):
        load_index(source)
        polygons, scores = capsys.readouterr().err.splitlines()
        assert polygons.startswith(f"warning: {source}: 2 label lines are polygons")
        assert scores.startswith(f"warning: {source}: 1 label lines are boxes with a sixth value")


def test_a_label_file_of_two_images_causes_a_warning(source, capsys):
    write_image(source.parent / "a.png", seed=9)
    source.write_text("a.jpg\nimages/c.bmp\n./a.png\na.jpg\n", encoding="utf-8")
    for _ in range(2):
        load_index(source)
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"warning: {source}: ")
        assert all(str(source.parent / name) in line for name in ("a.txt", "a.jpg", "a.png"))
    source.write_text("a.jpg\na.jpg\n", encoding="utf-8")
    load_index(source)
    assert capsys.readouterr().err == ""


def test_malformed_line(source):
    (source.parent / "a.txt").write_text("0 .5 .5 .1 .1\n0 .5\n0\n", encoding="utf-8")
    with pytest.raises(InputError) as raised:
        load_index(source)
    path = source.parent / "a.txt"
    assert str(raised.value) == f"{path}:2: expected \"class cx cy w h\", got 2 values: '0 .5' (and 1 more such lines)"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_bytes(b"0 .5 .5 .1 .1 \xe9"), "expected UTF-8 text, got byte 0xe9 at offset 14"),
        (lambda path: path.mkdir(), "cannot read: Is a directory"),
    ],
)
def test_unreadable_label_file(source, make, message):
    (source.parent / "a.txt").unlink()
    make(source.parent / "a.txt")
    with pytest.raises(InputError) as raised:
        load_index(source)
    assert str(raised.value) == f"{source.parent / 'a.txt'}: {message}"


def test_missing_images(source):
    source.write_text("# list\na.jpg\n\nno\\b.jpg\n", encoding="utf-8")
    with pytest.raises(InputError) as raised:
        load_index(source)
    assert str(raised.value).startswith(f"{source}:4: expected an image, found nothing at {source.parent / 'no'}")
    source.write_text("no/b.jpg\na.jpg\nno/c.jpg\n", encoding="utf-8")
    with pytest.raises(InputError) as raised:
        load_index(source)
    gone = source.parent / "no" / "b.jpg"
    assert str(raised.value) == (f"{source}:1: expected an image, found nothing at {gone} (2 of 3 images are missing)")


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_broken_link(source):
    link = source.parent / "images" / "link.jpg"
    link.symlink_to("nowhere.jpg")
    with pytest.raises(InputError) as raised:
        load_index(link.parent)
    assert str(raised.value) == f"{link.parent}: expected an image, found nothing at {link}"


def test_corrupt_image_has_no_size(source):
    (source.parent / "a.jpg").write_bytes(b"no image")
    assert load_index(source).sizes.tolist() == [[0, 0], [65, 48], [66, 48]]
    assert load_index(source).sizes.tolist() == [[0, 0], [65, 48], [66, 48]]


def test_scan_continues_after_problems(source):
    (source.parent / "a.txt").write_text("0 .5 .5 .1 .1\n0 .5\n", encoding="utf-8")
    (source.parent / "labels" / "c.txt").write_text("x\n7 .5 .5 .1 .1\n", encoding="utf-8")
    (source.parent / "images" / "c.bmp").unlink()
    source.write_text("a.jpg\nimages/c.bmp\n", encoding="utf-8")
    index, problems = scan_dataset(source, classes=2)
    assert [len(labels) for labels in index.labels] == [1, 0]
    assert index.sizes.tolist() == [[64, 48], [0, 0]]
    places = [str(problem).removeprefix(str(source.parent)).split(" ")[0] for problem in problems]
    assert places == ["/a.txt:2:", "/labels/c.txt:1:", "/labels/c.txt:2:"]


def test_several_processes_read_the_same_as_one(source, monkeypatch):
    folder = source.parent / "many"
    folder.mkdir()
    image = (source.parent / "a.jpg").read_bytes()
    for position in range(60):
        (folder / f"{position:03d}.jpg").write_bytes(image if position % 7 else b"broken")
        lines = "0 .5 .5 .1 .1\n" * (position % 5) + ("bad\n" if position % 11 == 0 else "")
        (folder / f"{position:03d}.txt").write_text(lines, encoding="utf-8")
    expected, expected_problems = scan_dataset(folder)
    monkeypatch.setattr(dataset_index, "MIN_IMAGES_PER_PROCESS", 10)
    index, problems = scan_dataset(folder)
    assert_same(expected, index)
    assert list(map(str, problems)) == list(map(str, expected_problems))
    assert len(problems) == 6


# Parts


def test_label_files_and_keys(source):
    before = load_index(source)
    names = ("a.txt", "v1.0 ä/b.txt", "labels/c.txt")
    assert list(map(Path, before.label_files)) == [source.parent / name for name in names]
    key = file_keys(before.images, before.label_files).all
    (source.parent / "a.txt").unlink()
    after = load_index(source)
    assert after.label_files[0] is None
    assert after.image_key == before.image_key
    assert file_keys(after.images, after.label_files).all != key


def test_open_list(source):
    config = SimpleNamespace(path="a.data", train=source, val=None, classes=2)
    assert_same(open_list(config, "train"), load_index(source, classes=2))
    with pytest.raises(InputError, match=r"^a\.data: val: "):
        open_list(config, "val")


def test_a_list_in_the_working_directory(source, monkeypatch):
    monkeypatch.chdir(source.parent)
    index = load_index("train.txt")
    assert list(map(Path, index.images)) == [Path("a.jpg"), Path("v1.0 ä/b.PNG"), Path("images/c.bmp")]
    assert [len(labels) for labels in index.labels] == [2, 0, 1]


@pytest.mark.parametrize("options", [[], ["--windows"]])
def test_benchmark_runs(run_script, options):
    result = run_script("benchmarks/open_dataset.py", "--images", 30, "--repeats", 2, *options)
    assert result.returncode == 0, result.stderr
    assert "30 images, 210 boxes" in result.stdout
    assert result.stderr == ""
