"""Files with detections: images, videos, labels, crops, JSON."""

import json
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.boxes import cxcywh_to_xyxy
from utils.dataset.images import read_image
from utils.dataset.labels import parse_labels
from utils.detect import results
from utils.detect.options import DetectOptions
from utils.detect.results import (
    ResultWriter,
    crop,
    folder_name,
    label_lines,
    open_video,
    result_folder,
    write_image,
)
from utils.detect.sources import Frame, ImageSource
from utils.errors import RunError


def read_video(path):
    """Return (frames, frames per second, frame count in the header)."""
    capture = cv2.VideoCapture(str(path))
    frames = []
    while True:
        decoded, frame = capture.read()
        if not decoded:
            return frames, capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
        frames.append(frame)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".TIFF"])
def test_an_image_keeps_its_format_and_pixels(tmp_path, suffix):
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    path = write_image(tmp_path / f"größe{suffix}", image)
    assert path.name == f"größe{suffix}"
    assert np.array_equal(read_image(path), image)


@pytest.mark.parametrize(("name", "width"), [("a.webp", 20_000), ("a.jpg", 70_000), ("a.jfif", 10), ("a", 10)])
def test_an_image_that_its_format_cannot_hold_becomes_png(tmp_path, name, width):
    image = np.full((2, width, 3), 7, np.uint8)
    path = write_image(tmp_path / name, image)
    assert path == tmp_path / "a.png"
    assert list(tmp_path.iterdir()) == [path]
    assert np.array_equal(read_image(path), image)


