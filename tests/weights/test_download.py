"""Download of missing weights from a local server: verified by hash, and nothing is left after a failure."""

import hashlib
import http.server
import json
import re
import socket
import threading
from types import SimpleNamespace

import pytest
import torch

from utils.errors import InputError, RunError
from utils.provenance import file_hash
from utils.weights import download
from utils.weights.checkpoint import load_detector
from utils.weights.download import MANIFEST, obtain, read_manifest

CONTENT = bytes(range(256)) * 2000
NAME = "listed.pth"


class Server:
    """HTTP server on the loopback interface; each test sets its answer."""

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
    """URL with a free port, at which no server listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/{NAME}"


@pytest.fixture
def manifest(tmp_path, monkeypatch):
    """Function that makes a manifest with NAME at a URL the one of the project, and returns its path."""

    def write(url, content=CONTENT):
        entry = {"name": NAME, "about": "a test", "url": url, "size": len(content)}
        path = tmp_path / "manifest.json"
        path.write_text(json.dumps([entry | {"sha256": hashlib.sha256(content).hexdigest()}]))
        monkeypatch.setattr(download, "MANIFEST", path)
        return path

    return write


def send(content, length=None):
    """Answer with `content` and with `length` as its Content-Length."""

    def answer(request):
        request.send_response(200)
        request.send_header("Content-Length", str(len(content) if length is None else length))
        request.end_headers()
        request.wfile.write(content)

    return answer


def reset(request):
    """Send half of the content, then close the connection with a TCP reset."""
    send(CONTENT[: len(CONTENT) // 2], len(CONTENT))(request)
    request.wfile.flush()
    request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    request.connection.close()


def no_http(request):
    request.wfile.write(b"\0\1\2 this is no HTTP\r\n\r\n")


# The manifest of the project


def test_manifest_lists_the_released_files(shared):
    listed = read_manifest()
    assert set(listed) == {"coco2017-0.241078ap-model.pth", "backbone.pth"}
    for name, entry in listed.items():
        path = shared / "reference" / name
        assert entry.name == name
        assert entry.size == path.stat().st_size
        assert entry.sha256 == file_hash(path)


def test_manifest_is_well_formed(repo):
    assert repo / "modelzoo" / "manifest.json" == MANIFEST
    for entry in read_manifest().values():
        assert re.fullmatch(r"[0-9a-f]{64}", entry.sha256)
        assert entry.url.startswith("https://raw.githubusercontent.com/dog-qiuqiu/Yolo-FastestV2/main/")
        assert entry.url.endswith(f"/{entry.name}")


# Downloads


def test_good_file(tmp_path, server, manifest, capfd):
    manifest(server.url)
    server.answer = send(CONTENT)
    path = tmp_path / "made" / "for it" / NAME
    assert obtain(path) == path
    assert path.read_bytes() == CONTENT
    assert [entry.name for entry in path.parent.iterdir()] == [NAME]
    out, err = capfd.readouterr()
    assert out == ""
    assert str(path) in err.splitlines()[0]
    assert server.url in err.splitlines()[1]
    assert "100%" in err
    assert f"wrote {path} ({len(CONTENT)} bytes" in err


def test_second_use_needs_no_server(tmp_path, server, manifest):
    manifest(server.url)
    server.answer = send(CONTENT)
    for _ in range(2):
        obtain(tmp_path / NAME)
    assert server.requests == 1


def test_existing_file_is_never_changed(tmp_path, server, manifest):
    manifest(server.url)
    path = tmp_path / NAME
    path.write_bytes(b"my weights")
    assert obtain(path) == path
    assert path.read_bytes() == b"my weights"
    assert server.requests == 0


def test_existing_file_needs_no_manifest(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "MANIFEST", tmp_path / "no manifest")
    (tmp_path / NAME).write_bytes(b"x")
    assert obtain(tmp_path / NAME) == tmp_path / NAME


def test_unlisted_file_is_not_downloaded(tmp_path, server, manifest):
    manifest(server.url)
    path = tmp_path / "mine.pth"
    assert obtain(path) == path
    assert server.requests == 0
    assert not path.exists()


CORRUPT = bytes(len(CONTENT))
WRONG_HASH = f"invalid hash value .*{hashlib.sha256(CONTENT).hexdigest()}.*"
FAILURES = {
    "corrupt": (send(CORRUPT), WRONG_HASH),
    "empty": (send(b""), WRONG_HASH),
    "too short": (send(CONTENT[:-1]), WRONG_HASH),
    "too long": (send(CONTENT + b"x"), WRONG_HASH),
    "cut": (send(CONTENT[:1000], len(CONTENT)), rf"{WRONG_HASH}|IncompleteRead.*"),
    "reset": (reset, r".*Connection reset by peer"),
    "not found": (lambda request: request.send_error(404), r".*Not Found"),
    "server error": (lambda request: request.send_error(500), r".*Internal Server Error|HTTP Error 500.*"),
    "no answer": (lambda request: request.connection.close(), r"Remote end closed connection without response"),
    "no HTTP": (no_http, r".*this is no HTTP"),
}


def check_failure(error, url, path, reason):
    """One line that names the file, the reason, and the URL to download from."""
    assert re.fullmatch(
        rf"{re.escape(str(path))}: .*\(({reason})\); .*{re.escape(url)} .*{re.escape(str(path))}", str(error)
    )
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("case", FAILURES)
def test_failed_download_leaves_nothing(tmp_path, server, manifest, case):
    manifest(server.url)
    server.answer, reason = FAILURES[case]
    path = tmp_path / "zoo" / NAME
    with pytest.raises(RunError) as caught:
        obtain(path)
    check_failure(caught.value, server.url, path, reason)


def test_no_server(tmp_path, no_server_url, manifest):
    manifest(no_server_url)
    path = tmp_path / "zoo" / NAME
    with pytest.raises(RunError) as caught:
        obtain(path)
    check_failure(caught.value, no_server_url, path, r".*Connection refused")


def test_silent_server_times_out(tmp_path, server, manifest, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT", 0.2)
    manifest(server.url)
    stop = threading.Event()
    server.answer = lambda request: stop.wait(30)
    before = socket.getdefaulttimeout()
    with pytest.raises(RunError, match=r"\(timed out\)"):
        obtain(tmp_path / NAME)
    stop.set()
    assert socket.getdefaulttimeout() == before


def test_failure_then_success(tmp_path, server, manifest):
    manifest(server.url)
    path = tmp_path / NAME
    server.answer = send(CORRUPT)
    with pytest.raises(RunError):
        obtain(path)
    server.answer = send(CONTENT)
    assert obtain(path).read_bytes() == CONTENT


def test_folder_that_cannot_be_made(tmp_path, server, manifest):
    manifest(server.url)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write there"):
        obtain(tmp_path / "file" / NAME)
    assert server.requests == 0


def test_interrupt_leaves_nothing(tmp_path, manifest, server, monkeypatch):
    manifest(server.url)

    def interrupt(*arguments, **options):
        assert len(list((tmp_path / "zoo").iterdir())) == 1
        raise KeyboardInterrupt

    server.answer = send(CONTENT)
    monkeypatch.setattr(torch.hub, "tqdm", interrupt)
    with pytest.raises(KeyboardInterrupt):
        obtain(tmp_path / "zoo" / NAME)
    assert list((tmp_path / "zoo").iterdir()) == []


# In a script


SCRIPT = """
from pathlib import Path
from utils import cli
from utils.weights import download

