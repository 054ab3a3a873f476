"""Ceph's RADOS Gateway on loopback: a second real server beside SeaweedFS.

    with ceph() as server:
        server.client().create_bucket(Bucket="mine")

One monitor, one OSD that keeps all in memory, one gateway, in a scratch folder, without systemd and
without a manager. It needs Debian's radosgw, ceph-mon, ceph-osd and ceph-common, and root.
Imports nothing of pytest, so that scripts can use it too.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

from tests.doubles.servers import Server, await_answer, free_ports, stop

PACKAGES = ("radosgw", "ceph-mon", "ceph-osd", "ceph-common")
PROGRAMS = ("ceph", "ceph-authtool", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
STORAGE_CLASSES = ("STANDARD_IA", "GLACIER_IR", "GLACIER", "DEEP_ARCHIVE")
"""Names only, as on SeaweedFS. Ceph refuses a class that its zone does not have."""
START_SECONDS = 120
STEP_SECONDS = 60
_KEY, _SECRET = "sealift", "sealift-secret"
_CONFIGURATION = """\
[global]
fsid = {fsid}
mon host = v2:127.0.0.1:{mon_port}/0
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind ipv6 = false
keyring = {folder}/keyring
run dir = {folder}
log file = {folder}/$name.log
admin socket = {folder}/$name.asok
mon data = {folder}/mon
osd data = {folder}/osd
osd class dir = {classes}
osd objectstore = memstore
memstore device bytes = 17179869184
osd crush chooseleaf type = 0
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
mon allow pool size one = true
mon max pg per osd = 1000
mon data avail crit = 1
rgw max chunk size = 4194304
rgw enable usage log = false
rgw gc max objs = 32
"""


def is_on_ceph() -> bool:
    """Whether the tests run on Ceph instead of SeaweedFS: `make test-ceph` says so."""
    return os.environ.get("SEALIFT_TEST_SERVER") == "ceph"


def missing_programs() -> list[str]:
    """What is not installed here. Debian's packages install into folders of root's PATH."""
    return [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


@contextlib.contextmanager
def ceph() -> Iterator[Server]:
    """A whole cluster on free ports of 127.0.0.1. Its data go with it.

    Raises RuntimeError with the ends of its logs when it does not come up.
    """
    with contextlib.ExitStack() as undo:
        folder = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="sealift-ceph-")))
        cluster = _Cluster(folder, undo)
        try:
            server = cluster.start()
        except (RuntimeError, subprocess.SubprocessError) as error:
            output = getattr(error, "output", None) or b""
            raise RuntimeError(f"Ceph did not start: {error}; {output[-500:]!r}; {cluster.log_ends()}") from error
        yield server


class _Cluster:
    """A monitor, an OSD and a gateway. `undo` stops each, the last first."""

    def __init__(self, folder: Path, undo: contextlib.ExitStack):
        self._folder, self._undo = folder, undo
        self._environment = os.environ | {"PATH": _path(), "CEPH_CONF": str(folder / "ceph.conf")}

    def start(self) -> Server:
        """Start everything → the gateway, once it answers."""
        folder = self._folder
        mon_port, port = free_ports(2)
        # Debian's build looks for its classes relative to the working directory.
        classes = next(Path("/usr/lib").glob("*/rados-classes"), Path("/usr/lib/rados-classes"))
        fsid, osd_id = str(uuid.uuid4()), str(uuid.uuid4())
        configuration = _CONFIGURATION.format(fsid=fsid, mon_port=mon_port, folder=folder, classes=classes)
        (folder / "ceph.conf").write_text(configuration)
        (folder / "osd").mkdir()
        self._make_keys()
        self._run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"[v2:127.0.0.1:{mon_port}]", "monmap")
        self._run("ceph-mon", "--mkfs", "-i", "a", "--monmap", "monmap", "--keyring", "keyring")
        self._spawn("ceph-mon", "-f", "-i", "a")
        self._run("ceph", "osd", "new", osd_id, "0")
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd_id)
        self._spawn("ceph-osd", "-f", "-i", "0")
        user = ("--uid=sealift", "--display-name=Sealift", f"--access-key={_KEY}", f"--secret-key={_SECRET}")
        self._run("radosgw-admin", "user", "create", *user, "--max-buckets=0")
        for storage_class in STORAGE_CLASSES:
            placement = ("--placement-id=default-placement", f"--storage-class={storage_class}")
            self._run("radosgw-admin", "zonegroup", "placement", "add", "--rgw-zonegroup=default", *placement)
            pool = "--data-pool=default.rgw.buckets.data"
            self._run("radosgw-admin", "zone", "placement", "add", "--rgw-zone=default", *placement, pool)
        gateway = self._spawn("radosgw", "-f", "-n", "client.admin", f"--rgw-frontends=beast endpoint=127.0.0.1:{port}")
        server = Server(f"http://127.0.0.1:{port}", _KEY, _SECRET)
        await_answer(gateway, server.endpoint, START_SECONDS)
        return server

    def log_ends(self) -> str:
        """The end of each log, for a message."""
        logs = sorted(self._folder.glob("*.log"))
        return "; ".join(f"{log.name} ends: {log.read_bytes()[-300:].decode(errors='replace')}" for log in logs)

    def _make_keys(self) -> None:
        allow = {
            "mon.": ("mon", "allow *"),
            "client.admin": ("mon", "allow *", "osd", "allow *", "mgr", "allow *"),
            "osd.0": ("mon", "allow profile osd", "osd", "allow *"),
        }
        for name, rights in allow.items():
            is_first = [] if (self._folder / "keyring").exists() else ["--create-keyring"]
            caps = [
                part for kind, right in zip(rights[::2], rights[1::2], strict=True) for part in ("--cap", kind, right)
            ]
            self._run("ceph-authtool", *is_first, "keyring", "--gen-key", "-n", name, *caps)

    def _run(self, *command: str) -> None:
        """Run a command to its end. Raises SubprocessError."""
        subprocess.run(
            command,
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=STEP_SECONDS,
            check=True,
        )

    def _spawn(self, *command: str) -> subprocess.Popen[bytes]:
        with open(self._folder / f"{command[0]}.out.log", "wb") as log:
            process = subprocess.Popen(
                command,
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._undo.callback(stop, process)
        return process
