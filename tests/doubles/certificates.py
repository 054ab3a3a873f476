"""A certificate for servers on loopback, and the authority that a client has to trust for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

NAMES = ("127.0.0.1", "localhost")


@dataclass(frozen=True, slots=True)
class Certificate:
    """Files in PEM: what the server shows (leaf and intermediate), its key, and the bundle that verifies it."""

    chain: Path
    key: Path
    bundle: Path


def issue(folder: Path, *names: str) -> Certificate:
    """A certificate of the kind that S3 shows: RSA, signed by an intermediate authority. Its files are in `folder`.

    `names`: of its hosts, loopback's unless others are given.
    """
    import trustme

    root = trustme.CA(key_type=trustme.KeyType.RSA)
    leaf = root.create_child_ca(key_type=trustme.KeyType.RSA).issue_cert(
        *(names or NAMES), key_type=trustme.KeyType.RSA
    )
    files = Certificate(folder / "chain.pem", folder / "key.pem", folder / "bundle.pem")
    files.chain.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    files.key.write_bytes(leaf.private_key_pem.bytes())
    files.bundle.write_bytes(root.cert_pem.bytes())
    return files
