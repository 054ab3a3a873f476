"""What a plan says beside its counts, for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobs.cli.console import human_bytes


def savings_lines(savings: Mapping[str, Any]) -> list[str]:
    """What a compaction saves, for people; nothing for other runs."""
    if not savings:
        return []
    months = savings["break_even_months"]
    paid = f", paid back after {months:.1f} months" if months is not None else ""
    lines = [
        f"  archives  {savings['archives']:,} with {savings['members']:,} members, "
        f"{human_bytes(savings['archive_bytes'])} before compression",
        f"  a month   ${savings['monthly_before']:,.4f} before, ${savings['monthly_after']:,.4f} once the originals "
        f"are expired; ${savings['cost']:,.4f} to do it{paid}",
    ]
    return lines + [f"  left alone  {rows:,}: {why}" for why, rows in list(savings["left_alone"].items())[:10]]


def expiry_lines(expiry: Mapping[str, Any]) -> list[str]:
    """Where an expire run finds originals and copies, and what share of what is there would go, for people."""
    if not expiry:
        return []
    who = "as the ledger says: check it, a run that deletes wants to hear it from you" if expiry["claimed"] else ""
    shares = ", ".join(
        f"{share['eligible']:,} of {share['listed']:,} {what}"
        for what, share in (("current objects", expiry["current"]), ("versions", expiry["versions"]))
    )
    return [
        f"  originals in {expiry['source']['uri']}, {_reached(expiry['source'])}",
        *(f"  copies in    {uri}, {_reached(expiry['destination'])}" for uri in expiry["copies"]),
        *([f"               {who}"] if who else []),
        f"  share     {shares} in {expiry['prefix']}",
    ]


def _reached(side: Mapping[str, Any]) -> str:
    """How a side is reached, for people."""
    named = ", ".join(f"{name} {side[name]}" for name in ("region", "profile") if side[name])
    endpoint = f"reached by endpoint {side['endpoint']}" if side["endpoint"] else "reached as boto3 finds it"
    return f"{endpoint}{f' ({named})' if named else ''}"


def thaw_lines(restore: Mapping[str, Any]) -> list[str]:
    """What a restore has to thaw, for people; nothing for other runs."""
    if not restore:
        return []
    lines = [f"  archives  {restore['archives']:,} with {restore['members']:,} of the members"]
    if restore["cold"] or restore["cold_versions"]:
        versions = f" and {restore['cold_versions']:,} versions" if restore["cold_versions"] else ""
        lines.append(
            f"  thaw      {len(restore['cold']):,} archives{versions} by {restore['tier']} for {restore['days']} days, "
            f"up to {restore['hours']:g} hours; {restore['restoring']:,} of them are on their way"
        )
        lines += [f"            {uri}" for uri in restore["cold"][:10]]
    return lines
