"""Certificates of an authority that is made for one test."""

from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True)
class CertificateFiles:
    """PEM files: a host's certificate, its private key, and the authority that vouches for it."""

    cert: str
    key: str
    ca: str


def make_certificate(folder: Path, *, host: str = "127.0.0.1") -> CertificateFiles:
    """Make a certificate for a host, by an authority of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    files = CertificateFiles(*(str(folder / name) for name in ("cert.pem", "key.pem", "ca.pem")))
    authority = trustme.CA()
    issued = authority.issue_cert(host)
    authority.cert_pem.write_to_path(files.ca)
    issued.private_key_pem.write_to_path(files.key)
    for blob in issued.cert_chain_pems:
        blob.write_to_path(files.cert, append=True)
    return files
