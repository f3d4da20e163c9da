"""Network addresses: what is an address, names without passwords, and downloads from a server in this process."""

import base64
import contextlib
import http.server
import itertools
import string
import threading
import time

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.dataset.images import decode_image
from utils.detect import address
from utils.detect.address import download_image, parse_address
from utils.detect.results import open_video
from utils.detect.sources import open_source
from utils.errors import InputError, RunError

IMAGE = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)


@pytest.mark.parametrize(
    "text", ["img", "a/b.jpg", "0", "C:\\a.jpg", "C://a.jpg", "a:b.png", "*.jpg", "", "10:30.mp4", "./http:"]
)
def test_paths_are_not_addresses(text):
    assert parse_address(text) is None


@pytest.mark.parametrize(
    ("text", "shown", "name"),
    [
        ("rtsp://cam1:554/live/main", "rtsp://cam1:554/live/main", "cam1_554_live_main"),
        ("rtsp://admin:geheim@cam1/live?token=geheim#geheim", "rtsp://cam1/live", "cam1_live"),
        ("RTSP://admin:geheim@cam1", "rtsp://cam1", "cam1"),
        ("rtsp://admin:ge@hei/m%40@cam1/x", "rtsp://cam1/x", "cam1_x"),
        ("rtsp://admin:1/geheim@cam1/x", "rtsp://cam1/x", "cam1_x"),
        ("rtsp://geheim@cam1/x", "rtsp://cam1/x", "cam1_x"),
        ("rtsp://1.2.3.4/user=geheim&password=geheim&channel=1", None, "1.2.3.4_user_password_channel_1"),
        ("http://host/a%20b/my%20street.MP4?key=geheim", "http://host/a%20b/my%20street.MP4", "my_street"),
        ("https://host/猫.jpg", "https://host/猫.jpg", "猫"),
        ("https://host/@user/a.jpg", "https://host/@user/a.jpg", "a"),
        ("udp://@:5000", "udp://:5000", "5000"),
        ("udp://@", "udp://", "stream"),
        ("http://[::1]:8080/x", "http://[::1]:8080/x", "1_8080_x"),
        ("http://host/" + "x" * 300, "http://host/" + "x" * 300, "host_" + "x" * 55),
    ],
)
def test_an_address_is_shown_without_its_secrets(text, shown, name):
    found = parse_address(text)
    assert shown is None or found.shown == shown
    assert found.name == name
    assert "geheim" not in found.shown + found.name + repr(found)


@pytest.mark.parametrize(
    "text",
    [
        *("htp://admin:geheim@x/a.jpg", "file:///geheim", "s3://geheim/a.jpg", "http://", "http:///geheim"),
        *("http:/host/geheim", "rtsp:geheim", "rtsp://admin:geheim/1@host", "http://host:geheim/", "http://[geheim"),
        "rtsp://admin:ge#heim@host",
    ],
)
def test_a_wrong_address_is_an_error_without_secrets(text):
    with pytest.raises(InputError) as caught:
        parse_address(text)
    message = str(caught.value)
    assert message.startswith(text.split(":")[0] + ":")
    assert "expected" in message
    assert "geheim" not in message
    assert "ge#" not in message


@given(
    st.text(string.ascii_letters, min_size=1),
    st.text(string.ascii_letters + string.digits + "@:/%!$&'()*+,;=-._~", min_size=1),
)
def test_no_password_is_shown(user, password):
    secret = f"Geheim{password}"
    with contextlib.suppress(InputError):
        found = parse_address(f"rtsp://{user}:{secret}@cam/live")
        assert "Geheim" not in found.shown + found.name


