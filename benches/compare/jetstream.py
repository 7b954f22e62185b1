"""The short script that a team would write: feed to JetStream by nats-py, with message ids.

    jetstream.py WEBSOCKET URL PREFIX
"""

import asyncio
import hashlib
import json
import sys

import nats

from feed import users


async def main(url, server, prefix):
    client = await nats.connect(server)
    stream = client.jetstream(publish_async_max_pending=1024)
    async for frame, user in users(url):
        headers = {"Nats-Msg-Id": hashlib.sha256(frame.encode()).hexdigest()[:32]}
        await stream.publish_async(
            f"{prefix}.{user['user_id']}", json.dumps(user).encode(), headers=headers, wait_stall=30)


asyncio.run(main(*sys.argv[1:]))
