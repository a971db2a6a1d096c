"""Configuration files that YAML readers take without a word, or choke on."""

from pathlib import Path

import pytest

from mlprune.cli.config_files import check_files, read_yaml
from mlprune.errors import UserError


def aliases(width: int, levels: int) -> str:
    """A list of lists of lists, each written once and repeated by its alias."""
    lines = [f"a0: &a0 [{', '.join(['x'] * width)}]"]
    lines += [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * width)}]" for k in range(1, levels)]
    return "\n".join(lines)


REFUSED = {
    "list: {[1, 2]: 3}": "a list or mapping is a key in line 1; give a word",
    "x: 1\n? {a: 1}\n: 3": "a list or mapping is a key in line 2; give a word",
    "a: {b: 1,\n b: 2}": "key 'b' is given twice, again in line 2",
    "x: " + "[" * 3000 + "]" * 3000: "nested more than 50 deep",
    "x: " + "[" * 60 + "]" * 60: "nested more than 50 deep",
    aliases(1, 60): "nested more than 50 deep in line 51",
    aliases(9, 9): "more than 100,000 values, with the aliases of line 6 written out",
    "x: &x {y: [*x]}": "the alias of line 1 stands within itself",
    "x: [1": "not YAML: .*line 1",
    "x: !!python/object/apply:os.system ['true']": "not YAML: could not determine a constructor",
    "x: 'a\0b'": "not YAML: .*#x0000",
}


@pytest.mark.parametrize("text", REFUSED, ids=list(REFUSED.values()))
def test_refused(text: str) -> None:
    with pytest.raises(UserError, match=f"^{REFUSED[text]}") as caught:
        read_yaml(text.encode())
    assert "\n" not in str(caught.value)


def test_text_in_another_encoding() -> None:
    with pytest.raises(UserError, match=r"^not UTF-8 text .*byte 6"):
        read_yaml("x: caf\xe9".encode("latin-1"))


def test_aliases_and_merges_of_an_ordinary_size_are_read() -> None:
    assert read_yaml(b"a: &a {x: 1}\nb: {<<: *a, y: 2}\nc: [*a, *a]") == {
        "a": {"x": 1},
        "b": {"x": 1, "y": 2},
        "c": [{"x": 1}, {"x": 1}],
    }


@pytest.mark.parametrize("flags", [["--config", "FILE"], ["--config=FILE"], ["-c", "FILE"]])
def test_the_file_is_named(tmp_path: Path, flags: list[str]) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("model: 3")
    with pytest.raises(UserError) as caught:
        check_files(["fit", *(flag.replace("FILE", str(file)) for flag in flags)])
    assert str(caught.value) == f"--config {file}: model: '3' is not allowed; give keys and values"


def test_every_packaged_configuration_is_taken() -> None:
    files = sorted((Path(__file__).parents[2] / "configs").rglob("*.yaml"))
    assert files
    for file in files:
        read_yaml(file.read_bytes())


def test_a_section_in_a_file_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("model: {name: x/y}\npruning: parts/pruning.yaml")
    with pytest.raises(UserError, match=r"pruning: file '.*parts/pruning\.yaml' does not exist"):
        check_files(["fit", "--config", str(file)])
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "pruning.yaml").write_text("propagate: dense")
    monkeypatch.chdir(tmp_path / "parts")
    check_files(["fit", "--config", str(file)])
    (tmp_path / "parts" / "pruning.yaml").write_text("[1]: 3")
    with pytest.raises(UserError, match=r"pruning: .*pruning\.yaml: a list or mapping is a key in line 1"):
        check_files(["fit", "--config", str(file)])
