"""The short script that a team would write: feed to JetStream by nats-py, with message ids.

    jetstream.py WEBSOCKET URL PREFIX
"""

import asyncio
import hashlib
import json
import sys

import nats
import websockets


async def main(url, server, prefix):
    client = await nats.connect(server)
    stream = client.jetstream(publish_async_max_pending=1024)
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
            headers = {"Nats-Msg-Id": hashlib.sha256(frame.encode()).hexdigest()[:32]}
            await stream.publish_async(
                f"{prefix}.{user['user_id']}", json.dumps(user).encode(), headers=headers, wait_stall=30)


asyncio.run(main(*sys.argv[1:]))
