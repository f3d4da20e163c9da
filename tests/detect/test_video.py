"""Frames of videos, cameras and streams: rates, damaged files, and streams that stop and are opened again."""

import struct

import cv2
import numpy as np
import pytest

from utils.detect import video
from utils.detect.options import DetectOptions
from utils.detect.results import ResultWriter
from utils.detect.sources import open_source
from utils.detect.video import LiveSource, VideoSource
from utils.errors import InputError


def gray_image(width=40, height=30, value=90):
    return np.full((height, width, 3), value, np.uint8)


class FakeCapture:
    """A cv2.VideoCapture of given frames and properties."""

    def __init__(self, frames, fps=0.0, length=-1.0, opened=True):
        self.frames = list(frames)
        self.properties = {cv2.CAP_PROP_FPS: fps, cv2.CAP_PROP_FRAME_COUNT: length}
        self.opened = opened

    def isOpened(self):
        return self.opened

    def get(self, key):
        return self.properties.get(key, 0.0)

    def read(self):
        return (True, self.frames.pop(0)) if self.frames else (False, None)

    def release(self):
        self.opened = False


class Clock:
    """Replaces the module time: sleeping takes no time but is counted."""

    def __init__(self):
        self.now, self.waits = 0.0, []

    def sleep(self, seconds):
        self.waits.append(seconds)
        self.now += seconds

    def monotonic(self):
        return self.now

    perf_counter = monotonic


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(video, "time", clock)
    return clock


def live(*captures):
    """A LiveSource of several captures, one after another; after the last one nothing can be opened."""
    rest = list(captures)
    first = rest.pop(0)
    return LiveSource(
        first, "rtsp://cam/live", "cam_live", lambda: rest.pop(0) if rest else FakeCapture([], opened=False)
    )


def test_a_video_whose_first_frame_is_damaged():
    with pytest.raises(InputError, match=r"x\.mp4: expected a video.* first frame"):
        list(VideoSource(FakeCapture([], 25.0, 100.0), "x.mp4"))


def test_a_truncated_video_causes_a_warning(capsys):
    assert len(list(VideoSource(FakeCapture([gray_image()] * 5, 25.0, 100.0), "x.mp4"))) == 5
    assert capsys.readouterr().err.startswith("warning: x.mp4: ends after 5 of 100 frames")


def test_an_estimated_length_causes_no_warning(capsys):
    assert len(list(VideoSource(FakeCapture([gray_image()] * 97, 25.0, 100.0), "x.mp4"))) == 97
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("fps", [0.0, -1.0, float("nan"), float("inf"), 90000.0])
def test_an_impossible_frame_rate_is_replaced(fps):
    assert live(FakeCapture([], fps)).fps == 30


def test_a_stream_without_any_frame_is_an_error(clock):
    with pytest.raises(InputError, match="rtsp://cam/live: expected a video"):
        list(live(FakeCapture([])))
    assert clock.waits == []


def test_a_stream_that_stops_is_opened_again_and_its_frames_are_counted_on(clock, capsys):
    source = live(
        FakeCapture([gray_image(value=1)] * 2),
        FakeCapture([], opened=False),
        FakeCapture([]),  # opens, but gives no frame
        FakeCapture([gray_image(value=2)] * 3),
    )
    frames = []
    for frame in source:
        frames.append(frame)
        if len(frames) == 5:
            break
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 4]
    assert [frame.stem for frame in frames][-1] == "cam_live-000004"
    assert [frame.image[0, 0, 0] for frame in frames] == [1, 1, 2, 2, 2]
    assert clock.waits == [1, 2, 4]
    assert sum(frame.read_seconds for frame in frames) == 0  # the waits are no part of it
    assert (source.drops, source.incomplete) == (1, False)
    assert capsys.readouterr().err.count("warning: rtsp://cam/live: ") == 1


def test_a_stream_that_stays_away_is_given_up_after_a_minute(clock, capsys):
    source = live(FakeCapture([gray_image()]))
    assert len(list(source)) == 1
    assert source.incomplete
    assert sum(clock.waits) == 60
    assert clock.waits[:-1] == sorted(clock.waits[:-1])
    assert max(clock.waits) == 10
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_warnings_about_many_drops_are_limited(clock, capsys):
    source = live(*(FakeCapture([gray_image()]) for _ in range(30)))
    for frame in source:
        if frame.index == 29:
            break
    assert source.drops == 29
    assert len(capsys.readouterr().err.splitlines()) == 10


def test_a_capture_that_failed_is_released(clock):
    captures = [FakeCapture([gray_image()]), FakeCapture([]), FakeCapture([gray_image()])]
    with live(*captures) as source:
        frames = iter(source)
        next(frames)
        next(frames)
        assert [capture.opened for capture in captures] == [False, False, True]
    assert not captures[2].opened


@pytest.fixture
def cases(shared):
    folder = shared / "cases" / "video_rotated_and_rates"
    if not folder.is_dir():
        pytest.skip("needs the videos in ../shared/cases")
    return folder


def test_a_rotated_video_is_upright(cases):
    capture = cv2.VideoCapture(str(cases / "rot90.mp4"))
    capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)
    stored = capture.read()[1]
    with open_source(str(cases / "rot90.mp4")) as source:
        upright = next(iter(source)).image
    assert upright.shape[:2] == stored.shape[1::-1]
    rotations = [np.rot90(stored, count) for count in (1, 3)]
    assert min(np.abs(upright.astype(int) - rotated).mean() for rotated in rotations) < 2


@pytest.mark.parametrize(("name", "fps"), [("f105.avi", 105.611), ("f2397.mp4", 23.976), ("fps1000.avi", 1000)])
def test_rates_are_kept(cases, tmp_path, name, fps):
    options = DetectOptions("", "", output=str(tmp_path / "out"))
    with open_source(str(cases / name)) as source, ResultWriter(options, source, ()) as writer:
        for frame in source:
            writer.write(frame, np.empty((0, 6)), frame.image)
    assert source.fps == pytest.approx(fps, abs=0.01)
    (path,) = (tmp_path / "out").iterdir()
    with open_source(str(path)) as written:
        assert written.fps == pytest.approx(fps, abs=0.01)
        assert len(list(written)) == source.length


def test_frames_that_would_fill_the_memory_are_refused():
    capture = FakeCapture([gray_image()])
    capture.properties |= {cv2.CAP_PROP_FRAME_WIDTH: 100_000.0, cv2.CAP_PROP_FRAME_HEIGHT: 100_000.0}
    with pytest.raises(InputError, match=r"x\.mp4: .*100000x100000"):
        VideoSource(capture, "x.mp4")


def test_a_header_that_lies_about_the_size(tmp_path):
    """FFmpeg takes the size from the frames, which are JPEG."""
    path = tmp_path / "video.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    writer.write(gray_image(64, 48))
    writer.release()
    content, size = path.read_bytes(), struct.pack("<ii", 64, 48)
    assert size in content
    path.write_bytes(content.replace(size, struct.pack("<ii", 100_000, 100_000)))
    with open_source(str(path)) as source:
        assert [frame.image.shape for frame in source] == [(48, 64, 3)]
