"""Sources: what a path, a glob or a camera index opens, the frames, and files that cannot be read."""

import os

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.detect.test_video import FakeCapture
from utils.detect import sources
from utils.detect.results import open_video
from utils.detect.sources import open_source, source_name, unique_stems
from utils.errors import InputError


def gray_image(width=40, height=30, value=90):
    return np.full((height, width, 3), value, np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Images, one in a subfolder and one with an upper-case suffix, and files that are not images."""
    folder = tmp_path / "shots.new"
    (folder / "sub").mkdir(parents=True)
    for name in ("b.png", "a.JPG", "sub/a.jpg", "größe 猫.png"):
        cv2.imencode(".png", gray_image())[1].tofile(folder / name)
    (folder / "broken.jpg").write_text("not an image")
    (folder / "notes.md").write_text("not an image either")
    return folder


@pytest.fixture
def video(tmp_path):
    """12 frames of 64x48, each brighter than the one before it."""
    with open_video(tmp_path / "street", 23.976, (64, 48)) as file:
        for index in range(12):
            file.write(gray_image(64, 48, index * 20))
    return tmp_path / "street.mp4"


def test_one_image(folder):
    with open_source(str(folder / "b.png")) as source:
        (frame,) = source
    assert source.single
    assert (source.name, source.length, source.fps, source.failed) == ("b", 1, None, [])
    assert (frame.origin, frame.index, frame.stem) == (str(folder / "b.png"), None, "b")
    assert np.array_equal(frame.image, gray_image())
    assert frame.read_seconds > 0


def test_an_image_is_recognized_by_its_content(folder):
    path = folder / "photo.jfif"
    (folder / "b.png").rename(path)
    with open_source(str(path)) as source:
        assert [frame.stem for frame in source] == ["photo"]


def test_a_folder_yields_all_its_images_and_lists_those_it_cannot_read(folder, capsys):
    with open_source(str(folder)) as source:
        stems = [frame.stem for frame in source]
    assert stems == ["a", "b", "größe 猫", "sub/a"]
    assert not source.single
    assert source.name == "shots.new"
    assert source.length == 5
    assert source.failed == [str(folder / "broken.jpg")]
    assert capsys.readouterr().err.startswith(f"warning: {folder / 'broken.jpg'}: expected an image")


def test_a_glob(folder):
    with open_source(str(folder / "*.png")) as source:
        assert [frame.stem for frame in source] == ["b", "größe 猫"]
    assert source.name == "shots.new"


def test_a_list_file_may_name_missing_images(folder, capsys):
    listing = folder / "val.txt"
    listing.write_text("b.png\nsub/a.jpg\ngone.jpg\n", encoding="utf-8")
    with open_source(str(listing)) as source:
        assert [frame.stem for frame in source] == ["b", "sub/a"]
    assert source.name == "val"
    assert len(source.failed) == 1
    assert "gone.jpg: cannot read" in capsys.readouterr().err


def test_only_the_first_warnings_about_images_are_shown(folder, capsys):
    for index in range(20):
        (folder / f"broken{index}.jpg").touch()
    with open_source(str(folder)) as source:
        assert len(list(source)) == 4
    assert len(source.failed) == 21
    assert source.incomplete
    assert len(capsys.readouterr().err.splitlines()) == 10


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone.jpg", "found nothing there"),
        ("gone.mp4", "no such file"),
        ("*.bmp", "this pattern matches none"),
        ("empty", "in this folder, found none"),
        ("notes.md", r"notes\.md:1: expected the path of an image"),
    ],
)
def test_a_source_without_images_is_an_error(folder, name, message):
    (folder / "empty").mkdir()
    with pytest.raises(InputError, match=message):
        open_source(str(folder / name))


def test_a_video_yields_its_frames_in_order(video):
    with open_source(str(video)) as source:
        frames = list(source)
    assert source.fps == pytest.approx(23.976, abs=0.001)
    assert source.length == 12
    assert [frame.index for frame in frames] == list(range(12))
    assert [frame.stem for frame in frames[:2]] == ["street-000000", "street-000001"]
    assert {frame.image.shape for frame in frames} == {(48, 64, 3)}
    means = [frame.image.mean() for frame in frames]
    assert means == pytest.approx([index * 20 for index in range(12)], abs=6)


@pytest.mark.parametrize("content", [b"", b"not a video", b"\0" * 5000])
def test_a_file_that_is_not_a_video(tmp_path, content):
    path = tmp_path / "street.MP4"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"street\.MP4: expected a video"):
        open_source(str(path))


def test_an_index_opens_a_camera(monkeypatch):
    opened = []

    def capture(index):
        opened.append(index)
        return FakeCapture([np.zeros((30, 40), np.uint8)], length=50.0)

    monkeypatch.setattr(sources.cv2, "VideoCapture", capture)
    with open_source("2") as source:
        frame = next(iter(source))
    assert opened == [2]
    assert source.endless
    assert (source.name, source.length) == ("camera2", None)
    assert frame.image.shape == (30, 40, 3)  # gray frames become BGR
    assert not source.capture.opened


def test_a_folder_whose_name_is_a_number_is_not_a_camera(folder, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "sub").rename(folder / "7")
    with open_source("7") as source:
        assert [frame.stem for frame in source] == ["a"]


def test_a_missing_camera(monkeypatch):
    monkeypatch.setattr(sources.cv2, "VideoCapture", lambda index: FakeCapture([], opened=False))
    with pytest.raises(InputError, match="camera 3: "):
        open_source("3")


@pytest.mark.parametrize(
    ("path", "name"),
    [("a/b.c/", "b.c"), ("a/b/*.jpg", "b"), ("a/b/**/[0-9]*.jpg", "b"), ("a/..", os.path.basename(os.getcwd()))],
)
def test_source_name(path, name):
    assert source_name(path) == name


def test_source_name_of_the_root_and_of_the_working_directory(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert source_name(".") == "shots.new"
    assert source_name("*.png") == "shots.new"
    assert source_name("b.png") == "b"
    assert source_name("/") == "images"


@given(st.lists(st.lists(st.sampled_from(["a", "b", "a-2"]), min_size=1, max_size=3), min_size=1, max_size=12))
def test_stems_are_unique(parts):
    paths = ["/x/" + "/".join(part) + (".jpg" if number % 2 else ".png") for number, part in enumerate(parts)]
    stems = unique_stems(paths)
    assert len(set(stems)) == len(stems) == len(paths)
    assert not any(stem.startswith(("/", "..")) for stem in stems)


def test_stems_keep_folders_and_names_that_differ_only_in_the_suffix_get_a_count():
    assert unique_stems(["x/a.jpg", "x/a.png", "x/y/a.jpg", "x/v1.2.jpg"]) == ["a", "a-2", "y/a", "v1.2"]


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "--img: "), ("{folder}/IMG_1.HEIC", "IMG_1.HEIC: .*JPEG"), ("4294967296", "found nothing there")],
)
def test_what_cannot_be_a_source(tmp_path, text, words):
    (tmp_path / "IMG_1.HEIC").write_bytes(bytes(24) + b"\xff")
    with pytest.raises(InputError, match=words):
        open_source(text.format(folder=tmp_path))
