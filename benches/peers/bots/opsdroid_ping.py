"""`!ping N` → `pong N` as a skill of opsdroid."""
from opsdroid.matchers import match_regex
from opsdroid.skill import Skill


class Ping(Skill):
    @match_regex(r"^!ping (?P<word>.+)$")
    async def ping(self, message):
        await message.respond("pong " + message.regex.group("word"))
