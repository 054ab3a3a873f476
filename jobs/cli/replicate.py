"""`sealift replicate`."""

from __future__ import annotations

from dataclasses import replace
from difflib import get_close_matches
from typing import Any

import click

from jobs import interrupts
from jobs.cli.options import (
    SectionedCommand,
    check_encryption,
    check_look,
    command_options,
    flag,
    group,
    look_option,
    option,
    require_conditions_option,
    required_conditions,
    sse_option,
    takes,
)
from jobs.cli.policy_and_ledger import ledger_location
from jobs.cli.run_command import launch_and_report
from jobs.cli.start_options import CopiesOptions
from jobs.config import Settings
from jobs.core.enums import AnnotationRule, StorageClass
from jobs.errors import UsageError
from jobs.replicate.decision import Overwrite
from jobs.replicate.plan import LOOK
from jobs.runs.request import open_ledger
from jobs.s3.copying import KEEP


@command_options
class ReplicateCommand:
    """`sealift replicate`, as it was typed."""

    copies: CopiesOptions = group(CopiesOptions)
    storage_class: str = option("Class of the copies. keep: the source's class.", default=KEEP, show_default=True)
    sse: str | None = sse_option("Encryption of the copies. Default: the bucket's.")
    kms_key_id: str | None = option("With --sse aws:kms or aws:kms:dsse.", metavar="ARN")
    object_lock: bool = flag("Copy retention and legal hold, too (one more request each).")
    annotations: str = option(
        "Whether copies get the annotations of their sources. skip: each outcome says that they do not.",
        type=click.Choice([each.value for each in AnnotationRule]),
        default=AnnotationRule.COPY.value,
        show_default=True,
    )
    overwrite: str = option(
        "Which differing objects at the destination may be replaced.",
        type=click.Choice([each.value for each in Overwrite]),
        default=Overwrite.OLDER.value,
        show_default=True,
    )
    stream: bool = flag("Read and write the bytes here, even where S3 could copy them itself.")
    require_conditions: bool = require_conditions_option()
    look: bool = look_option()
    then_verify: bool = flag("Batch: a verify run follows, for each shard as soon as it is copied.")


@click.command(cls=SectionedCommand)
@takes(ReplicateCommand)
def replicate(options: ReplicateCommand) -> int:
    """Copy the objects of a manifest or a listing, guarded on both sides, and prove each copy.

    An object that is already there, and proven the same, is skipped. Nothing newer is overwritten.
    Each row ends as copied, same, deleted, changed, missing, denied, archived or failed.

    \b
    sealift replicate --source s3://docs/2026/ --destination s3://copies/2026/ --dry-run
    sealift replicate --manifest s3://inv/docs/daily/2026-11-25T01-00Z/manifest.json --destination s3://copies
    sealift replicate --manifest run:20261125T003345Z-verify-1f3a --destination s3://copies
    """
    _check(options)
    run_options: dict[str, Any] = {
        "storage_class": options.storage_class,
        "sse": options.sse,
        "kms_key_id": options.kms_key_id,
        "object_lock": options.object_lock,
        "annotations": options.annotations,
        "overwrite": options.overwrite,
        "stream": options.stream,
        **required_conditions(is_required=options.require_conditions),
    }
    if options.look:
        run_options[LOOK] = True
    settings, copies = Settings.from_environment(), options.copies
    ledger = open_ledger(ledger_location(copies.ledger, settings))
    request = copies.request("replicate")
    request = replace(request, options={**run_options, **request.options})
    launch = launch_and_report(request, ledger, settings, copies.start, then_verify=options.then_verify)
    return interrupts.run(launch)


def _check(options: ReplicateCommand) -> None:
    """Refuse what S3 would refuse for each object. Raises UsageError."""
    check_encryption(options.sse, options.kms_key_id)
    check_look(looks=options.look, dry_run=options.copies.start.dry_run)
    if options.look and options.copies.versions == "all":
        raise UsageError("--look sees the current versions alone: leave out --versions all")
    known = [KEEP, *StorageClass]
    if options.storage_class not in known and not options.copies.destination_access.endpoint:
        alike = get_close_matches(options.storage_class.upper(), known, 1)
        raise UsageError(
            f"--storage-class {options.storage_class!r} is no class of S3. "
            f"{f'Did you mean {alike[0]}? ' if alike else ''}Choose {', '.join(known)}. "
            "Other services have others: name theirs with --destination-endpoint"
        )
