# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Bundles that others check, and bundles that others make, with software that is not ours.

Usage: interop.py AEGISBPF DIRECTORY. Started by `cargo xtask interop`. Prints a line for each thing that was seen;
the first that is otherwise ends it.
"""

import base64
import copy
import hashlib
import json
import pathlib
import subprocess
import sys

from google.protobuf import json_format
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.resource_descriptor import ResourceDescriptor
from in_toto_attestation.v1.statement import Statement
from securesystemslib._vendor.ed25519.ed25519 import publickey_unsafe, signature_unsafe
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import Signature, Signer, SSlibKey
from securesystemslib.signer._utils import compute_default_keyid

PROGRAM, PLACE = sys.argv[1], pathlib.Path(sys.argv[2])
PAYLOAD_TYPE = "application/vnd.in-toto+json"
PREDICATE_TYPE = "urn:aegisbpf:policy:v1"
POLICY = """schema = 1
name = "web"
version = 7

[workloads.web]
cgroups = ["/system.slice/nginx.service"]

[[rules]]
id = "keys"
workloads = ["web"]
action = "deny"
objects = ["/etc/ssl/private/"]
reason = "keys \u2014 of others"
"""


class TheirSigner(Signer):
    """A key with the Ed25519 that securesystemslib brings along."""

    def __init__(self, seed):
        self.seed, self.raw = seed, publickey_unsafe(seed)
        keyval = {"public": self.raw.hex()}
        keyid = compute_default_keyid("ed25519", "ed25519", keyval)
        self.key = SSlibKey(keyid, "ed25519", "ed25519", keyval)

    @classmethod
    def from_priv_key_uri(cls, *_):
        raise NotImplementedError

    @property
    def public_key(self):
        return self.key

    def sign(self, payload):
        return Signature(self.key.keyid, signature_unsafe(payload, self.seed, self.raw).hex())


def aegisbpf(*arguments, status=0):
    """Runs the program, which must end so; its answer."""
    done = subprocess.run(
        [PROGRAM, *arguments, "--json"], cwd=PLACE, stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    if done.returncode != status:
        sys.exit(f"aegisbpf {' '.join(arguments)} ended with {done.returncode}: {done.stderr.decode()}")
    return json.loads(done.stdout)


def seed_of(name):
    """The seed in a private key of ours: the last 32 bytes of its PKCS#8."""
    lines = (PLACE / name).read_text().splitlines()[1:-1]
    return base64.b64decode("".join(lines))[-32:]


def expect(what, found, wanted):
    if found != wanted:
        sys.exit(f"{what}: {found!r} and not {wanted!r}")
    print(f"{what}: ok")


def others_check_ours(one, two):
    bundle = json.loads((PLACE / "web.bundle").read_text())
    envelope = Envelope.from_dict(copy.deepcopy(bundle))
    keys = [one.key, two.key]
    expect("the type of our payload", envelope.payload_type, PAYLOAD_TYPE)
    expect("both of our signatures hold", set(envelope.verify(keys, 2)), {one.key.keyid, two.key.keyid})
    statement = json_format.Parse(envelope.payload, statement_pb2.Statement())
    Statement.copy_from_pb(statement).validate()
    digest = hashlib.sha256(POLICY.encode()).hexdigest()
    expect("our subject", [(s.name, dict(s.digest)) for s in statement.subject], [("web", {"sha256": digest})])
    expect("our predicate type", statement.predicate_type, PREDICATE_TYPE)
    expect("our text", statement.predicate["text"], POLICY)
    envelope.payload = envelope.payload.replace(b'"version":7', b'"version":8')
    try:
        envelope.verify(keys, 1)
    except VerificationError:
        print("a payload of ours that somebody changed is refused: ok")
    else:
        sys.exit("a payload of ours that somebody changed is taken")


def they_make_one(signers, version=7):
    """An envelope that only their software has touched."""
    digest = hashlib.sha256(POLICY.encode()).hexdigest()
    predicate = {
        "name": "web",
        "version": version,
        "text": POLICY,
        "notBefore": "2020-01-01T00:00:00Z",
        "expires": "2120-01-01T00:00:00Z",
        "author": "somebody else",
    }
    subject = ResourceDescriptor(name="web", digest={"sha256": digest})
    statement = Statement([subject.pb], PREDICATE_TYPE, predicate)
    statement.validate()
    payload = json_format.MessageToJson(statement.pb).encode()
    envelope = Envelope(payload, PAYLOAD_TYPE, {})
    for signer in signers:
        envelope.sign(signer)
    return envelope.to_dict()


def we_check_theirs(one, two):
    def write(name, envelope):
        (PLACE / name).write_text(json.dumps(envelope, indent=2))

    write("theirs.bundle", they_make_one([one, two]))
    answer = aegisbpf("verify", "theirs.bundle", "--trust-root", "root.json")
    expect("their policy", (answer["name"], answer["version"], answer["author"]), ("web", 7, "somebody else"))
    expect("their signers", set(answer["signers"]), {one.key.keyid, two.key.keyid})
    answer = aegisbpf("verify", "theirs.bundle", "--public-key", "two.key.pub")
    expect("one of their signers", answer["signers"], [two.key.keyid])
    write("half.bundle", they_make_one([one]))
    answer = aegisbpf("verify", "half.bundle", "--trust-root", "root.json", status=1)
    expect("one signature of two", answer["error_code"], "SIGNATURES_TOO_FEW")
    # Ours beside theirs, on one envelope.
    aegisbpf("sign", "half.bundle", "--key", "two.key")
    aegisbpf("verify", "half.bundle", "--trust-root", "root.json")
    print("our signature beside theirs: ok")
    write("lying.bundle", they_make_one([one, two], version=8))
    answer = aegisbpf("verify", "lying.bundle", "--trust-root", "root.json", status=1)
    expect("a version that the text does not have", answer["error_code"], "BUNDLE_DISAGREES")
    changed = they_make_one([one, two])
    payload = base64.b64decode(changed["payload"]).replace(b"somebody", b"nobody..")
    changed["payload"] = base64.b64encode(payload).decode()
    write("changed.bundle", changed)
    answer = aegisbpf("verify", "changed.bundle", "--trust-root", "root.json", status=1)
    expect("a payload of theirs that somebody changed", answer["error_code"], "SIGNER_UNKNOWN")


def main():
    (PLACE / "web.toml").write_text(POLICY)
    ids = [aegisbpf("keygen", "-o", name)["key_id"] for name in ("one.key", "two.key")]
    one, two = TheirSigner(seed_of("one.key")), TheirSigner(seed_of("two.key"))
    expect("ids of keys", ids, [one.key.keyid, two.key.keyid])
    keys = ["--key", "one.key", "--key", "two.key"]
    aegisbpf("trust", "init", *keys, "--threshold", "2", "--expires", "365d", "-o", "root.json")
    aegisbpf("sign", "web.toml", *keys, "--expires", "90d", "-o", "web.bundle")
    others_check_ours(one, two)
    we_check_theirs(one, two)


main()
