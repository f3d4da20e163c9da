"""Build the C++ sample as a user does, compare its detections with Python's, and check its errors on invalid input.

Needs an installed NCNN, for example with CMAKE_PREFIX_PATH=/path/to/ncnn/install. With
CXXFLAGS=-fsanitize=address,undefined and an NCNN that was built with the same flags, the tests also find memory errors.
"""

import json
import os
import random
import re
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.helpers.dataset_files import write_data, write_image
from tests.helpers.random_detector import save_random_weights
from utils.config import read_config
from utils.dataset.images import read_image
from utils.dataset.lists import list_images
from utils.detect.run import FrameDetector
from utils.postprocess import Thresholds
from utils.runtimes.loading import load_runtime

pytestmark = pytest.mark.slow

RELEASED = "coco2017-0.241078ap-model.pth"
IMAGE_COUNT = 20  # of coco-val128
BOX_TOLERANCE, SCORE_TOLERANCE = 1, 0.01  # image pixels, 0 to 1
BACKENDS = {"simpleocv": "-DWITH_OPENCV=OFF", "opencv": "-DWITH_OPENCV=ON"}
PACKAGES = ("ncnn", "nlohmann_json")
INVALID_IMAGES = {
    "missing.png": None,
    "empty.png": b"",
    "text.png": b"not an image",
    "truncated.jpg": b"\xff\xd8\xff\xe0\0\x10JFIF",
}


def run(command, **options):
    result = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, encoding="utf-8", timeout=900, check=False, **options
    )
    # Undefined behavior counts only in the sample itself, because NCNN's JPEG writer has some.
    assert "Sanitizer: " not in result.stderr, result.stderr
    assert not re.search(r"sample/ncnn/\S+ runtime error: ", result.stderr), result.stderr
    return result


@pytest.fixture(scope="session")
def build(repo, tmp_path_factory):
    """A function that builds the demo with one of BACKENDS and returns its path, or skips if a package is missing.

    All backends use the same build folder, so that CMake compiles the library once.
    """
    folder = tmp_path_factory.mktemp("build")
    demos = {}

    def build(backend):
        if backend not in demos:
            build_demo(repo / "sample" / "ncnn", folder, backend)
            demos[backend] = shutil.copy(folder / "demo", folder / f"demo-{backend}")
        return demos[backend]

    return build


def build_demo(source, folder, backend):
    if shutil.which("cmake") is None:
        pytest.skip("CMake is not installed")
    configured = run(["cmake", "-S", source, "-B", folder, BACKENDS[backend]])
    output = configured.stdout + configured.stderr
    if "No CMAKE_CXX_COMPILER could be found" in output:
        pytest.skip("there is no C++ compiler")
    for package in PACKAGES:
        missing = rf'"{package}"\s+with\s+any\s+of|Could not find a configuration file for package "{package}"'
        if re.search(missing, output):
            pytest.skip(f"CMake does not find {package}; set CMAKE_PREFIX_PATH")
    assert configured.returncode == 0, output
    if backend == "opencv" and "Images: OpenCV" not in output:
        pytest.skip("CMake does not find OpenCV")
    built = run(["cmake", "--build", folder, "--parallel", "2"])
    output = built.stdout + built.stderr
    if "-DNCNN_SIMPLEOCV=ON" in output:
        pytest.skip("NCNN was built without simpleocv")
    assert built.returncode == 0, output
    assert "warning:" not in output


@pytest.fixture(scope="session", params=list(BACKENDS))
def each_demo(request, build):
    """The path of the demo, for one backend after the other."""
    return build(request.param)


@pytest.fixture(scope="session")
def demo(build):
    """The path of the demo with the first backend that can be built; simpleocv starts faster than OpenCV."""
    for backend in BACKENDS:
        try:
            return build(backend)
        except pytest.skip.Exception as reason:
            skipped = reason
    raise skipped


@pytest.fixture(scope="session")
def export(run_script):
    """A function that exports weights to NCNN as a user does and returns the path of the .json file."""
    pytest.importorskip("pnnx", reason="the export to NCNN needs pnnx")

    def export(data, weights, folder):
        target = folder / "model.onnx"
        result = run_script(
            "pytorch2onnx.py", "--data", data, "--weights", weights, "--output", target, "--ncnn", "fp32"
        )
        assert result.returncode == 0, result.stderr
        return target.with_suffix(".json")

    return export


