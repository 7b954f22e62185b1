"""What both scripts do at the vendor's side: subscribe, and give each user without the credential."""

import json

import websockets


async def users(url):
    """Each message's text and its user."""
    async with websockets.connect(url, max_queue=1024) as socket:
        await socket.send(json.dumps({"type": "authenticate", "apiKey": "bench", "enterprise": True}))
        await socket.recv()
        await socket.send(json.dumps({"type": "subscribe", "feeds": ["private.enterprise.users"]}))
        await socket.recv()
        async for frame in socket:
            message = json.loads(frame)
            if message.get("recipient") != "private.enterprise.users":
                continue
            user = message["payload"]
            user.pop("user_token", None)
            yield frame, user
