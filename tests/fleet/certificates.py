"""Certificates for tests, of an authority that is made here."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat


def make(folder: Path, address: str = "127.0.0.1") -> tuple[Path, Path, Path]:
    """Make an authority, and a certificate for an address. Return their files and that of the key."""
    authority, own = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer, subject = _name("Authority of the tests"), _name("Server of the tests")
    now = datetime.now(UTC)
    begun = [
        x509.CertificateBuilder()
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .issuer_name(issuer)
        .subject_name(name)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        for name, key, is_ca in ((issuer, authority, True), (subject, own, False))
    ]
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))])
    made = [begun[0].sign(authority, SHA256()), begun[1].add_extension(names, critical=False).sign(authority, SHA256())]
    files = [folder / name for name in ("ca.pem", "server.pem", "server.key")]
    for file, certificate in zip(files, made, strict=False):
        file.write_bytes(certificate.public_bytes(Encoding.PEM))
    files[2].write_bytes(own.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return files[0], files[1], files[2]


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])