@pytest.fixture(scope="session")
def released_model(export, repo, shared, tmp_path_factory):
    """The released weights: (path of the .json file, FrameDetector of the same weights)."""
    data, weights = repo / "data" / "coco.data", shared / "reference" / RELEASED
    return export(data, weights, tmp_path_factory.mktemp("released")), python_detector(data, weights)


@pytest.fixture(scope="session")
def small(export, tmp_path_factory):
    """A model of two classes with random weights: (path of the .json file, FrameDetector of the same weights)."""
    folder = tmp_path_factory.mktemp("small")
    data, weights = write_data(folder), save_random_weights(folder / "small.pth")
    return export(data, weights, folder), python_detector(data, weights)


def python_detector(data, weights, conf=0.3, iou=0.4):
    config = read_config(data)
    runtime = load_runtime(weights, config, "cpu")
    return FrameDetector(runtime, config.size, Thresholds(conf, iou))


@pytest.fixture
def model(small, tmp_path):
    """The path of the .json file of a copy of the small model, which a test may damage."""
    for path in small[0].parent.glob("model.*"):
        shutil.copy(path, tmp_path)
    return tmp_path / "model.json"


@pytest.fixture(scope="session")
def image_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("image") / "image.png"
    write_image(path)
    return path


def read_lines(result):
    """Return the JSON lines of a successful run."""
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def assert_fails(result, status, *expected):
    """Check the exit status, and that the only error line contains all expected words."""
    errors = result.stderr.splitlines()
    assert result.returncode == status, result.stderr
    assert errors[-1].startswith("error: ")
    assert [line for line in errors[:-1] if not line.startswith("warning: ")] == []
    assert [word for word in expected if str(word) not in errors[-1]] == [], errors[-1]


def as_array(record):
    """Convert a JSON line to [n, 6] rows (x1, y1, x2, y2, score, class)."""
    rows = [[*entry["box"], entry["score"], entry["class"]] for entry in record["detections"]]
    return np.array(rows, dtype=float).reshape(-1, 6)


def assert_same_detections(detections, expected, conf):
    """Check that each detection has a counterpart, except those with a score close to the threshold."""
    for these, others in ((detections, expected), (expected, detections)):
        for row in these[these[:, 4] > conf + SCORE_TOLERANCE]:
            distance = np.abs(others - row)
            near = (distance[:, :4] <= BOX_TOLERANCE).all(1) & (distance[:, 4] <= SCORE_TOLERANCE)
            assert (near & (distance[:, 5] == 0)).any(), (row, others)


def as_png(paths, folder):
    """Copy images as PNG, which all decoders read identically. Returns the folder."""
    for path in paths:
        cv2.imwrite(str(folder / f"{Path(path).stem}.png"), read_image(path))
    return folder


def compare(demo, model, detector, folder, output, conf=0.3):
    """Compare the demo with Python on all images of a folder. Returns the number of detections in Python."""
    command = [demo, model, folder, "--output", output, "--conf", conf, "--arithmetic", "fp32"]
    records = read_lines(run(command))
    paths = list_images(folder)
    assert [record["file"] for record in records] == paths
    count = 0
    for record, path in zip(records, paths, strict=True):
        image = read_image(path)
        assert (record["width"], record["height"]) == image.shape[1::-1]
        expected, _ = detector(image)
        assert_same_detections(as_array(record), expected, conf)
        count += len(expected)
        assert cv2.imread(str(output / os.path.basename(path))).shape == image.shape
    return count


def test_released_weights_give_the_detections_of_python(each_demo, released_model, shared, tmp_path):
    (tmp_path / "png").mkdir()
    folder = as_png(list_images(shared / "coco-val128" / "images")[:IMAGE_COUNT], tmp_path / "png")
    assert compare(each_demo, *released_model, folder, tmp_path / "out") > 2 * IMAGE_COUNT


def test_random_weights_give_the_detections_of_python(each_demo, small, repo, tmp_path):
    model, detector = small
    (tmp_path / "png").mkdir()
    folder = as_png(list_images(repo / "img"), tmp_path / "png")
    assert compare(each_demo, model, detector, folder, tmp_path / "out") > 0


