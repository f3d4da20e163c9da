"""Listed weights that are not there: downloaded from a server on this machine, verified, kept only if they fit."""

import hashlib
import http.server
import json
import re
import socket
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from utils.errors import InputError, RunError
from utils.weights.checkpoint import load_detector, weights_hash
from utils.weights.download import MANIFEST, obtain, read_manifest

CONTENT = bytes(range(256)) * 2000
NAME = "listed.pth"


class Server:
    """An HTTP server on the loopback interface whose answer a test chooses."""

    def __init__(self):
        self.answer = lambda request: request.send_error(404)
        self.requests = 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.requests += 1
                outer.answer(self)

            def log_message(self, *arguments):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/{NAME}"

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def server():
    server = Server()
    yield server
    server.close()


@pytest.fixture
def no_server_url():
    """An address at which nothing listens: a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/{NAME}"


@pytest.fixture
def manifest(tmp_path):
    """Writes a manifest that lists NAME at an address, and returns its path."""

    def write(url, content=CONTENT):
        entry = {"name": NAME, "about": "a test", "url": url, "size": len(content)}
        path = tmp_path / "manifest.json"
        path.write_text(json.dumps([entry | {"sha256": hashlib.sha256(content).hexdigest()}]))
        return path

    return write


def send(content, length=None):
    """Answer with `content`, announced as `length` bytes."""

    def answer(request):
        request.send_response(200)
        request.send_header("Content-Length", str(len(content) if length is None else length))
        request.end_headers()
        request.wfile.write(content)

    return answer


def reset(request):
    """Send half of the content, then cut the connection so hard that the other side gets a reset."""
    send(CONTENT[: len(CONTENT) // 2], len(CONTENT))(request)
    request.wfile.flush()
    request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    request.connection.close()


def no_http(request):
    request.wfile.write(b"\0\1\2 this is no HTTP\r\n\r\n")


# The manifest that ships


def test_manifest_lists_the_released_files(shared):
    listed = read_manifest()
    assert set(listed) == {"coco2017-0.241078ap-model.pth", "backbone.pth"}
    for name, entry in listed.items():
        path = shared / "reference" / name
        assert entry.name == name
        assert entry.size == path.stat().st_size
        assert entry.sha256 == weights_hash(path)


def test_manifest_is_well_formed(repo):
    assert repo / "modelzoo" / "manifest.json" == MANIFEST
    for entry in read_manifest().values():
        assert re.fullmatch(r"[0-9a-f]{64}", entry.sha256)
        assert entry.url.startswith("https://raw.githubusercontent.com/dog-qiuqiu/Yolo-FastestV2/main/")
        assert entry.url.endswith(f"/{entry.name}")


# Downloads


def test_good_file(tmp_path, server, manifest, capfd):
    server.answer = send(CONTENT)
    path = tmp_path / "made" / "for it" / NAME
    assert obtain(path, manifest(server.url)) == path
    assert path.read_bytes() == CONTENT
    assert [entry.name for entry in path.parent.iterdir()] == [NAME]
    out, err = capfd.readouterr()
    assert out == ""
    assert f"{path} is not there; downloading a test\n  from {server.url}\n" in err
    assert "100%" in err
    assert err.endswith(f"wrote {path} ({len(CONTENT)} bytes, SHA-256 verified)\n")


def test_second_use_needs_no_server(tmp_path, server, manifest):
    server.answer = send(CONTENT)
    for _ in range(2):
        obtain(tmp_path / NAME, manifest(server.url))
    assert server.requests == 1


def test_file_that_is_there_is_never_touched(tmp_path, server, manifest):
    path = tmp_path / NAME
    path.write_bytes(b"the user's own")
    assert obtain(path, manifest(server.url)) == path
    assert path.read_bytes() == b"the user's own"
    assert server.requests == 0


def test_file_that_is_there_needs_no_manifest(tmp_path):
    (tmp_path / NAME).write_bytes(b"x")
    assert obtain(tmp_path / NAME, tmp_path / "no manifest") == tmp_path / NAME


def test_unlisted_file_is_left_to_who_opens_it(tmp_path, server, manifest):
    path = tmp_path / "mine.pth"
    assert obtain(path, manifest(server.url)) == path
    assert server.requests == 0
    assert not path.exists()


CORRUPT = bytes(len(CONTENT))
FAILURES = {
    "corrupt": (send(CORRUPT), r"what came is not the listed file, its SHA-256 differs"),
    "empty": (send(b""), rf"got 0 bytes of {len(CONTENT)}"),
    "too short": (send(CONTENT[:-1]), rf"got {len(CONTENT) - 1} bytes of {len(CONTENT)}"),
    "too long": (send(CONTENT + b"x"), rf"got {len(CONTENT) + 1} bytes of {len(CONTENT)}"),
    "cut": (send(CONTENT[:1000], len(CONTENT)), rf"got 1000 bytes of {len(CONTENT)}|IncompleteRead.*"),
    "reset": (reset, r"\[Errno \d+\] Connection reset by peer"),
    "not found": (lambda request: request.send_error(404), r"Not Found|HTTP Error 404: Not Found"),
    "server error": (lambda request: request.send_error(500), r"Internal Server Error|HTTP Error 500.*"),
    "no answer": (lambda request: request.connection.close(), r"Remote end closed connection without response"),
    "no HTTP": (no_http, r".*this is no HTTP"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_failed_download_leaves_nothing(tmp_path, server, manifest, case):
    server.answer, reason = FAILURES[case]
    path = tmp_path / "zoo" / NAME
    with pytest.raises(RunError) as caught:
        obtain(path, manifest(server.url))
    by_hand = f"download {server.url} by hand and save it as {path}"
    expected = rf"{re.escape(str(path))}: not there, and the download failed \(({reason})\); {re.escape(by_hand)}"
    assert re.fullmatch(expected, str(caught.value))
    assert list(path.parent.iterdir()) == []


def test_no_server(tmp_path, no_server_url, manifest):
    path = tmp_path / "zoo" / NAME
    with pytest.raises(RunError) as caught:
        obtain(path, manifest(no_server_url))
    assert re.fullmatch(
        rf"{re.escape(str(path))}: not there, and the download failed \(\[Errno \d+\] Connection refused\); "
        rf"download {re.escape(no_server_url)} by hand and save it as {re.escape(str(path))}",
        str(caught.value),
    )
    assert list(path.parent.iterdir()) == []


def test_silent_server_is_given_up(tmp_path, server, manifest):
    stop = threading.Event()
    server.answer = lambda request: stop.wait(30)
    before = socket.getdefaulttimeout()
    with pytest.raises(RunError, match=r"the download failed \(timed out\)"):
        obtain(tmp_path / NAME, manifest(server.url), timeout=0.2)
    stop.set()
    assert socket.getdefaulttimeout() == before


def test_failure_then_success(tmp_path, server, manifest):
    path = tmp_path / NAME
    server.answer = send(CORRUPT)
    with pytest.raises(RunError):
        obtain(path, manifest(server.url))
    server.answer = send(CONTENT)
    assert obtain(path, manifest(server.url)).read_bytes() == CONTENT


def test_folder_that_cannot_be_made(tmp_path, server, manifest):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write there"):
        obtain(tmp_path / "file" / NAME, manifest(server.url))
    assert server.requests == 0


def test_interrupt_leaves_nothing(tmp_path, manifest, server, monkeypatch):
    def interrupted(url, target, progress):
        Path(target).write_bytes(CONTENT[:1000])
        raise KeyboardInterrupt

    monkeypatch.setattr(torch.hub, "download_url_to_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        obtain(tmp_path / "zoo" / NAME, manifest(server.url))
    assert list((tmp_path / "zoo").iterdir()) == []


# As a script's user meets it


SCRIPT = """
import sys
from utils import cli
from utils.weights.download import obtain