@pytest.mark.parametrize("size", [(64, 48), (65, 49), (16, 640)])
@pytest.mark.parametrize("fps", [5, 23.976, 60])
def test_a_video_has_the_same_rate_and_all_frames(tmp_path, size, fps):
    with open_video(tmp_path / "sub" / "a.b", fps, size) as video:
        for index in range(9):
            video.write(np.full((size[1], size[0], 3), index * 25, np.uint8))
    frames, read_fps, length = read_video(tmp_path / "sub" / "a.b.mp4")
    assert len(frames) == length == 9
    assert read_fps == pytest.approx(fps, rel=1e-3)
    # The codec only supports even sizes.
    assert frames[0].shape == (size[1] // 2 * 2, size[0] // 2 * 2, 3)
    assert [frame.mean() for frame in frames] == pytest.approx([index * 25 for index in range(9)], abs=6)


def test_a_size_that_the_first_codec_does_not_support_is_written_with_the_second(tmp_path):
    with open_video(tmp_path / "a", 25, (1, 1)) as video:
        video.write(np.zeros((1, 1, 3), np.uint8))
    assert len(read_video(tmp_path / "a.avi")[0]) == 1
    assert list(tmp_path.iterdir()) == [tmp_path / "a.avi"]


def test_a_frame_of_another_size_is_resized(tmp_path):
    source = SimpleNamespace(fps=25.0, name="a")
    with ResultWriter(DetectOptions("", "", output=str(tmp_path / "out")), source, ("a",)) as writer:
        for side in (64, 32):
            image = np.zeros((side, side, 3), np.uint8)
            writer.write(Frame("a.mp4", 0, "a-000000", image, 0.0), np.empty((0, 6)), image)
    assert [frame.shape for frame in read_video(tmp_path / "out" / "a.mp4")[0]] == [(64, 64, 3)] * 2


def test_an_interrupted_video_leaves_no_file(tmp_path):
    def interrupted_run():
        with open_video(tmp_path / "a", 25, (32, 32)) as video:
            video.write(np.zeros((32, 32, 3), np.uint8))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted_run()
    assert list(tmp_path.iterdir()) == []


def test_a_video_that_cannot_be_read_again_is_an_error(tmp_path, monkeypatch):
    """OpenCV does not report that a disk is full."""

    class FullDisk:
        def __init__(self, path, *_):
            self.path = Path(path)

        def isOpened(self):
            return True

        def release(self):
            self.path.write_bytes(b"the beginning of a video")

    monkeypatch.setattr(cv2, "VideoWriter", FullDisk)
    with pytest.raises(RunError, match=r"a\.mp4: .*disk"), open_video(tmp_path / "a", 25, (64, 48)):
        pass
    assert not list(tmp_path.iterdir())


def test_a_video_that_no_codec_can_write_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "_CODECS", (("????", ".mp4"),))
    with (
        pytest.raises(RunError, match="cannot write a video of 32x32 pixels"),
        open_video(tmp_path / "a", 25, (32, 32)),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


fractions = st.tuples(*[st.floats(0, 1)] * 4)
scores = st.integers(1, 10_000).map(lambda score: score / 10_000)


@given(
    st.lists(st.tuples(fractions, scores, st.integers(0, 9)), max_size=6),
    st.tuples(st.integers(1, 20_000), st.integers(1, 20_000)),
)
def test_label_lines_can_be_read_as_labels(rows, size):
    detections = np.array(
        [
            [min(a, c) * size[0], min(b, d) * size[1], max(a, c) * size[0], max(b, d) * size[1], score, label]
            for (a, b, c, d), score, label in rows
            if abs(a - c) > 1e-5 and abs(b - d) > 1e-5
        ]
    ).reshape(-1, 6)
    text = label_lines(detections, size)
    labels = parse_labels(text, classes=10).labels
    assert labels[:, 0].tolist() == detections[:, 5].tolist()
    np.testing.assert_allclose(cxcywh_to_xyxy(labels[:, 1:]), detections[:, :4] / (size * 2), atol=1e-5)
    assert [float(line.split()[5]) for line in text.splitlines()] == pytest.approx(detections[:, 4].tolist())


@given(st.tuples(st.integers(1, 30), st.integers(1, 30)), fractions)
def test_a_crop_is_never_empty_and_contains_the_box(size, box):
    width, height = size
    x1, x2 = sorted((box[0] * width, box[2] * width))
    y1, y2 = sorted((box[1] * height, box[3] * height))
    rows, columns = np.mgrid[:height, :width]
    part = crop(np.dstack((rows, columns, rows)).astype(np.uint8), (x1, y1, x2, y2))
    assert part.size
    assert part[0, 0, 1] <= x1
    assert part[0, 0, 0] <= y1
    assert part[-1, -1, 1] + 1 >= x2
    assert part[-1, -1, 0] + 1 >= y2


@pytest.mark.parametrize(
    ("name", "folder"),
    [("hot dog", "hot dog"), ("a/b\\c", "a_b_c"), ("..", "__"), ("猫", "猫"), (" ", "_"), ("x" * 300, "x" * 60)],
)
def test_folder_name(name, folder):
    assert folder_name(name) == folder


def test_results_never_overwrite_earlier_ones(tmp_path):
    wanted = tmp_path / "runs" / "x"
    assert result_folder(wanted) == wanted
    assert result_folder(wanted) == tmp_path / "runs" / "x-2"  # an empty folder may belong to a run that goes on
    (tmp_path / "file").touch()
    assert result_folder(tmp_path / "file") == tmp_path / "file-2"


def test_runs_that_start_at_once_do_not_share_a_folder(tmp_path):
    source = ImageSource([], "")
    new, empty = tmp_path / "new", tmp_path / "empty"
    empty.mkdir()
    writers = [ResultWriter(DetectOptions("", "", output=str(new)), source, ("a",)) for _ in range(2)]
    assert [writer.folder for writer in writers] == [new, tmp_path / "new-2"]
    assert ResultWriter(DetectOptions("", "", output=str(empty)), source, ("a",)).folder == empty


def test_the_working_directory_gets_a_folder_inside(tmp_path, monkeypatch):
    (tmp_path / "a").touch()
    monkeypatch.chdir(tmp_path)
    assert result_folder(Path()).resolve() == tmp_path / "test"


@pytest.mark.parametrize("index", [None, 7])
def test_json_has_settings_skipped_images_and_a_record_per_frame(tmp_path, index):
    source = ImageSource([], "a")
    source.failed.append("broken.jpg")
    path = tmp_path / "x.json"
    writer = ResultWriter(DetectOptions("", "", output=str(tmp_path / "out"), json=str(path)), source, ("猫",))
    frame = Frame("猫.png", index, "a", np.zeros((20, 30, 3), np.uint8), 0.0)
    writer.write(frame, np.array([[1, 2, 3, 4.123456, 0.98765, 0]]), frame.image)
    writer.write_json({"conf": 0.3, "classes": (0, 2)})
    found = {"class": 0, "name": "猫", "score": 0.9877, "box": [1, 2, 3, 4.12]}
    record = {"file": "猫.png", "frame": index, "width": 30, "height": 20, "detections": [found]}
    if index is None:
        del record["frame"]
    expected = {"conf": 0.3, "classes": [0, 2], "skipped": ["broken.jpg"], "frames": [record]}
    assert json.loads(path.read_text(encoding="utf-8")) == expected
    assert writer.written == [tmp_path / "out", str(path)]
