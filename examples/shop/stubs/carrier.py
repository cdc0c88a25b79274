"""The carrier: collects parcels."""

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from .faults import Desk


async def _where(request: Request) -> JSONResponse:
    return JSONResponse({"state": "on its way"})


def _collect(key: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    entry = {"tracking_number": f"PX-{len(desk.entries) + 1}", "key": key} | body
    desk.entries.append(entry)
    return 201, {"tracking_number": entry["tracking_number"]}


desk = Desk(parcels=_collect)
app = desk.app
app.add_route("/parcels/{tracking_number}", _where)
