"""What counts as a copy, by the command line on a real server: what only looks like one saves its original."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from tests.doubles.fault_proxy import Faults, fault_proxy
from tests.doubles.forged_content import with_crc32_of
from tests.doubles.servers import Server, moto
from tests.end_to_end.conftest import Result, World
from tests.end_to_end.test_expire import DELETE, expire, fill, keys, places, reasons, replicate

CONTENT = b"content of the original, as it was written"
OTHER = with_crc32_of(CONTENT, b"content of some object that means to be it")


def test_a_checksum_that_agrees_does_not_outweigh_an_md5_that_differs(world: World) -> None:
    """CRC32s can be forged: such a pair was `verified`, and then expired."""
    world.put("k", CONTENT, ChecksumAlgorithm="CRC32")
    world.client.put_object(Bucket=world.destination, Key="k", Body=OTHER, ChecksumAlgorithm="CRC32")
    report = world.run("verify")
    assert (report["code"], report["outcomes"]) == (3, {"mismatched": 1}), report
    assert "MD5 differs" in report["reasons"][0]["reason"]


def test_a_copy_that_nobody_reads_any_more_saves_its_original(versioned: World) -> None:
    world = versioned
    names = fill(world, 4)
    run_id = replicate(world)
    hidden, written_over, written_again = names[:3]
    world.client.delete_object(Bucket=world.destination, Key=hidden)
    world.client.put_object(Bucket=world.destination, Key=written_over, Body=b"something else")
    world.client.put_object(Bucket=world.destination, Key=written_again, Body=world.copy_of(written_again))
    report = expire(world, run_id, *DELETE)
    assert report["outcomes"] == {"expired": 1, "kept": 3}, report
    assert keys(world) == names[:3]
    for reason in ("nothing is at", "another object now", "not the version now that was proven"):
        assert reason in reasons(report)


def test_rotten_copy_saves_its_original_though_no_run_has_found_it(world: World) -> None:
    """Its size, ETag and checksums are as they were: only its bytes tell."""
    names = fill(world, 3)
    run_id = replicate(world)
    rotten = Faults({"alter": 1.0}, seed=1, altered=(f"/{world.destination}/{names[0]}",))
    with fault_proxy(world.server.endpoint, rotten) as proxy:
        disk = replace(world, server=replace(world.server, endpoint=proxy.endpoint))
        report = expire(disk, run_id, *DELETE)
    assert (report["code"], report["outcomes"]) == (3, {"expired": 2, "kept": 1}), report
    assert keys(world) == names[:1]


@pytest.mark.parametrize("by", ["run", "manifest"])
def test_a_copy_that_a_later_run_found_rotten_saves_its_original(world: World, by: str) -> None:
    """What S3 keeps beside the bytes agreed: the proof of the older run counted, and the original was deleted."""
    names = fill(world, 2)
    run_id = replicate(world)
    rotten = Faults({"alter": 1.0}, seed=1, altered=(f"/{world.destination}/{names[0]}",))
    with fault_proxy(world.server.endpoint, rotten) as proxy:
        disk = replace(world, server=replace(world.server, endpoint=proxy.endpoint))
        found = disk.run("verify", "--deep")
        assert (found["code"], found["outcomes"]) == (3, {"mismatched": 1, "verified": 1}), found
        if by == "run":
            report = expire(disk, run_id, *DELETE)
        else:
            rows = "".join(f"{world.source},{name}\n" for name in names)
            report = expire_manifest(disk, rows, f"s3://{world.destination}")
    assert (report["code"], report["outcomes"]) == (3, {"expired": 1, "kept": 1}), report
    assert keys(world) == names[:1]
    assert found["run_id"] in reasons(report)


def test_a_copy_whose_bytes_are_lost_saves_its_original_until_it_is_copied_again(world: World) -> None:
    """HEAD and listings showed it as it was. Verify called it unverifiable, and its original was deleted."""
    names = fill(world, 2)
    run_id = replicate(world)
    lost = Faults({"lost": 1.0}, seed=1, altered=(f"/{world.destination}/{names[0]}",))
    with fault_proxy(world.server.endpoint, lost) as proxy:
        disk = replace(world, server=replace(world.server, endpoint=proxy.endpoint))
        found = disk.run("verify", "--deep")
        assert (found["code"], found["outcomes"]) == (3, {"mismatched": 1, "verified": 1}), found
        assert "its bytes are lost" in found["reasons"][0]["reason"]
        report = expire(disk, run_id, *DELETE)
        assert (report["code"], report["outcomes"]) == (3, {"expired": 1, "kept": 1}), report
        assert keys(world) == names[:1]
        assert found["run_id"] in reasons(report)
        lost.shares = {}
        retried = disk.sealift("runs", "retry", found["run_id"], "--json").document
        assert retried["outcomes"] == {"same": 1}, retried  # its bytes are read
        assert expire(disk, run_id, *DELETE)["outcomes"] == {"expired": 1}


def expire_manifest(world: World, rows: str, *places: str) -> dict[str, Any]:
    """Expire the rows of a manifest; their copies count in `places`."""
    world.client.put_object(Bucket=world.ledger, Key="rows.csv", Body=rows.encode())
    given = ["--manifest", f"s3://{world.ledger}/rows.csv", *DELETE, "--json", "--source", f"s3://{world.source}"]
    given += [each for place in places for each in ("--copies", place)]
    result = world.sealift("expire", *given)
    assert result.stdout, result.stderr
    return result.document | {"code": result.code}


def both_ways(world: World, count: int) -> tuple[list[str], list[str]]:
    """The same objects beneath x/ and y/, and the verify runs that prove each by the other."""
    names = [f"{number:02}.json" for number in range(count)]
    for name in names:
        for folder in ("x", "y"):
            world.put(f"{folder}/{name}", f"content of {name}".encode())
    x, y = (f"s3://{world.source}/{folder}/" for folder in ("x", "y"))
    runs = [
        world.run("verify", "--source", x, "--destination", y),
        world.run("verify", "--source", y, "--destination", x),
    ]
    assert [run["outcomes"] for run in runs] == [{"verified": count}] * 2
    return names, [run["run_id"] for run in runs]


@pytest.mark.parametrize("is_versioned", [False, True])
def test_originals_that_prove_each_other_do_not_both_go_in_one_run(
    is_versioned: bool, request: pytest.FixtureRequest
) -> None:
    world: World = request.getfixturevalue("versioned" if is_versioned else "world")
    names, _ = both_ways(world, 6)
    rows = "".join(f"{world.source},{folder}/{name}\n" for folder in ("x", "y") for name in names)
    expire_manifest(world, rows, f"s3://{world.source}/x/", f"s3://{world.source}/y/")
    there = set(keys(world))
    assert all({f"x/{name}", f"y/{name}"} & there for name in names), there


@pytest.mark.parametrize("is_versioned", [False, True])
def test_originals_that_prove_each_other_do_not_both_go_in_two_runs(
    is_versioned: bool, request: pytest.FixtureRequest
) -> None:
    world: World = request.getfixturevalue("versioned" if is_versioned else "world")
    names, runs = both_ways(world, 3)

    def between(number: int, originals: str, copies: str) -> Result:
        folders = ["--source", f"s3://{world.source}/{originals}/", "--copies", f"s3://{world.source}/{copies}/"]
        return world.sealift("expire", "--run", runs[number], *folders, *DELETE, "--json")

    assert between(0, "x", "y").document["outcomes"] == {"expired": 3}
    assert between(1, "y", "x").document["outcomes"] == {"kept": 3}
    again = between(0, "x", "y").document  # what lies behind the markers may go, for y/ is still there
    assert again["outcomes"] == ({"expired": 3} if is_versioned else {}), again
    assert keys(world) == [f"y/{name}" for name in names]


def test_an_old_version_stays_whose_copy_the_next_replication_replaces(versioned: World) -> None:
    """It was removed, and then its copy was replaced, in a bucket without versions."""
    world = versioned
    old = world.put("k", CONTENT)["VersionId"]
    copies = f"s3://{world.ledger}/copies/"
    run_id = world.run("replicate", "--destination", copies)["run_id"]
    world.put("k", b"newer")
    options = ["--run", run_id, "--source", f"s3://{world.source}", "--copies", copies, *DELETE, "--json"]
    report = world.sealift("expire", *options)
    assert (report.code, report.document["outcomes"]) == (3, {"kept": 1}), report.stderr
    assert "takes the place of its copy" in reasons(report.document)
    assert world.history(world.source, "k")[0].version_id == old


def enable_versioning(world: World) -> None:
    world.client.put_bucket_versioning(Bucket=world.source, VersioningConfiguration={"Status": "Enabled"})


def test_a_null_version_beneath_an_equal_newer_one_goes_and_the_newer_one_stays(world: World) -> None:
    """The newer one was hidden, the null version stayed, and the outcome was `expired`."""
    world.put("k", CONTENT)
    enable_versioning(world)
    newer = world.put("k", CONTENT)["VersionId"]
    world.client.put_object(Bucket=world.ledger, Key="nulls.csv", Body=f"{world.source},k,null\n".encode())
    run_id = replicate(world, "--manifest", f"s3://{world.ledger}/nulls.csv")
    report = expire(world, run_id, *DELETE)
    assert report["outcomes"] == {"expired": 1}, report
    assert [(each.version_id, each.is_delete_marker) for each in world.history(world.source, "k")] == [(newer, False)]


def test_a_null_version_is_hidden_and_then_removed(world: World) -> None:
    """As in any bucket that did not keep versions in the beginning. It was called expired twice, and stayed."""
    world.put("k", CONTENT)
    enable_versioning(world)
    run_id = replicate(world)
    assert expire(world, run_id, *DELETE)["outcomes"] == {"expired": 1}
    assert [each.is_delete_marker for each in world.history(world.source, "k")] == [False, True]
    assert expire(world, run_id, *DELETE)["outcomes"] == {"expired": 1}
    assert [each.is_delete_marker for each in world.history(world.source, "k")] == [True]


class Alias(BaseHTTPRequestHandler):
    """In front of moto's server, which checks no signatures: `alias` is another name for `bucket`."""

    protocol_version = "HTTP/1.1"
    upstream = ""
    bucket = alias = ""

    def _forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        connection = HTTPConnection(self.upstream)
        path = self.path.replace(f"/{self.alias}", f"/{self.bucket}", 1)
        connection.request(self.command, path, body, dict(self.headers))
        answer = connection.getresponse()
        data = answer.read()
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                self.send_header(name, value)
        self.send_header("Content-Length", answer.getheader("Content-Length") or str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        connection.close()

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("do_"):
            raise AttributeError(name)
        return self._forward

    def log_message(self, *given: Any) -> None:
        pass


@pytest.fixture(params=["-0a1b2c3d-s3alias", "-too"])
def aliased(request: pytest.FixtureRequest) -> Iterator[World]:
    """A world on moto's server, and a second name of its source: an access point's alias, or a gateway's."""
    with moto() as server:
        name = uuid.uuid4().hex[:10]
        alias = f"src-{name}{request.param}"
        named = {"upstream": server.endpoint.removeprefix("http://"), "bucket": f"src-{name}", "alias": alias}
        proxy = ThreadingHTTPServer(("127.0.0.1", 0), type("Named", (Alias,), named))
        Thread(target=proxy.serve_forever, daemon=True).start()
        behind = Server(f"http://127.0.0.1:{proxy.server_port}", server.access_key, server.secret_key)
        world = World(behind, server.client(), f"src-{name}", alias, f"led-{name}")
        for bucket in (world.source, world.ledger):
            world.client.create_bucket(Bucket=bucket)
        yield world
        proxy.shutdown()
        proxy.server_close()


def test_a_bucket_by_the_alias_of_an_access_point_is_no_copy_of_itself(aliased: World) -> None:
    """It was verified against itself, and its only objects went."""
    world = aliased
    names = fill(world, 3)
    if world.destination.endswith("-s3alias"):
        for job in ("verify", "replicate"):
            refused = world.sealift(
                job, "--source", f"s3://{world.source}", "--destination", f"s3://{world.destination}", "--yes"
            )
            assert (refused.code, "show the same first object" in refused.stderr) == (2, True), refused.stderr
        return
    verified = world.run("verify")
    assert verified["outcomes"] == {"verified": 3}
    result = world.sealift("expire", "--run", verified["run_id"], *places(world), *DELETE)
    assert keys(world) == names
    assert result.code == 10, result
