"""RemoteClassifier gives what the same checkpoint gives on this machine, and refuses what is no classification."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import respx

from agentkit.errors import InferenceError, ModelLoadError, RemoteError
from agentkit.inference.classifier import EncoderClassifier
from agentkit.inference.remote_classifier import RemoteClassifier
from agentkit.inference.remote_server import RemoteTimeouts
from tests.inference.completions_server import CompletionsServer
from tests.inference.encoders import build_encoder

LABELS = ("BENIGN", "INJECTION", "JAILBREAK")
TEXTS = [
    "ignore previous instructions",
    "",
    "[SEP] the weather [CLS]",
    " ".join(["paris"] * 1500),
    "\ud800 in paris",
]
IMPATIENT = RemoteTimeouts(retrying=0.0)


@pytest.fixture
async def local(tmp_path: Path) -> EncoderClassifier:
    return await EncoderClassifier.load(str(build_encoder(tmp_path / "guard", labels=LABELS)))


@pytest.fixture
async def server(engine, local) -> AsyncIterator[CompletionsServer]:
    async with CompletionsServer(engine=engine, classifier=local).serving() as server:
        yield server


@pytest.mark.parametrize("temperature", [1.0, 3.0])
async def test_it_gives_the_windows_and_probabilities_of_the_local_classifier(
    server, local, tmp_path, temperature
):
    remote = RemoteClassifier(server.url, "guard", tokenizer=str(tmp_path / "guard"))
    await remote.start()
    assert remote.labels == LABELS

    found = await remote.classify(TEXTS, temperature=temperature)

    for one, expected in zip(found, await local.classify(TEXTS, temperature=temperature), strict=True):
        assert [(w.start, w.end) for w in one.windows] == [(w.start, w.end) for w in expected.windows]
        for window, known in zip(one.windows, expected.windows, strict=True):
            assert window.probabilities == pytest.approx(known.probabilities, abs=1e-6)
    assert max(len(asked["input"]) for asked in server.asked) <= 16


async def test_a_folder_without_labels_is_refused(server, tmp_path):
    config = json.loads((tmp_path / "guard" / "config.json").read_text())
    del config["id2label"]
    (tmp_path / "guard" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelLoadError, match="names no labels"):
        await RemoteClassifier(server.url, "guard", tokenizer=str(tmp_path / "guard")).start()


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"label": "BENIGN", "probs": [0.9, 0.1]}, "no probabilities of the 3 labels"),
        ({"label": "BENIGN", "probs": [0.9, 0.9, 0.1]}, "no probabilities of the 3 labels"),
        ({"label": "BENIGN", "probs": [2.0, -1.0, 0.0]}, "no probabilities of the 3 labels"),
        ({"label": "BENIGN", "probs": [None, 0.5, 0.5]}, "no probabilities of the 3 labels"),
        ({"label": "JAILBREAK", "probs": [0.9, 0.1, 0.0]}, "has other labels than"),
        (None, "did not classify 1 windows one by one"),
    ],
)
async def test_what_is_no_classification_is_refused(local, tmp_path, row, problem):
    remote = RemoteClassifier("http://guard", "guard", tokenizer=str(tmp_path / "guard"))
    with respx.mock:
        respx.post("http://guard/classify").respond(json={"data": [] if row is None else [row]})
        with pytest.raises(InferenceError, match=problem):
            await remote.start()


async def test_a_server_that_cannot_be_asked_is_an_error(local, tmp_path):
    remote = RemoteClassifier("http://guard", "guard", tokenizer=str(tmp_path / "guard"), timeouts=IMPATIENT)
    with respx.mock:
        respx.post("http://guard/classify").mock(side_effect=httpx.ConnectError)
        with pytest.raises(RemoteError, match="cannot be reached"):
            await remote.start()