@given(st.text())
def test_any_text_is_a_path_an_address_or_an_error(text):
    with contextlib.suppress(InputError):
        found = parse_address(text)
        assert found is None or found.name


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves files, an endless MJPEG stream, and some answers that cannot be used."""

    files: dict = {}  # noqa: RUF012
    requests: list = []  # noqa: RUF012

    def do_GET(self):
        self.requests.append((self.path, self.headers.get("Authorization")))
        path = self.path.partition("?")[0]
        if path == "/moved.png":
            self.send_response(302)
            self.send_header("Location", "/a.png")
            self.end_headers()
        elif path == "/slow.png":
            time.sleep(2)
        elif path == "/live":
            self._send_stream()
        elif path in self.files:
            self._send_file(self.files[path])
        else:
            self.send_error(404)

    def _send_file(self, content):
        start, end = 0, len(content) - 1
        ranged = self.headers.get("Range")
        if ranged:
            first, last = ranged.removeprefix("bytes=").split("-")
            start, end = int(first), int(last or end)
        self.send_response(206 if ranged else 200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(end + 1 - start))
        if ranged:
            self.send_header("Content-Range", f"bytes {start}-{end}/{len(content)}")
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            self.wfile.write(content[start : end + 1])

    def _send_stream(self):
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            for index in itertools.count():
                if self.files["drop after"] is not None and index >= self.files["drop after"]:
                    return
                jpeg = cv2.imencode(".jpg", np.full((48, 64, 3), 60 + index % 100, np.uint8))[1].tobytes()
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                self.wfile.write(head.encode() + jpeg + b"\r\n")
                time.sleep(0.005)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path):
    """The address of a server of images and videos on this machine: http://127.0.0.1:PORT."""
    with open_video(tmp_path / "street", 12.5, (64, 48)) as file:
        for index in range(9):
            file.write(np.full((48, 64, 3), index * 20, np.uint8))
    png = cv2.imencode(".png", IMAGE)[1].tobytes()
    jpeg = cv2.imencode(".jpg", IMAGE)[1].tobytes()
    Handler.files = {
        **dict.fromkeys(("/a.png", "/a%20b%C3%9F.png"), png),
        "/text.jpg": b"text",
        "/cut.jpg": jpeg[: len(jpeg) // 2],
        "/empty.png": b"",
        "/street.mp4": (tmp_path / "street.mp4").read_bytes(),
        "/page": b"<html>",
        "drop after": None,
    }
    Handler.requests = []
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.daemon_threads = True
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{running.server_port}"
    running.shutdown()
    running.server_close()
    thread.join()


@pytest.mark.parametrize("path", ["/a.png", "/a.png?size=3", "/a bß.png", "/a%20b%C3%9F.png", "/moved.png"])
def test_an_image_is_downloaded(server, path):
    with open_source(server + path) as source:
        (frame,) = source
    assert source.single
    assert np.array_equal(frame.image, IMAGE)
    assert frame.origin == server + path.partition("?")[0]


def test_credentials_are_sent_to_the_server_but_not_shown(server):
    with open_source(server.replace("//", "//me:p%40ss@") + "/a.png") as source:
        (frame,) = source
    assert frame.origin == f"{server}/a.png"
    assert Handler.requests == [("/a.png", "Basic " + base64.b64encode(b"me:p@ss").decode())]


@pytest.mark.parametrize(("path", "message"), [("/gone.png", "404"), ("/a.png/", "expected a video or stream")])
def test_an_address_without_an_image(server, path, message):
    with pytest.raises(InputError, match=f"{server}{path}: .*{message}"):
        open_source(server + path)


@pytest.mark.parametrize("path", ["/text.jpg", "/cut.jpg", "/empty.png"])
def test_a_download_that_is_not_an_image_is_reported_like_a_file(server, path, capsys):
    with open_source(server + path) as source:
        assert list(source) == []
    assert source.failed == [server + path]
    assert source.incomplete
    assert capsys.readouterr().err.startswith(f"warning: {server}{path}: expected an image, got ")


def test_a_download_has_limits(server, monkeypatch):
    found = parse_address(f"{server}/a.png")
    monkeypatch.setattr(address, "_MAX_BYTES", 100)
    with pytest.raises(InputError, match=r"/a\.png: expected an image of at most"):
        download_image(found)
    monkeypatch.undo()
    monkeypatch.setattr(address, "_TIMEOUT", 0.1)
    with pytest.raises(RunError, match=r"/slow\.png: cannot download"):
        download_image(parse_address(f"{server}/slow.png"))
    monkeypatch.setattr(address, "_MAX_SECONDS", -1)
    with pytest.raises(RunError, match=r"/a\.png: .*longer"):
        download_image(found)


def test_a_server_that_does_not_run(server):
    url = "http://127.0.0.1:1/a.png"
    with pytest.raises(RunError, match=f"{url}: cannot download: "):
        open_source(url)


def test_decoding_names_the_address():
    with pytest.raises(InputError, match=r"^http://host/a\.png: expected an image, got an empty file"):
        decode_image(b"", "http://host/a.png")


def test_a_video_file_on_a_server_has_an_end(server):
    with open_source(f"{server}/street.mp4") as source:
        frames = list(source)
    assert not source.endless
    assert (source.name, source.length, len(frames)) == ("street", 9, 9)
    assert source.fps == pytest.approx(12.5)


def test_a_stream_of_jpeg_images(server):
    with open_source(f"{server}/live") as source:
        for frame in source:
            if frame.index == 5:
                break
    assert source.endless
    assert source.length is None
    assert source.name.endswith("_live")
    assert frame.image.shape == (48, 64, 3)


def test_a_page_is_neither_a_video_nor_a_stream(server):
    with pytest.raises(InputError, match=f"{server}/page: expected a video or stream"):
        open_source(f"{server}/page")
