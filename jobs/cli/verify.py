"""`sealift verify`."""

from __future__ import annotations

from jobs.cli.command import ChecksumsOptions, Work
from jobs.cli.options import Part, Place, flag, option, refuse
from jobs.cli.run_command import CopiesOptions
from jobs.core.model import Location
from jobs.core.sampling import Sample
from jobs.core.selection import Selection
from jobs.runs.request import Request

_WITH_ARCHIVES = ("archives", "sample", "max_cost", "max_rate", "source_endpoint", "source_profile", "source_owner")


class Verify(CopiesOptions, ChecksumsOptions):
    """Prove that each object of a manifest or a listing is the same at the destination.

    Stored checksums prove it, else MD5 ETags. With --deep the bytes of both sides do, or, for the
    rows of proven:ID, the destination's bytes and the checksum in the ledger. User metadata and
    content headers are compared where both sides are looked at. Objects that reports
    of checksums at rest prove on both sides are not read. Each row ends as verified, different,
    damaged, missing, changed, unknown or blocked, with the reason.

    With --archives each archive is read whole, and the index proves each of its members.

    \b
    sealift verify --source s3://docs --destination s3://copies
    sealift verify --source s3://docs --destination s3://copies --deep --sample 1/30
    sealift verify --manifest proven:20261125T003345Z-verify-1f3a --destination s3://copies --deep
    sealift verify --archives s3://cold/docs --sample 1/30
    """

    deep: bool = flag("Read and compare the bytes of both sides.")
    compares_tags: bool = flag("Read tags and annotations: each copy has all of its source's.", name="--tags")
    archives: Location | None = option("Instead of copies: read the archives below this once more.", type=Place)
    sample: Sample | None = option("Take the Kth of N equal parts of the keys (or archives).", type=Part)

    def run(self) -> Work:
        """Verify copies, or archives."""
        if self.archives is None:
            options = self.values("deep", "compares_tags", "source_checksums", "destination_checksums")
            request = self.copies("verify", options, self.sample)
        else:
            refuse(
                lambda name: name not in _WITH_ARCHIVES, "--archives reads whole archives; --sample takes some of them"
            )
            archives, selection = self.source_side(self.archives), Selection(versions="all", sample=self.sample)
            options = {"archives": True, "sample": self.sample}
            request = Request("verify", archives, archives, None, selection, options)
        return self.launch(request, self.open_ledger())
