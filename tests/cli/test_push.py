"""``mlprune push`` against a stub of the hub's client, since no hub can be reached from tests."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

from mlprune.cli.push import push
from mlprune.errors import UserError
from mlprune.models.card import Facts, write_card

RECIPE = {"importance": "Wanda()", "sparsity": 0.3, "layers": {}, "base_model": "/home/me/models/llama", "hub_id": None}


class Hub:
    """Takes what the real client would send."""

    made: list = []
    commits: list = []
    error: Exception | None = None

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> SimpleNamespace:
        if self.error is not None:
            raise self.error
        self.made.append((repo_id, private, exist_ok))
        return SimpleNamespace(repo_id=repo_id if "/" in repo_id else f"me/{repo_id}")

    def create_commit(self, repo_id: str, operations: list, *, commit_message: str) -> SimpleNamespace:
        assert commit_message
        self.commits.append((repo_id, {each.path_in_repo: each.path_or_fileobj for each in operations}))
        return SimpleNamespace(commit_url=f"https://huggingface.co/{repo_id}/commit/abc")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> type[Hub]:
    monkeypatch.setattr(Hub, "made", [])
    monkeypatch.setattr(Hub, "commits", [])
    monkeypatch.setattr(Hub, "error", None)
    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    return Hub


@pytest.fixture
def run(tmp_path: Path) -> Path:
    pruned = tmp_path / "run" / "pruned"
    pruned.mkdir(parents=True)
    (pruned / "config.json").write_text("{}")
    (pruned / "model.safetensors").write_bytes(b"weights")
    (pruned / ".cache").write_text("")
    (pruned / "mlprune.json").write_text(json.dumps(RECIPE))
    write_card(pruned, RECIPE, Facts({"base_model": "llama"}))
    return tmp_path / "run"


def test_everything_goes_in_one_commit(run: Path, hub: type[Hub], mlprune, tmp_path: Path) -> None:
    status, out, err = mlprune("push", run, "--repo", "pruned-llama")
    assert (status, err) == (0, "")
    assert out == "https://huggingface.co/me/pruned-llama/commit/abc\n"
    assert hub.made == [("pruned-llama", True, True)]
    ((repo, files),) = hub.commits
    assert repo == "me/pruned-llama"
    assert list(files) == ["README.md", "config.json", "mlprune.json", "model.safetensors"]
    assert files["model.safetensors"] == str(run / "pruned" / "model.safetensors")
    assert b'name = "me/pruned-llama"' in files["README.md"]
    assert json.loads(files["mlprune.json"]) == RECIPE | {"base_model": "llama"}
    assert "/home/me" not in files["README.md"].decode() + files["mlprune.json"].decode()
    assert "this folder" in (run / "pruned" / "README.md").read_text()  # the copy here is as it was


def test_the_folder_itself_and_in_public(run: Path, hub: type[Hub]) -> None:
    push(run / "pruned", "you/x", public=True)
    assert hub.made == [("you/x", False, True)]


def test_a_base_on_the_hub_keeps_its_name(run: Path, hub: type[Hub]) -> None:
    recipe = RECIPE | {"base_model": "facebook/xglm-564M", "hub_id": "facebook/xglm-564M"}
    (run / "pruned" / "mlprune.json").write_text(json.dumps(recipe))
    push(run, "you/x")
    assert json.loads(hub.commits[0][1]["mlprune.json"]) == recipe


@pytest.mark.parametrize("missing", ["mlprune.json", "README.md", "config.json", "model.safetensors"])
def test_what_is_not_whole_is_refused(run: Path, hub: type[Hub], missing: str) -> None:
    (run / "pruned" / missing).unlink()
    with pytest.raises(UserError, match="no weights" if "tensors" in missing else f"{missing} is missing"):
        push(run, "you/x")
    assert not hub.made


@pytest.mark.parametrize("name", ["a/b/c", "a b", "x--y", "../x"])
def test_a_bad_name_is_refused_before_anything_is_sent(run: Path, name: str) -> None:
    with pytest.raises(UserError, match=f"--repo '{re.escape(name)}' is not allowed: "):
        push(run, name)


def test_an_unfinished_run_is_refused(run: Path, hub: type[Hub], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no pruned model to push"):
        push(tmp_path / "nothing", "you/x")
    (run / ".unfinished").mkdir()
    with pytest.raises(UserError, match="is not finished"):
        push(run, "you/x")
    assert not hub.made


def http_error(status: int) -> HfHubHTTPError:
    error = HfHubHTTPError.__new__(HfHubHTTPError)
    Exception.__init__(error, f"{status} Client Error\nmore")
    error.response = SimpleNamespace(status_code=status)
    return error


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (http_error(401), "401 Client Error; log in with `hf auth login`"),
        (http_error(403), "403 Client Error; your token may not write there"),
        (LocalTokenNotFoundError("Token is required"), "Token is required; log in with `hf auth login`"),
        (ConnectionError("no route to host"), "no route to host"),
    ],
    ids=str,
)
def test_what_the_hub_refuses_is_one_line(run: Path, hub: type[Hub], monkeypatch, mlprune, error, told: str) -> None:
    monkeypatch.setattr(hub, "error", error)
    status, out, err = mlprune("push", run, "--repo", "you/x")
    assert (status, out) == (2, "")
    assert err == f"error: --repo 'you/x': the hub refused: {told}\n"
    assert not hub.commits


def test_offline_is_one_line(run: Path, mlprune, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    status, _, err = mlprune("push", run, "--repo", "you/x")
    assert status == 2
    assert len(err.splitlines()) == 1
    assert "offline mode is enabled" in err