@pytest.mark.parametrize("size", [(1, 1), (1, 90), (90, 1), (2, 2), (3000, 7)], ids=str)
def test_image_sizes(each_demo, small, tmp_path, size):
    (tmp_path / "in").mkdir()
    image = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    cv2.imwrite(str(tmp_path / "in" / "image.png"), image)
    compare(each_demo, *small, tmp_path / "in", tmp_path / "out")


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1"])
def test_image_color_modes(each_demo, small, image_path, tmp_path, mode):
    (tmp_path / "in").mkdir()
    Image.open(image_path).convert(mode).save(tmp_path / "in" / "image.png")
    compare(each_demo, *small, tmp_path / "in", tmp_path / "out")


def test_gray_jpeg(each_demo, small, image_path, tmp_path):
    Image.open(image_path).convert("L").save(tmp_path / "gray.jpg")
    (record,) = read_lines(run([each_demo, small[0], tmp_path / "gray.jpg", "--output", tmp_path / "out"]))
    assert (record["width"], record["height"]) == (64, 48)
    # JPEG decoders differ by up to one gray level, so detections are not compared.
    assert cv2.imread(str(tmp_path / "out" / "gray.jpg")).shape == (48, 64, 3)


def test_exif_orientation(build, small, tmp_path):
    """OpenCV rotates photos as their EXIF orientation says, simpleocv does not."""
    write_image(tmp_path / "upright.png")
    image = Image.open(tmp_path / "upright.png")
    exif = image.getexif()
    exif[0x0112] = 6  # rotate by 90 degrees
    image.save(tmp_path / "rotated.jpg", exif=exif)
    for backend, size in (("opencv", (48, 64)), ("simpleocv", (64, 48))):
        (record,) = read_lines(
            run([build(backend), small[0], tmp_path / "rotated.jpg", "--output", tmp_path / backend])
        )
        assert (record["width"], record["height"]) == size


def test_unicode_paths(each_demo, small, image_path, tmp_path):
    folder, output = tmp_path / "été", tmp_path / "結果"
    folder.mkdir()
    shutil.copy(image_path, folder / "猫.png")
    model = folder / "модель.json"
    shutil.copy(small[0], model)
    for suffix in (".ncnn.param", ".ncnn.bin"):
        shutil.copy(small[0].with_suffix(suffix), folder / f"вес{suffix}")
    change(model, lambda content: content.update(param="вес.ncnn.param", bin="вес.ncnn.bin"))
    (record,) = read_lines(run([each_demo, model, folder, "--output", output]))
    assert record["file"] == str(folder / "猫.png")
    assert cv2.imdecode(np.frombuffer((output / "猫.png").read_bytes(), np.uint8), cv2.IMREAD_COLOR) is not None


def test_detections_are_printed_and_drawn(each_demo, small, image_path, tmp_path):
    result = run([each_demo, small[0], image_path, "--conf", 0.1], cwd=tmp_path)
    (record,) = read_lines(result)
    assert list(record) == ["file", "width", "height", "detections"]
    assert record["file"] == str(image_path)
    assert list(record["detections"][0]) == ["class", "name", "score", "box"]
    assert record["detections"][0]["name"] in ("cat", "dog")
    scores = [entry["score"] for entry in record["detections"]]
    assert scores == sorted(scores, reverse=True)
    (summary,) = result.stderr.splitlines()
    assert str(len(scores)) in summary
    assert str(Path("result", "image.png")) in summary
    drawn = cv2.imread(str(tmp_path / "result" / "image.png"))
    assert drawn.shape == (48, 64, 3)
    assert (drawn != cv2.imread(str(image_path))).any()
    assert os.listdir(tmp_path / "result") == ["image.png"]


def test_the_linker_takes_opencv_instead_of_simpleocv(build):
    if shutil.which("nm") is None:
        pytest.skip("nm is not installed")
    symbols = run(["nm", "--demangle", build("opencv")]).stdout
    assert "cv::imdecode(cv::_InputArray" in symbols
    assert "cv::putText(cv::Mat&" not in symbols


def test_the_model_can_be_given_as_param_file(demo, small, image_path, tmp_path):
    by_json = run([demo, small[0], image_path, "--output", tmp_path])
    assert read_lines(run([demo, small[0].with_suffix(".ncnn.param"), image_path, "--output", tmp_path])) == read_lines(
        by_json
    )


