"""The server of the live page: starlette on uvicorn, on this machine's own address alone, behind a token in the path.

Nothing is written and nothing is asked of other hosts. A text is sampled by `python -m gptlab sample` in a process of
its own, so that this one stays small; it is stopped when the reader goes.
"""

import asyncio
import json
import secrets
import socket
import sys
import webbrowser
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from gptlab.commands.live.snapshot import DescribeStudy, Snapshot
from gptlab.errors import Refused
from gptlab.report.render.html import load_template

HOST = "127.0.0.1"  # never 0.0.0.0: the page samples from models, and nobody logs in
LIMITS: dict[str, tuple[float, float]] = {"length": (1, 5000), "temperature": (0, 10), "seed": (0, 2**31)}
"""What the sampling box may ask for."""


def open_socket(port: int) -> socket.socket:
    """Return a listening socket; 0 takes any port that is free."""
    listener = socket.socket()
    # a port that was just given back may be had again at once
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen()
    except OSError as error:
        listener.close()
        problem = f"--port={port} cannot be had: {error.strerror}"
        raise Refused(f"{problem}; take another, or 0 for any that is free") from error
    return listener


def make_app(outputs: Path, token: str, describe_study: DescribeStudy) -> Any:
    """Return the ASGI application."""
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.requests import Request
    from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response, StreamingResponse
    from starlette.routing import Mount, Route

    # one for all requests: it keeps what it has read of files that have not changed
    snapshot = Snapshot(outputs, describe_study)
    page = load_template("live.html.jinja").render(outputs=str(outputs))

    def answer(read: Callable[[Request], Any]) -> Callable[[Request], Response]:
        def respond(request: Request) -> Response:
            try:
                return JSONResponse(make_plain(read(request)))
            except Refused as refused:
                raise HTTPException(404, str(refused)) from refused

        return respond

    def show_report(request: Request) -> Response:
        try:
            return FileResponse(snapshot.find_report(request.path_params["kind"], request.path_params["name"]))
        except Refused as refused:
            raise HTTPException(404, str(refused)) from refused

    async def sample(request: Request) -> Response:
        try:
            words = make_sample_command(snapshot, await request.json())
        except (Refused, ValueError) as error:
            raise HTTPException(400, str(error)) from error
        return StreamingResponse(stream_output(words), media_type="text/plain; charset=utf-8")

    def overview(_: Request) -> dict[str, Any]:
        return {"studies": snapshot.list_studies(), "runs": snapshot.list_runs()}

    routes = [
        Route("/", lambda _: HTMLResponse(page)),
        Route("/overview", answer(overview)),
        Route("/curves", answer(lambda request: snapshot.read_curves(request.query_params.getlist("run")))),
        Route("/differences", answer(lambda request: snapshot.find_differences(request.query_params.getlist("run")))),
        Route("/report/{kind}/{name}", show_report),
        Route("/sample", sample, methods=["POST"]),
    ]
    # a page of another site could reach us under a name of its own (DNS rebinding): only our names pass
    hosts = Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])
    return Starlette(routes=[Mount(f"/{token}", routes=routes)], middleware=[hosts])


def make_plain(value: Any) -> Any:
    """Return a value as JSON can hold it: NaN and infinity, which it has not, become null, and paths become texts."""
    return json.loads(json.dumps(value, default=str), parse_constant=lambda _: None)


def make_sample_command(snapshot: Snapshot, form: Any) -> list[str]:
    """Return the command that writes the text which the page's form describes; refuse what is out of bounds."""
    if not isinstance(form, dict):
        raise Refused(f"a sample is asked for by an object with run, prompt, {', '.join(LIMITS)}")
    folder = snapshot.find_run(str(form.get("run", "")))
    # -u, or the text would come in blocks of a full buffer. A list, so no shell reads the prompt
    words = [sys.executable, "-u", "-m", "gptlab", "sample", str(folder), "--prompt", str(form.get("prompt") or "\n")]
    for name, (low, high) in LIMITS.items():
        # as text: a list or null is no number either. NaN is within no bounds, so it is refused with the rest
        value = float(str(form.get(name, low)))
        if not low <= value <= high:
            raise Refused(f"{name}={value:g} is not in {low:g} .. {high:g}")
        words += [f"--{name}", f"{value:g}" if name == "temperature" else str(int(value))]
    return words


async def stream_output(words: list[str]) -> AsyncIterator[bytes]:
    """Yield what a command writes, as it comes; end the command if nobody reads on."""
    process = await asyncio.create_subprocess_exec(
        *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, stdin=asyncio.subprocess.DEVNULL
    )
    assert process.stdout is not None
    try:
        # what is there, up to 4096 bytes: it does not wait for so many
        while chunk := await process.stdout.read(4096):
            yield chunk
    finally:
        # the browser has gone, which ended this generator before the text
        if process.returncode is None:
            process.kill()
        await process.wait()


def serve_outputs(outputs: Path, port: int, describe_study: DescribeStudy, open_it: bool = False) -> None:
    """Serve the page until Ctrl-C; its address is printed, and opened if asked."""
    try:
        import uvicorn
    except ModuleNotFoundError as error:
        raise Refused(f"serve needs {error.name}, which is not here; run: pip install 'gptlab[serve]'") from error
    if not outputs.is_dir():
        raise Refused(f"{outputs} is no folder; name one that holds runs/ or ablations/, such as outputs")
    # 128 bits in the path: another user of this machine cannot guess the page
    listener, token = open_socket(port), secrets.token_urlsafe(16)
    app = make_app(outputs, token, describe_study)
    print(address := f"http://{HOST}:{listener.getsockname()[1]}/{token}/", flush=True)
    if open_it:
        webbrowser.open(address)
    uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)).run(sockets=[listener])
