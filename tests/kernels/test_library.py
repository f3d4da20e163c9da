"""Compiling the kernels: once per process, and errors of the compiler."""

import pytest
from torch import nn

from utils.kernels.library import BuildError, compile_library, get_kernels
from utils.kernels.replace_layers import use_kernels


def test_kernels_are_compiled_once(kernels):
    assert get_kernels() is get_kernels()


@pytest.mark.parametrize(
    ("compiler", "message"),
    [
        ("no-such-compiler", r"no C\+\+ compiler.*no-such-compiler"),
        ("false", "exit status 1"),
        ("true", "cannot be loaded"),
    ],
)
def test_no_working_compiler(monkeypatch, compiler, message):
    monkeypatch.setenv("CXX", compiler)
    get_kernels.cache_clear()
    network = nn.Sequential(nn.BatchNorm2d(8))
    with pytest.raises(BuildError, match=message):
        use_kernels(network)
    assert type(network[0]) is nn.BatchNorm2d


def test_the_error_quotes_the_compiler(tmp_path, kernels):
    source = tmp_path / "broken.cpp"
    source.write_text("int f( { return 0; }\n", encoding="utf-8")
    with pytest.raises(BuildError, match=r"broken\.cpp"):
        compile_library([source])