arguments = cli.parser("Get weights.")
arguments.add_argument("weights")
arguments.add_argument("manifest")


def main(options):
    download.MANIFEST = Path(options.manifest)
    print(download.obtain(options.weights))


cli.run(arguments, main)
"""


def test_no_network_is_one_line_and_exit_1(tmp_path, repo, run_script, no_server_url, manifest):
    script = tmp_path / "get.py"
    script.write_text(SCRIPT)
    result = run_script(script, NAME, manifest(no_server_url), cwd=tmp_path, env={"PYTHONPATH": str(repo)})
    assert result.returncode == 1
    assert result.stdout == ""
    errors = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert no_server_url in errors[0]
    assert NAME in errors[0]
    assert "Traceback" not in result.stderr


def test_load_detector_downloads_listed_weights(tmp_path, shared, server, manifest):
    """The released checkpoint from the local server loads into a detector for COCO."""
    content = (shared / "reference" / "coco2017-0.241078ap-model.pth").read_bytes()
    server.answer = send(content)
    config = SimpleNamespace(classes=80, anchor_num=3, path="data/coco.data")
    manifest(server.url, content)
    detector, _ = load_detector(tmp_path / NAME, config)
    assert torch.equal(
        detector.output_cls_layers.bias, torch.load(tmp_path / NAME, map_location="cpu")["output_cls_layers.bias"]
    )
