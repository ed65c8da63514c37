"""rocketchat-async against a server: URL USER PASSWORD TOKEN ROOM-ID. One JSON line per step.

It has no edits of its own, and no reconnecting: it says when its socket is gone and starts again.
"""
import asyncio
import json
import sys

from rocketchat_async import RocketChat

url, user, password, token, rid = sys.argv[1:6]
address = url.replace("http", "ws", 1) + "/websocket"
heard = asyncio.Queue()


def say(step, **more):
    print(json.dumps({"step": step, **more}), flush=True)


async def until(fits):
    while True:
        message = await heard.get()
        if fits(message):
            return message


async def connect():
    client = RocketChat()
    try:
        await asyncio.wait_for(client.start(address, user, password), 10)
        say("login by password", ok=True)
    except Exception as error:  # whatever the library makes of a refusal
        say("login by password", refused=f"{type(error).__name__}: {error}")
        client = RocketChat()
        await client.resume(address, user, token)
        say("login by token", ok=True)
    await client.subscribe_to_channel_messages_raw(rid, heard.put_nowait)
    return client


async def main():
    client = await connect()
    say("subscribe", ok=True)
    await client.send_message("from rocketchat-async", rid)
    sent = await until(lambda message: message["msg"] == "from rocketchat-async")
    say("send", ok=True)
    await client.send_reaction(sent["_id"], ":eyes:")
    await until(lambda message: message["_id"] == sent["_id"] and ":eyes:" in message.get("reactions", {}))
    say("react", ok=True)
    await client.send_message("in the thread", rid, sent["_id"])
    await until(lambda message: message["msg"] == "in the thread" and message.get("tmid") == sent["_id"])
    say("thread", ok=True)
    say("cut me")
    await asyncio.wait([client._ws_connection_task])
    await connect()
    say("again", ok=True)
    await until(lambda message: message["msg"] == "are you back?")
    say("back", ok=True)


asyncio.run(asyncio.wait_for(main(), 60))
