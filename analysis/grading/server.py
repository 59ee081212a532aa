"""The web application that raters grade in: one page, their items, their grades; nothing from the network.

Every request but for the page and its code carries the rater's token (``Authorization: Bearer``), which the page keeps
for its tab alone: no cookie that another site or port could send along. A rater has one desk: the page that signed in
last. An older one is told so, and what it sends is refused, so that two browsers cannot overwrite each other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from analysis.errors import AnalysisError
from analysis.grading.blinding import is_token
from analysis.grading.journal import Journal
from analysis.grading.kit import CONTOURS, Kit
from analysis.grading.serve import STATIC
from analysis.pictures.slices import is_ct, is_pet

_LARGEST_BODY = 64 * 1024

_HEADERS = {
    "Cache-Control": "no-store",
    # The viewer draws its font from a data: image and compiles its own shaders, but runs no text as code.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
        "font-src data:; connect-src 'self' data: blob:; worker-src 'self' blob:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

Endpoint = Callable[[Request], Awaitable[Response]]


def grading_app(kit: Kit, hosts: list[str]) -> Starlette:
    """Build the application.

    Parameters
    ----------
    kit
        The kit.
    hosts
        Names by which browsers may call it; others are refused, so that no site can reach it under a name of its own.
    """
    desk = _Desk(kit)
    routes = [
        Route("/", _page),
        Route("/grade/{rater}", _page),
        Route("/api/rater", desk.whose),
        Route("/api/{rater}/desk", desk.take, methods=["POST"]),
        Route("/api/{rater}/grades", desk.grade, methods=["POST"]),
        Route("/api/{rater}/comments", desk.comment, methods=["POST"]),
        Route("/api/{rater}/items/{code}/{file}", desk.volume),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
    middleware = [Middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False), Middleware(_Headers)]
    handlers: Any = {HTTPException: _refusal, AnalysisError: _fault}
    return Starlette(routes=routes, middleware=middleware, exception_handlers=handlers)


class _Headers:
    """Adds the same headers to every response."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [(name.lower().encode(), value.encode()) for name, value in _HEADERS.items()]
                message["headers"] = [*message["headers"], *added]
            await send(message)

        await self._app(scope, receive, send_with_headers)


class _Desk:
    """What a signed-in rater can do."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._journal = Journal(kit)
        self._sessions: dict[str, tuple[str, datetime]] = {}

    async def whose(self, request: Request) -> Response:
        """Tell whose token it is: the page of all raters goes on to that rater's."""
        return JSONResponse({"rater": self._owner(request)})

    async def take(self, request: Request) -> Response:
        """Sign in: everything the page needs to go on where the rater was."""
        rater = self._rater(request)
        session = _text(await _body(request), "session")
        self._sessions[rater] = session, datetime.now(UTC)
        return JSONResponse(await run_in_threadpool(self._state, rater))

    async def grade(self, request: Request) -> Response:
        """Store a grade; when this answers it is on disk."""
        return await self._store(request, ("id", "item", "structure", "grade", "seconds"))

    async def comment(self, request: Request) -> Response:
        """Store a comment."""
        return await self._store(request, ("id", "item", "comment"))

    async def volume(self, request: Request) -> Response:
        """Give an image or the contours of an item."""
        rater = self._rater(request)
        code, file = request.path_params["code"], request.path_params["file"]
        if code not in self._kit.raters[rater].order or file not in self._kit.volumes.values():
            raise HTTPException(404, "The kit has no such image.")
        path = self._kit.volume(code, file)
        if not path.is_file():
            raise HTTPException(404, f"An image of item {code} is missing from the kit. Tell whoever runs the study.")
        return FileResponse(path, media_type="application/octet-stream")

    async def _store(self, request: Request, names: tuple[str, ...]) -> Response:
        rater = self._rater(request)
        body = await _body(request)
        session = _text(body, "session")
        # After a restart nobody sits at the desk: the page that is still open goes on.
        seated, since = self._sessions.setdefault(rater, (session, datetime.now(UTC)))
        if session != seated:
            raise HTTPException(409, f"You signed in elsewhere at {since.astimezone():%H:%M}.")
        if missing := [name for name in names if name not in body]:
            raise HTTPException(422, f"{', '.join(missing)} is missing.")
        event = {name: body[name] for name in names} | {"session": session, "source": "page"}
        return JSONResponse({"given_at": await run_in_threadpool(self._journal.append, rater, [event])}, 201)

    def _rater(self, request: Request) -> str:
        """The rater whose page it is, if the token is that rater's."""
        name: str = request.path_params["rater"]
        if self._owner(request) != name:
            raise HTTPException(403, "This token is another rater's. Open your own page.")
        return name

    def _owner(self, request: Request) -> str:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        owners = [name for name, rater in self._kit.raters.items() if is_token(token, rater.token_sha256)]
        if scheme != "Bearer" or not owners:
            raise HTTPException(401, "This token is not known. Check it, or ask whoever runs the study.")
        return owners[0]

    def _state(self, rater: str) -> dict[str, Any]:
        kit, given = self._kit, self._journal.given(rater)
        grades: dict[str, dict[str, Any]] = {}
        for (item, structure), grade in given.grades.items():
            grades.setdefault(item, {})[structure] = {"grade": grade.grade, "given_at": grade.given_at}
        files = kit.volumes
        return {
            "kit": kit.sha256[:16],
            "rater": rater,
            "title": kit.title,
            "synthetic": kit.synthetic,
            "scale": kit.scale,
            "structures": kit.structures,
            "modalities": [
                {"name": name, "file": files[name], "kind": "ct" if is_ct(name) else "pet" if is_pet(name) else "other"}
                for name in kit.modalities
            ],
            "contours": files[CONTOURS],
            "items": [{"code": code, "look": kit.items[code]} for code in kit.raters[rater].order],
            "grades": grades,
            "comments": {item: comment.text for item, comment in given.comments.items()},
            "commented_at": {item: comment.given_at for item, comment in given.comments.items()},
        }


async def _page(_request: Request) -> Response:
    return FileResponse(STATIC / "index.html")


async def _body(request: Request) -> dict[str, Any]:
    content = b""
    async for chunk in request.stream():
        content += chunk
        if len(content) > _LARGEST_BODY:
            raise HTTPException(413, "This is too long to be stored.")
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise HTTPException(422, "This is no grade that can be read.")
    return body


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not re.fullmatch(r"[\w-]{1,64}", value):
        raise HTTPException(422, f"{name} is missing or cannot be read.")
    return value


async def _refusal(_request: Request, error: HTTPException) -> Response:
    return JSONResponse({"error": error.detail}, error.status_code)


async def _fault(_request: Request, error: AnalysisError) -> Response:
    # A grade that the kit does not know is the page's fault; a disk that is full is not.
    status = 507 if isinstance(error.__cause__, OSError) else 422
    return JSONResponse({"error": str(error)}, status)
