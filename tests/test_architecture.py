"""Imports point in one direction, see docs/architecture.md."""

import ast

import pytest

from tests.conftest import REPO

# A package imports from its own level and from higher numbers.
LEVELS = {
    "cli": 1,
    **dict.fromkeys(("training", "evaluation", "export", "detect", "check", "convert"), 2),
    **dict.fromkeys(("runtimes", "losses", "dataset", "plots", "weights", "kernels"), 3),
    **dict.fromkeys(("boxes", "postprocess", "anchors", "config"), 4),
    **dict.fromkeys(("errors", "files", "text", "machine", "optional", "provenance"), 5),
}
FORBIDDEN = {("training", "check"), ("evaluation", "convert"), ("evaluation", "training")}
FILES = sorted((REPO / "utils").rglob("*.py"))


def imported(tree):
    """Names of the modules that a file imports when it runs, in functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names if node.module == "utils")


def test_every_package_has_a_level():
    names = {path.stem for path in (REPO / "utils").iterdir() if path.suffix in ("", ".py")}
    assert names - {"__init__", "__pycache__"} == LEVELS.keys()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(REPO).as_posix())
def test_imports_point_down(path):
    own = path.relative_to(REPO / "utils").parts[0].removesuffix(".py")
    if own == "__init__":
        return
    for name in imported(ast.parse(path.read_text(encoding="utf-8"))):
        package, _, rest = name.partition(".")
        assert package not in ("train", "test", "evaluation", "genanchors", "pytorch2onnx", "tools", "tests")
        if package == "utils" and rest:
            other = rest.split(".")[0]
            assert LEVELS[other] >= LEVELS[own], f"{path}: imports {name}"
            assert (own, other) not in FORBIDDEN, f"{path}: imports {name}"
