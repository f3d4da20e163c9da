"""The browser page in headless Chromium: detections as in Python, camera, wrong files, use without a network."""

import functools
import http.server
import json
import re
import shutil
import subprocess
import threading

import cv2
import numpy as np
import pytest

from tests.conftest import REPO
from utils.dataset.images import read_image
from utils.detect.run import FrameDetector
from utils.postprocess import Thresholds
from utils.runtimes.loading import load_runtime

pytestmark = pytest.mark.slow
DIST, DRIVER = REPO / "web" / "dist", REPO / "web" / "test" / "drive.mjs"
PHOTOS = sorted((REPO / "img").glob("*.jpg"))
CONF = 0.3


class Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        if self.path != "/stop":
            super().do_GET()
            return
        self.send_response(204)
        self.end_headers()
        threading.Thread(target=self.server.shutdown).start()

    def log_message(self, *_):
        pass


def serve(server):
    """Answer requests until one asks to stop; then no connection is accepted any more."""
    server.serve_forever()
    server.server_close()


@pytest.fixture(scope="module")
def site(tmp_path_factory, run_script):
    """The page as its sources are now, with the runtime that `make web` has fetched and a model."""
    if not (DIST / "assembled").exists() or not (REPO / "web" / "node_modules" / "puppeteer-core").exists():
        pytest.skip("needs: make web/dist/assembled, npm install --prefix web")
    site = tmp_path_factory.mktemp("site")
    for pattern, folder in (("ort*", DIST), ("*.html", DIST.parent), ("*.css", DIST.parent), ("*.js", DIST.parent)):
        for path in folder.glob(pattern):
            shutil.copy(path, site)
    done = run_script("pytorch2onnx.py", "--weights", "modelzoo/mask-352.pth", "--output", site / "model.onnx")
    assert done.returncode == 0, done.stderr
    return site


@pytest.fixture(scope="module")
def address(site):
    """Address of a server of the page."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=site)) as server:
        threading.Thread(target=serve, args=(server,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"


@pytest.fixture(scope="module")
def shown(address, tmp_path_factory, run_script):
    """What the driver saw, and the other models that it opened."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if not browser or not shutil.which("node"):
        pytest.skip("needs Chromium and Node.js")
    folder = tmp_path_factory.mktemp("page")
    wrong = folder / "wrong.onnx"
    wrong.write_bytes(b"no model at all")
    export = ("pytorch2onnx.py", "--weights", "modelzoo/mask-352.pth", "--conf", CONF)
    for options in (("e.onnx", "--end2end"), ("h.onnx", "--half", "--int8", "--calib", "img", "--calib-images", 5)):
        done = run_script(*export, "--output", folder / options[0], *options[1:])
        assert done.returncode == 0, done.stderr
    models = [folder / name for name in ("e.onnx", "h.onnx", "h-int8.onnx")]
    write_video(folder / "camera.mjpeg", read_image(PHOTOS[0]))
    command = ["node", DRIVER, browser, address, folder / "camera.mjpeg", wrong, ",".join(map(str, models)), *PHOTOS]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), models


def write_video(path, image):
    """Write a fake camera's video: JPEG images one after the other."""
    frame = cv2.imencode(".jpg", cv2.resize(image, (320, 240)))[1].tobytes()
    path.write_bytes(frame * 10)


def expected_of(model, image, conf=CONF):
    runtime = load_runtime(model)
    detector = FrameDetector(runtime, (runtime.info.width, runtime.info.height), Thresholds(conf))
    return detector(read_image(image))[0]


def assert_same(found, expected, pixels=1):
    """The same boxes within some pixels, scores within 0.01 per pixel; detections next to the threshold may differ."""
    rows = np.array([[row[key] for key in ("x1", "y1", "x2", "y2", "score", "classId")] for row in found])
    rows = rows.reshape(-1, 6)
    for some, others in ((rows, expected), (expected, rows)):
        for row in some[some[:, 4] > CONF + 0.02 * pixels]:
            near = np.abs(others[:, :4] - row[:4]).max(1, initial=0) <= pixels
            same = near & (np.abs(others[:, 4] - row[4]) <= 0.01 * pixels) & (others[:, 5] == row[5])
            assert same.any(), row


def test_boxes_are_those_of_python(shown, site):
    content, _ = shown
    assert len(content["images"]) == 5
    for image, found in zip(PHOTOS, content["images"], strict=True):
        assert_same(found, expected_of(site / "model.onnx", image))


def test_any_exported_model_can_be_opened(shown):
    content, models = shown
    for model, found in zip(models, content["otherModels"], strict=True):
        assert len(found) > 0
        # Runtimes round int8 and float16 differently.
        assert_same(found, expected_of(model, PHOTOS[0]), 1 if model.stem == "e" else 4)


def test_a_wrong_file_gives_a_message_and_the_model_stays(shown, site):
    content, _ = shown
    assert re.match(r"wrong\.onnx: .*not an \.onnx file", content["wrongModel"])
    assert_same(content["afterWrongModel"], expected_of(site / "model.onnx", PHOTOS[0], conf=0.9))


def test_the_slider_sets_the_lowest_score(shown):
    assert all(score > 0.9 for score in shown[0]["strict"])


def test_the_camera_is_used(shown):
    content = shown[0]
    assert content["camera"]["width"] == 320
    assert all(re.fullmatch(r"[\d.]+ ms \(network [\d.]+ ms\)", time) for time in content["times"])


def test_a_double_click_opens_one_camera_and_stopping_closes_it(shown):
    assert shown[0]["camerasAfterDoubleClick"] == 1
    assert shown[0]["camerasAfterStop"] == 0


def test_a_camera_that_cannot_be_played_is_closed(shown):
    content = shown[0]
    assert "cannot play" in content["cameraError"]
    assert content["camerasAfterError"] == 0
    assert content["opened"] == 2


def test_the_page_works_without_a_network_and_sends_nothing(shown, address, site):
    content, _ = shown
    assert_same(content["offline"], expected_of(site / "model.onnx", PHOTOS[0]))
    assert all(request.startswith((address, "data:", "blob:")) for request in content["requests"])


def test_the_page_has_threads_fits_a_phone_and_has_no_errors(shown):
    content = shown[0]
    assert content["isolated"]
    assert re.search(r"WebAssembly, \d+ thread", content["runtime"])
    assert not content["overflows"]
    assert content["errors"] == []
