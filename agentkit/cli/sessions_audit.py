"""`agentkit sessions audit`: a tenant's audit log, and whether its chain is whole. The log holds no content."""

from __future__ import annotations

from dataclasses import asdict

from agentkit.cli.exit_codes import EXIT_FINDING, EXIT_OK
from agentkit.cli.output import printable, write_json, write_line, write_note
from agentkit.cli.session_store import in_store
from agentkit.errors import ConfigurationError, StoreError
from agentkit.memory import AuditRecord, Store, verify_chain
from agentkit.memory.rules import tenant_of
from agentkit.nearest import nearest


def run_audit(tenant: str, store: str, *, as_json: bool) -> int:
    """Print a tenant's log; return 1 if its chain is broken."""
    records = in_store(store, lambda kept: _records(kept, tenant))
    for record in records:
        if as_json:
            write_json(asdict(record))
        else:
            words = f"{record.sequence}  {record.time}  {record.session_id}  {record.kind}"
            write_line(printable("  ".join([words, *map(_shown, record.details, record.details.values())])))
    return _said_whole(records, tenant)


def run_verify(tenant: str, store: str, *, as_json: bool) -> int:
    """Say how many records a tenant's log has and in which digest it ends; return 1 if its chain is broken.

    That digest, noted elsewhere, shows later that nothing was cut from the end.
    """
    records = in_store(store, lambda kept: _records(kept, tenant))
    last = records[-1].digest
    code = _said_whole(records, tenant)
    if as_json:
        write_json({"tenant": tenant, "records": len(records), "whole": code == EXIT_OK, "last_digest": last})
    elif code == EXIT_OK:
        write_line(
            f"tenant {tenant!r}: {len(records)} records, the chain is whole, its last digest is {last}"
        )
    return code


async def _records(store: Store, tenant: str) -> tuple[AuditRecord, ...]:
    records = await store.audit(tenant)
    if records:
        return records
    tenants = {tenant_of(info.id) for info in await store.list()}
    near = nearest(tenant, tenants - {tenant})
    hint = f"; did you mean {near!r}?" if near else ""
    raise ConfigurationError(f"tenant {tenant!r} has no audit log in this store{hint}")


def _said_whole(records: tuple[AuditRecord, ...], tenant: str) -> int:
    try:
        verify_chain(records, tenant=tenant)
    except StoreError as error:
        write_note(f"agentkit: {error}")
        return EXIT_FINDING
    return EXIT_OK


def _shown(name: str, value: object) -> str:
    """Return a detail in a few words: of a list, how long it is."""
    return f"{len(value)} {name}" if isinstance(value, list) else f"{name} {value}"
