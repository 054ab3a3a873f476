"""Seams: the functions through which the program keeps its promises. A break is planted at one of them.

This is the only file here that names functions of the product. Who moves or renames one mends its line. A seam that is
gone, or that no test reaches, fails `make promises`.
"""

from __future__ import annotations

from collections.abc import Mapping

_METHODS = "complete_multipart copy copy_part create_multipart delete get list_objects list_versions put"
SEAMS: Mapping[str, tuple[str, ...]] = {
    # The Store protocol, of the tests' own store and of the one that talks to servers.
    **{
        f"store.{method}": (
            f"tests.doubles.memory_store:MemoryStore.{method}",
            f"jobs.s3.rest_store:RestStore.{method}",
        )
        for method in _METHODS.split()
    },
    # Decisions.
    "named": ("jobs.sync.key:_is_named",),
    "compare": ("jobs.core.evidence:compare",),
    "list of copies": ("jobs.runs.there:_fill",),
    "compare bytes": ("jobs.s3.compare_bytes:_compare_ranges",),
    "step of a key": ("jobs.sync.table:next_step", "jobs.sync.key:next_step"),
    "step of expire": ("jobs.expire.rules:decide",),
    "strong algorithm": ("jobs.core.algorithms:protects",),
    "bytes of a copy": ("jobs.s3.compare_bytes:check_bytes",),
    "copy of expire": ("jobs.expire.rules:refuse_copy",),
    "marker of an undo": ("jobs.expire.undo:_marker",),
    "look of a rollback": ("jobs.rollback.rules:judge", "jobs.rollback.job:judge"),
    "removal of a drill": ("jobs.drill.proof:remove",),
    "difference of inventories": ("jobs.reconcile.rules:conclude",),
    "rule of the state": ("jobs.ledger.state:judged_sql",),
    "all is well": ("jobs.nights.summary:judge",),
    "filter": ("jobs.runs.filtering:select_rows",),
    # The owner of a run, its records and their sums.
    "look of the owner": ("jobs.ledger.owner:Owner.look",),
    "check of the owner": ("jobs.ledger.owner:Owner.check",),
    "checkpoint": ("jobs.ledger.ledger:Ledger.write_checkpoint",),
    "checkpoints": ("jobs.ledger.ledger:Ledger.checkpoints",),
    "fold": ("jobs.runs.folding:_fold",),
    "condition of the ledger": ("jobs.ledger.files:ledger_guard",),
    "exit code": ("jobs.reports.document:exit_code",),
    "places apart": ("jobs.runs.request:check_apart",),
    "agreement": ("jobs.ledger.run_ids:is_spec_of",),
    # What keeps expire from an original.
    "ranks of places": ("jobs.expire.places:refuse",),
    "foreign places": ("jobs.expire.places:foreign_places",),
    "shared documents": ("jobs.expire.places:_refuse_shared",),
    "look at places": ("jobs.expire.places:look_again",),
    "carried": ("jobs.expire.job:Expire._refute",),
    "last moment": ("jobs.core.elapsed:refuse_late",),
    "mirrored deletes": ("jobs.expire.places:refuse_mirrors",),
    "lifecycle": ("jobs.expire.places:refuse_lifecycle",),
    "last look": ("jobs.expire.job:Expire._look_again",),
    "looks at others": ("jobs.expire.job:Expire._look_at_places",),
    "share": ("jobs.runs.planning:exceeds",),
    # Limits and clocks.
    "planned requests": ("jobs.core.pricing:requests_of",),
    "limits of a plan": ("jobs.runs.launch:check_limits",),
    "failures": ("jobs.runs.worker:Worker._check_failures",),
    "rate": ("jobs.core.rate_limits:TokenBucket.take",),
    "memory": ("jobs.s3.byte_ranges:ByteBudget.acquire",),
    # Servers, and what comes from outside.
    "look before a write": ("jobs.s3.gated_store:_demand",),
    "trial of a plan": ("jobs.runs.launch:try_conditions",),
    "trial": ("jobs.s3.condition_trial:find_ignored",),
    "heeded deletes": ("jobs.expire.job:Expire._check_versioning",),
    "owner of a bucket": ("jobs.s3.transport:Transport._owner_headers",),
    "request head": ("jobs.s3.http.signing:check_head",),
    "idle connection": ("jobs.s3.http.connection_pool:_Connection.is_quiet",),
    "size of an answer": ("jobs.s3.http.answers:Answer._refuse_body",),
    "member of an archive": ("jobs.archives.reader:judge",),
    "attributes of a member": ("jobs.archives.member_attributes:member_defect",),
    "as it was": ("jobs.restore.as_of:current_at",),
    "events of a message": ("jobs.backup.events:parse_message",),
    "backlog": ("scheduler.backlog:add",),
    # What people see.
    "masked address": ("jobs.s3.http.endpoints:masked",),
    "text of a page": ("jobs.reports.html.visible:visible_text",),
    "text of a terminal": ("jobs.core.display:shown",),
    "advice": ("jobs.cli:advice_of",),
}
