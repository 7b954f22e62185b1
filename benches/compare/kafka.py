"""The short script that a team would write: feed to Kafka by confluent-kafka. Nothing is durable before Kafka
has it: what was read and not acknowledged is lost with the process.

    kafka.py WEBSOCKET BROKERS TOPIC
"""

import asyncio
import json
import signal
import sys

from confluent_kafka import Producer

from feed import users


async def main(url, brokers, topic):
    producer = Producer({
        "bootstrap.servers": brokers, "enable.idempotence": True, "acks": "all", "linger.ms": 5,
        "compression.type": "lz4", "queue.buffering.max.messages": 100000,
    })
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: (producer.flush(10), sys.exit(0)))
    async for _, user in users(url):
        while True:
            try:
                producer.produce(topic, json.dumps(user).encode(), key=user["user_id"])
                break
            except BufferError:
                producer.poll(0.01)
        producer.poll(0)


asyncio.run(main(*sys.argv[1:]))