arguments = cli.parser("Get weights.", ["get.py W.pth"])
arguments.add_argument("weights")
arguments.add_argument("manifest")
cli.run(arguments, lambda options: print(obtain(options.weights, options.manifest)))
"""


def test_no_network_is_one_line_and_exit_1(tmp_path, repo, run_script, no_server_url, manifest):
    script = tmp_path / "get.py"
    script.write_text(SCRIPT)
    result = run_script(script, NAME, manifest(no_server_url), cwd=tmp_path, env={"PYTHONPATH": str(repo)})
    assert result.returncode == 1
    assert result.stdout == ""
    errors = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert f"download {no_server_url} by hand and save it as {NAME}" in errors[0]
    assert "Traceback" not in result.stderr


def test_load_detector_downloads_what_is_listed(tmp_path, shared, server, manifest):
    """The released checkpoint, served from here, loads into the detector of its own .data values."""
    content = (shared / "reference" / "coco2017-0.241078ap-model.pth").read_bytes()
    server.answer = send(content)
    config = SimpleNamespace(classes=80, anchor_num=3, path="data/coco.data")
    detector = load_detector(tmp_path / NAME, config, manifest=manifest(server.url, content))
    assert torch.equal(
        detector.output_cls_layers.bias, torch.load(tmp_path / NAME, map_location="cpu")["output_cls_layers.bias"]
    )
