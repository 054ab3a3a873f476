"""`sealift expire`: deletes originals whose copies are there and the same.

Only this command deletes originals, and only with --yes-delete.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from posixpath import commonprefix

from jobs.cli.command import Answer, LedgerCommand, PolicyOptions, SidesAccess, Work, choose_pair, read_policy
from jobs.cli.console import say
from jobs.cli.options import Age, Rows, Run, Share, flag, option, shared
from jobs.cli.run_command import StartOptions
from jobs.core.display import shown_key
from jobs.core.enums import SKIP_ANNOTATIONS, AnnotationRule
from jobs.core.model import Location
from jobs.core.run import Side
from jobs.core.selection import Selection
from jobs.errors import ExitCode, UsageError
from jobs.expire.kind import KIND
from jobs.ledger.ledger import Ledger
from jobs.policy.coverage import match
from jobs.policy.run_options import packed_side
from jobs.registry import kind_of
from jobs.runs.request import Request
from jobs.s3.sessions import side_store


class Expire(SidesAccess, PolicyOptions, LedgerCommand):
    """Delete originals that have a copy with the same bytes now.

    Without --yes-delete this is a dry run. --source and --destination are places, each with a document
    of its own, which --declare writes. A place of copies has a higher rank than that of its
    originals. Both documents must be as old as the grace period.

    Originals are those that a listing shows now. Their copies are the objects at the same names in
    a place of copies, or members of archives there. Before each delete the copy's bytes are read
    and compared with the original, and so are metadata, tags and annotations. An original under a
    lock or hold is kept. In a bucket that keeps versions, a delete marker hides the current version
    first. The same command, a grace period later, removes the version behind it. To continue a run
    that was stopped, start the same command again. Each row ends as expired, left, missing or
    blocked, with the reason. In a dry run a row that would expire is left.
    deletions.parquet and .csv list each deletion with its copy.

    --max-share limits one run: a command that runs each day may delete that share of the rest each
    day.

    \b
    sealift expire --source s3://docs/2024/ --destination s3://copies/2024/ --declare
    sealift expire --source s3://docs/2024/ --destination s3://copies/2024/ --destination s3://cold/docs/
    sealift expire --pair scans --yes-delete
    sealift expire --manifest s3://inv/docs/daily/2026-11-25T01-00Z/manifest.json --grace 90d --max-share 100% \
        --source s3://docs/2024/ --destination s3://copies/2024/ --yes-delete
    sealift expire --undo 20261225T004105Z-expire-9b02 --source s3://docs/2024/
    """

    source: Location | None = shared("source", "The place of the originals: only these are deleted.")
    destination: tuple[Location, ...] = shared(
        "destination", "A place of copies or archives. May be repeated.", multiple=True
    )
    pair: str | None = shared("pair", "Take the places, grace and share from the policy.")
    declare: bool = flag("Declare the places, with a document in each. Nothing else is done.")
    replace: bool = flag("With --declare: replace documents that have another rank.", is_rare=True)
    manifest: str | None = shared("manifest", "Only these rows. Default: all that is listed and has a copy.", type=Rows)
    grace: float = option("Keep what was written, copied, hidden or declared more recently.", default="30d", type=Age)
    max_share: float = option(
        "Refuse to delete a larger share of the current objects, or of all versions, in one run.",
        default="50%",
        type=Share,
    )
    annotations: str = shared(
        "annotations", "check: keep an original with annotations that its copy lacks. skip: do not check."
    )
    by_checksum: bool = flag(
        "Compare what S3 keeps (SHA or MD5) of both sides instead of bytes. Cold copies can be compared no other way.",
        is_rare=True,
    )
    undo: str | None = option("Remove the delete markers of this expire run.", type=Run)
    yes_delete: bool = flag("Delete. Without it nothing is deleted.")
    max_objects: int | None = shared("max-objects")
    max_cost: float | None = shared("max-cost")
    executor: str | None = shared("executor")
    policy: str | None = shared("policy", "For --pair, and where deletes are mirrored: a path or s3://.")

    def run(self) -> Work:
        """Declare places, undo a run, or delete."""
        if self.replace and not self.declare:
            raise UsageError("--replace belongs to --declare", advice="add --declare")
        if sum(map(bool, (self.manifest or self.yes_delete, self.undo, self.declare))) > 1:
            raise UsageError(
                "--declare, --undo RUN and a deletion are commands of their own", advice="give one of them"
            )
        options, is_own = self._of_pair(self.pair) if self.pair is not None else (self, None)
        if self.declare:
            return options._declare()
        ledger = options.open_ledger()
        return options._undo(ledger, self.undo) if self.undo else options._delete(ledger, is_own)

    def _sides(self) -> tuple[Side, Side]:
        """The originals, and the way to all copies. Raises UsageError if the places are not named."""
        if self.source is None or not self.destination:
            raise UsageError(
                "no places", advice="give --source s3://bucket/prefix/ and --destination s3://bucket/prefix/, or --pair"
            )
        return self.source_side(self.source), self.destination_side(self.destination[0])

    def _of_pair(self, name: str) -> tuple[Expire, Callable[[str], bool]]:
        """The options, with the places, the grace period and the share of a pair's archive.

        The place of the originals is the folder that holds all prefixes of the pair, so the second
        value says which keys in it are the pair's. Raises UsageError for a pair whose policy lets
        nothing expire, and for options that --pair replaces.
        """
        policy, pair, ledger = choose_pair(name, self.policy, self.ledger)
        archive = pair.archive
        if archive is None or archive.expire is None:
            raise UsageError(
                f"--pair {pair.name}: the policy lets nothing of it expire", advice="write archive.expire there"
            )
        side, added = packed_side(pair, archive)
        below = added + commonprefix(pair.source.prefixes)
        by_policy = self.replaced(
            "with --pair the policy says it",
            source=Location(side.bucket, below[: below.rfind("/") + 1]),
            source_owner=self.source_owner or side.account,
            destination=(Location(archive.bucket, archive.prefix),),
            destination_owner=self.destination_owner or archive.account,
            grace=float(archive.expire.grace),
            max_share=float(archive.expire.max_share),
            annotations=self.annotations if pair.destination.annotations is AnnotationRule.COPY else SKIP_ANNOTATIONS,
            ledger=ledger,
        )

        def is_own(key: str) -> bool:
            return key.startswith(added) and match(policy, pair.source.bucket, key[len(added) :]) is pair

        return by_policy, is_own

    async def _declare(self) -> Answer:
        from jobs.expire.places import declare, told

        places = await declare(*self._sides(), self.destination, replaces=self.replace)
        code = ExitCode.FINDINGS if any(each["command"] for each in places) else ExitCode.DONE
        return Answer({"places": places}, "\n".join(map(told, places)), code)

    def _delete(self, ledger: Ledger, is_own: Callable[[str], bool] | None) -> Work:
        from jobs.expire.plan import plan_run  # duckdb and pyarrow load here

        policy = read_policy(self.policy) if self.policy else None
        source, destination = self._sides()
        options = {
            **self.values("max_share", "annotations", "by_checksum"),
            "grace_seconds": self.grace,
            "delete": self.yes_delete,
            "copies": [str(each) for each in self.destination],
        }
        request = Request("expire", source, destination, self.manifest, Selection(versions="all"), options)
        planner = partial(plan_run, is_own=is_own, policy=policy)
        # --yes-delete is the consent
        start = StartOptions(max_cost=self.max_cost, executor=self.executor, as_json=self.as_json, yes=True)
        return start.launch(request, ledger, planner, max_objects=self.max_objects, may_be_empty=True)

    async def _undo(self, ledger: Ledger, run_id: str) -> Answer:
        from jobs.expire.undo import undo_run
        from jobs.ledger.tombstones import Tombstones

        if self.source is None:
            raise UsageError("--undo removes delete markers, and the ledger must not say where", advice="add --source")
        spec = await ledger.spec(run_id)
        if kind_of(spec) is not KIND or spec.source.location.bucket != self.source.bucket:
            raise UsageError(
                f"--source is {self.source}, and {run_id} is the {spec.job} run of {spec.source.location}",
                advice="name an expire run, see `sealift runs list`, and its bucket",
            )
        stones = Tombstones(ledger.store, ledger.location, self.source.bucket, run_id)
        async with side_store(self.source_side(self.source)) as store:
            undone = await undo_run(ledger, store, stones, self.source.key, say)
        lines = [f"Delete markers of {run_id} removed from {self.source}: {undone.markers:,}"]
        lines += [f"Versions gone for good, to be restored from their copies: {undone.lost:,}"] if undone.lost else []
        lines += [f"  {shown_key(each.key)}: {each.problem}" for each in undone.problems[:20]]
        problems = [each._asdict() for each in undone.problems]
        document = {"run_id": run_id, "undone": undone.markers, "lost": undone.lost, "problems": problems}
        return Answer(document, "\n".join(lines), ExitCode.FINDINGS if problems else ExitCode.DONE)
