"""The documentation: links, paths and command lines in it exist."""

import re
import shlex

import pytest

from tests.conftest import REPO

PAGES = sorted(
    path.relative_to(REPO).as_posix()
    for pattern in ("*.md", "docs/*.md", "benchmarks/*.md", "img/*.md", "modelzoo/*.md", "sample/**/*.md", "web/*.md")
    for path in REPO.glob(pattern)
)
LINK = re.compile(r"\]\(([^)#\s]*)(#[^)\s]*)?\)")
COMMAND = re.compile(r"\b(?:python3|--nproc_per_node=\d+) ((?:\w+/)*\w+\.py)\b([^`\n]*)")
FOLDERS = "benchmarks|data|docs|img|model|modelzoo|sample|tests|tools|utils"
PATH = re.compile(rf"`((?:{FOLDERS})/[\w./-]*)`")
NOT_IN_PROJECT = re.compile(r"data/(mine|voc|shapes)/|modelzoo/coco|FOLDER|MODULE|NAME")  # examples, and downloads


def text_of(page):
    return (REPO / page).read_text(encoding="utf-8")


def anchor(heading):
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES)
def test_relative_links_resolve(page):
    for target, section in LINK.findall(text_of(page)):
        if "://" in target:
            continue
        path = (REPO / page).parent / target if target else REPO / page
        assert path.exists(), f"{page}: {target}"
        if section:
            headings = re.findall(r"^#+ (.*)", path.read_text(encoding="utf-8"), re.MULTILINE)
            assert section[1:] in map(anchor, headings), f"{page}: {target}{section}"


@pytest.mark.parametrize("page", PAGES)
def test_paths_exist(page):
    for name in PATH.findall(text_of(page)):
        assert NOT_IN_PROJECT.search(name) or (REPO / name).exists(), f"{page}: {name}"


@pytest.fixture(scope="module")
def help_of(run_script):
    """help_of(script): the list of options in its --help, without the examples before it; run once."""
    texts = {}

    def read(script):
        if script not in texts:
            done = run_script(script, "--help")
            assert done.returncode == 0, done.stderr
            texts[script] = done.stdout.partition("\noptions:")[2]
        return texts[script]

    return read


@pytest.mark.parametrize("page", PAGES)
def test_commands_have_scripts_and_options(page, help_of):
    text = text_of(page).replace("\\\n", " ")  # one line per command
    for script, rest in COMMAND.findall(text):
        assert (REPO / script).exists(), f"{page}: {script}"
        for word in shlex.split(rest.split("|")[0], comments=True):
            if word.startswith("--"):
                assert word in re.split(r"[\s,|()\[\]]+", help_of(script)), f"{page}: {script} {word}"


@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith("docs/")])
def test_options_in_tables_exist(page, help_of):
    text = text_of(page)
    scripts = {script for script, _ in COMMAND.findall(text)}
    for row in re.findall(r"^\| (`--.*?) \|", text, re.MULTILINE):
        for option in re.findall(r"--[\w-]+", row):
            assert any(option in re.split(r"[\s,|()\[\]]+", help_of(script)) for script in scripts), f"{page}: {option}"


def test_the_commands_of_the_original_are_documented():
    text = text_of("README.md")
    for command in (
        "python3 genanchors.py --traintxt ./train.txt",
        "python3 train.py --data data/coco.data",
        "python3 evaluation.py --data data/coco.data --weights modelzoo/coco2017-0.241078ap-model.pth",
        "python3 test.py --data data/coco.data --weights modelzoo/coco2017-0.241078ap-model.pth --img ",
        "python3 pytorch2onnx.py --data data/coco.data --weights modelzoo/coco2017-0.241078ap-model.pth --output ",
    ):
        assert command in text