def test_thread_count_does_not_change_detections(demo, small, image_path, tmp_path):
    one, two = (read_lines(run([demo, small[0], image_path, "--output", tmp_path, "--threads", n])) for n in (1, 2))
    np.testing.assert_allclose(as_array(one[0]), as_array(two[0]), atol=0.02)


def test_thresholds_from_the_model_file_and_from_the_command_line(demo, model, image_path, tmp_path):
    def detect(*options):
        return read_lines(run([demo, model, image_path, "--output", tmp_path / "out", *options]))[0]["detections"]

    everything = detect("--conf", 0.0, "--iou=1")
    change(model, lambda content: content.update(conf=0, iou=1, max_det=5))
    best = detect()
    # max_det applies before boxes outside the image are dropped.
    assert 0 < len(best) <= 5
    assert best == everything[: len(best)]
    assert detect("--conf", 1) == []


def test_a_folder_with_subfolders_and_other_files(each_demo, small, tmp_path):
    folder = tmp_path / "in"
    write_image(folder / "b.png", seed=1)
    write_image(folder / "a" / "deep" / "A.PNG", seed=2)
    write_image(folder / "c.jpg", seed=3)
    write_image(folder / ".hidden.png")
    write_image(folder / "result" / "old.png")
    (folder / "notes.txt").write_text("not an image", encoding="utf-8")
    (folder / "loop").symlink_to(folder)
    result = run([each_demo, small[0], folder, "--output", folder / "result"])
    names = ["a/deep/A.PNG", "b.png", "c.jpg"]
    assert [record["file"] for record in read_lines(result)] == [str(folder / name) for name in names]
    assert all((folder / "result" / name).is_file() for name in names)
    assert re.search(r" 3 images?\b", result.stderr)
    assert str(folder / "result") in result.stderr


def test_invalid_images_in_a_folder_are_skipped(each_demo, small, image_path, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    shutil.copy(image_path, folder / "good.png")
    for name, content in INVALID_IMAGES.items():
        if content is not None:
            (folder / name).write_bytes(content)
    result = run([each_demo, small[0], folder, "--output", tmp_path / "out"])
    assert result.returncode == 1
    assert len(result.stdout.splitlines()) == 1
    *warnings, last = result.stderr.splitlines()
    assert len(warnings) == 3
    for name in ("empty.png", "text.png", "truncated.jpg"):
        assert sum(line.startswith("warning: ") and name in line for line in warnings) == 1
    assert re.search(r"\b3 ", last)
    assert os.listdir(tmp_path / "out") == ["good.png"]


@pytest.mark.parametrize("name", INVALID_IMAGES)
def test_an_invalid_image(each_demo, small, tmp_path, name):
    if INVALID_IMAGES[name] is not None:
        (tmp_path / name).write_bytes(INVALID_IMAGES[name])
    result = run([each_demo, small[0], tmp_path / name, "--output", tmp_path / "out"])
    assert_fails(result, 2 if INVALID_IMAGES[name] is None else 1)
    assert name in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_truncated_png(each_demo, small, image_path, tmp_path):
    data = image_path.read_bytes()
    for length in (8, 20, 33, len(data) // 2, len(data) - 13):
        (tmp_path / "truncated.png").write_bytes(data[:length])
        result = run([each_demo, small[0], tmp_path / "truncated.png", "--output", tmp_path / "out"])
        # Some decoders accept truncated files.
        assert result.returncode in (0, 1), result.stderr


def test_bench_prints_the_duration_of_each_stage(demo, small, image_path, tmp_path):
    result = run([demo, small[0], image_path, "--output", tmp_path, "--bench", 3])
    assert len(read_lines(result)) == 1
    table = result.stderr.splitlines()
    assert re.findall(r"\d+", table[0]) == ["3", "1"]
    assert table[1].split() == ["milliseconds", "min", "median", "max"]
    assert [row.split()[0] for row in table[2:6]] == ["preprocessing", "network", "postprocessing", "total"]
    for row in table[2:6]:
        minimum, median, maximum = map(float, row.split()[1:])
        assert 0 <= minimum <= median <= maximum


def test_help_names_every_option(demo):
    result = run([demo, "--help"])
    assert result.returncode == 0
    for word in ("--output", "--conf", "--iou", "--threads", "--arithmetic", "--bench"):
        assert word in result.stdout


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], ["MODEL.json", "got 0"]),
        (["one"], ["MODEL.json", "got 1"]),
        (["one", "two", "three"], ["MODEL.json", "got 3"]),
        (["MODEL", "IMAGE", "--nonsense", "1"], ["--nonsense"]),
        (["MODEL", "IMAGE", "--conf"], ["--conf"]),
        (["MODEL", "IMAGE", "--conf", "1.5"], ["--conf", "from 0 to 1", "'1.5'"]),
        (["MODEL", "IMAGE", "--conf", "nan"], ["--conf", "'nan'"]),
        (["MODEL", "IMAGE", "--iou", "0.4x"], ["--iou", "'0.4x'"]),
        (["MODEL", "IMAGE", "--iou="], ["--iou", "''"]),
        (["MODEL", "IMAGE", "--threads", "0"], ["--threads", "'0'"]),
        (["MODEL", "IMAGE", "--arithmetic", "int8"], ["--arithmetic", "'int8'"]),
        (["MODEL", "IMAGE", "--threads", "2.5"], ["--threads", "'2.5'"]),
        (["MODEL", "IMAGE", "--threads", "99999999999999999999"], ["--threads", "'99999999999999999999'"]),
        (["MODEL", "IMAGE", "--bench", "-1"], ["--bench", "'-1'"]),
        (["MODEL", "IMAGE", "--output", ""], ["--output"]),
        (["MODEL", "FOLDER", "--bench", "1"], ["--bench", "FOLDER"]),
        (["MODEL", "IMAGE", "--output", "FOLDER"], ["--output", "FOLDER"]),
        (["MODEL", "EMPTY"], ["EMPTY", ".jpg"]),
        (["MODEL", "nothing"], ["nothing"]),
        (["missing.json", "IMAGE"], ["missing.json"]),
        (["missing.ncnn.param", "IMAGE"], ["missing.json"]),
        (["IMAGE", "IMAGE"], ["IMAGE", ".json"]),
        (["FOLDER", "IMAGE"], ["FOLDER", ".json"]),
    ],
    ids=" ".join,
)
def test_invalid_command_lines(demo, small, image_path, tmp_path, options, expected):
    (tmp_path / "empty").mkdir()
    paths = {"MODEL": small[0], "IMAGE": image_path, "FOLDER": image_path.parent, "EMPTY": tmp_path / "empty"}
    result = run([demo, *(paths.get(option, option) for option in options)], cwd=tmp_path)
    assert_fails(result, 2, *(paths.get(word, word) for word in expected))


