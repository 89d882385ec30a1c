"""The ledger server behind a door: a request needs the token that the file TOKEN holds now, and `pay` needs one that may
write. Which token each method came with stands in the file SEEN.

python authorized.py PORT
"""

import json
import os
import sys
from pathlib import Path

import uvicorn
from server import server

METADATA = 'resource_metadata="https://as.example/.well-known/oauth-protected-resource"'


async def refuse(send, status, challenge, body):
    headers = [(b"content-type", b"application/json"), (b"www-authenticate", challenge.encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})


class Door:
    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        messages, body = [], b""
        while scope["method"] == "POST":
            messages.append(await receive())
            body += messages[-1].get("body", b"")
            if not messages[-1].get("more_body"):
                break
        call = json.loads(body) if body else {}
        token = dict(scope["headers"]).get(b"authorization", b"").decode().removeprefix("Bearer ")
        with open(os.environ["SEEN"], "a") as seen:
            seen.write(f"{call.get('method', scope['method'])} {token}\n")
        if token != Path(os.environ["TOKEN"]).read_text():
            return await refuse(send, 401, f'Bearer error="invalid_token", {METADATA}', {"error": "invalid_token"})
        if token.startswith("reader") and "pay" in str(call.get("params", {}).get("name")):
            challenge = f'Bearer error="insufficient_scope", scope="write", {METADATA}'
            return await refuse(send, 403, challenge, {"error": "insufficient_scope"})

        async def replayed():
            return messages.pop(0) if messages else await receive()

        await self.app(scope, replayed, send)


if __name__ == "__main__":
    uvicorn.run(Door(server.streamable_http_app()), host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
