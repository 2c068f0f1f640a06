"""A private certificate authority, for tests with real TLS."""

import datetime
import ipaddress
from dataclasses import dataclass, field

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from local.stack.process import HOST

NAME = "localhost"


@dataclass(frozen=True)
class Issued:
    """A certificate and its private key, each a PEM."""

    certificate: str
    key: str

    def server(self, clients: "Authority | None" = None) -> grpc.ServerCredentials:
        """A server's TLS with this certificate. It admits only clients of ``clients``, if that is given."""
        pair = (self.key.encode(), self.certificate.encode())
        admitted = clients.pem.encode() if clients else None
        return grpc.ssl_server_credentials([pair], admitted, require_client_auth=clients is not None)


@dataclass(frozen=True)
class Authority:
    """A certificate authority that signs what it is asked to."""

    name: str = "authority of the tests"
    _key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    @property
    def pem(self) -> str:
        """Its certificate."""
        return _pem(self._signed(self.name, self._key.public_key(), days=30, authority=True))

    def issue(self, name: str = NAME, *, days: int = 30) -> Issued:
        """A certificate for a host name, or a client, that expires in ``days`` days, or has expired so long ago."""
        key = ec.generate_private_key(ec.SECP256R1())
        plain = serialization.NoEncryption()
        secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
        return Issued(_pem(self._signed(name, key.public_key(), days=days, authority=False)), secret.decode())

    def _signed(self, name: str, key: ec.EllipticCurvePublicKey, *, days: int, authority: bool) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        alternatives: list[x509.GeneralName] = [x509.DNSName(name.replace(" ", "-"))]
        if name == NAME:
            alternatives.append(x509.IPAddress(ipaddress.ip_address(HOST)))
        # Some clients, Python's among them, insist on the key identifiers, and on the usage of an authority's key.
        signer = self._key.public_key()
        own = x509.SubjectKeyIdentifier.from_public_key(key)
        signing = x509.KeyUsage(
            digital_signature=True,
            key_cert_sign=authority,
            crl_sign=authority,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        return (
            x509.CertificateBuilder()
            .subject_name(_named(name))
            .issuer_name(_named(self.name))
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=60))
            .not_valid_after(now + datetime.timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(signing, critical=True)
            .add_extension(own, critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer), critical=False)
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            .sign(self._key, hashes.SHA256())
        )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
