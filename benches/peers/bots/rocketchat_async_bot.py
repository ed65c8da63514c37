"""`!ping N` → `pong N` with rocketchat-async, as its README does it, in a loop that connects again."""
import asyncio, os
from rocketchat_async import RocketChat


async def main():
    url = os.environ["PEER_URL"].replace("http", "ws", 1) + "/websocket"
    while True:
        try:
            chat = RocketChat()
            await chat.start(url, os.environ["PEER_USER"], os.environ["PEER_PASSWORD"])

            def heard(channel_id, sender_id, msg_id, thread_id, msg, qualifier, unread, repeated):
                if msg.startswith("!ping "):
                    asyncio.create_task(chat.send_message("pong " + msg[6:], channel_id, thread_id))

            for channel_id, _ in await chat.get_channels():
                await chat.subscribe_to_channel_messages(channel_id, heard)
            await chat.run_forever()
        except Exception:
            await asyncio.sleep(1)


asyncio.run(main())
