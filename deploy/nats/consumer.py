"""Read the records of all nodes from the stream, each at least once, and print them.

Usage: consumer.py SERVER [SEED]. It needs nats-py[nkeys]. The consumer "warehouse" of the stream remembers what was
acknowledged: this program can be stopped, and several of them can run at once.
"""

import asyncio
import json
import sys

import nats
from nats.js.api import ConsumerConfig

NEWEST_VERSION = 1
LATER = 3600  # seconds


async def main(server: str, credentials: str | None = None) -> None:
    """Print each record with its id."""
    connection = await nats.connect(server, nkeys_seed=credentials)
    stream = connection.jetstream()
    # max_ack_pending bounds what is delivered and not acknowledged.
    config = ConsumerConfig(ack_wait=60, max_ack_pending=2000)
    records = await stream.pull_subscribe("sidecar.records.>", durable="warehouse", stream="sidecar_records", config=config)
    while True:
        try:
            messages = await records.fetch(100, timeout=5)
        except nats.errors.TimeoutError:
            continue
        for message in messages:
            headers = message.headers or {}
            if int(headers.get("Sidecar-Record-Version", "1")) > NEWEST_VERSION:
                # It stays in the stream, and is delivered again later: an update of this program can read it then.
                print(f"{headers['Nats-Msg-Id']} is of a newer version", file=sys.stderr)
                await message.nak(delay=LATER)
                continue
            # Store it under its id, so that a record that is delivered twice counts once. Then acknowledge it.
            print(headers["Nats-Msg-Id"], json.loads(message.data)["type"], flush=True)
            await message.ack()


asyncio.run(main(*sys.argv[1:]))
