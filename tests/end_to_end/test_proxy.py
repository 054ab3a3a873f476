"""A whole run through an HTTP proxy, to an endpoint whose name nobody but the proxy knows."""

from __future__ import annotations

from tests.doubles.http_proxy import http_proxy
from tests.end_to_end.conftest import World


def test_a_whole_run_goes_through_the_proxy(world: World) -> None:
    for number in range(20):
        world.put(f"manifests/{number:02d} ü.pdf", b"x" * number)
    elsewhere = "s3.harbour.invalid:8333"
    with http_proxy(world.server.endpoint) as proxy:
        where = {"AWS_ENDPOINT_URL_S3": f"http://{elsewhere}", "HTTP_PROXY": proxy.url}
        report = world.run("replicate", **where)
    assert (report["code"], report["outcomes"]) == (0, {"done": 20})
    assert {host for _, host in (asked.split(" ") for asked in proxy.asked)} == {elsewhere}
    assert len([asked for asked in proxy.asked if asked.startswith("PUT")]) > 20