def test_a_missing_camera(each_demo, small):
    # The camera libraries that OpenCV uses leak memory.
    environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}
    assert_fails(run([each_demo, small[0], 97], env=environment), 2, "camera", "97")


def test_a_result_file_that_cannot_be_written(each_demo, small, image_path, tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert_fails(run([each_demo, small[0], image_path, "--output", tmp_path / "file"]), 1, tmp_path / "file")
    (tmp_path / "out" / "image.png").mkdir(parents=True)
    assert_fails(
        run([each_demo, small[0], image_path, "--output", tmp_path / "out"]), 1, tmp_path / "out" / "image.png"
    )
    assert os.listdir(tmp_path / "out") == ["image.png"]


def change(model, edit):
    """Apply `edit` to the content of a .json file."""
    content = json.loads(model.read_text(encoding="utf-8"))
    edit(content)
    model.write_text(json.dumps(content), encoding="utf-8")


def setting(*keys, to):
    """Return an edit that sets content[key][key]… to a value."""

    def edit(content):
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = to

    return edit


def removing(*keys):
    """Return an edit that deletes content[key][key]…"""

    def edit(content):
        for key in keys[:-1]:
            content = content[key]
        del content[keys[-1]]

    return edit


KEYS = ("format", "names", "width", "height", "strides", "anchors", "conf", "iou", "max_det", "input", "outputs")


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        *((removing(key), [key]) for key in (*KEYS, "param", "bin")),
        *((setting(key, to=None), [key, "null"]) for key in (*KEYS, "param", "bin")),
        *((removing("input", key), ["input", key]) for key in ("name", "channels", "scale", "mean")),
        (setting("format", to=2), ["format", "got 2"]),
        (setting("names", to=[]), ["names", "[]"]),
        (setting("names", 1, to=7), ["names[1]", "got 7"]),
        (setting("names", to=["cat"]), ["out0", "x17", "x16"]),
        (setting("names", to=["cat", "dog", "cow"]), ["out0", "x17", "x18"]),
        (setting("width", to=0), ["width", "got 0"]),
        (setting("width", to=-32), ["width", "got -32"]),
        (setting("width", to=96.5), ["width", "got 96.5"]),
        (setting("width", to="96"), ["width", "from 1 to 8192", 'got "96"']),
        (setting("width", to=1e300), ["width", "got 1e+300"]),
        (setting("width", to=2**70), ["width"]),
        (setting("height", to=65), ["height", "stride 16", "got 65"]),
        (setting("height", to=48), ["height", "stride 32", "got 48"]),
        (setting("strides", to=[16]), ["outputs", "1"]),
        (setting("strides", to=[16, 0]), ["strides[1]", "got 0"]),
        (setting("strides", to=[32, 16]), ["out0", "2x3x"]),
        (setting("outputs", to=["out0", "out9"]), ["out9"]),
        (setting("outputs", to=["out1", "out0"]), ["out1"]),
        (setting("outputs", to=["out0", "in0"]), ["in0"]),
        (setting("anchors", to=[[[1, 2]], []]), ["anchors[1]", "got []"]),
        (setting("anchors", 0, 0, to=[10]), ["anchors[0][0]", "got [10]"]),
        (setting("anchors", 1, 0, 0, to=0), ["anchors[1][0][0]", "got 0"]),
        (setting("anchors", 1, 0, 0, to="8"), ["anchors[1][0][0]", 'got "8"']),
        (setting("anchors", 1, 0, 1, to=1e39), ["anchors[1][0][1]", "got 1e+39"]),
        (setting("anchors", 0, to=[[1, 2]]), ["out0", "4x6x17", "4x6x7"]),
        (setting("anchors", 0, to=[[1, 2]] * 9), ["out0", "4x6x17", "4x6x47"]),
        (setting("conf", to=1.5), ["conf", "from 0 to 1", "got 1.5"]),
        (setting("iou", to="0.4"), ["iou", 'got "0.4"']),
        (setting("max_det", to=0), ["max_det", "got 0"]),
        (setting("input", to=[]), ["input", "got []"]),
        (setting("input", "name", to="in9"), ["in9"]),
        (setting("input", "channels", to="RGB"), ["input: channels", '"BGR"', '"RGB"']),
        (setting("input", "scale", to=0), ["input: scale", "got 0"]),
        (setting("input", "mean", to=[0, 0]), ["input: mean", "3", "got [0,0]"]),
        (setting("param", to="gone.ncnn.param"), ["gone.ncnn.param"]),
        (setting("bin", to="gone.ncnn.bin"), ["gone.ncnn.bin"]),
        (setting("bin", to="."), ["folder"]),
        (setting("bin", to="model.json"), ["model.json"]),
        (setting("param", to="model.ncnn.bin"), ["model.ncnn.bin", "7767517"]),
        (setting("param", to="model.json"), ["model.json", "7767517"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_invalid_values_in_the_json_file(demo, model, image_path, tmp_path, edit, expected):
    change(model, edit)
    assert_fails(run([demo, model, image_path, "--output", tmp_path / "out"]), 2, tmp_path, *expected)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"null", b"[]", b"7", b'{"format": 1', b'{"format": 1e999}', b'"\xff"', b"\0" * 64, b"[" * 9999],
)
def test_invalid_json(demo, model, image_path, content):
    model.write_bytes(content)
    assert_fails(run([demo, model, image_path]), 2, "model.json")


def test_a_bin_file_of_the_wrong_length(demo, model, image_path):
    weights = model.with_suffix(".ncnn.bin")
    data = weights.read_bytes()
    for length in (0, 1, 3, 4, 5, 1000, len(data) // 2, len(data) - 1):
        weights.write_bytes(data[:length])
        assert_fails(run([demo, model, image_path]), 2, weights, f"got {length}")
    weights.write_bytes(data + b"\0")
    assert_fails(run([demo, model, image_path]), 2, weights, f"expected {len(data)}", f"got {len(data) + 1}")


@pytest.mark.parametrize("position", [4, -4], ids=["kernel", "bias"])
def test_a_weight_that_is_not_a_number(demo, model, image_path, position):
    weights = model.with_suffix(".ncnn.bin")
    values = np.frombuffer(weights.read_bytes(), "<f4").copy()
    values[position // 4] = np.nan
    weights.write_bytes(values.tobytes())
    assert_fails(run([demo, model, image_path]), 2, weights, "finite", "NaN")


def test_a_truncated_param_file(demo, model, image_path):
    param = model.with_suffix(".ncnn.param")
    data = param.read_bytes().rstrip()
    last_line = data.rindex(b"\n")
    lengths = [0, 3, 7, 8, 10, 15, *range(16, last_line, 379), *range(last_line - 3, len(data))]
    for length in lengths:
        param.write_bytes(data[:length])
        assert_fails(run([demo, model, image_path]), 2, "model.ncnn.param")


def test_an_inconsistent_param_file(demo, model, image_path):
    param = model.with_suffix(".ncnn.param")
    head, *layers = param.read_text(encoding="utf-8").splitlines()[1:]
    layer_count, blob_count = map(int, head.split())

    def fails(text, *expected):
        param.write_text(f"7767517\n{text}\n", encoding="utf-8")
        assert_fails(run([demo, model, image_path]), 2, "model.ncnn.param", *expected)

    body = "\n".join(layers)
    fails(f"{layer_count + 1} {blob_count}\n{body}", f"expected {layer_count + 1}", f"got {layer_count}")
    fails(f"{layer_count} 3\n{body}", ".param:2: ", f"{blob_count}", "got 3")
    fails(f"{layer_count} -3\n{body}", ".param:2: ")
    fails(f"999999999 999999999\n{body}", ".param:2: ")
    fails(f"{layer_count} {blob_count}\n" + body.replace(" in0\n", " elsewhere\n", 1), ".param:3: ")
    fails(f"{layer_count} {blob_count}\n" + body.replace("pad_0", "x" * 256, 1), ".param:4: ", "255")


@pytest.mark.parametrize("kind", ["BinaryOp", "Concat"])
@pytest.mark.parametrize("inputs", ["int8 float", "float int8"])
def test_int8_in_any_input_of_a_layer_that_reads_floats(demo, model, image_path, kind, inputs):
    param = model.with_suffix(".ncnn.param")
    layers = [
        "Input in0 0 1 in0",
        "Split split 1 2 in0 image float",
        "Convolution quantized 1 1 image int8 0=3 1=1 6=9 8=102",
        f"{kind} both 2 1 {inputs} out0",
    ]
    param.write_text("\n".join(["7767517", "4 5", *layers]), encoding="utf-8")
    assert_fails(run([demo, model, image_path]), 2, ".param:6: ", "float input", "int8")


def test_an_integer_instead_of_a_number_with_a_decimal_point(demo, model, image_path):
    """NCNN may read the bits of an integer as a float."""
    param = model.with_suffix(".ncnn.param")
    text = param.read_text(encoding="utf-8")
    assert "1=2.0 2=2.0" in text
    param.write_text(text.replace("1=2.0 2=2.0", "1=2.0 2=2"), encoding="utf-8")
    assert_fails(run([demo, model, image_path]), 2, "model.ncnn.param:", "upsample", "decimal point", "got 2")


def test_no_changed_number_crashes_ncnn(demo, model, image_path):
    """NCNN trusts the numbers of a .param file; a process that ends with a signal has a negative exit status."""
    param = model.with_suffix(".ncnn.param")
    text = param.read_text(encoding="utf-8")
    numbers = [match.span() for match in re.finditer(r"[0-9]+(\.[0-9]+)?", text)]
    generator = random.Random(0)
    for _ in range(150):
        start, end = generator.choice(numbers)
        value = generator.choice(["-1", "0", "2", "7", "1000000000", "2147483648", "1" + "0" * 30, "0.5", "x", ""])
        param.write_text(text[:start] + value + text[end:], encoding="utf-8")
        result = run([demo, model, image_path])
        if result.returncode != 0:
            assert_fails(result, 2, "model.ncnn.param")


def test_class_names_outside_ascii(each_demo, model, image_path, tmp_path):
    names = ['猫 "\\\n', "x" * 5000]
    change(model, setting("names", to=names))
    (record,) = read_lines(run([each_demo, model, image_path, "--conf", "0.05", "--output", tmp_path / "out"]))
    assert record["detections"]
    assert {entry["name"] for entry in record["detections"]} <= set(names)
