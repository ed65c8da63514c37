"""`!ping N` → `pong N` with rocketbotte, as its README does it."""
import os
from rocketbotte import Bot

bot = Bot(server_url=os.environ["PEER_URL"], user_id=os.environ["PEER_ID"], auth_token=os.environ["PEER_TOKEN"])


@bot.command("ping")
async def ping(ctx, args):
    await ctx.send_message("pong " + args)


bot.run()
