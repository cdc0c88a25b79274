"""The payment provider: holds an amount (authorization), takes it (capture) or lets it go (void).

A void names the authorization by the key it was asked for with. It may overtake that request: then the request, when
it comes, holds nothing.
"""

from typing import Any

from .faults import Desk

voided_keys: set[str] = set()


def _authorize(key: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    state = "authorized"
    if key in voided_keys:
        state = "voided"
    elif desk.chance.random() < desk.faults.refuse:
        state = "refused"
    entry = {"id": f"au_{len(desk.entries) + 1}", "key": key, "captures": 0, "state": state} | body
    desk.entries.append(entry)
    return (402, {"reason": "no cover"}) if state == "refused" else (201, {"id": entry["id"]})


def _capture(key: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    for entry in desk.entries:
        if entry["id"] == body["authorization"] and entry["state"] in ("authorized", "captured"):
            entry["state"] = "captured"
            entry["captures"] += 1
            return 201, {"id": entry["id"]}
    return 409, {"reason": "nothing is held under this number"}


def _void(key: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    voided_keys.add(body["authorization_key"])
    for entry in desk.entries:
        if entry["key"] == body["authorization_key"] and entry["state"] == "authorized":
            entry["state"] = "voided"
        elif entry["key"] == body["authorization_key"] and entry["state"] == "captured":
            return 409, {"reason": "it was captured"}
    return 201, {"voided": body["authorization_key"]}


desk = Desk(authorizations=_authorize, captures=_capture, voids=_void)
app = desk.app
