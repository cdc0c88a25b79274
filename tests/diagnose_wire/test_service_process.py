"""The service under test: started, found ready, read dry, stopped with everything it started."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import httpx
import psutil
import pytest

from mainstay.architect.diagnose.service import PORTS, Service, free_port
from mainstay.architect.errors import MainstayError

PYTHON = sys.executable

SERVE = """
import http.server, os, sys, time
begun = time.monotonic()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        warm = time.monotonic() - begun > float(os.environ.get("WARM_UP", 0))
        self.send_response(200 if warm else 503)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
    def log_message(self, *a): pass
print("serving", os.environ.get("GREETING"), flush=True)
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, **more}


async def test_it_is_started_with_its_port_and_stopped() -> None:
    """$PORT and ${NAME} are filled in; after `stop` nothing of it is left."""
    service = Service(
        [PYTHON, "-c", SERVE, "$PORT"],
        environment=environment(GREETING="to ${WHO} at $PORT", WHO="you"),
        ready="/",
    )
    async with service:
        async with httpx.AsyncClient() as client:
            assert (await client.get(service.url)).text == "ok"
        assert service.tail() == f"serving to you at {service.port}"
        process = psutil.Process(service.pid)
    assert service.returncode == -15
    assert not process.is_running()


async def test_it_can_be_started_again() -> None:
    """The same service, stopped and started, has the same address."""
    service = Service([PYTHON, "-c", SERVE, "$PORT"], ready="/")
    for _ in range(2):
        async with service, httpx.AsyncClient() as client:
            assert (await client.get(service.url)).text == "ok"


async def test_an_answer_below_500_is_ready() -> None:
    """A service that says 503 while it warms up is waited for."""
    async with (
        Service(
            [PYTHON, "-c", SERVE, "$PORT"], environment=environment(WARM_UP="0.5"), ready="/health"
        ) as service,
        httpx.AsyncClient() as client,
    ):
        assert (await client.get(service.url)).status_code == 200


async def test_one_that_exits_at_once_is_quoted() -> None:
    """Exit code and last words are in the one sentence, and it comes at once."""
    with pytest.raises(MainstayError) as raised:
        await Service([PYTHON, "-c", "import sys; sys.exit('no such table: orders')"]).start()
    assert "ended with exit code 1 before it was ready; its last words: no such table: orders" in str(
        raised.value
    )


async def test_one_that_is_killed_is_named() -> None:
    """A signal is called by its name."""
    with pytest.raises(MainstayError, match="ended by SIGKILL"):
        await Service([PYTHON, "-c", "import os; os.kill(os.getpid(), 9)"]).start()


async def test_one_that_never_gets_ready_is_given_up_and_stopped() -> None:
    """After the timeout: a sentence, and no process left."""
    service = Service(
        ["sh", "-c", "echo starting; exec sleep 60"],  # which says it at once, on a busy machine too
        timeout=0.7,
    )
    with pytest.raises(
        MainstayError, match=r"did not listen on port \d+ within 0.7 s.*its last words: starting"
    ):
        await service.start()
    assert not psutil.pid_exists(service.pid)


async def test_a_wall_of_text_is_read_and_forgotten() -> None:
    """A service that prints 50 MB before it serves, much of it without line ends, is read whole; little is kept."""
    wall = (
        "import sys\nfor _ in range(50): sys.stdout.write('x' * 500_000 + '\\n' * 50_000 + 'y' * 450_000)\n"
    )
    async with Service([PYTHON, "-c", wall + SERVE, "$PORT"], ready="/") as service:
        assert service.tail(1) == "serving None" or service.tail(1).startswith("y")
        assert len(service.tail(10_000)) < 200_000


async def test_what_it_started_goes_with_it(tmp_path: Path) -> None:
    """Children are stopped too, also one that ignores SIGTERM and one in a session of its own."""
    file = tmp_path / "pids"
    start = f"""
import subprocess, sys
stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
children = [subprocess.Popen([sys.executable, "-c", stubborn], stdout=subprocess.PIPE, start_new_session=new)
            for new in (False, True)]
for child in children: child.stdout.readline()
open({str(file)!r}, "w").write(" ".join(str(child.pid) for child in children))
"""
    async with Service([PYTHON, "-c", start + SERVE, "$PORT"], ready="/"):
        children = [psutil.Process(int(pid)) for pid in file.read_text().split()]
        assert all(child.is_running() for child in children)
    gone, alive = await asyncio.to_thread(psutil.wait_procs, children, 30)
    assert len(gone) == 2 and not alive


@pytest.mark.parametrize(
    ("command", "directory", "sentence"),
    [
        (["no-such-program-anywhere"], None, "'no-such-program-anywhere' cannot be started .*PATH"),
        ([PYTHON], Path("no-such-folder"), "there is no such folder"),
        ([], None, "command of the service is empty"),
        (["a\0b"], None, "cannot be started"),
    ],
)
async def test_what_cannot_start_is_said_in_a_sentence(
    command: list[str], directory: Path | None, sentence: str
) -> None:
    """A command that is not there, a folder that is not there, nothing at all."""
    with pytest.raises(MainstayError, match=sentence):
        await Service(command, directory).start()


async def test_an_unknown_variable_is_named() -> None:
    """With the nearest name that there is."""
    with pytest.raises(
        MainstayError, match=r"\$\{DATABASE_ULR\}, which is not set \(did you mean 'DATABASE_URL'\?\)"
    ):
        Service(["run", "${DATABASE_ULR}"], environment={"DATABASE_URL": "x"})


async def test_a_port_in_use_is_said_in_a_sentence() -> None:
    """Before anything is started."""
    server = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(MainstayError, match=f"port {port} .* leave the port out"):
        await Service([PYTHON, "-c", SERVE, "$PORT"], port=port).start()
    server.close()
    assert free_port() in PORTS
