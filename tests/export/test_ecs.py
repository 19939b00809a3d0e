"""Records in the words of ECS."""

from __future__ import annotations

import json

from gateway.export.ecs import document, line, severity
from tests.audit.samples import NOW, event, login


def test_a_login_in_the_names_of_ecs() -> None:
    made = document(
        login(code="OK", policy="all", judgement="warned", user_given="Alice"), "gate.example.org"
    )
    assert made["@timestamp"] == "2026-09-21T14:13:20.000000Z"
    assert made["ecs"] == {"version": "8.11.0"}
    kept = {name: made["event"][name] for name in ("kind", "category", "type", "action", "outcome", "code")}
    assert kept == {
        "kind": "event",
        "category": ["authentication"],
        "type": ["start"],
        "action": "login",
        "outcome": "success",
        "code": "OK",
    }
    assert made["source"] == {"address": "192.0.2.7", "ip": "192.0.2.7"}
    assert made["user"] == {"name": "alice@example.org"}
    assert made["tls"] == {
        "established": True,
        "version": "1.3",
        "version_protocol": "tls",
        "cipher": "TLS_AES_256_GCM_SHA384",
        "curve": "X25519",
        "client": {"server_name": "mail.example.org"},
    }
    assert made["network"] == {"protocol": "imap", "transport": "tcp"}
    assert made["observer"]["name"] == "gate.example.org"
    assert made["rule"] == {"name": "all"}
    assert made["mailgate"]["mechanism"] == "PLAIN" and made["mailgate"]["password_exposed"] is False
    assert made["mailgate"]["client"] == {"program": "Thunderbird 128"}
    assert made["message"].startswith("imap login of alice@example.org from 192.0.2.7 by PLAIN over TLSv1.3")


def test_a_security_event_in_the_names_of_ecs() -> None:
    made = document(event(), "gate")
    assert made["event"]["kind"] == "alert" and made["event"]["action"] == "brute_force"
    assert made["event"]["category"] == ["intrusion_detection"]
    assert made["message"] == "192.0.2.7 tried 12 passwords of alice@example.org"
    assert made["mailgate"]["count"] == 12 and made["mailgate"]["data"]["passwords"] == "12"


def test_networks_are_no_addresses_and_old_versions_have_two_digits() -> None:
    made = document(login(address="192.0.2.0/24", tls_version="TLSv1"), "gate")
    assert made["source"] == {"address": "192.0.2.0/24"} and made["tls"]["version"] == "1.0"
    made = document(login(tls_version="", tls_cipher="", tls_group="", tls_sni=""), "gate")
    assert "tls" not in made


def test_severities_are_those_of_syslog() -> None:
    assert [severity(event(severity=one)) for one in ("info", "warning", "alert")] == [6, 4, 1]
    assert severity(login()) == 6 and severity(login(outcome="failed")) == 5
    assert severity(login(exposed=True)) == 4 and severity(login(outcome="policy")) == 4


def test_an_id_is_of_one_record_and_stays() -> None:
    idents = {document(login(number), "gate")["event"]["id"] for number in range(50)}
    assert len(idents) == 50
    assert document(login(3), "gate")["event"]["id"] in idents


def test_a_line_is_one_line_of_ascii() -> None:
    told = line(login(user="zo\u00eb\n\u2028\U0001f600", time=NOW + 1), "gate")
    assert told.isascii() and b"\n" not in told
    assert json.loads(told)["user"]["name"] == "zo\u00eb\n\u2028\U0001f600"
